import shutil
import zipfile

import image_trees
import pytest

from transfer_jax.data import listings


def test_image_folder_is_sorted_by_class_and_file(tmp_path):
    root = image_trees.image_folder(tmp_path, classes=("b", "a"), train=11, val=1)
    image_trees.write(root / "train/a/.hidden.jpg", b"x")
    image_trees.write(root / "train/a/notes.txt", b"x")
    image_trees.write(root / "train/loose.jpg", b"x")
    listing = listings.image_folder(root)
    assert listing.class_names == ("a", "b")
    files = sorted(f"{index}.JPEG" for index in range(11))
    assert [entry.id for entry in listing.splits["train"]] == [
        *(f"train/a/{file}" for file in files),
        *(f"train/b/{file}" for file in files),
    ]
    assert [entry.label for entry in listing.splits["train"]] == [0] * 11 + [1] * 11
    assert [entry.id for entry in listing.splits["val"]] == ["val/a/0.JPEG", "val/b/0.JPEG"]
    entry = listing.splits["train"][3]
    assert listing.read(entry.id) == (root / entry.id).read_bytes()
    assert entry.num_bytes == len(listing.read(entry.id))


def test_fingerprint_follows_content_and_not_place(tmp_path):
    first = image_trees.image_folder(tmp_path / "first")
    second = tmp_path / "elsewhere"
    shutil.copytree(first, second)
    original = listings.image_folder(first).fingerprint()
    assert listings.image_folder(second).fingerprint() == original
    (second / "val/cat/0.JPEG").write_bytes(b"longer" * 1000)
    changed = listings.image_folder(second).fingerprint()
    (second / "val/cat/0.JPEG").rename(second / "val/cat/00.JPEG")
    assert len({original, changed, listings.image_folder(second).fingerprint()}) == 3


def remove(path):
    return lambda root: shutil.rmtree(root / path)


def empty(path):
    def change(root):
        shutil.rmtree(root / path)
        (root / path).mkdir()

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (remove("train"), FileNotFoundError, "lacks the split train/"),
        (remove("val"), FileNotFoundError, "lacks the split val/"),
        (remove("."), FileNotFoundError, "there is no image folder"),
        (empty("train"), ValueError, "holds no class folders"),
        (empty("train/dog"), ValueError, "train/dog is empty: no image in it"),
        (empty("val/dog"), ValueError, "val/dog is empty"),
        (remove("val/dog"), ValueError, "val/dog is missing"),
        (remove("train/dog"), ValueError, "val/dog has no counterpart"),
    ],
)
def test_bad_image_folders(tmp_path, change, error, message):
    root = image_trees.image_folder(tmp_path / "photos")
    change(root)
    with pytest.raises(error, match=message):
        listings.image_folder(root)


def test_tiny_imagenet_folder(tmp_path):
    listing = listings.tiny_imagenet_folder(image_trees.tiny_imagenet(tmp_path))
    assert listing.class_names == ("n01", "n02")
    assert [entry.id for entry in listing.splits["train"]] == [
        f"train/{wnid}/images/{wnid}_{index}.JPEG" for wnid in ("n01", "n02") for index in range(3)
    ]
    # val_0 is the first of n02, which comes second in sorted order.
    assert [(entry.id, entry.label) for entry in listing.splits["val"]] == [
        ("val/images/val_1.JPEG", 0),
        ("val/images/val_3.JPEG", 0),
        ("val/images/val_0.JPEG", 1),
        ("val/images/val_2.JPEG", 1),
    ]
    # x1, y1, x2, y2 = 2, 8, 31, 63, inclusive, of 64 pixels.
    assert listing.splits["train"][2].boxes == ((8 / 64, 2 / 64, 1.0, 32 / 64),)
    assert listing.splits["val"][0].boxes == ((0.0, 0.0, 1.0, 0.5),)


@pytest.mark.parametrize("top", ["", "./", "tiny-imagenet-200/"])
def test_tiny_imagenet_archive_equals_its_folder(tmp_path, top):
    root = image_trees.tiny_imagenet(tmp_path / "tiny")
    folder = listings.tiny_imagenet_folder(root)
    tar = image_trees.archive(root, tmp_path / "tiny.tar.xz", top=top)
    zipped = tmp_path / "tiny.zip"
    with zipfile.ZipFile(zipped, "w") as file:
        for path in sorted(root.rglob("*"), reverse=True):
            file.write(path, top + path.relative_to(root).as_posix())
    for path in (tar, zipped):
        listing = listings.tiny_imagenet_archive(path)
        assert listing.splits == folder.splits
        assert listing.fingerprint() == folder.fingerprint()
        assert all(listing.read(e.id) == folder.read(e.id) for e in listing.splits["val"])


def annotate(text):
    def change(root):
        path = root / "val/val_annotations.txt"
        path.write_text(path.read_text() + text)

    return change


def forget_annotations(root):
    (root / "val/val_annotations.txt").unlink()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (forget_annotations, FileNotFoundError, "lacks val/val_annotations.txt"),
        (
            annotate("val_9.JPEG\tn01\t0\t0\t9\t9\n"),
            ValueError,
            "val_annotations.txt, line 5: there is no val/images/val_9.JPEG",
        ),
        (annotate("val_1.JPEG\tn77\t0\t0\t9\t9\n"), ValueError, "line 5: n77 is not a class of tr"),
        (annotate("val_1.JPEG\tn01\t0\t0\t9\n"), ValueError, "line 5: expected 6 columns"),
        (
            lambda root: image_trees.write(root / "val/images/x.JPEG", b""),
            ValueError,
            "does not name the class of val/images/x.JPEG",
        ),
        (empty("train/n01/images"), ValueError, "n01/images is empty"),
        (remove("train/n01/images"), ValueError, "n01/images is missing"),
    ],
)
def test_bad_tiny_imagenet(tmp_path, change, error, message):
    root = image_trees.tiny_imagenet(tmp_path / "tiny")
    change(root)
    with pytest.raises(error, match=message):
        listings.tiny_imagenet_folder(root)


def test_an_empty_class_in_an_archive(tmp_path):
    root = image_trees.tiny_imagenet(tmp_path / "tiny")
    shutil.rmtree(root / "train/n01/images")
    with pytest.raises(ValueError, match="class n01 is empty"):
        listings.tiny_imagenet_archive(image_trees.archive(root, tmp_path / "tiny.tar"))


def test_damaged_archives(tmp_path):
    whole = image_trees.archive(image_trees.tiny_imagenet(tmp_path / "tiny"), tmp_path / "a.tar.xz")
    half = image_trees.write(tmp_path / "half.tar.xz", whole.read_bytes()[:3000])
    other = image_trees.write(tmp_path / "other.tar.xz", b"nothing")
    for path in (half, other):
        with pytest.raises(ValueError, match=f"{path.name} is not a readable tar or zip archive"):
            listings.tiny_imagenet_archive(path)
    photos = image_trees.image_folder(tmp_path / "photos")
    with pytest.raises(ValueError, match="not an archive of Tiny-ImageNet"):
        listings.tiny_imagenet_archive(image_trees.archive(photos, tmp_path / "photos.tar"))
