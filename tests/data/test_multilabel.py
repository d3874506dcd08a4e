import pickle

import image_trees
import numpy as np
import pytest
import tensorflow_datasets as tfds
import voc_tree
from PIL import Image

from transfer_jax.data import multilabel_sources, records, voc, world
from transfer_jax.data.multilabel import open_multilabel, read_multilabel
from transfer_jax.data.sources import DatasetSpec, open_dataset


def open_quietly(data_dir, kind, **fields):
    return open_multilabel(DatasetSpec(kind, **fields), data_dir, progress=False)


@pytest.fixture
def from_tfds(tmp_path):
    voc_tree.tfds_folder(tmp_path)
    return open_quietly(tmp_path, "tfds", name="voc/2012", image_size=16)


@pytest.fixture
def from_folder(tmp_path):
    root = voc_tree.folder(tmp_path / "VOCdevkit")
    return open_quietly(tmp_path / "data", "voc", path=str(root), image_size=16)


def expected_targets(split):
    images = voc_tree.IMAGES[split].values()
    return [[voc_tree.target(objects, name) for name in voc.CLASSES] for objects in images]


@pytest.mark.parametrize("source", ["from_tfds", "from_folder"])
def test_both_forms_of_voc_hold_the_same(source, request):
    dataset = request.getfixturevalue(source)
    assert dataset.class_names == tuple(voc.CLASSES)
    assert dataset.image_shape == (16, 16, 3) and dataset.image_size == 16
    for split, names in voc_tree.IMAGES.items():
        targets = dataset.targets(split)
        assert targets.dtype == np.int8 and targets.tolist() == expected_targets(split)
        assert dataset.num_records[split] == len(names)
        images = dataset.images(split, range(len(names)))
        assert images.dtype == np.uint8
        found = pickle.loads(pickle.dumps(dataset.record_source(split)))
        assert len(found) == len(names)
        for index, name in enumerate(names):
            whole = Image.fromarray(records.decode_rgb(voc_tree.jpeg(name)))
            squashed = np.asarray(whole.resize((16, 16), Image.Resampling.LANCZOS))
            np.testing.assert_array_equal(images[index], squashed)
            record = found[index]
            np.testing.assert_array_equal(record["image"], squashed)
            assert record["id"].removesuffix(".jpg") == name
            assert record["targets"].dtype == np.int8
            np.testing.assert_array_equal(record["targets"], targets[index])
    with pytest.raises(IndexError, match=r"lie in 0 \.\. 1, got 2 \.\. 2"):
        dataset.images("val", [2])
    with pytest.raises(ValueError, match=r"has the splits train, val.*; got 'trainval'"):
        dataset.targets("trainval")


def test_names(from_tfds, from_folder):
    assert from_tfds.name == "voc/2012/5.0.0/16px"
    assert from_folder.name.startswith("voc_folder/16px_")
    assert hash(from_tfds) != hash(from_folder)


def test_boxes_come_with_their_classes(from_tfds):
    record = from_tfds.record_source("train")[2]
    assert record["boxes"].shape == (3, 4) and record["boxes"].dtype == np.float32
    np.testing.assert_allclose(record["boxes"][:, 1], np.arange(3) / 37, rtol=1e-6)
    assert [voc.CLASSES[label] for label in record["box_labels"]] == ["person", "person", "car"]


def test_targets_of_tfds_are_kept_beside_the_data(from_tfds, monkeypatch):
    path = from_tfds.directory / "targets-validation.npy"
    for content in (b"", b"\x93NUMPY nonsense"):
        path.write_bytes(content)
        assert from_tfds.targets("val").tolist() == expected_targets("val")
    np.save(path, np.ones((3, 20), np.int8))
    assert from_tfds.targets("val").tolist() == expected_targets("val")

    def refuse(*_):
        raise AssertionError("records were read again")

    monkeypatch.setattr(multilabel_sources, "Reader", refuse)
    assert from_tfds.targets("val").tolist() == expected_targets("val")


def test_images_are_kept_beside_the_data(from_folder, monkeypatch):
    images = from_folder.images("train", [2, 0])

    def refuse(*_):
        raise AssertionError("an image was decoded again")

    monkeypatch.setattr(voc, "decode_rgb", refuse)
    np.testing.assert_array_equal(from_folder.images("train", [0, 2]), images[::-1])


def test_a_split_without_annotations(from_tfds):
    assert from_tfds.splits == ("train", "val", "test")
    assert from_tfds.images("test", [0]).shape == (1, 16, 16, 3)
    with pytest.raises(ValueError, match=r"split test of voc/2012/5\.0\.0/16px is not annotated"):
        from_tfds.targets("test")


@pytest.mark.parametrize("kind", ["tfds", "voc", "voc_actions"])
def test_the_middle_of_each_image(tmp_path, kind):
    fields = {"name": "voc/2012"} if kind == "tfds" else {"path": str(tmp_path / "VOCdevkit")}
    voc_tree.folder(tmp_path / "VOCdevkit")
    voc_tree.tfds_folder(tmp_path)
    squashed, centred = (
        open_quietly(tmp_path, kind, image_size=8, fit=fit, **fields)
        for fit in ("squash", "centre")
    )
    assert "8px_centre" in centred.name and "centre" not in squashed.name
    # The first two are whole images of 30 x 41 pixels, the third one a person of 12 x 16.
    index, name, box = {
        "tfds": (0, next(iter(voc_tree.IMAGES["train"])), (5.5, 0, 35.5, 30)),
        "voc": (0, next(iter(voc_tree.IMAGES["train"])), (5.5, 0, 35.5, 30)),
        "voc_actions": (1, "2008_000003", (0, 2, 12, 14)),
    }[kind]
    image = Image.open(tmp_path / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg")
    if kind == "voc_actions":
        image = image.crop((4, 4, 16, 20))
    expected = np.asarray(image.resize((8, 8), Image.Resampling.LANCZOS, box))
    np.testing.assert_array_equal(centred.images("train", [index])[0], expected)
    record = centred.record_source("train")[index]
    np.testing.assert_array_equal(record["image"], expected)
    assert (squashed.images("train", [index])[0] != expected).any()
    assert "boxes" not in record


def test_images_of_several_shapes(tmp_path):
    voc_tree.tfds_folder(tmp_path)
    dataset = open_quietly(tmp_path, "tfds", name="voc/2012")
    assert dataset.image_shape is None
    assert dataset.record_source("train")[0]["image"].shape == (30, 41, 3)
    with pytest.raises(ValueError, match="no common shape"):
        dataset.images("train", [0])


def test_people_and_what_they_do(tmp_path):
    root = str(voc_tree.folder(tmp_path / "VOCdevkit"))
    tight, wide = (
        open_quietly(tmp_path / "data", "voc_actions", path=root, image_size=8, margin=margin)
        for margin in (0.0, 0.5)
    )
    assert tight.name != wide.name and tight.class_names == tuple(voc.ACTIONS)
    assert tight.num_records == {"train": 2, "val": 1}
    columns = [voc.ACTIONS.index(name) for name in ("phoning", "running", "walking")]
    assert tight.targets("train")[:, columns].tolist() == [[0, 1, -1], [1, -1, 1]]
    assert (tight.targets("train") == -1).sum() == 16
    image = Image.open(f"{root}/VOC2012/JPEGImages/2008_000003.jpg")
    for dataset, box in ((tight, (4, 4, 16, 20)), (wide, (0, 0, 22, 28))):
        expected = image.crop(box).resize((8, 8), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(dataset.images("train", [1])[0], np.asarray(expected))


def test_world_scenes(tmp_path):
    fields = dict(image_size=16, train_per_class=2, val_per_class=1)
    dataset = open_quietly(tmp_path, "world_scenes", **fields, max_objects=2)
    assert dataset.name == "embedded_scenes/16px_1to2objects_2train_1val_seed0/1.0.0"
    assert dataset.class_names == world.class_names()
    assert dataset.class_paths == world.class_paths()
    assert dataset.num_records == {"train": 80, "val": 40}
    targets, source = dataset.targets("train"), dataset.record_source("train")
    for index in range(0, 80, 7):
        record = source[index]
        _, name, number = record["id"].split("/")
        images, labels, boxes = world.render_scenes(
            world.class_id(name), int(number), split="train", size=16, max_objects=2
        )
        np.testing.assert_array_equal(record["image"], images[0])
        seen = boxes[0].any(axis=1)
        np.testing.assert_array_equal(record["boxes"], boxes[0][seen])
        np.testing.assert_array_equal(record["box_labels"], labels[0][seen])
        assert set(np.flatnonzero(targets[index] >= 0)) == set(labels[0][seen])
    assert set(np.unique((targets >= 0).sum(axis=1))) == {1, 2}
    assert open_quietly(tmp_path, "world_scenes", **fields).name != dataset.name


def test_difficult_objects_are_the_small_ones(tmp_path):
    dataset = open_quietly(
        tmp_path, "world_scenes", image_size=16, train_per_class=5, val_per_class=1, max_objects=5
    )
    source = dataset.record_source("train")
    found = set()
    for index in range(0, 200, 3):
        record = source[index]
        ymin, xmin, ymax, xmax = record["boxes"].T
        marks = record["targets"][record["box_labels"]]
        np.testing.assert_array_equal(marks == 0, (ymax - ymin) * (xmax - xmin) < 1 / 12)
        found |= set(marks.tolist())
    assert found == {0, 1}


@pytest.mark.parametrize(
    ("opener", "kind", "message"),
    [
        (open_dataset, "voc", r"kind 'voc' have several labels: .*multilabel\.open_multilabel"),
        (open_dataset, "world_scenes", "kind 'world_scenes' have several labels"),
        (open_multilabel, "folder", r"kind 'folder' has one label .*sources\.open_dataset"),
    ],
)
def test_each_kind_has_its_opener(tmp_path, opener, kind, message):
    path = "" if kind == "world_scenes" else "here"
    with pytest.raises(ValueError, match=message):
        opener(DatasetSpec(kind, path=path), tmp_path)


def test_features_that_do_not_fit(tmp_path):
    voc_tree.tfds_folder(tmp_path)
    with pytest.raises(ValueError, match=r"(?s)image \(uint8\) and label .*multilabel\.open"):
        open_dataset(DatasetSpec("tfds", name="voc/2012"), tmp_path, progress=False)
    photos = image_trees.image_folder(tmp_path / "photos")
    spec = DatasetSpec("folder", path=str(photos), image_size=8)
    dataset = open_dataset(spec, tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"image \(uint8\) and labels \(a sequence"):
        read_multilabel(dataset.directory)
    with pytest.raises(FileNotFoundError, match="there is no nowhere, given as path of a 'voc'"):
        open_quietly(tmp_path, "voc", path="nowhere")


class Plain(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Labels of which none is difficult, images of one shape, no objects, no ids."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(9, 9, 3)),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=3)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "val": self._generate_examples()}

    def _generate_examples(self):
        for index, labels in enumerate(([0, 2], [1], [])):
            data = image_trees.encoded(image_trees.pixels(index, 9, 9), "PNG")
            yield index, {"image": image_trees.io.BytesIO(data), "labels": labels}


def test_labels_alone(tmp_path):
    builder = Plain(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    dataset = read_multilabel(builder.data_dir)
    assert dataset.class_names == ("0", "1", "2") and dataset.image_shape == (9, 9, 3)
    assert dataset.targets("train").tolist() == [[1, -1, 1], [-1, 1, -1], [-1, -1, -1]]
    record = dataset.record_source("val")[1]
    assert record["id"] == "val/1" and set(record) == {"image", "targets", "id"}
    np.testing.assert_array_equal(record["image"], image_trees.pixels(1, 9, 9))
