import io
import os
import shutil
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.data import image_trees
from transfer_jax.data import listing
from transfer_jax.data.layouts import layout


def of_split(found, split):
    rows = found.splits[split]
    return [found.files[row] for row in rows], found.labels[rows].tolist()


def test_image_folder_is_sorted_by_class_and_file(tmp_path):
    root = image_trees.image_folder(tmp_path, classes=("b", "a"), train=11, val=1)
    for name in ("train/a/.hidden.jpg", "train/a/notes.txt", "train/loose.jpg"):
        image_trees.write(root / name, b"x")
    found = listing.image_folder(root)
    assert found.class_names == ("a", "b")
    files = sorted(f"{index}.JPEG" for index in range(11))
    expected = [f"train/{name}/{file}" for name in "ab" for file in files]
    assert of_split(found, "train") == (expected, [0] * 11 + [1] * 11)
    assert of_split(found, "val") == (["val/a/0.JPEG", "val/b/0.JPEG"], [0, 1])
    assert found.read(expected[3]) == (root / expected[3]).read_bytes()


@pytest.mark.parametrize("name", ["validation", "valid", "test", "Val"])
def test_others_stand_for_a_missing_val_and_training_images_alone_will_do(tmp_path, name, caplog):
    root = image_trees.image_folder(tmp_path / "photos")
    (root / "val").rename(root / name)
    found = listing.image_folder(root)
    assert set(found.splits) == {"train", "val"}
    assert of_split(found, "val")[0][0] == f"{name}/cat/0.JPEG"
    image_trees.write(root / "holdout/cat/0.JPEG", b"x")
    listing.image_folder(root)
    assert f"{root}: passed over holdout" in caplog.text
    shutil.rmtree(root / name)
    alone = listing.image_folder(root)
    splits = alone.splits
    assert sorted([*splits["train"], *splits["val"]]) == list(range(len(alone.labels)))
    counts = np.bincount(alone.labels)
    counts = np.maximum(counts // 5, counts > 1)  # a fifth, or one of a few
    np.testing.assert_array_equal(np.bincount(alone.labels[splits["val"]], minlength=3), counts)


def test_fingerprint_follows_content_and_not_place(tmp_path):
    def fingerprint(root):
        return listing.image_folder(root).with_digests(tmp_path / "table.npz").fingerprint()

    first = image_trees.image_folder(tmp_path / "first")
    second = tmp_path / "elsewhere"
    shutil.copytree(first, second)
    original = fingerprint(first)
    assert fingerprint(second) == original
    image = second / "val/cat/0.JPEG"
    content, times = bytearray(image.read_bytes()), image.stat()
    content[-9] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = fingerprint(second)
    image.rename(second / "val/cat/00.JPEG")
    assert len({original, changed, fingerprint(second)}) == 3


@pytest.mark.parametrize("lost", ["train", "val/dog", "train/dog"])
def test_bad_image_folders(tmp_path, lost):
    root = image_trees.image_folder(tmp_path / "photos")
    shutil.rmtree(root / lost)
    message = {"train": "train", "val/dog": "val/dog is empty", "train/dog": "no counterpart"}[lost]
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        listing.image_folder(root)


def test_class_folders_at_any_depth_have_no_splits(tmp_path):
    for name in ("001.ak47/a.jpg", "a/abbey/x.jpg", "a/abbey/w.jpg", "a/arch/out/y.jpg", "z.jpg"):
        image_trees.write(tmp_path / name, b"x")
    found = listing.class_folder(tmp_path)
    assert found.class_names == ("001.ak47", "a/abbey", "a/arch/out")
    assert found.files == ["001.ak47/a.jpg", "a/abbey/w.jpg", "a/abbey/x.jpg", "a/arch/out/y.jpg"]
    assert found.labels.tolist() == [0, 1, 1, 2]
    assert found.splits == {}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty is empty"):
        listing.class_folder(tmp_path)
    with pytest.raises(ValueError, match="kind 'folder'"):
        listing.class_folder(image_trees.image_folder(tmp_path / "photos"))


def test_tiny_imagenet_folder(tmp_path):
    found = listing.tiny_imagenet(image_trees.tiny_imagenet(tmp_path))
    assert found.class_names == ("n01", "n02")
    expected = [f"train/{w}/images/{w}_{index}.JPEG" for w in ("n01", "n02") for index in range(3)]
    assert of_split(found, "train") == (expected, [0, 0, 0, 1, 1, 1])
    # val_0 is the first of n02, which comes second in sorted order.
    files, labels = of_split(found, "val")
    assert [file[-10:-5] for file in files] == ["val_1", "val_3", "val_0", "val_2"]
    assert labels == [0, 0, 1, 1]
    # x1, y1, x2, y2 = 2, 8, 31, 63, inclusive, of 64 pixels.
    np.testing.assert_array_equal(found.boxes[2][1], [[8 / 64, 2 / 64, 1.0, 32 / 64]])
    np.testing.assert_array_equal(found.boxes[9][1], [[0.0, 0.0, 1.0, 0.5]])
    assert found.boxes[9][0].tolist() == [1]


@pytest.mark.parametrize("top", ["", "./", "tiny-imagenet-200/"])
def test_tiny_imagenet_archive_equals_its_folder(tmp_path, top):
    root = image_trees.tiny_imagenet(tmp_path / "tiny")
    folder = listing.tiny_imagenet(root)
    tar = image_trees.archive(root, tmp_path / "tiny.tar.xz", top=top)
    zipped = tmp_path / "tiny.zip"
    with zipfile.ZipFile(zipped, "w") as file:
        for path in sorted(root.rglob("*"), reverse=True):
            file.write(path, top + path.relative_to(root).as_posix())
    for path in (tar, zipped):
        found = listing.tiny_imagenet(path)
        assert found.fingerprint() == folder.fingerprint()
        assert all(found.read(id) == folder.read(id) for id in folder.files)


def annotate(text):
    def change(root):
        path = root / "val/val_annotations.txt"
        path.write_text(path.read_text() + text)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "val/val_annotations.txt").unlink(), "no val/val_annotations.txt"),
        (annotate("val_9.JPEG\tn01\t0\t0\t9\t9\n"), r"val_9\.JPEG of n01"),
        (annotate("val_1.JPEG\tn01\t0\t0\t9\n"), "should have 6 columns"),
        (lambda root: image_trees.write(root / "val/images/x.JPEG", b""), "the class of val/im.*x"),
        (lambda root: shutil.rmtree(root / "train/n01/images"), "class n01 has no image"),
        (lambda root: image_trees.write(root / "train/n01/n01_boxes.txt", b""), "lacks the box of"),
    ],
)
def test_bad_tiny_imagenet(tmp_path, change, message):
    root = image_trees.tiny_imagenet(tmp_path / "tiny")
    change(root)
    with pytest.raises(ValueError, match=message):
        listing.tiny_imagenet(root)


def bomb(path, size):
    """A file of zeros under the name of an image, and what declares another size than it has."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("val/images/a.JPEG", bytes(size))
        return
    with tarfile.open(path, "w:xz", preset=1) as file:
        header = tarfile.TarInfo("val/images/a.JPEG")
        header.size = size
        if "names" in path.name:
            header.type = tarfile.GNUTYPE_LONGNAME
        if "sparse" in path.name:
            header.pax_headers, header.size = {"GNU.sparse.size": str(size)}, 0
        if "property" in path.name:
            header.pax_headers, header.size = {"size": str(size)}, 0
        file.addfile(header, io.BytesIO(bytes(header.size)))
        file.fileobj.write(bytes(size - header.size))


@pytest.mark.parametrize(
    "name", ["a.zip", "a.tar.xz", "names.tar.xz", "sparse.tar.xz", "property.tar.xz"]
)
def test_archives_that_unpack_to_too_much(tmp_path, monkeypatch, name):
    monkeypatch.setattr(listing, "_MOST_BYTES", 10**6)
    bomb(tmp_path / name, 50 * 10**6)
    assert (tmp_path / name).stat().st_size < 10**6
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{name} is .* unpacks to more than 1,000,000 bytes"):
        listing.tiny_imagenet(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_names_are_what_they_are_or_refused(tmp_path):
    names = (" cat", "dog ", "o\nwl")
    root = image_trees.image_folder(tmp_path / "photos", classes=names, train=1)
    (root / "train/ cat/0.JPEG").rename(root / "train/ cat/ \n.JPEG")
    found = listing.image_folder(root)
    assert found.class_names == names
    assert of_split(found, "train")[0] == [
        "train/ cat/ \n.JPEG",
        "train/dog /0.JPEG",
        "train/o\nwl/0.JPEG",
    ]
    assert found.read(found.files[0]) == (root / found.files[0]).read_bytes()
    (root / "val/ cat/0.JPEG").rename(root / "val/ cat/caf\udce9.JPEG")
    with pytest.raises(ValueError, match=r"the name 'val/ cat/caf\\udce9.JPEG' is not UTF-8"):
        listing.image_folder(root)


def test_what_is_passed_over_is_said_in_one_line(tmp_path, caplog):
    root = image_trees.image_folder(tmp_path / "photos")
    assert listing.image_folder(root) and not caplog.text
    for name in ("cat/a.heic", "cat/b.heic", "dog/1.jpg ", "owl/more/1.jpg", "owl/more/2.jpg"):
        image_trees.write(root / "train" / name, b"x")
    (root / "val/cat/gone.jpg").symlink_to(tmp_path / "nowhere")
    image_trees.write(root / "val/cat/.hidden", b"x")
    assert len(listing.image_folder(root).files) == 21
    (record,) = caplog.records
    counts = ("2 files that end in '.heic'", "1 files that end in '.jpg '", "1 dangling links")
    for count in (*counts, "2 images a folder too deep"):
        assert count in record.message


def test_lists_that_are_no_text(tmp_path):
    image_trees.write(tmp_path / "Training_01.txt", b"/a/caf\xe9/1.jpg")
    image_trees.write(tmp_path / "Testing_01.txt", b"")
    with pytest.raises(ValueError, match=r"caf.*not UTF-8"):
        layout(tmp_path, "sun397", partition=1)


def test_damaged_archives(tmp_path):
    whole = image_trees.archive(image_trees.tiny_imagenet(tmp_path / "tiny"), tmp_path / "a.tar.xz")
    half = image_trees.write(tmp_path / "half.tar.xz", whole.read_bytes()[:3000])
    other = image_trees.write(tmp_path / "other.tar.xz", b"nothing")
    for path in (half, other):
        with pytest.raises(ValueError, match=f"{path.name} is not a readable tar or zip archive"):
            listing.tiny_imagenet(path)
