"""An adversary who damages data: no file gives other pixels or labels without a word.

Whatever is damaged, the next opening gives what was there before, or another dataset by name, or
one line about what is wrong. `damages` gives the table of all of it.
"""

import io
import itertools
import logging

import numpy as np
import pytest

from tests.data import image_trees
from tests.data.test_sources import store_tiny
from transfer_jax.data import means, prepare
from transfer_jax.data.records import digest
from transfer_jax.data.seals import DamagedError
from transfer_jax.data.sources import DatasetSpec, open_dataset


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(prepare, "_SHARD_LIMITS", (12, 12))


def flipped(content, place):
    place = min(int(place * len(content)), len(content) - 1)
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


DAMAGES = {
    **{f"bit flipped at {place}": lambda c, p=place: flipped(c, p) for place in (0.05, 0.4, 0.93)},
    "last bit flipped": lambda c: flipped(c, 1),
    "cut": lambda c: c[: len(c) * 2 // 3],
    "emptied": lambda c: b"",
    "deleted": lambda c: None,
}


def content_of(dataset):
    """Digest of all that a dataset tells, by every way there is."""
    rows = np.arange(len(dataset.labels))
    images = [dataset.image(row) for row in rows]
    pixels = dataset.read(rows) if dataset.image_shape else []
    mean = means.mean_of(dataset, rows[::2], "image") if dataset.image_shape else []
    labels = (dataset.class_names, dataset.labels, dataset.splits, dataset.boxes, dataset.ids)
    return digest(*labels, images, pixels, mean)


def damages(spec, data_dir, paths, swaps=()):
    """For each damage: file, damage, whether it was made up for, what was said. `swaps` are pairs
    of files that are exchanged."""

    def opened():
        means._in_memory.clear()
        dataset = open_dataset(spec, data_dir, workers=1)
        return dataset.name, content_of(dataset)

    before = opened()
    cases = [((path,), what) for path, what in itertools.product(paths, DAMAGES)]
    for files, what in [*cases, *((pair, "swapped") for pair in swaps)]:
        whole = [path.read_bytes() for path in files]
        changed = whole[::-1] if what == "swapped" else [DAMAGES[what](whole[0])]
        for path, content in zip(files, changed, strict=True):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
        said = io.StringIO()
        handler = logging.StreamHandler(said)
        logging.getLogger().addHandler(handler)
        try:
            name, content = opened()
            outcome = "other name" if name != before[0] else "as before"
            assert content == before[1] or name != before[0], (files, what, "in silence")
        except (ValueError, OSError) as error:
            assert "\n" not in str(error), (files, what, error)
            said.write(str(error))
            outcome = "refused"
        finally:
            logging.getLogger().removeHandler(handler)
        yield files[0].name, what, outcome, said.getvalue()
        if outcome != "as before":
            for path, content in zip(files, whole, strict=True):
                path.write_bytes(content)
            assert opened() == before


def write_photographs(root, classes=("cat", "dog")):
    """Two classes of equal sizes in each of three formats; every image another."""
    for seed, (split, name) in enumerate(itertools.product(("train", "val"), classes)):
        for index, format in enumerate(("BMP", "PNG", "JPEG") * 2):
            data = image_trees.encoded(image_trees.pixels(10 * seed + index, 16, 16), format)
            image_trees.write(root / split / name / f"{index}.{format.lower()}", data)
    return root


@pytest.mark.parametrize("by_path", [False, True])
def test_prepared_files(tmp_path, by_path):
    """From the images all is made up for; the prepared folder alone can only refuse, but for packs
    and means, which are made of its records."""
    path = write_photographs(tmp_path / "photos")
    spec = DatasetSpec("folder", path=str(path), image_size=16)
    there = open_dataset(spec, tmp_path / "data")
    other = open_dataset(DatasetSpec("folder", path=str(path), image_size=8), tmp_path / "data")
    for dataset in (there, other):
        content_of(dataset)
    if by_path:
        spec = DatasetSpec("folder", path=str(there.directory), image_size=16)
    files = sorted(file for file in there.directory.iterdir() if file.name[0] != ".")
    assert [file.name for file in files] == [
        "dataset.json",
        *(f"images-0000{i}-of-00002.array_record" for i in range(2)),
        "index.npz",
        files[4].name,
        "pixels.npy",
    ]
    pairs = [(files[1], files[2])]
    twins = sorted(file for file in other.directory.iterdir() if file.name[0] != ".")
    pairs += [(files[i], twins[i]) for i in (0, 3, 4, 5)]
    table = list(damages(spec, tmp_path / "data", files, pairs))
    assert len(table) == 6 * len(DAMAGES) + 5
    for name, what, outcome, said in table:
        derived = name == "pixels.npy" or name.startswith("mean-")
        # What is missing is made anew without a word, by whoever has what it is made of.
        assert str(there.directory) in said or what == "deleted", name
        gone = by_path and name == "dataset.json" and what == "deleted"
        assert outcome == ("refused" if (by_path and not derived) or gone else "as before"), name


def test_tables_of_digests(tmp_path):
    path = write_photographs(tmp_path / "photos")
    spec = DatasetSpec("folder", path=str(path), image_size=16)
    there = open_dataset(spec, tmp_path / "data")
    files = sorted(there.directory.parent.glob(".*.files.json"))
    assert len(files) == 2
    for _, _, outcome, _ in damages(spec, tmp_path / "data", files, [files]):
        assert outcome == "as before"


def test_images_of_a_folder(tmp_path):
    path = write_photographs(tmp_path / "photos")
    spec = DatasetSpec("folder", path=str(path), image_size=16)
    files = [path / f"train/cat/{name}" for name in ("0.bmp", "1.png", "2.jpeg")]
    swaps = [(path / "train/cat/0.bmp", path / "train/dog/0.bmp")]
    table = list(damages(spec, tmp_path / "data", files, swaps))
    assert len(table) == 3 * len(DAMAGES) + 1
    for name, what, outcome, said in table:
        assert outcome != "as before" and (name in said or what == "deleted")
        if name == "1.png":  # has checksums; the last bit is of that of nothing
            assert outcome == "refused" or what in ("deleted", "last bit flipped")


def test_the_world(tmp_path):
    spec = DatasetSpec("world", image_size=16, train_per_class=1, val_per_class=1)
    file = open_dataset(spec, tmp_path).directory / "arrays.npz"
    other = open_dataset(DatasetSpec("world", image_size=12, train_per_class=1), tmp_path)
    for name, what, outcome, said in damages(spec, tmp_path, [file], [(file, other.source.path)]):
        assert outcome == "as before" and (name in said or what == "deleted")


def test_records_of_tfds(tmp_path):
    spec = DatasetSpec("tfds", name="tiny", image_size=8)
    folder = store_tiny(tmp_path) / "tiny/2.1.0"
    content_of(open_dataset(spec, tmp_path))
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")
    files += sorted(file for file in (folder / "8px").iterdir() if file.name[0] != ".")
    records = [file for file in files if "array_record" in file.name]
    assert len(files) == 8 and len(records) == 2
    for name, what, outcome, said in damages(spec, tmp_path, files, [records]):
        if name in ("index.npz", "pixels.npy") or name.startswith("mean-"):
            assert outcome == "as before" and (name in said or what == "deleted")
        elif "array_record" in name:
            assert outcome == "refused" or (outcome == "other name" and "index.npz" in said)


@pytest.mark.parametrize("kind", ["ilsvrc2012", "voc", "tiny_imagenet", "archive"])
def test_lists_and_archives(tmp_path, kind):
    if kind == "ilsvrc2012":
        root = image_trees.ilsvrc2012(tmp_path / "photos")
        files = [root / "val.txt"]
    elif kind == "voc":
        root = image_trees.voc_folder(tmp_path / "photos")
        files = [
            root / f"VOC2012/{name}"
            for name in ("ImageSets/Main/val.txt", "Annotations/2008_000003.xml")
        ]
    else:
        root = image_trees.tiny_imagenet(tmp_path / "photos")
        files = [root / "val/val_annotations.txt", root / "train/n01/n01_boxes.txt"]
    if kind == "archive":
        kind, root = "tiny_imagenet", image_trees.archive(root, tmp_path / "tiny.tar.xz")
        files = [root]
    spec = DatasetSpec(kind, path=str(root), image_size=16)
    for name, what, outcome, said in damages(spec, tmp_path / "data", files):
        assert outcome == "other name" or str(tmp_path) in said, (name, what)


def test_a_record_that_is_damaged_while_a_dataset_is_open(tmp_path):
    path = write_photographs(tmp_path / "photos")
    dataset = open_dataset(DatasetSpec("folder", path=str(path), image_size=16), tmp_path / "data")
    record = dataset.directory / "images-00001-of-00002.array_record"
    record.write_bytes(flipped(record.read_bytes(), 0.02))
    with pytest.raises(DamagedError, match=r"record \d+ in .* is damaged; delete that folder"):
        content_of(dataset)
