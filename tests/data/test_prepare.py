"""Preparation of a miniature ILSVRC2012 with the oddities of the real one, and what kills leave."""

import dataclasses
import functools
import io
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from configs import oquab2014
from tests.data import image_trees
from tests.data.image_trees import VAL, WNIDS
from transfer_jax.data import listing, prepare
from transfer_jax.data.dataset import Boxes
from transfer_jax.data.image import BrokenImageError
from transfer_jax.data.sources import DatasetSpec, open_dataset

SIZE = 24
BROKEN = ("train/n04074963/n04074963_0.JPEG", "val/ILSVRC2012_val_00000004.JPEG")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = image_trees.ilsvrc2012(tmp_path_factory.mktemp("imagenet"), truth="devkit")
    picture = image_trees.pixels(33, 45, 62)
    for id, data in {
        "train/n01440764/n01440764_1.JPEG": image_trees.encoded(picture, mode="CMYK"),
        "train/n02105855/n02105855_2.JPEG": image_trees.encoded(picture, "PNG"),
        "train/n07930864/n07930864_3.JPEG": image_trees.encoded(picture, mode="L"),
        **dict.fromkeys(BROKEN, image_trees.encoded(picture)[:-200]),
    }.items():
        image_trees.write(root / id, data)
    return root


def by_hand(path, fit):
    """A file's pixels as they should be prepared, by Pillow alone."""
    image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (0, 0, width, height) if fit == "squash" else (left, top, left + side, top + side)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box))


@pytest.mark.parametrize("fit", ["squash", "centre"])
def test_records_labels_left_out_images_and_mean(root, tmp_path, fit):
    spec = DatasetSpec("ilsvrc2012", path=str(root), image_size=SIZE, fit=fit, on_broken="skip")
    dataset = open_dataset(spec, tmp_path, workers=2)
    train = [f"train/{wnid}/{wnid}_{i}.JPEG" for wnid in WNIDS for i in range(5)]
    val = [f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (2, 5, 4, 7, 1, 6, 3, 8)]
    train.remove(BROKEN[0])
    val.remove(BROKEN[1])
    assert dataset.ids.tolist() == train + val
    assert dataset.class_names == WNIDS and dataset.image_shape == (SIZE, SIZE, 3)
    assert dataset.splits["train"].tolist() == list(range(19))
    assert dataset.splits["val"].tolist() == list(range(19, 26))
    labels = [0] * 5 + [1] * 5 + [2] * 4 + [3] * 5 + [VAL[int(id[-6]) - 1] for id in val]
    assert dataset.labels.tolist() == labels
    expected = np.array([by_hand(root / id, fit) for id in train + val])
    np.testing.assert_array_equal([dataset.image(row) for row in range(26)], expected)
    about = json.loads((dataset.directory / prepare.DESCRIPTION).read_text())
    assert tuple(about["skipped"]) == BROKEN


def test_a_broken_image_is_named_once_and_for_who_asked_for_no_gaps(root, tmp_path):
    spec = DatasetSpec("ilsvrc2012", path=str(root), image_size=SIZE)
    with pytest.raises(BrokenImageError, match=f"broken image {BROKEN[0]}.*on_broken='skip'"):
        open_dataset(spec, tmp_path)
    assert not list(tmp_path.rglob(prepare.DESCRIPTION))
    skipping = DatasetSpec("ilsvrc2012", path=str(root), image_size=SIZE, on_broken="skip")
    open_dataset(skipping, tmp_path)
    with pytest.raises(BrokenImageError, match="prepared without 2 broken images"):
        open_dataset(spec, tmp_path)


def command(root, data_dir, **options):
    options = {"path": root, "data_dir": data_dir, "image_size": SIZE, **options}
    return [f"--{name}={value}" for name, value in options.items()]


def test_the_command_and_a_study_open_the_same_records_under_the_same_name(root, tmp_path, capsys):
    assert prepare.main(command(root, tmp_path, on_broken="skip")) == 0
    flags = dict(re.findall(r"--config\.(?:dataset\.)?(\w+)=(\S+)", capsys.readouterr().out))
    data_dir = flags.pop("data_dir")
    size = int(flags.pop("image_size"))
    prepared = open_dataset(DatasetSpec(**flags, image_size=size), data_dir)
    records = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.array_record")}
    spec = DatasetSpec("ilsvrc2012", path=str(root), image_size=SIZE, on_broken="skip")
    from_source = open_dataset(spec, tmp_path)
    assert prepared.name == from_source.name and prepared.directory == from_source.directory
    assert records == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.array_record")}
    # The mean of the training images is there already.
    (mean,) = prepared.directory.glob("mean-*.npy")
    images = from_source.read(from_source.splits["train"])
    np.testing.assert_allclose(np.load(mean), images.astype(float).mean(axis=0), rtol=1e-6)
    with pytest.raises(ValueError, match=f"prepared with .*{SIZE}"):
        open_dataset(DatasetSpec(**flags, image_size=32), data_dir)


def test_some_classes_are_prepared_and_opened_under_one_name(root, tmp_path, capsys, caplog):
    names = [WNIDS[3], WNIDS[1]]
    words = command(root, tmp_path / "data", classes=",".join(names), on_broken="skip")
    assert prepare.main(words) == 0
    out = capsys.readouterr().out
    flags = dict(re.findall(r"--config\.(?:dataset\.)?(\w+)=(\S+)", out))
    data_dir, size = flags.pop("data_dir"), int(flags.pop("image_size"))
    prepared = open_dataset(DatasetSpec(**flags, image_size=size), data_dir)
    left = [name for name in WNIDS if name not in names]
    taken = [VAL[i] for i in range(8) if WNIDS[VAL[i]] in names]
    assert (
        f"left out {28 - 10 - len(taken)} images of other classes: {', '.join(left)}" in caplog.text
    )
    assert prepared.class_names == tuple(sorted(names))
    spec = DatasetSpec("ilsvrc2012", path=str(root), image_size=SIZE, on_broken="skip")
    some = open_dataset(dataclasses.replace(spec, classes=tuple(names)), data_dir)
    whole = open_dataset(spec, data_dir)
    assert some.name == prepared.name != whole.name
    by_id = {id: row for row, id in enumerate(whole.ids)}
    for split in ("train", "val"):
        rows = [by_id[some.ids[row]] for row in some.splits[split]]
        assert rows == [
            r for r in whole.splits[split] if whole.class_names[whole.labels[r]] in names
        ]
    for row, id in enumerate(some.ids):
        twin = by_id[id]
        assert some.class_names[some.labels[row]] == whole.class_names[whole.labels[twin]]
        np.testing.assert_array_equal(some.image(row), whole.image(twin))
    with pytest.raises(ValueError, match="was prepared with 2 classes"):
        open_dataset(DatasetSpec(**flags, image_size=size, classes=(names[0],)), data_dir)


def test_many_names_of_classes_are_no_file(root, tmp_path, capsys):
    arguments = [f"--path={root}", f"--data_dir={tmp_path}"]
    names = ",".join(f"n{number:08d}" for number in range(60))
    assert prepare.main([*arguments, f"--classes={names}"]) == 1
    assert "n00000000" in capsys.readouterr().err


def test_a_class_that_is_not_there_is_one_line(root, tmp_path, capsys):
    names = image_trees.write(tmp_path / "names.txt", b"n04074963\nyak\n")
    for classes in ("n04074963,yak", names):
        assert prepare.main(command(root, tmp_path, classes=classes)) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "'yak'" in line


def test_of_several_classes_an_image_keeps_those_chosen_and_their_boxes(tmp_path):
    root = image_trees.voc_folder(tmp_path / "VOCdevkit")
    spec = DatasetSpec("voc", path=str(root), image_size=None)
    whole = open_dataset(spec, tmp_path / "data")
    count = (whole.labels != 0).sum(axis=0)
    chosen = np.sort(np.argsort(count)[-2:])
    names = tuple(whole.class_names[c] for c in chosen)
    some = open_dataset(dataclasses.replace(spec, classes=names), tmp_path / "data")
    kept = np.flatnonzero((whole.labels[:, chosen] != 0).any(axis=1))
    assert 0 < len(kept) < len(whole.labels)
    assert some.ids.tolist() == whole.ids[kept].tolist() and some.class_names == names
    np.testing.assert_array_equal(some.labels, whole.labels[kept][:, chosen])
    for row, twin in enumerate(kept):
        labels, boxes, _ = whole.boxes[twin]
        there = np.isin(labels, chosen)
        np.testing.assert_array_equal(chosen[some.boxes[row][0]], labels[there])
        np.testing.assert_array_equal(some.boxes[row][1], boxes[there])


def test_the_command_says_where_the_people_of_voc_are(tmp_path, capsys):
    root = image_trees.voc_folder(tmp_path / "VOCdevkit")
    assert prepare.main(command(root, tmp_path / "data", kind="voc_actions")) == 0
    path = re.search(r"--config\.dataset\.path=(\S+)", capsys.readouterr().out)[1]
    spec = DatasetSpec("voc_actions", path=path, image_size=SIZE)
    assert open_dataset(spec, tmp_path).ids.tolist()[0] == "2008_000001/1"


def test_flags_of_whole_images_are_those_of_a_target_of_windows(tmp_path, capsys):
    root = image_trees.voc_folder(tmp_path / "VOCdevkit")
    options = command(root, tmp_path / "data", kind="voc", image_size="original")
    assert prepare.main(options) == 0
    said = capsys.readouterr().out.splitlines()[-1].removeprefix("open it with ")
    config = oquab2014.get_config("photographs")
    for name, value in re.findall(r"--config\.(\S+?)=(\S+)", said):
        *parents, field = name.split(".")
        functools.reduce(getattr, parents, config)[field] = value
    opened = open_dataset(DatasetSpec(**config.target.dataset), config.data_dir)
    assert opened.image_shape is None and opened.directory.is_relative_to(tmp_path / "data")


SLOWLY = """
import sys, time
from transfer_jax.data import prepare
prepare._SHARD_LIMITS, prepare._BLOCK = (2, 2), 1
fast = prepare.to_square
def slow(*arguments):
    time.sleep(0.05)
    return fast(*arguments)
prepare.to_square = slow
sys.exit(prepare.main(sys.argv[1:]))
"""


def test_kill_9_in_the_middle_and_again(root, tmp_path, monkeypatch):
    words = command(root, tmp_path / "data", workers=2, on_broken="skip")
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, *words], stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while len(list(tmp_path.glob("data/ilsvrc2012/.*.partial/images-*.array_record"))) < 4:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.rglob(prepare.DESCRIPTION))
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("images-*.array_record")}
    assert 4 <= len(kept) < 14  # of 28 images, two in each

    monkeypatch.setattr(prepare, "_SHARD_LIMITS", (2, 2))
    assert prepare.main(words) == 0
    assert prepare.main(command(root, tmp_path / "whole", workers=1, on_broken="skip")) == 0
    resumed, whole = (next(tmp_path.glob(f"{x}/ilsvrc2012/24px*")) for x in ("data", "whole"))
    assert {name: (resumed / name).stat().st_mtime_ns for name in kept} == kept
    assert_same_content(resumed, whole)


def assert_same_content(first, second):
    """The same files, byte for byte."""
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert {"index.npz", prepare.DESCRIPTION} < set(names)
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


class Stop(BaseException):
    """Ends a preparation as abruptly as an exception can."""


def counting(root, reads, stop_after=10**6):
    """The listing of a folder, which notes what is read, until it stops."""
    found = listing.image_folder(root)

    def read(id):
        if len(reads) >= stop_after:
            raise Stop
        reads.append(id)
        return found.read(id)

    return dataclasses.replace(found, read=read)


@pytest.mark.parametrize("stop_after", [0, 1, 3, 8, 20])
def test_finished_shards_are_not_written_again(tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(prepare, "_SHARD_LIMITS", (2, 2))
    monkeypatch.setattr(prepare, "_BLOCK", 1)
    root = image_trees.image_folder(tmp_path / "photos")

    def run(place, reads, *stop):
        made = counting(root, reads, *stop)
        options = {"image_size": 16, "workers": 1}
        prepare.prepare(lambda: made, tmp_path / place, "photos", **options)
        return reads

    with pytest.raises(Stop):
        run("data", [], stop_after)
    assert not (tmp_path / "data").exists()
    # 21 images in 11 shards of 2; one more may have been read ahead.
    assert len(run("data", [])) <= 21 - (stop_after - 1) // 2 * 2
    assert len(run("other", [])) == 21
    assert_same_content(tmp_path / "data", tmp_path / "other")
    assert run("other", []) == []  # what is there is not read again


def reads_of(root, directory, barrier):
    made = counting(root, reads := [])
    barrier.wait()
    prepare.prepare(lambda: made, directory, "photos", image_size=16)
    return len(reads)


def test_two_processes_at_once(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos")
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        arguments = [(root, tmp_path / "data", manager.Barrier(2))] * 2
        assert sorted(pool.starmap(reads_of, arguments, chunksize=1)) == [0, 21]


def test_rows_that_share_a_file_go_with_it(tmp_path):
    images = {"a": image_trees.encoded(image_trees.pixels(1, 20, 30)), "b": b"broken"}
    images["c"] = image_trees.encoded(image_trees.pixels(3, 20, 30))
    made = listing.Listing(
        root="",
        class_names=("x", "y"),
        files=list(images),
        read=images.__getitem__,
        labels=np.array([0, 1, 0, 1], np.int32),
        splits={"train": np.array([3, 0]), "val": np.array([1, 2])},
        boxes=Boxes.of_rows([([row], [[0, 0, 1, row / 4]], [False]) for row in range(4)]),
        ids=["first", "second", "third", "fourth"],
        places=np.array([2, 1, 0, 2]),
    )
    prepare.prepare(lambda: made, tmp_path / "d", "d", image_size=None, on_broken="skip")
    dataset = prepare.read_prepared(tmp_path / "d")
    assert dataset.ids.tolist() == ["first", "third", "fourth"]
    assert dataset.labels.tolist() == [0, 0, 1]
    assert {k: v.tolist() for k, v in dataset.splits.items()} == {"train": [2, 0], "val": [1]}
    assert [dataset.boxes[row][0].tolist() for row in range(3)] == [[0], [2], [3]]
    assert [dataset.source.encoded(row) for row in range(3)] == [images[k] for k in "cac"]
    assert dataset.image_shape == (20, 30, 3)  # the files happen to have one size
