"""Where regions come from: a search that is made once, or a file that must fit its images."""

import cv2
import numpy as np
import pytest

from tests.detection.scenes import dataset
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.sources import DatasetSpec, open_dataset
from transfer_jax.detection.boxes import areas, overlaps
from transfer_jax.detection.proposals import SelectiveSearch, proposals, read_csv


def rectangles(seed=0):
    """A picture of two plain rectangles on noise, and their boxes."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(90, 110, (60, 80, 3)).astype(np.uint8)
    picture[10:40, 15:45], picture[20:55, 50:75] = (200, 40, 40), (40, 60, 210)
    return picture, np.array([[10, 15, 40, 45], [20, 50, 55, 75]]) / [60, 80, 60, 80]


def test_a_search_finds_what_stands_out_whatever_the_size():
    picture, objects = rectangles()
    for side in (60, 150):
        boxes = SelectiveSearch(side=side).boxes(picture)
        assert boxes.dtype == np.float32 and ((boxes >= 0) & (boxes <= 1)).all()
        assert (areas(boxes) > 0).all()
        assert overlaps(objects, boxes).max(axis=1).min() > 0.85


def test_two_searches_give_the_same_boxes_in_the_same_order():
    picture, _ = rectangles()
    search = SelectiveSearch(side=150, k=50, most=20)
    found = [search.boxes(picture, 3) for _ in range(2)]
    np.testing.assert_array_equal(*found)
    assert len(found[0]) == 20 and not np.array_equal(found[0], search.boxes(picture, 4))
    every = SelectiveSearch(side=150, k=50).boxes(picture)
    assert len(every) > 20 and set(map(tuple, found[0])) < set(map(tuple, every))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    spec = DatasetSpec("world_scenes", image_size=32, train_per_class=1, val_per_class=0)
    return lambda: open_dataset(spec, folder)


def test_a_dataset_is_searched_once(scenes, monkeypatch):
    search = SelectiveSearch(side=64)
    with monkeypatch.context() as patch:
        boxes_of, seen = SelectiveSearch.boxes, []

        def until_the_fifth(self, image, key):
            seen.append(key)
            if len(seen) == 5:
                raise KeyboardInterrupt
            return boxes_of(self, image, key)

        patch.setattr(SelectiveSearch, "boxes", until_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            proposals(scenes(), search)
        assert not list(scenes().directory.glob("proposals*"))
    found = proposals(scenes(), search)
    for row in (0, 7):
        alone = search.boxes(scenes().image(row), row)
        np.testing.assert_array_equal(found[row][: len(alone)], alone)
        assert not found[row][len(alone) :].any()
    monkeypatch.setattr(SelectiveSearch, "boxes", None)
    np.testing.assert_array_equal(proposals(scenes(), search), found)
    with pytest.raises(TypeError):
        proposals(scenes(), SelectiveSearch(side=65))


def test_images_in_memory_are_searched_in_memory():
    picture, _ = rectangles()
    data = Dataset.from_arrays(np.stack([picture, np.full_like(picture, 7)]), np.zeros(2))
    found = proposals(data, SelectiveSearch(side=60))
    # An image without anything in it: the whole of it is one region.
    assert (areas(found) > 0).sum(axis=1)[1] <= 1 < (areas(found) > 0).sum(axis=1)[0]


def test_without_opencv_the_message_says_what_to_do(monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc")
    monkeypatch.setitem(__import__("sys").modules, "cv2.ximgproc", None)
    with pytest.raises(ImportError, match=r"transfer_jax\[detection\].*CSV"):
        SelectiveSearch().boxes(rectangles()[0])


def csv(tmp_path, *lines, head="image,ymin,xmin,ymax,xmax"):
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join([head, *lines]))
    return path


IDS = np.array(["000001", "000002", "2"])


def test_a_file_gives_each_image_its_boxes(tmp_path):
    lines = ("2,0,0,1,0.5", "000002,0.25,0.25,0.5,0.5", "2,0.5,0,1,1")
    found = read_csv(csv(tmp_path, *lines), IDS)
    assert found.tolist() == [
        [[0, 0, 0, 0], [0, 0, 0, 0]],
        [[0.25, 0.25, 0.5, 0.5], [0, 0, 0, 0]],
        [[0, 0, 1, 0.5], [0.5, 0, 1, 1]],
    ]
    data = dataset(images=2, val=1)
    path = csv(tmp_path, *(f"{i},0,0,1,1" for i in data.ids))
    assert proposals(data, path).shape == (3, 1, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000003,0,0,1,1", r"1 of 2 rows .*none of the 3 images.*000001.*000003,0"),
        ("000002,0,0,100,50", r"1 of 2 rows .*fractions of the sides.*000002,0,0,100"),
        ("000002,0.5,0,0.5,1", "fractions"),
        ("000002,,0,0.5,1", "fractions"),
    ],
)
def test_a_file_that_does_not_fit_its_images_is_refused(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        read_csv(csv(tmp_path, "000001,0,0,1,1", line), IDS)
    with pytest.raises(ValueError, match="no column 'xmax': expected image, ymin"):
        read_csv(csv(tmp_path, "1,2,3,4", head="image,ymin,xmin,ymax"), IDS)
