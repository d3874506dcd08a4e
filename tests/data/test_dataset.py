import pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.data import image_trees
from transfer_jax.data import dataset as dataset_module, seals
from transfer_jax.data.batches import stream
from transfer_jax.data.dataset import Boxes, Dataset
from transfer_jax.data.sources import DatasetSpec, open_dataset

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)
LABELS = np.array([0, 2, 1, 0, 2, 1, 0])


@pytest.fixture
def stored(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos", train=9)
    spec = DatasetSpec("folder", path=str(root), image_size=16)
    return open_dataset(spec, tmp_path / "data")


def test_from_arrays():
    data = Dataset.from_arrays(IMAGES[:5], LABELS[:5], "ABC", val=(IMAGES[5:], LABELS[5:]))
    assert data.class_names == ("A", "B", "C") and data.image_shape == (4, 5, 3)
    assert data.labels.dtype == np.int32 and data.labels.tolist() == LABELS.tolist()
    assert {k: v.tolist() for k, v in data.splits.items()} == {"train": [*range(5)], "val": [5, 6]}
    np.testing.assert_array_equal(data.read([6, 0, 6]), IMAGES[[6, 0, 6]])
    np.testing.assert_array_equal(data.image(3), IMAGES[3])
    assert Dataset.from_arrays(IMAGES, LABELS).class_names == ("0", "1", "2")
    many = Dataset.from_arrays(IMAGES[np.zeros(40, int)], np.arange(40) % 3)
    assert np.bincount(many.labels[many.splits["val"]]).tolist() == [2, 2, 2]
    for wrong in ((IMAGES, LABELS[1:]), (IMAGES / 255, LABELS)):
        with pytest.raises(ValueError):
            Dataset.from_arrays(*wrong)


def test_images_of_several_shapes_make_no_array():
    images = [IMAGES[0], IMAGES[1][:2], IMAGES[2]]
    data = Dataset.from_arrays(images, np.eye(3), val=([IMAGES[3][:, 1:]], np.ones((1, 3))))
    assert data.image_shape is None and data.labels.dtype == np.int8
    assert data.image(1).shape == (2, 5, 3) and data.image(3).shape == (4, 4, 3)
    with pytest.raises(ValueError, match="several shapes"):
        data.read([0])


def test_names_follow_content():
    boxes = np.zeros((7, 4), np.float32)
    variants = [
        Dataset.from_arrays(IMAGES, LABELS),
        Dataset.from_arrays(IMAGES[::-1], LABELS),
        Dataset.from_arrays(IMAGES, LABELS[::-1]),
        Dataset.from_arrays(IMAGES, LABELS, "ABC"),
        Dataset.from_arrays(IMAGES, LABELS, splits={"train": [0, 1]}),
        Dataset.from_arrays(IMAGES, LABELS, boxes=boxes),
        Dataset.from_arrays(IMAGES, LABELS, boxes=boxes + 0.5),
        Dataset.from_arrays(IMAGES, LABELS, name="mine"),
    ]
    assert len({data.name for data in variants}) == len(variants)
    assert Dataset.from_arrays(IMAGES.copy(), LABELS.tolist()).name == variants[0].name


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=6), st.randoms())
def test_boxes_come_back_row_by_row(rows, random):
    rows = [
        (labels, [[0, 0, 1, y / 8] for y in labels], [y > 2 for y in labels]) for labels in rows
    ]
    boxes = Boxes.of_rows(rows)
    order = random.sample(range(len(rows)), len(rows))
    for found, wanted in ((boxes, range(len(rows))), (boxes.take(np.array(order, int)), order)):
        for place, row in enumerate(wanted):
            labels, corners, difficult = found[place]
            assert corners.shape == (len(labels), 4)
            assert (labels.tolist(), corners.tolist(), difficult.tolist()) == rows[row]


def test_rows_in_any_order_and_from_the_pack(stored):
    expected = np.array([stored.image(row) for row in range(33)])
    pack = stored.directory / "pixels.npy"
    np.testing.assert_array_equal(stored.read([32, 0]), expected[[32, 0]])
    assert not pack.exists()
    order = np.random.default_rng(0).permutation(33)[:20]
    for _ in range(2):
        found = stored.read(order)
        np.testing.assert_array_equal(found, expected[order])
        found[:] = 0  # an array of one's own, not a window on the file
    assert pack.exists() and stored.read([]).shape == (0, 16, 16, 3)


def test_pixels_that_cannot_be_kept(stored, monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    expected = np.array([stored.image(row) for row in range(33)])
    with monkeypatch.context() as patch:
        patch.setattr(seals, "replacing", refuse)
        np.testing.assert_array_equal(stored.read(range(33)), expected)
    assert "Permission denied" in caplog.text
    monkeypatch.setattr(dataset_module, "PACK_BYTES", 33 * 16 * 16 * 3 - 1)
    np.testing.assert_array_equal(stored.read(range(33)), expected)
    assert not (stored.directory / "pixels.npy").exists()


def test_many_threads_read_one_dataset(stored):
    expected = np.array([stored.image(row) for row in range(33)])
    rows = [np.random.default_rng(i).permutation(33)[: 2 + 4 * i] for i in range(8)]
    found = stream(pickle.loads(pickle.dumps(stored)).read, rows, threads=8)
    for images, part in zip(found, rows, strict=True):
        np.testing.assert_array_equal(images, expected[part])


def test_datasets_travel_small(stored, tmp_path):
    stored.read(range(33))
    assert len(stored.ids) == 33
    world = open_dataset(DatasetSpec("world", train_per_class=1, val_per_class=1), tmp_path)
    images = world.read(range(80))
    for data in (stored, world):
        packed = pickle.dumps(data)
        assert len(packed) < 10_000
        copy = pickle.loads(packed)
        assert copy.name == data.name and copy.splits.keys() == data.splits.keys()
        np.testing.assert_array_equal(copy.read([5, 1]), data.read([5, 1]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(world)).read(range(80)), images)
    small = pickle.loads(pickle.dumps(Dataset.from_arrays(IMAGES, LABELS)))
    np.testing.assert_array_equal(small.read([2]), IMAGES[[2]])
