"""Every kind of source gives one sort of dataset; TFDS's own records among them."""

import io
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data import image_trees
from tests.data.image_trees import VOC_IMAGES
from transfer_jax import world
from transfer_jax.data import voc
from transfer_jax.data.listing import image_folder
from transfer_jax.data.outline import NoImagesError, outline
from transfer_jax.data.sources import DatasetSpec, open_dataset

COUNTS = {"train": 40, "test": 7, "validation": 5}


def store(data_dir, name, features, splits, *, version="2.1.0", config=None):
    """Examples as TFDS stores them: (key, example) pairs of each split."""
    features = tfds.features.FeaturesDict(features)

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, _):
            return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

        def _generate_examples(self, pairs):
            yield from pairs

    Builder.name = name
    Builder(data_dir=data_dir, file_format="array_record").download_and_prepare()


def picture(split, index, height=12, width=20):
    return image_trees.pixels(1000 * len(split) + index, height, width)


def store_tiny(data_dir, names=("train", "test"), shape=(12, 20, 3)):
    """Images of one label, with no box, one or two."""
    box = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.Text()}
    features = {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
        "objects": tfds.features.Sequence(box),
    }

    def example(split, i):
        data = image_trees.encoded(picture(split, i, shape[0] or 12 + i % 3), "PNG")
        boxes = [tfds.features.BBox(0.0, 0.1 * k, 0.5, 0.1 * k + 0.1) for k in range(i % 3)]
        objects = [{"bbox": box, "label": "thing"} for box in boxes]
        return {"image": io.BytesIO(data), "label": i % 3, "objects": objects}

    splits = {name: [(i, example(name, i)) for i in range(COUNTS[name])] for name in names}
    store(data_dir, "tiny", features, splits)
    return data_dir


def open_tiny(data_dir, **options):
    return open_dataset(DatasetSpec("tfds", name="tiny", **options), data_dir)


def test_records_of_tfds(tmp_path):
    dataset = open_tiny(store_tiny(tmp_path))
    assert dataset.name.startswith("tiny/2.1.0_") and dataset.class_names == ("ant", "bee", "cat")
    assert dataset.image_shape == (12, 20, 3)
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 40, "val": 7}
    assert dataset.labels[dataset.splits["train"]].tolist() == [i % 3 for i in range(40)]
    expected = {
        "train": [picture("train", index) for index in range(40)],
        "val": [picture("test", index) for index in range(7)],
    }
    for split, rows in dataset.splits.items():
        np.testing.assert_array_equal([dataset.image(row) for row in rows], expected[split])
        np.testing.assert_array_equal(dataset.read(rows), expected[split])
    labels, boxes, difficult = dataset.boxes[5]
    assert labels.tolist() == [2, 2] and difficult.tolist() == [False, False]
    np.testing.assert_allclose(boxes, [[0, 0, 0.5, 0.1], [0, 0.1, 0.5, 0.2]], atol=1e-6)
    assert len(dataset.boxes[0][0]) == 0
    assert open_tiny(tmp_path).labels.tolist() == dataset.labels.tolist()  # from those kept


def test_splits_of_tfds(tmp_path):
    dataset = open_tiny(store_tiny(tmp_path, ("train", "test", "validation")))
    counts = {split: len(rows) for split, rows in dataset.splits.items()}
    assert counts == {"train": 40, "test": 7, "val": 5}
    for split, rows in dataset.splits.items():
        name = {"val": "validation"}.get(split, split)
        np.testing.assert_array_equal(dataset.image(rows[3]), picture(name, 3))


def test_of_training_images_alone_a_fifth_of_each_class_is_for_testing(tmp_path, caplog):
    dataset = open_tiny(store_tiny(tmp_path, ("train",)))
    assert "a fifth of each class, 6 images" in caplog.text
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert sorted([*train, *val]) == list(range(40))
    assert np.bincount(dataset.labels[val]).tolist() == [2, 2, 2]
    # Those of a folder of the same images, class by class.
    for label in range(3):
        image_trees.write(tmp_path / f"photos/{label}/.keep", b"")
    for row in range(40):
        data = image_trees.encoded(picture("train", row), "PNG")
        image_trees.write(tmp_path / f"photos/{row % 3}/{row:02}.png", data)
    folder = image_folder(tmp_path / "photos")
    expected = [int(folder.files[row].split("/")[1][:2]) for row in folder.splits["val"]]
    assert val.tolist() == sorted(expected)
    np.testing.assert_array_equal(dataset.image(val[0]), picture("train", val[0]))


def test_images_of_many_shapes_become_squares_of_the_size_asked_for(tmp_path):
    store_tiny(tmp_path, shape=(None, None, 3))
    plain, squares, cut = (
        open_tiny(tmp_path, **options)
        for options in ({}, {"image_size": 8}, {"image_size": 8, "fit": "centre"})
    )
    assert plain.image_shape is None and plain.image(2).shape == (14, 20, 3)
    assert squares.image_shape == (8, 8, 3)
    assert len({plain.name, squares.name, cut.name}) == 3
    original = Image.fromarray(picture("train", 3))
    expected = original.resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(squares.read(range(40))[3], expected)
    middle = original.resize((8, 8), Image.Resampling.LANCZOS, (4, 0, 16, 12))
    np.testing.assert_array_equal(cut.read(range(40))[3], middle)
    # Boxes are fractions of whole images.
    assert squares.boxes is not None and cut.boxes is None


def test_another_storage_format_and_what_is_not_there(tmp_path):
    path = store_tiny(tmp_path) / "tiny/2.1.0/dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match="file_format='array_record'"):
        open_tiny(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no {tmp_path}/no/such: `tfds build no/such"):
        open_dataset(DatasetSpec("tfds", name="no/such"), tmp_path)


def store_voc(data_dir):
    """The features, config, version and splits of TFDS's voc/2012, as far as they matter."""
    label = tfds.features.ClassLabel(names=voc.CLASSES)
    box = {"label": label, "bbox": tfds.features.BBoxFeature(), "is_difficult": np.bool_}
    features = {
        "image": tfds.features.Image(),
        "image/filename": tfds.features.Text(),
        "objects": tfds.features.Sequence(box),
        "labels": tfds.features.Sequence(label),
        "labels_no_difficult": tfds.features.Sequence(label),
    }

    def example(name, objects):
        height, width = image_trees.VOC_SIZES[name]
        found = []
        for place, (item, hard) in enumerate(objects, start=1):
            x1, y1, x2, y2 = image_trees.voc_box(place)
            sides = (y1 - 1) / height, (x1 - 1) / width, y2 / height, x2 / width
            box = tfds.features.BBox(*sides)
            found.append({"label": item, "bbox": box, "is_difficult": bool(hard)})
        data = image_trees.encoded(image_trees.pixels(int(name[-1]), height, width))
        return {
            "image": io.BytesIO(data),
            "image/filename": f"{name}.jpg",
            "objects": found,
            "labels": sorted({item for item, _ in objects}),
            "labels_no_difficult": sorted({item for item, hard in objects if not hard}),
        }

    images = {"test": {"2009_000006": []}, **{k: VOC_IMAGES[k] for k in ("train", "val")}}
    splits = {
        split.replace("val", "validation"): [(i, example(*x)) for i, x in enumerate(part.items())]
        for split, part in images.items()
    }
    store(data_dir, "voc", features, splits, version="5.0.0", config="2012")


def test_voc_is_the_same_from_its_kit_and_from_tfds(tmp_path):
    kit = image_trees.voc_folder(tmp_path / "VOCdevkit")
    shutil.rmtree(kit / "VOC2012/ImageSets/Action")
    (kit / "VOC2012/ImageSets/Main/test.txt").unlink()
    store_voc(tmp_path / "tfds")
    one = open_dataset(DatasetSpec("voc", path=str(kit), image_size=None), tmp_path / "data")
    other = open_dataset(DatasetSpec("tfds", name="voc/2012"), tmp_path / "tfds")
    assert set(one.splits) == set(other.splits) == {"train", "val", "trainval"}
    for split in one.splits:
        for row, twin in zip(one.splits[split], other.splits[split], strict=True):
            assert f"{one.ids[row]}.jpg" == other.ids[twin]
            np.testing.assert_array_equal(one.labels[row], other.labels[twin])
            np.testing.assert_array_equal(one.image(row), other.image(twin))
            for mine, its in zip(one.boxes[row], other.boxes[twin], strict=True):
                np.testing.assert_allclose(mine, its, atol=1e-6)


def test_the_world_is_drawn_once(tmp_path):
    spec = DatasetSpec("world", image_size=16, train_per_class=2, val_per_class=1, seed=3)
    dataset = open_dataset(spec, tmp_path)
    assert dataset.class_names == tuple(world.class_names())
    assert len(dataset.class_paths) == len(dataset.class_names) == 40
    images, boxes = world.render_images(7, np.arange(2), split="train", seed=3, size=16)
    rows = np.flatnonzero(dataset.labels == 7)
    np.testing.assert_array_equal(dataset.read(rows[:2]), images)
    np.testing.assert_array_equal(dataset.boxes[rows[1]][1], boxes[1:])
    (file,) = tmp_path.rglob("*.npz")
    drawn = file.stat().st_mtime_ns
    np.testing.assert_array_equal(open_dataset(spec, tmp_path).read(rows[:2]), images)
    assert file.stat().st_mtime_ns == drawn
    scenes = DatasetSpec("world_scenes", image_size=16, train_per_class=1, val_per_class=1)
    several = open_dataset(scenes, tmp_path)
    assert several.labels.shape == (80, 40) and set(np.unique(several.labels)) <= {-1, 0, 1}
    for row in (0, 50):
        labels, boxes, difficult = several.boxes[row]
        assert set(labels) == set(np.flatnonzero(several.labels[row]))
        assert len(boxes) == len(difficult) == len(labels)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "photos"},
        {"kind": "tfds"},
        {"kind": "folder"},
        {"kind": "folder", "path": "x", "image_size": 5000},
        {"kind": "folder", "path": "x", "fit": "crop"},
        {"kind": "sun397", "path": "x", "partition": 11},
        {"kind": "world", "image_size": None},
        {"kind": "world", "max_objects": 2},
        {"kind": "world_scenes", "max_objects": 6},
        {"kind": "world_relations", "name": "car"},
    ],
)
def test_specs_without_meaning(options):
    with pytest.raises(ValueError, match=[*options][-1]):
        DatasetSpec(**options)


def test_outlines_count_what_is_public():
    imagenet = outline(DatasetSpec("ilsvrc2012", path=".", image_size=256))
    assert len(imagenet.splits["train"]) == 1_281_167 and len(imagenet.splits["val"]) == 50_000
    for rows in imagenet.splits.values():
        counts = np.bincount(imagenet.labels[rows], minlength=1000)
        assert counts.max() - counts.min() <= 1
    kit = outline(DatasetSpec("voc", path="VOCdevkit/VOC2007"))
    assert kit.labels.shape == (9963, 20) and len(kit.splits["trainval"]) == 5011
    assert outline(DatasetSpec("class_folder", path="x/256_ObjectCategories")).splits == {}
    assert outline(DatasetSpec("voc", path="x/VOC2012")).splits.keys() == {
        "train",
        "val",
        "trainval",
    }
    for unknown in (DatasetSpec("world"), DatasetSpec("voc", path="voc2007_small/VOCdevkit")):
        assert outline(unknown) is None
    with pytest.raises(NoImagesError):
        imagenet.read([0])
