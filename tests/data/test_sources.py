import io
import shutil

import image_trees
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from transfer_jax.data import listings, splits
from transfer_jax.data.images import BrokenImageError
from transfer_jax.data.sources import DatasetSpec, open_builder, open_dataset


def test_folder(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos", size=48)
    spec = DatasetSpec("folder", path=str(root), image_size=24)
    dataset = open_dataset(spec, tmp_path / "data", progress=False)
    assert dataset.image_shape == (24, 24, 3)
    assert dataset.class_names == ("cat", "dog", "owl")
    record = dataset.record_source("val")[3]
    assert (record["id"], record["label"]) == ("val/dog/1.JPEG", 1)
    expected = Image.open(root / "val/dog/1.JPEG").resize((24, 24), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(record["image"], np.asarray(expected))


def test_folders_of_every_sort_of_image(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos", train=1)
    array = image_trees.pixels(0, 33, 57)
    image_trees.write(root / "train/cat/cmyk.jpg", image_trees.encoded(array, "JPEG", "CMYK"))
    image_trees.write(root / "train/cat/grey.JPG", image_trees.encoded(array, "JPEG", "L"))
    image_trees.write(root / "train/cat/png.JPEG", image_trees.encoded(array, "PNG", "RGBA"))
    image_trees.write(root / "train/cat/tall.gif", image_trees.encoded(array[:, :9], "GIF", "P"))
    spec = DatasetSpec("folder", path=str(root), image_size=24)
    dataset = open_dataset(spec, tmp_path / "data", progress=False)
    assert dataset.images("train", range(7)).shape == (7, 24, 24, 3)
    source = dataset.record_source("train")
    assert [source[i]["id"].split("/")[-1] for i in range(5)] == [
        "0.JPEG",
        "cmyk.jpg",
        "grey.JPG",
        "png.JPEG",
        "tall.gif",
    ]
    grey = source[2]["image"]
    assert (grey == grey[..., :1]).all()


def test_the_name_follows_content_and_not_place(tmp_path):
    first = image_trees.image_folder(tmp_path / "first")
    second = tmp_path / "second"
    shutil.copytree(first, second)

    def name(root, **options):
        spec = DatasetSpec("folder", path=str(root), **{"image_size": 16, **options})
        return open_dataset(spec, tmp_path / "data", progress=False).name

    original = name(first)
    assert original.startswith("image_folder/16px_") and original.endswith("/1.0.0")
    assert name(second) == original
    assert name(first, image_size=17) != original
    (second / "train/cat/0.JPEG").unlink()
    assert name(second) != original
    assert name(first) == original


def test_centred_images_are_another_dataset_and_squashed_ones_the_same_as_ever(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos", size=16)
    wide = image_trees.pixels(5, 16, 24)
    image_trees.write(root / "train/cat/wide.png", image_trees.encoded(wide, "PNG"))

    def opened(kind="folder", **options):
        spec = DatasetSpec(kind, image_size=16, **options)
        return open_dataset(spec, tmp_path / "data", progress=False)

    squashed = opened(path=str(root))
    centred = opened(path=str(root), fit="centre")
    fingerprint = listings.image_folder(root).fingerprint()
    assert squashed.name == f"image_folder/16px_{fingerprint}/1.0.0"
    assert centred.name == f"image_folder/16px_centre_{fingerprint}/1.0.0"
    index = 5
    assert centred.record_source("train")[index]["id"] == "train/cat/wide.png"
    np.testing.assert_array_equal(centred.images("train", [index])[0], wide[:, 4:20])
    assert (squashed.images("train", [index])[0] != wide[:, 4:20]).any()
    # The same, where images are made squares as they are read.
    whole = {fit: open_wide(tmp_path, wide, fit) for fit in ("squash", "centre")}
    assert whole["centre"].name == whole["squash"].name.removesuffix("/16px") + "/16px_centre"
    np.testing.assert_array_equal(whole["centre"].images("train", [0])[0], wide[:, 4:20])
    np.testing.assert_array_equal(whole["centre"].record_source("train")[0]["image"], wide[:, 4:20])
    squashed = Image.fromarray(wide).resize((16, 16), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(whole["squash"].images("train", [0])[0], squashed)


class Wide(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, pixels, **options):
        self.pixels = pixels
        super().__init__(**options)

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(num_classes=2),
            "bbox": tfds.features.BBoxFeature(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "val": self._generate_examples()}

    def _generate_examples(self):
        box = tfds.features.BBox(0.0, 0.5, 1.0, 1.0)
        data = io.BytesIO(image_trees.encoded(self.pixels, "PNG"))
        yield 0, {"image": data, "label": 1, "bbox": box}


def open_wide(tmp_path, pixels, fit):
    builder = Wide(pixels=pixels, data_dir=tmp_path / "tfds", file_format="array_record")
    open_builder(builder, progress=False)
    spec = DatasetSpec("tfds", name="wide", image_size=16, fit=fit)
    dataset = open_dataset(spec, tmp_path / "tfds", progress=False)
    # What a box of the whole image says of its middle is not what it says of the whole.
    assert ("boxes" in dataset.record_source("train")[0]) == (fit == "squash")
    return dataset


def test_a_prepared_folder_outlives_its_files(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos")
    spec = DatasetSpec("folder", path=str(root), image_size=16)
    dataset = open_dataset(spec, tmp_path / "data", progress=False)
    shutil.rmtree(root)
    name = dataset.name.removesuffix("/1.0.0")
    with pytest.raises(FileNotFoundError, match=f"there is no {root}.*prepared before.*{name}"):
        open_dataset(spec, tmp_path / "data", progress=False)
    for again in (name, f"{name}:1.0.0", dataset.name):
        opened = open_dataset(DatasetSpec("tfds", name=again), tmp_path / "data", progress=False)
        assert opened == dataset
        np.testing.assert_array_equal(opened.labels("val"), dataset.labels("val"))


def test_tiny_imagenet_as_folder_and_archive(tmp_path, monkeypatch):
    root = image_trees.tiny_imagenet(tmp_path / "tiny")
    archive = image_trees.archive(root, tmp_path / "tiny.tar.xz")
    packed = DatasetSpec("tiny_imagenet", path=str(archive))
    assert packed.image_size == 32
    first = open_dataset(packed, tmp_path / "first", progress=False)
    unpacked = DatasetSpec("tiny_imagenet", path=str(root))
    second = open_dataset(unpacked, tmp_path / "second", progress=False)
    assert first == second
    assert first.class_names == ("n01", "n02")
    for split, count in (("train", 6), ("val", 4)):
        one, other = (dataset.record_source(split) for dataset in (first, second))
        for index in range(count):
            np.testing.assert_array_equal(one[index]["image"], other[index]["image"])
            np.testing.assert_array_equal(one[index]["boxes"], other[index]["boxes"])
            path = root / one[index]["id"]
            np.testing.assert_array_equal(one[index]["image"], np.asarray(Image.open(path)))
    np.testing.assert_allclose(
        first.record_source("train")[2]["boxes"], [[8 / 64, 2 / 64, 1.0, 32 / 64]]
    )

    def refuse(_):
        raise AssertionError("the archive was read again")

    monkeypatch.setattr(listings, "tiny_imagenet_archive", refuse)
    assert open_dataset(packed, tmp_path / "first", progress=False) == first


def test_another_archive_of_the_same_name_is_another_dataset(tmp_path):
    names = set()
    for train in (2, 3):
        root = image_trees.tiny_imagenet(tmp_path / str(train), train=train)
        archive = image_trees.archive(root, tmp_path / "tiny.tar")
        spec = DatasetSpec("tiny_imagenet", path=str(archive), image_size=16)
        dataset = open_dataset(spec, tmp_path / "data", progress=False)
        assert len(dataset.labels("train")) == 2 * train
        names.add(dataset.name)
    assert len(names) == 2


def test_a_broken_image_in_an_archive(tmp_path):
    root = image_trees.tiny_imagenet(tmp_path / "tiny")
    broken = root / "train/n02/images/n02_1.JPEG"
    broken.write_bytes(broken.read_bytes()[:-40])
    archive = image_trees.archive(root, tmp_path / "tiny.tar")
    spec = DatasetSpec("tiny_imagenet", path=str(archive))
    with pytest.raises(BrokenImageError, match=r"train/n02/images/n02_1.JPEG in .*tiny\.tar"):
        open_dataset(spec, tmp_path / "data", progress=False)
    skipping = DatasetSpec("tiny_imagenet", path=str(archive), on_broken="skip")
    dataset = open_dataset(skipping, tmp_path / "data", progress=False)
    assert dataset.labels("train").tolist() == [0, 0, 0, 1, 1]
    open_dataset(skipping, tmp_path / "data", progress=False)
    with pytest.raises(BrokenImageError, match="prepared without 1 broken images"):
        open_dataset(spec, tmp_path / "data", progress=False)


def test_unknown_tfds_name(tmp_path):
    with pytest.raises(ValueError, match=r"no dataset 'no_such_data' under .*data, and TFDS knows"):
        open_dataset(DatasetSpec("tfds", name="no_such_data"), tmp_path / "data", progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "ilsvrc2012"}, "'ilsvrc2012' needs the path of its folders, or the name of"),
        ({"kind": "folder", "path": "x", "fit": "crop"}, "one of squash, centre; got 'crop'"),
        ({"kind": "world", "fit": "centre"}, "fit='centre' has no meaning for kind 'world'"),
        ({"kind": "tiny_imagenet", "path": "x", "fit": "centre"}, "its images are squares"),
        ({"kind": "tfds", "name": "x", "fit": "centre"}, "fit='centre' needs an image_size"),
        ({"kind": "zip"}, "kind must be one of world, tfds, folder, .*, voc_actions; got 'zip'"),
        ({"kind": "tfds"}, "needs a name"),
        ({"kind": "folder"}, "kind 'folder' needs the path"),
        ({"kind": "tiny_imagenet"}, "kind 'tiny_imagenet' needs the path"),
        ({"kind": "tfds", "name": "x", "image_size": -1}, "must lie in 1 .. 4096 pixels, got -1"),
        ({"kind": "folder", "path": "x", "image_size": 0}, "must lie in 1 .. 4096 pixels, got 0"),
        ({"kind": "folder", "path": "x", "on_broken": "fix"}, "must be 'raise' or 'skip', got 'fi"),
        ({"kind": "world", "train_per_class": 0}, "train_per_class is a positive number"),
        ({"kind": "folder", "path": "x", "val_per_class": 5}, "got 5 for kind 'folder'"),
        ({"kind": "class_folder"}, "kind 'class_folder' needs the path"),
        ({"kind": "voc"}, "kind 'voc' needs the path"),
        ({"kind": "world", "max_objects": 2}, "kind 'world_scenes', got 2 for kind 'world'"),
        ({"kind": "world_scenes", "max_objects": 6}, r"max_objects lies in 1 \.\. 5 .*, got 6"),
        ({"kind": "world_scenes", "train_per_class": 0}, "train_per_class is a positive number"),
        ({"kind": "voc", "path": "x", "margin": 0.2}, "'voc_actions', got 0.2 for kind 'voc'"),
        ({"kind": "voc_actions", "path": "x", "margin": -0.1}, r"margin lies in 0 .*got -0\.1"),
        ({"kind": "sun397", "path": "x", "partition": 11}, r"1 \.\. 10 for kind 'sun397', got 11"),
        ({"kind": "folder", "path": "x", "partition": 2}, "'sun397', got 2 for kind 'folder'"),
    ],
)
def test_bad_specs(arguments, message):
    with pytest.raises(ValueError, match=message):
        DatasetSpec(**arguments)


def test_specs_are_values():
    spec = DatasetSpec("folder", path="photos")
    assert spec.image_size == 256
    assert hash(spec) == hash(DatasetSpec("folder", path="photos", image_size=256))


def test_world(tmp_path):
    def world(**options):
        options = {"kind": "world", "train_per_class": 3, "val_per_class": 2, **options}
        return open_dataset(DatasetSpec(**options), tmp_path, progress=False)

    dataset = world()
    assert dataset.image_shape == (32, 32, 3)
    assert len(dataset.class_paths) == len(dataset.class_names) >= 32
    assert all(
        path[-1] == name
        for path, name in zip(dataset.class_paths, dataset.class_names, strict=True)
    )
    man_made, natural = splits.man_made_natural(dataset.class_names, dataset.class_paths)
    assert len(man_made) + len(natural) == len(dataset.class_names)
    for split, count in (("train", 3), ("val", 2)):
        assert (np.bincount(dataset.labels(split)) == count).all()
    record = dataset.record_source("val")[1]
    assert record["label"] == dataset.labels("val")[1]
    assert record["boxes"].shape == (1, 4)
    names = {dataset.name}
    for change in ({"seed": 1}, {"image_size": 24}, {"train_per_class": 2}, {"val_per_class": 1}):
        names.add(world(**change).name)
    assert len(names) == 5
    assert world().name == dataset.name
