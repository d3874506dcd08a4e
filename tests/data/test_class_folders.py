import image_trees
import numpy as np
import pytest

from transfer_jax.data.class_folders import class_folder, sun397_folder
from transfer_jax.data.sources import DatasetSpec, open_dataset
from transfer_jax.data.tasks import whole_task

SUN = ("a/abbey", "a/apartment_building/outdoor", "z/zoo")


def sun397(root, *, per_class=4):
    """The nested folders, with two partitions of half the images for training."""
    for number, name in enumerate(SUN):
        for index in range(per_class):
            array = image_trees.pixels(10 * number + index, 20 + index, 26)
            image_trees.write(root / name / f"sun_{index}.jpg", image_trees.encoded(array))
    for partition in (1, 2):
        for stem, first in (("Training", partition - 1), ("Testing", 2 - partition)):
            lines = [f"/{name}/sun_{i}.jpg" for name in SUN[::-1] for i in (first + 2, first)]
            image_trees.write(
                root / f"{stem}_{partition:02d}.txt", "\r\n".join([*lines, ""]).encode()
            )
    return root


def test_nested_class_folders(tmp_path):
    root = sun397(tmp_path / "SUN397")
    image_trees.write(root / "loose.jpg", b"x")
    image_trees.write(root / "a/abbey/.hidden.jpg", b"x")
    listing = class_folder(root)
    assert listing.class_names == SUN
    assert listing.splits["val"] == ()
    assert [entry.id for entry in listing.splits["train"]] == [
        f"{name}/sun_{index}.jpg" for name in SUN for index in range(4)
    ]
    assert [entry.label for entry in listing.splits["train"]] == [0] * 4 + [1] * 4 + [2] * 4
    entry = listing.splits["train"][5]
    assert listing.read(entry.id) == (root / entry.id).read_bytes()
    assert entry.num_bytes == (root / entry.id).stat().st_size


def test_bad_class_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no image folder"):
        class_folder(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no class folders"):
        class_folder(tmp_path / "empty")
    photos = image_trees.image_folder(tmp_path / "photos")
    with pytest.raises(ValueError, match=r"holds the splits train and val.*kind 'folder'"):
        class_folder(photos)
    root = sun397(tmp_path / "SUN397")
    (root / "b/barn").mkdir(parents=True)
    with pytest.raises(ValueError, match="b/barn is empty"):
        class_folder(root)


def test_an_empty_validation_split(tmp_path):
    root = sun397(tmp_path / "SUN397")
    spec = DatasetSpec("class_folder", path=str(root), image_size=8)
    dataset = open_dataset(spec, tmp_path / "data", progress=False)
    assert dataset.name.startswith("class_folder/8px_")
    assert dataset.splits == ("train", "val") and dataset.num_records["val"] == 0
    for path in dataset.directory.glob("labels-*.npy"):
        path.unlink()
    assert dataset.labels("val").shape == (0,) and dataset.labels("val").dtype == np.int32
    assert dataset.images("val", []).shape == (0, 8, 8, 3)
    assert len(dataset.record_source("val")) == 0
    with pytest.raises(ValueError, match="has no image in this split"):
        whole_task("W", dataset).select(dataset.labels("val"), limit=False)
    name = dataset.name.removesuffix("/1.0.0")
    again = open_dataset(DatasetSpec("tfds", name=name), tmp_path / "data", progress=False)
    assert again == dataset


def test_partitions_of_sun397(tmp_path):
    root = sun397(tmp_path / "SUN397")
    first, second = (sun397_folder(root, partition) for partition in (1, 2))
    assert first.class_names == second.class_names == SUN
    wanted = [f"{name}/sun_{index}.jpg" for name in SUN for index in (0, 2)]
    assert [entry.id for entry in first.splits["train"]] == wanted
    assert [entry.label for entry in first.splits["train"]] == [0, 0, 1, 1, 2, 2]
    assert first.splits["val"] == second.splits["train"]
    spec = DatasetSpec("sun397", path=str(root), image_size=8, partition=2)
    dataset = open_dataset(spec, tmp_path / "data", progress=False)
    assert dataset.name.startswith("sun397_folder/")
    assert dataset.num_records == {"train": 6, "val": 6}
    assert dataset.record_source("train")[2]["id"] == "a/apartment_building/outdoor/sun_1.jpg"


def test_bad_partitions_of_sun397(tmp_path):
    root = sun397(tmp_path / "SUN397")
    with pytest.raises(FileNotFoundError, match=r"lacks Training_03\.txt"):
        sun397_folder(root, 3)
    testing = root / "Testing_01.txt"
    text = testing.read_text()
    testing.write_text(text + "/a/abbey/sun_9.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"partition 1 names a/abbey/sun_9\.jpg: no such"):
        sun397_folder(root, 1)
    testing.write_text(text + "/y/yard/sun_9.jpg\n")
    with pytest.raises(ValueError, match="class y/yard of partition 1 is never trained"):
        sun397_folder(root, 1)
    testing.write_text("\n")
    with pytest.raises(ValueError, match=r"Testing_01\.txt names no image"):
        sun397_folder(root, 1)
