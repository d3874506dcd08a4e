import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from tests.data import image_trees
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.sources import DatasetSpec, open_dataset
from transfer_jax.data.windows import Grid, patch_task, whole_images, window_dataset, window_labels

SMALL = Grid((1.0, 2.0), 0.5)


def literal(windows, labels, boxes, difficult):
    """The three rules as the paper has them, one window and one box at a time."""
    found = []
    for top, left, bottom, right in windows.tolist():
        area, classes, shown = (bottom - top) * (right - left), set(), []
        for label, box, hard in zip(labels, np.round(boxes).astype(int), difficult, strict=True):
            high = max(0, min(bottom, int(box[2])) - max(top, int(box[0])))
            wide = max(0, min(right, int(box[3])) - max(left, int(box[1])))
            size = int((box[2] - box[0]) * (box[3] - box[1]))
            if high * wide == 0:
                continue
            classes.add(int(label))
            if not hard and label >= 0 and high * wide * 5 >= area and high * wide * 5 >= 3 * size:
                shown.append(int(label))
        alone = shown and len(classes) == 1
        found.append(shown[0] if alone else -1 if classes else -2)
    return found


def test_labels_equal_a_literal_reading_of_the_rules_on_200_random_images():
    rng, met = np.random.default_rng(0), set()
    for _ in range(200):
        height, width = rng.integers(8, 120, 2)
        corners = rng.integers(0, [height, width], (rng.integers(0, 5), 2, 2))
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1)
        labels = rng.integers(-1, 3, len(boxes))
        difficult = rng.random(len(boxes)) < 0.2
        # As datasets hold them: fractions in float32.
        sides = np.array([height, width] * 2)
        stored = (boxes / sides).astype(np.float32) * sides
        windows = Grid().windows(height, width)
        found = window_labels(windows, labels, stored, difficult)
        assert found.tolist() == literal(windows, labels, boxes, difficult)
        met |= set(found.tolist())
    assert met == {-2, -1, 0, 1, 2}


WINDOW = (10, 10, 20, 20)  # 100 pixels


@pytest.mark.parametrize(
    ("objects", "label"),
    [
        # A fifth of the window, and one column less.
        ([(0, (10, 10, 14, 15))], 0),
        ([(0, (10, 10, 14, 14))], -1),
        ([(0, (10, 10, 29, 12))], -1),  # 20 of 38: enough of the window, not of the object
        # Three fifths of the object: 30 of 50 pixels, and 30 of 51.
        ([(0, (10, 17, 20, 22))], 0),
        ([(0, (10, 17, 20, 22)), (0, (10, 16, 30, 17))], 0),
        ([(0, (3, 17, 20, 20))], -1),
        ([(0, (4, 17, 20, 20))], 0),
        # One class: another that touches, and one that ends where the window begins.
        ([(0, (10, 10, 20, 20)), (1, (0, 0, 11, 11))], -1),
        ([(0, (10, 10, 20, 20)), (1, (0, 0, 10, 10))], 0),
        ([(0, (10, 10, 20, 20)), (1, (0, 10, 10, 20))], 0),
        ([(0, (10, 10, 20, 20)), (0, (0, 0, 11, 11))], 0),
        ([(0, (10, 10, 20, 20)), (-1, (19, 19, 30, 30))], -1),
        # Background: nothing touches.
        ([(0, (0, 0, 10, 40))], -2),
        ([(0, (0, 0, 11, 40))], -1),
        ([(-1, (0, 0, 11, 40))], -1),
        ([], -2),
        # Difficult objects are never shown, and no background either.
        ([("difficult", (10, 10, 20, 20))], -1),
        ([("difficult", (10, 10, 20, 20)), (0, (10, 10, 20, 20))], 0),
        ([("difficult", (10, 10, 20, 20)), (1, (10, 10, 20, 20))], -1),
    ],
)
def test_every_rule_on_both_sides_of_its_boundary(objects, label):
    difficult = np.array([name == "difficult" for name, _ in objects], bool)
    labels = np.array([0 if name == "difficult" else name for name, _ in objects], int)
    boxes = np.array([box for _, box in objects], float).reshape(-1, 4)
    assert window_labels(np.array([WINDOW]), labels, boxes, difficult).tolist() == [label]


IMAGES = st.tuples(st.integers(1, 90), st.integers(1, 90))


@given(IMAGES, st.floats(0.5, 0.8))
@settings(max_examples=60, deadline=None)
def test_a_grid_covers_the_image_with_squares_that_overlap(shape, overlap):
    grid = Grid((1.0, 1.7, 4.0), overlap)
    windows = grid.windows(*shape)
    assert (windows[:, :2] >= 0).all() and (windows[:, 2:] <= shape).all()
    sides = windows[:, 2:] - windows[:, :2]
    assert (sides[:, 0] == sides[:, 1]).all()
    wanted = [max(1, round(min(shape) / scale)) for scale in grid.scales]
    assert list(dict.fromkeys(sides[:, 0].tolist())) == list(dict.fromkeys(wanted))
    for side in set(wanted):
        for axis in (0, 1):
            places = np.unique(windows[sides[:, 0] == side, axis])
            assert places[0] == 0 and places[-1] == shape[axis] - side
            steps = np.diff(places)
            assert ((side - steps >= overlap * side) | (steps == 1)).all()


@given(st.integers(0, 2**32), IMAGES)
@settings(max_examples=60, deadline=None)
def test_labels_follow_the_image_when_it_is_mirrored_or_enlarged(seed, shape):
    rng, (height, width) = np.random.default_rng(seed), shape
    corners = rng.integers(0, [height, width], (3, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1)
    objects, windows = (rng.integers(-1, 2, 3), rng.random(3) < 0.3), Grid().windows(*shape)
    found = window_labels(windows, objects[0], boxes, objects[1])

    def mirrored(these):
        return np.stack([these[:, 0], width - these[:, 3], these[:, 2], width - these[:, 1]], 1)

    same = window_labels(mirrored(windows), objects[0], mirrored(boxes), objects[1])
    larger = window_labels(7 * windows, objects[0], 7 * boxes, objects[1])
    order = rng.permutation(3)
    shuffled = window_labels(windows, objects[0][order], boxes[order], objects[1][order])
    assert found.tolist() == same.tolist() == larger.tolist() == shuffled.tolist()


def test_a_usual_photograph_has_about_500_windows():
    for shape in ((375, 500), (500, 375), (333, 500)):
        assert 450 <= len(Grid().windows(*shape)) <= 600
    assert len(Grid(overlap=0.5).windows(375, 500)) == 275


# Datasets and tasks of windows.


def scenes(num=40):
    """Images of one or two bright squares, each of a class of four, in memory."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (num, 24, 24, 3), dtype=np.uint8)
    labels, boxes = np.zeros((num, 4), np.int8), []
    for row in range(num):
        classes = rng.choice(4, rng.integers(1, 3), replace=False)
        places = [(0, 0, 12, 12), (12, 12, 24, 24)]
        for label, (top, left, bottom, right) in zip(classes, places, strict=False):
            images[row, top:bottom, left:right] = 60 * label + 60
        labels[row, classes] = 1
        fractions = np.array(places[: len(classes)]) / 24
        boxes.append((classes, fractions, np.zeros(len(classes), bool)))
    splits = {"train": np.arange(num // 2), "val": np.arange(num // 2, num)}
    return Dataset.from_arrays(images, labels, splits=splits, boxes=boxes)


def test_a_window_is_a_row_that_cuts_itself_out():
    data = scenes()
    windows = window_dataset(data, SMALL, 8, (0, 1, 2, 3))
    per_image = len(SMALL.windows(24, 24))
    assert len(windows.labels) == per_image * len(data.labels)
    row = 5 * per_image + 3
    top, left, bottom, right = SMALL.windows(24, 24)[3]
    cut = Image.fromarray(data.image(5)[top:bottom, left:right])
    np.testing.assert_array_equal(
        windows.read([row])[0], cut.resize((8, 8), Image.Resampling.LANCZOS)
    )
    # Index arithmetic alone: 26 bytes or less a window, where its pixels would take 192.
    held = (windows.source.rows, windows.source.boxes, windows.labels)
    assert sum(array.nbytes for array in held) / len(windows.labels) <= 26
    assert window_dataset(data, SMALL, 8, (0, 1, 2, 3)) is windows
    others = [window_dataset(data, *how) for how in ((SMALL, 9, (0, 1, 2, 3)), (SMALL, 8, (1, 2)))]
    others.append(window_dataset(data, Grid((1.0, 2.5), 0.5), 8, (0, 1, 2, 3)))
    assert len({windows.name, *(other.name for other in others)}) == 4


def test_a_patch_task_is_balanced_and_keeps_a_tenth_of_the_background():
    data, options = scenes(200), {"size": 8, "per_class": 20}
    task = patch_task("B", data, SMALL, 0, **options)
    assert task.class_names == ("0", "1", "2", "3", "background") and task.num_outputs == 5
    windows = task.dataset
    for split, (rows, labels) in (("train", task.train), ("val", task.val)):
        assert np.bincount(labels).tolist() == [20] * 5
        assert len(set(rows.tolist())) == 100 and (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(labels, windows.labels[rows])
        assert set(windows.source.rows[rows]) <= set(data.splits[split])
    assert task == patch_task("B", data, SMALL, 0, **options)
    assert task != patch_task("B", data, SMALL, 1, **options)
    empty = np.isin(windows.source.rows, data.splits["train"]) & (windows.labels == 4)
    free = patch_task("B", data, SMALL, 0, size=8, per_class=10**6, background=0.25)
    assert np.bincount(free.train[1])[4] == round(0.25 * empty.sum())
    # What is drawn does not depend on how much is drawn beside it.
    assert set(task.train[0]) <= set(
        patch_task("B", data, SMALL, 0, size=8, per_class=30).train[0].tolist()
    )


def test_fewer_images_a_class_are_among_more():
    data = scenes(200)
    sizes, seen = (1, 3, 9), []
    for count in sizes:
        task = patch_task("B", data, SMALL, 0, size=8, per_class=10**6, images_per_class=count)
        images = task.dataset.source.rows[task.train[0]]
        for label in range(4):
            assert len(set(images[task.train[1] == label])) == count
        assert set(images[task.train[1] == 4]) <= set(images[task.train[1] < 4])
        seen.append({tuple(pair) for pair in zip(images, task.train[1], strict=True)})
    assert seen[0] < seen[1] < seen[2]
    whole = patch_task("B", data, SMALL, 0, size=8, per_class=10**6)
    np.testing.assert_array_equal(task.val[0], whole.val[0])


def test_objects_of_classes_that_are_not_asked_for_are_neither_shown_nor_background():
    data = scenes(200)
    task = patch_task("B", data, SMALL, 0, size=8, per_class=10**6, classes=(2, 0), background=1.0)
    assert task.class_names == ("2", "0", "background")
    windows, four = task.dataset, window_dataset(data, SMALL, 8, (0, 1, 2, 3))
    expected = np.array([1, -1, 0, -1, 2, -1])[four.labels]  # the last is that of -1
    np.testing.assert_array_equal(windows.labels, expected)


def test_where_images_have_one_label_the_whole_image_is_the_object(tmp_path):
    image_trees.image_folder(tmp_path / "images", size=20)
    spec = DatasetSpec("folder", path=str(tmp_path / "images"), image_size=20)
    data = open_dataset(spec, tmp_path / "data")
    task = patch_task("B", data, SMALL, 0, size=8, per_class=9)
    assert np.bincount(task.train[1]).tolist() == [5, 5, 5]  # one window an image, no background
    assert (task.dataset.source.boxes[task.train[0]] == [0, 0, 1, 1]).all()
    assert task.num_classes == 4


def test_several_labels_without_boxes_are_refused():
    data = Dataset.from_arrays(np.zeros((2, 8, 8, 3), np.uint8), np.eye(2, dtype=np.int8))
    with pytest.raises(ValueError, match="several labels an image and no boxes"):
        patch_task("B", data, SMALL, 0, size=8, per_class=2)


def test_a_class_without_windows_is_named():
    data = scenes(4)
    with pytest.raises(ValueError, match=r"no window of arrays/.* shows '[0-3]'"):
        patch_task("B", data, Grid((1.0,)), 0, size=8, per_class=2)


def test_photographs_of_any_size_also_smaller_than_the_input(tmp_path):
    root = image_trees.voc_folder(tmp_path / "VOCdevkit")
    spec = DatasetSpec("voc", path=str(root), image_size=None)
    data = open_dataset(spec, tmp_path / "data")
    windows = window_dataset(data, Grid(), 64, tuple(range(20)))
    counts = [len(Grid().windows(*image_trees.VOC_SIZES[name])) for name in data.ids]
    assert np.bincount(windows.source.rows).tolist() == counts
    last = windows.image(len(windows.labels) - 1)  # a quarter of 21 x 50 pixels, enlarged
    assert last.shape == (64, 64, 3) and last.std() > 0
    labels, boxes, difficult = data.boxes[0]
    sides = np.tile(image_trees.VOC_SIZES[data.ids[0]], 2)
    found = literal(Grid().windows(*sides[:2]), labels, boxes * sides, difficult)
    expected = [20 if label == -2 else label for label in found]
    assert windows.labels[: counts[0]].tolist() == expected


def test_people_are_the_objects_of_their_photographs(tmp_path):
    root = image_trees.voc_folder(tmp_path / "VOCdevkit")
    spec = DatasetSpec("voc_actions", path=str(root), image_size=None)
    people = open_dataset(spec, tmp_path / "data")
    data = whole_images(people)
    names = [name for name, _ in image_trees.VOC_PEOPLE["train"]]
    assert [data.image(row).shape[:2] for row in range(2)] == [
        image_trees.VOC_SIZES[name] for name in names
    ]
    assert {k: v.tolist() for k, v in data.splits.items()} == {
        "train": [0, 1], "val": [1], "trainval": [0, 1]}  # fmt: skip
    # One runs; of two in one photograph one walks and phones, which is no single class.
    running, reading = (data.class_names.index(name) for name in ("running", "reading"))
    labels, boxes, difficult = data.boxes[1]
    assert data.boxes[0][0].tolist() == [running]
    assert labels.tolist() == [-1, reading] and difficult.tolist() == [True, False]
    np.testing.assert_allclose(boxes, people.source.boxes[[1, 2]], rtol=1e-6)
    assert whole_images(data) is data
