import io
import os
import pickle
import threading

import image_trees
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from transfer_jax.data import datasets, records, sources

COUNTS = {"train": 40, "test": 7}


def picture(split, index, height=12, width=20):
    return image_trees.pixels(1000 * len(split) + index, height, width)


class TinyCatalogue(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder whose splits, image shape and features the tests choose."""

    VERSION = tfds.core.Version("2.1.0")
    split_names = ("train", "test")
    shape = (12, 20, 3)
    features = None
    varied = False

    def _info(self):
        features = self.features or {
            "image": tfds.features.Image(shape=self.shape),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
            "objects": tfds.features.Sequence(
                {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.Text()}
            ),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in self.split_names}

    def _generate_examples(self, split):
        for index in range(COUNTS.get(split, 5)):
            shape = (12 + index % 3, 20) if self.varied else self.shape[:2]
            mode = "L" if self.shape[2] == 1 else "RGB"
            data = image_trees.encoded(picture(split, index, *shape), "PNG", mode)
            boxes = [tfds.features.BBox(0.0, 0.1 * k, 0.5, 0.1 * k + 0.1) for k in range(index % 3)]
            objects = [{"bbox": box, "label": "thing"} for box in boxes]
            if "objects" in self.info.features and "bbox" not in self.info.features["objects"]:
                objects = [{"label": "thing"} for _ in boxes]
            example = {"image": io.BytesIO(data), "label": index % 3, "objects": objects}
            yield index, {key: example[key] for key in self.info.features}


def make(tmp_path, **attributes):
    attributes["__module__"] = __name__
    builder = type("TinyCatalogue", (TinyCatalogue,), attributes, skip_registration=True)
    return builder(data_dir=tmp_path, file_format="array_record")


@pytest.fixture
def dataset(tmp_path):
    return sources.open_builder(make(tmp_path), progress=False)


def test_what_a_dataset_says_of_itself(dataset):
    assert dataset.name == "tiny_catalogue/2.1.0"
    assert dataset.class_names == ("ant", "bee", "cat")
    assert dataset.class_paths is None
    assert dataset.image_shape == (12, 20, 3)
    assert dataset.num_records == {"train": 40, "val": 7}


def test_test_stands_in_for_val(dataset):
    assert dataset.splits == ("train", "val")
    np.testing.assert_array_equal(dataset.images("val", [3])[0], picture("test", 3))


def test_validation_comes_before_test(tmp_path):
    builder = make(tmp_path, split_names=("train", "test", "validation"))
    dataset = sources.open_builder(builder, progress=False)
    assert dataset.splits == ("train", "val", "test")
    assert len(dataset.labels("val")) == 5 and len(dataset.labels("test")) == 7
    np.testing.assert_array_equal(dataset.images("val", [0])[0], picture("validation", 0))


@pytest.mark.parametrize("split_names", [("train",), ("test", "val"), ("train", "extra")])
def test_missing_splits(tmp_path, split_names):
    with pytest.raises(ValueError, match=rf"it has {', '.join(split_names)}$"):
        sources.open_builder(make(tmp_path, split_names=split_names), progress=False)


def test_labels_are_read_without_decoding_and_kept(dataset, monkeypatch):
    def refuse(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(records, "decode_rgb", refuse)
    monkeypatch.setattr(tfds.features.Image, "decode_example_np", refuse)
    labels = dataset.labels("train")
    assert labels.dtype == np.int32
    assert labels.tolist() == [index % 3 for index in range(40)]
    kept = np.load(dataset.directory / "labels-train.npy")
    np.testing.assert_array_equal(kept, labels)
    monkeypatch.setattr(datasets, "Reader", refuse)
    np.testing.assert_array_equal(dataset.labels("train"), labels)


def test_a_stale_or_damaged_label_file_is_replaced(dataset):
    path = dataset.directory / "labels-train.npy"
    for content in (b"", b"\x93NUMPY nonsense"):
        path.write_bytes(content)
        assert len(dataset.labels("train")) == 40
    np.save(path, np.zeros(39, np.int32))
    assert dataset.labels("train").tolist() == [index % 3 for index in range(40)]
    assert len(np.load(path)) == 40
    assert not [file for file in dataset.directory.iterdir() if file.name.startswith(".labels")]


def test_many_writers_of_one_label_file(dataset):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(dataset.labels("train"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(labels.tolist() == [index % 3 for index in range(40)] for labels in results)


def test_images_in_any_order(dataset):
    few = dataset.images("train", [39, 0])
    assert not (dataset.directory / "images-train.npy").exists()
    order = np.random.default_rng(0).permutation(40)[:30]
    many = dataset.images("train", order)
    assert (dataset.directory / "images-train.npy").exists()
    again = dataset.images("train", order)
    assert few.dtype == many.dtype == np.uint8
    np.testing.assert_array_equal(few, [picture("train", 39), picture("train", 0)])
    np.testing.assert_array_equal(many, [picture("train", index) for index in order])
    np.testing.assert_array_equal(again, many)
    again[:] = 0  # An array of one's own, not a window on the file.
    np.testing.assert_array_equal(dataset.images("train", order), many)
    assert dataset.images("train", []).shape == (0, 12, 20, 3)


def test_splits_too_large_to_pack_are_decoded_each_time(dataset, monkeypatch):
    monkeypatch.setattr(datasets, "PACK_BYTES", 40 * 12 * 20 * 3 - 1)
    images = dataset.images("train", range(40))
    np.testing.assert_array_equal(images, [picture("train", index) for index in range(40)])
    assert not (dataset.directory / "images-train.npy").exists()


def test_no_room_to_pack(dataset, monkeypatch, caplog):
    empty = os.statvfs_result((4096, 4096, 100, 0, 0, 10, 10, 10, 0, 255))
    monkeypatch.setattr(datasets.os, "statvfs", lambda _: empty)
    images = dataset.images("train", range(40))
    np.testing.assert_array_equal(images[7], picture("train", 7))
    assert "decoded images cannot be kept" in caplog.text
    assert not [path for path in dataset.directory.iterdir() if "images" in path.name]


@pytest.mark.parametrize("indices", [[40], [-1], [0, 99]])
def test_indices_outside_the_split(dataset, indices):
    with pytest.raises(IndexError, match=r"lie in 0 \.\. 39, got"):
        dataset.images("train", indices)


def test_unknown_split(dataset):
    with pytest.raises(ValueError, match="has the splits train, val; got 'dev'"):
        dataset.labels("dev")


def test_records(dataset):
    source = dataset.record_source("train")
    assert len(source) == 40
    record = source[5]
    assert set(record) == {"image", "label", "id", "boxes"}
    np.testing.assert_array_equal(record["image"], picture("train", 5))
    assert record["label"] == 2 and type(record["label"]) is int
    assert record["id"] == "train/5"
    np.testing.assert_allclose(record["boxes"], [[0, 0, 0.5, 0.1], [0, 0.1, 0.5, 0.2]], atol=1e-6)
    assert record["boxes"].dtype == np.float32
    assert source[0]["boxes"].shape == (0, 4)
    with pytest.raises(IndexError):
        source[40]


def test_datasets_and_sources_travel_to_other_processes(dataset):
    source = dataset.record_source("train")
    source[0]
    dataset.images("train", range(40))
    for thing, limit in ((source, 2000), (dataset, 4000)):
        assert len(pickle.dumps(thing)) < limit
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[7]["image"], picture("train", 7))
    assert pickle.loads(pickle.dumps(dataset)) == dataset
    assert hash(pickle.loads(pickle.dumps(dataset))) == hash(dataset)


def test_grey_images_become_rgb(tmp_path):
    dataset = sources.open_builder(make(tmp_path, shape=(12, 20, 1)), progress=False)
    assert dataset.image_shape == (12, 20, 3)
    images = dataset.images("train", range(40))
    assert (images == images[..., :1]).all() and images.std() > 10


def test_images_of_different_shapes(tmp_path):
    dataset = sources.open_builder(
        make(tmp_path, shape=(None, None, 3), varied=True), progress=False
    )
    assert dataset.image_shape is None
    source = dataset.record_source("train")
    assert [source[index]["image"].shape for index in range(3)] == [
        (12, 20, 3),
        (13, 20, 3),
        (14, 20, 3),
    ]
    with pytest.raises(ValueError, match="no common shape"):
        dataset.images("train", [0])


@pytest.mark.parametrize("missing", ["image", "label"])
def test_missing_features(tmp_path, missing):
    features = {
        "image": tfds.features.Image(shape=(12, 20, 3)),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    del features[missing]
    with pytest.raises(ValueError, match="should have the features image"):
        sources.open_builder(make(tmp_path, features=features), progress=False)


def test_class_paths(tmp_path):
    paths = [("thing", "natural", "ant"), ("thing", "natural", "bee"), ("thing", "natural", "cat")]
    dataset = sources.open_builder(make(tmp_path), class_paths=paths, progress=False)
    assert dataset.class_paths == tuple(paths)
    with pytest.raises(ValueError, match="2 class paths were given for the 3 classes"):
        datasets.read_dataset(dataset.directory, class_paths=paths[:2])


def test_a_folder_that_cannot_be_written(dataset, monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(datasets, "write_labels", refuse)
    monkeypatch.setattr(datasets, "replacing", refuse)
    assert len(dataset.labels("train")) == 40
    assert len(dataset.images("train", range(40))) == 40
    assert "labels cannot be kept" in caplog.text and "Permission denied" in caplog.text


def test_a_builder_on_a_full_disk(tmp_path, monkeypatch):
    builder = make(tmp_path)

    def fail(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(builder, "download_and_prepare", fail)
    with pytest.raises(OSError, match=r"the disk is full: preparing tiny_catalogue/2\.1\.0 in .*"):
        sources.open_builder(builder, progress=False)


def test_what_a_killed_builder_left_is_cleared_away(tmp_path):
    builder = make(tmp_path)
    leftover = tmp_path / "tiny_catalogue/incomplete.ABC123_2.1.0"
    image_trees.write(leftover / "tiny_catalogue-train.array_record-00000-of-00001", b"half")
    dataset = sources.open_builder(builder, progress=False)
    assert len(dataset.labels("train")) == 40
    assert not leftover.exists()


def test_objects_without_boxes(tmp_path):
    features = {
        "image": tfds.features.Image(shape=(12, 20, 3)),
        "label": tfds.features.ClassLabel(num_classes=3),
        "objects": tfds.features.Sequence({"label": tfds.features.Text()}),
    }
    dataset = sources.open_builder(make(tmp_path, features=features), progress=False)
    assert set(dataset.record_source("train")[4]) == {"image", "label", "id"}
    assert dataset.class_names == ("0", "1", "2")


def test_images_of_many_shapes_become_squares_of_the_size_asked_for(tmp_path):
    builder = make(tmp_path, shape=(None, None, 3), varied=True)
    plain = sources.open_builder(builder, progress=False)
    dataset = sources.open_builder(builder, image_size=8, progress=False)
    assert dataset.image_shape == (8, 8, 3) and dataset.name == f"{plain.name}/8px"
    found = dataset.images("train", [3, 0])
    assert found.shape == (2, 8, 8, 3)
    for image, index in zip(found, (3, 0), strict=True):
        original = Image.fromarray(plain.record_source("train")[index]["image"])
        np.testing.assert_array_equal(image, original.resize((8, 8), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(dataset.record_source("train")[3]["image"], found[0])
