import dataclasses
import pickle
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer_jax.data.tasks import Task, subset_task, whole_task

TOY = types.SimpleNamespace(name="toy/1.0.0", class_names=("ant", "bee", "cat", "dog"))


def naive_select(task, labels, limit):
    indices, task_labels, seen = [], [], {}
    for index, label in enumerate(labels):
        target = task.class_map[label] if label >= 0 else -1
        if target < 0:
            continue
        seen[label] = seen.get(label, 0) + 1
        if limit and task.images_per_class is not None and seen[label] > task.images_per_class:
            continue
        indices.append(index)
        task_labels.append(target)
    return indices, task_labels


@st.composite
def tasks(draw):
    wanted = draw(st.lists(st.integers(-1, 4), min_size=1, max_size=9))
    used = sorted(set(wanted) - {-1})
    if not used:
        wanted, used = [*wanted, 0], [0]
    class_map = tuple(-1 if target < 0 else used.index(target) for target in wanted)
    return Task("T", "toy", class_map, draw(st.none() | st.integers(1, 4)))


@given(tasks(), st.data())
def test_excluded_records_make_room_for_others(task, data):
    labels = data.draw(st.permutations([*range(len(task.class_map))] * 4))
    excluded = data.draw(st.sets(st.integers(0, len(labels) - 1), max_size=len(labels) // 2))
    places = [place for place in range(len(labels)) if place not in excluded]
    left = [labels[place] for place in places]
    mapped = {task.class_map[label] for label in left}
    cleaned = dataclasses.replace(task, excluded=tuple(excluded))
    if not set(range(task.num_classes)) <= mapped:
        with pytest.raises(ValueError, match="has no image"):
            cleaned.select(np.array(labels))
        return
    indices, task_labels = cleaned.select(np.array(labels, np.uint16))
    # The same as if the excluded records had never been there.
    naive_indices, naive_labels = naive_select(task, left, True)
    assert indices.tolist() == [places[index] for index in naive_indices]
    assert task_labels.tolist() == naive_labels
    # Validation is another split: nothing is excluded there.
    assert cleaned.select(np.array(labels), limit=False)[0].size == sum(
        task.class_map[label] >= 0 for label in labels
    )


def test_excluded_by_hand():
    task = Task("T", "toy", (0, -1, 1), images_per_class=2, excluded=(4, 0))
    labels = np.array([0, 0, 1, 2, 2, 0, 0, 2, 2])
    assert task.select(labels)[0].tolist() == [1, 3, 5, 7]
    assert task.select(labels, limit=False)[0].tolist() == [0, 1, 3, 4, 5, 6, 7, 8]


def test_what_is_excluded_is_a_set_of_plain_positions():
    task = Task("T", "toy", (0,), excluded=np.array([7, 2, 7]))
    assert task.excluded == (2, 7) and all(type(place) is int for place in task.excluded)
    assert task == Task("T", "toy", (0,), excluded=(7, 2)) != Task("T", "toy", (0,))
    with pytest.raises(ValueError, match=r"excludes record 7, but the training .* 3 records"):
        task.select(np.zeros(3, int))
    with pytest.raises(ValueError, match="task 'T': excluded holds -1; positions start at 0"):
        Task("T", "toy", (0,), excluded=(3, -1))
    with pytest.raises(TypeError, match="task 'T': excluded must be whole positions of records"):
        Task("T", "toy", (0,), excluded=(1.5,))


@given(tasks(), st.data(), st.booleans())
def test_select_equals_a_naive_loop(task, data, limit):
    labels = data.draw(st.lists(st.integers(-1, len(task.class_map) - 1), max_size=60))
    # Every class of the task has an image somewhere.
    labels = data.draw(st.permutations([*labels, *range(len(task.class_map))]))
    indices, task_labels = task.select(np.array(labels), limit=limit)
    naive_indices, naive_labels = naive_select(task, labels, limit)
    assert indices.tolist() == naive_indices
    assert task_labels.tolist() == naive_labels
    assert indices.dtype == np.int64 and task_labels.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64])
def test_labels_of_any_integer_type(dtype):
    task = Task("T", "toy", (1, -1, 0), images_per_class=2)
    indices, task_labels = task.select(np.array([2, 2, 1, 0, 2, 0, 0], dtype))
    assert indices.tolist() == [0, 1, 3, 5]
    assert task_labels.tolist() == [0, 0, 1, 1]


def test_merged_classes_keep_the_first_of_each_dataset_class():
    task = Task("merged", "toy", (0, 0, 1), images_per_class=1)
    indices, task_labels = task.select(np.array([0, 0, 1, 1, 2, 2]))
    assert indices.tolist() == [0, 2, 4]
    assert task_labels.tolist() == [0, 0, 1]


def test_an_empty_class_is_named():
    task = subset_task("A", TOY, [0, 2])
    with pytest.raises(ValueError, match=r"task 'A': task class 1 \(dataset class cat\) has no im"):
        task.select(np.array([0, 1, 3]), class_names=TOY.class_names)
    with pytest.raises(ValueError, match=r"task class 0 \(dataset class 0\) .*, nor have 1 other"):
        task.select(np.array([], np.int32))


def test_a_merged_class_needs_only_one_of_its_parts():
    indices, _ = Task("merged", "toy", (0, 0)).select(np.array([1, 1]))
    assert indices.tolist() == [0, 1]


def test_labels_of_another_dataset_are_refused():
    task = whole_task("W", TOY)
    with pytest.raises(ValueError, match="maps 4 dataset classes, but the labels go from 0 to 9"):
        task.select(np.arange(10))
    with pytest.raises(ValueError, match=r"vector of integers, got shape \(2, 2\) of int64"):
        task.select(np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match="of float64"):
        task.select(np.zeros(3))


def test_constructors():
    assert whole_task("W", TOY).class_map == (0, 1, 2, 3)
    task = subset_task("B", TOY, [3, 1], images_per_class=5)
    assert task == Task("B", "toy/1.0.0", (-1, 0, -1, 1), 5)
    assert task.num_classes == 2
    assert task.dataset_classes == (1, 3)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "no classes given"),
        ([0, 4], r"class 4 is not one of the 4 classes \(0 .. 3\) of 'toy/1.0.0'"),
        ([-1, 2], "class -1 is not one of"),
        ([1, 2, 1], "class 1 is named twice"),
    ],
)
def test_bad_subsets(classes, message):
    with pytest.raises(ValueError, match=message):
        subset_task("A", TOY, classes)


@pytest.mark.parametrize(
    ("class_map", "images_per_class", "message"),
    [
        ((), None, "class_map is empty"),
        ((-1, -1), None, "leaves every class out"),
        ((0, -2), None, "holds -2; the least is -1"),
        ((0, 2), None, "no dataset class is mapped to task class 1"),
        ((0, 1), 0, "images_per_class must be at least 1 or None, got 0"),
    ],
)
def test_bad_tasks(class_map, images_per_class, message):
    with pytest.raises(ValueError, match=message):
        Task("T", "toy", class_map, images_per_class)


def test_tasks_are_values():
    task = subset_task("A", TOY, np.array([0, 2]))
    assert hash(task) == hash(subset_task("A", TOY, (2, 0)))
    assert pickle.loads(pickle.dumps(task)) == task
    assert all(type(target) is int for target in task.class_map)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.name = "B"


def test_as_many_labels_as_ilsvrc_has():
    labels = np.repeat(np.arange(1000, dtype=np.int32), 1281)
    task = Task("A", "ilsvrc", tuple(c // 2 if c % 2 else -1 for c in range(1000)), 250)
    indices, task_labels = task.select(np.random.default_rng(0).permutation(labels))
    assert len(indices) == 500 * 250
    assert (np.bincount(task_labels) == 250).all()
