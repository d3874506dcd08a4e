"""Tasks against loops over labels, and the promises of folds and budgets."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transfer_jax.data.dataset import Dataset
from transfer_jax.data.splits import random_classes
from transfer_jax.data.tasks import (
    budget_task,
    classes_without,
    fold_task,
    relabelled_task,
    single_label_task,
    subset_task,
    whole_task,
    without,
)

few = settings(max_examples=25, deadline=None)


def toy(train, val=(), *, num_classes=None, **options):
    """Labels over images of one pixel; rows of 'val' come before those of 'train'."""
    labels = np.array([*val, *train], np.int32)
    num_classes = num_classes or labels.max() + 1
    splits = {"train": np.arange(len(val), len(labels)), "val": np.arange(len(val))}
    options = {"name": "toy", "splits": splits, **options}
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return Dataset.from_arrays(images, labels, list("abcdefghij"[:num_classes]), **options)


def lists(pair):
    rows, labels = pair
    assert rows.dtype == np.int64 and labels.dtype == np.int32
    return rows.tolist(), labels.tolist()


def naive(labels, rows, class_map, limit=None):
    found, seen = ([], []), {}
    for row in rows:
        label = labels[row]
        if label < 0 or class_map[label] < 0:
            continue
        seen[label] = seen.get(label, 0) + 1
        if limit is None or seen[label] <= limit:
            found[0].append(row)
            found[1].append(class_map[label])
    return found


@st.composite
def labels_and_maps(draw):
    wanted = draw(
        st.lists(st.integers(-1, 4), min_size=1, max_size=9).filter(lambda x: max(x) >= 0)
    )
    used = sorted(set(wanted) - {-1})
    class_map = [-1 if group < 0 else used.index(group) for group in wanted]
    labels = draw(st.lists(st.integers(-1, len(wanted) - 1), max_size=40))
    # Every class has an image to learn from.
    train = draw(st.permutations([*labels, *range(len(wanted))]))
    val = draw(st.lists(st.integers(-1, len(wanted) - 1), max_size=20))
    return train, val, class_map


@given(labels_and_maps(), st.none() | st.integers(1, 4))
@few
def test_a_relabelled_task_is_a_loop_over_labels(labels_and_map, limit):
    train, val, class_map = labels_and_map
    dataset = toy(train, val, num_classes=len(class_map))
    names = [f"group {i}" for i in range(max(class_map) + 1)]
    task = relabelled_task("T", dataset, class_map, names, images_per_class=limit)
    splits = dataset.splits
    assert lists(task.select("train")) == naive(dataset.labels, splits["train"], class_map, limit)
    assert lists(task.select("val")) == naive(dataset.labels, splits["val"], class_map)
    assert task.num_classes == len(names) and task.class_names == tuple(names)


def test_subsets_and_whole_datasets():
    dataset = toy([2, 2, 1, 0, 2, 0, 0, -1], [1, 0, 2])
    task = subset_task("A", dataset, [2, 0], images_per_class=2)
    assert task.class_names == ("a", "c")
    assert lists(task.train) == ([3, 4, 6, 8], [1, 1, 0, 0])
    assert lists(task.val) == ([1, 2], [0, 1])
    assert lists(whole_task("W", dataset).train)[0] == list(range(3, 10))
    assert lists(whole_task("W", dataset, 1).train)[0] == [3, 5, 6]
    # Other splits: tested on what was trained on.
    again = single_label_task("W", dataset, splits=("val", "val"))
    assert lists(again.train) == ([0, 1, 2], [1, 0, 2])
    with pytest.raises(ValueError, match="toy has no split 'test'"):
        single_label_task("W", dataset, splits=("train", "test"))
    with pytest.raises(ValueError, match="class 'd' has no training image in toy"):
        whole_task("W", toy([0, 1, 2], num_classes=4))
    train_only = toy([0, 1], splits={"train": [0, 1]})
    assert lists(whole_task("W", train_only).val) == ([], [])


def test_images_of_several_labels():
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1], [0, 0, 0], [0, 1, -1], [1, 0, 1]], np.int8)
    splits = {"train": [0, 1], "trainval": [0, 1, 2, 3, 4], "test": [5, 3, 2]}
    images = np.zeros((6, 1, 1, 3), np.uint8)
    dataset = Dataset.from_arrays(images, labels, list("abc"), splits=splits)
    both = ("trainval", "test")
    whole = whole_task("W", dataset)
    np.testing.assert_array_equal(whole.train[1], labels[:2])
    assert len(whole.val[1]) == 0
    single = single_label_task("S", dataset, splits=both)
    assert lists(single.train) == ([0, 2, 4], [0, 2, 1]) and lists(single.val) == ([2], [2])
    assert subset_task("A", dataset, [1, 2], splits=both).train[1].tolist() == [1, 0]


def test_tasks_are_equal_where_their_images_and_labels_are():
    dataset, other = toy([0, 1, 2, 0, 1, 2]), toy([0, 1, 2, 0, 1, 2], name="other")
    task = subset_task("A", dataset, [0, 2])
    same = [
        subset_task("B", dataset, (2, 0)),
        relabelled_task("M", dataset, [0, -1, 1], ["x", "y"]),
        pickle.loads(pickle.dumps(task)),
        dataclasses.replace(task, name="C"),
    ]
    assert {task, *same} == {task} and {each.digest for each in same} == {task.digest}
    different = [
        subset_task("A", dataset, [0, 1]),
        subset_task("A", dataset, [0, 2], images_per_class=1),
        subset_task("A", dataset, [0, 2], splits=("train", "train")),
        relabelled_task("A", dataset, [1, -1, 0], ["x", "y"]),
        subset_task("A", other, [0, 2]),
        without(task, [5]),
    ]
    assert len({task, *different}) == 7
    # Cells of earlier runs are found by it.
    assert task.digest == "ec3a6eb4c620d963"


def test_rows_that_are_left_out_of_training():
    task = whole_task("W", toy([0, 1, 0, 1], [0, 1]))
    left = without(task, {3, 4, 0})
    assert lists(left.train) == ([2, 5], [0, 1]) and left.val is task.val


@given(st.integers(1, 10), st.integers(10, 200), st.integers(0, 9))
@few
def test_a_budget_is_kept_and_spent(num_classes, total, seed):
    dataset = toy(np.random.default_rng(seed).permutation(np.arange(10).repeat(25)))
    share = total // num_classes
    if share > 25:
        with pytest.raises(ValueError, match=f"may be at most {25 * num_classes}"):
            budget_task("T", dataset, num_classes, total, seed)
        return
    task = budget_task("T", dataset, num_classes, total, seed)
    assert np.bincount(task.train[1]).tolist() == [share] * num_classes
    assert total - num_classes < len(task.train[0]) <= total
    drawn = random_classes(range(10), num_classes, seed)
    assert task == subset_task("T", dataset, drawn, images_per_class=share)
    part = budget_task("T", dataset, 2, 10, seed, classes=[4, 7, 8])
    assert set(part.class_names) < {"e", "h", "i"}


@st.composite
def pools(draw):
    """(dataset of two splits and some images without a label, images of each class)"""
    counts = draw(st.lists(st.integers(6, 15), min_size=1, max_size=5))
    labels = [*np.repeat(np.arange(len(counts)), counts), *[-1] * draw(st.integers(0, 3))]
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)
    cut = draw(st.integers(1, len(labels) - 1))
    return toy(labels[:cut], labels[cut:], num_classes=len(counts)), counts


def members(task, split):
    rows, labels = task.select(split)
    assert len(set(rows.tolist())) == len(rows)
    return [set(rows[labels == label].tolist()) for label in range(task.num_classes)]


@given(pools(), st.integers(0, 9), st.integers(1, 5), st.none() | st.integers(1, 12))
@few
def test_a_fold_divides_each_class(pool, seed, train, test):
    dataset, counts = pool
    task = fold_task("F", dataset, seed=seed, train_per_class=train, test_per_class=test)
    for label, count in enumerate(counts):
        trained, tested = members(task, "train")[label], members(task, "val")[label]
        assert len(trained) == train and not trained & tested
        assert len(tested) == (count - train if test is None else min(test, count - train))
        assert {dataset.labels[row] for row in trained | tested} == {label}


@given(pools(), st.integers(0, 9), st.none() | st.integers(1, 12))
@few
def test_training_sets_of_one_seed_are_nested_and_share_their_test_images(pool, seed, test):
    folds = [
        fold_task("F", pool[0], seed=seed, train_per_class=n, test_per_class=test, reserve=5)
        for n in range(1, 6)
    ]
    for small, large in itertools.pairwise(folds):
        assert lists(small.val) == lists(large.val)
        both = zip(members(small, "train"), members(large, "train"), strict=True)
        assert all(fewer < more for fewer, more in both)


@given(pools(), st.data())
@few
def test_classes_do_not_change_each_other(pool, data):
    dataset, counts = pool
    chosen = data.draw(st.sets(st.integers(0, len(counts) - 1), min_size=1))
    options = dict(seed=1, train_per_class=4, test_per_class=2)
    whole, part = (fold_task("F", dataset, classes=c, **options) for c in (None, chosen))
    assert part.class_names == tuple(dataset.class_names[index] for index in sorted(chosen))
    for split in ("train", "val"):
        kept = members(whole, split)
        assert members(part, split) == [kept[index] for index in sorted(chosen)]


def test_folds_never_change():
    task = fold_task("F", toy([0] * 8, [1] * 8), seed=3, train_per_class=2, test_per_class=1)
    assert lists(task.train) == ([1, 5, 10, 15], [1, 1, 0, 0])
    assert lists(task.val) == ([2, 12], [1, 0])


def test_what_folds_are_drawn_from():
    dataset = toy([0] * 4 + [1] * 9, [0])
    with pytest.raises(ValueError, match="class 'a' has 5 images; 5 are set aside"):
        fold_task("F", dataset, seed=0, train_per_class=5)
    with pytest.raises(ValueError, match="class 'a' has 4 images"):
        fold_task("F", dataset, seed=0, train_per_class=4, splits=["train"])
    assert fold_task("F", dataset, seed=0, train_per_class=5, classes=[1]).class_names == ("b",)
    # Images in class folders come without splits.
    unsplit = toy([0, 1, 0, 1, 0, 1], splits={})
    task = fold_task("F", unsplit, seed=0, train_per_class=2)
    assert sorted([*task.train[0], *task.val[0]]) == list(range(6))


def test_dropping_classes_by_name():
    assert classes_without(("ant", "BACKGROUND_Google", "bee"), ["background_google"]) == [0, 2]
    with pytest.raises(ValueError, match="no class 'cat'"):
        classes_without(("ant", "bee"), ["cat"])
