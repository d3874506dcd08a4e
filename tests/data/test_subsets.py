import itertools
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import trees
from transfer_jax.data import world
from transfer_jax.data.hierarchy import dataset_hierarchy
from transfer_jax.data.relabelling import cut_at_depth
from transfer_jax.data.subsets import (
    budget_task,
    class_indices,
    random_classes,
    union_task,
    without_classes,
)
from transfer_jax.data.tasks import Task, subset_task, whole_task

TOY = trees.dataset(("ant", "bee", "cat", "dog", "elk"))
WORLD = trees.dataset(world.class_names(), world.class_paths(), "world")


def labelled(labels, num_classes=5):
    return types.SimpleNamespace(
        name="toy/1.0.0",
        class_names=tuple("abcdefghij"[:num_classes]),
        labels=lambda split: np.array(labels[split], np.int32),
    )


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.data())
def test_draws_of_one_seed_are_nested(num_classes, seed, data):
    draws = [random_classes(num_classes, count, seed) for count in range(1, num_classes + 1)]
    for count, drawn in enumerate(draws, 1):
        assert len(set(drawn)) == count and drawn == sorted(drawn)
        assert all(type(index) is int and 0 <= index < num_classes for index in drawn)
    assert all(set(few) < set(more) for few, more in itertools.pairwise(draws))
    pool = data.draw(st.sets(st.integers(0, 99), min_size=1))
    assert set(random_classes(pool, len(pool), seed)) == pool


def test_seeds_draw_different_classes():
    assert len({tuple(random_classes(40, 10, seed)) for seed in range(8)}) == 8
    with pytest.raises(ValueError, match=r"count must lie in 1 \.\. 3 \(the classes .*, got 4"):
        random_classes([5, 6, 7], 4, 0)
    with pytest.raises(ValueError, match="got 0"):
        random_classes(3, 0, 0)


@given(st.integers(1, 10), st.integers(1, 200), st.integers(0, 9))
def test_a_budget_is_kept_and_spent(num_classes, total, seed):
    train = np.random.default_rng(seed).permutation(np.arange(10).repeat(40))
    dataset = labelled({"train": train}, 10)
    share = total // num_classes
    if share < 1 or share > 40:
        with pytest.raises(ValueError, match=r"less than one for|has 40; total_images may be"):
            budget_task("T", dataset, num_classes, total, seed)
        return
    task = budget_task("T", dataset, num_classes, total, seed)
    indices, labels = task.select(train)
    assert np.bincount(labels).tolist() == [share] * num_classes
    assert total - num_classes < len(indices) <= total
    assert task.dataset_classes == tuple(random_classes(10, num_classes, seed))


def test_a_budget_that_a_class_cannot_meet():
    dataset = labelled({"train": [0, 0, 0, 1, -1, -1, -1, 2, 2, 2, 3, 3, 3, 4, 4, 4]})
    assert budget_task("T", dataset, 2, 6, 0, classes=[4, 0]).dataset_classes == (0, 4)
    message = (
        r"task 'T': 2 images of each of 5 classes are wanted, but class b of 'toy/1.0.0' has 1; "
        r"total_images may be at most 5$"
    )
    with pytest.raises(ValueError, match=message):
        budget_task("T", dataset, 5, 10, 0)
    assert budget_task("T", dataset, 5, 5, 0).images_per_class == 1


def test_without_classes_by_name_and_by_index():
    task = without_classes("T", TOY, ["dog", 0])
    assert task == Task("T", TOY.name, (-1, 0, 1, -1, 2))
    part = subset_task("A", TOY, [1, 3, 4], images_per_class=9)
    assert without_classes("T", TOY, ["bee", "cat"], task=part) == Task(
        "T", TOY.name, (-1, -1, -1, 0, 1), 9
    )
    assert without_classes("T", TOY, []) == whole_task("T", TOY)


def test_a_merged_class_stays_as_long_as_a_part_does():
    merged = Task("M", TOY.name, (0, 0, 1, 2, 1), None, excluded=(4,))
    assert without_classes("T", TOY, ["ant", "cat", "elk"], task=merged) == Task(
        "T", TOY.name, (-1, 0, -1, 1, -1), None, (4,)
    )


def test_the_kinds_of_a_targets_class_are_left_out():
    birds = dataset_hierarchy(WORLD).classes_under(WORLD.class_names, "bird")
    task = without_classes("no birds", WORLD, birds)
    left = {WORLD.class_names[index] for index in task.dataset_classes}
    assert left == set(WORLD.class_names) - {"duck", "flamingo", "parrot", "owl"}


def test_classes_that_cannot_be_left_out():
    with pytest.raises(ValueError, match=r"toy/1.0.0 has no class 'cow', 5; it has 5: 'ant', 'bee"):
        without_classes("T", TOY, ["cow", "bee", 5])
    with pytest.raises(ValueError, match="has no class -1"):
        class_indices(TOY, [-1])
    with pytest.raises(ValueError, match="task 'T': no class of 'A' is left"):
        without_classes("T", TOY, ["ant"], task=subset_task("A", TOY, [0]))
    with pytest.raises(ValueError, match=r"task 'A' is of 'world', not of 'toy/1.0.0'"):
        without_classes("T", TOY, [0], task=subset_task("A", WORLD, [0]))
    with pytest.raises(TypeError):
        class_indices(TOY, [1.5])


def test_the_other_halfs_images():
    task_a, task_b = subset_task("A", TOY, [1, 4]), subset_task("B", TOY, [0, 2, 3])
    both = union_task("A+B", task_a, task_b)
    assert both == Task("A+B", TOY.name, (2, 0, 3, 4, 1))


@given(st.data())
def test_a_union_has_the_images_of_its_parts(data):
    labels = np.array(data.draw(st.permutations([*range(6)] * 3)))
    order = data.draw(st.permutations(range(6)))
    cut = data.draw(st.integers(1, 4))
    dataset, limit = trees.dataset("uvwxyz"), data.draw(st.none() | st.integers(1, 3))
    first = subset_task("A", dataset, order[:cut], images_per_class=limit)
    second = subset_task("B", dataset, order[cut:5], images_per_class=limit)
    indices, task_labels = union_task("A+B", first, second).select(labels)
    label_of = dict(zip(indices.tolist(), task_labels.tolist(), strict=True))
    indices_a, labels_a = first.select(labels)
    indices_b, labels_b = second.select(labels)
    # A's labels are what they were, B's come after them.
    wanted = dict(zip(indices_a.tolist(), labels_a.tolist(), strict=True))
    wanted |= dict(zip(indices_b.tolist(), (labels_b + cut).tolist(), strict=True))
    assert label_of == wanted


def test_unrelated_classes_and_exclusions():
    tree = dataset_hierarchy(WORLD)
    natural, vehicles, tools = (
        subset_task(node, WORLD, tree.classes_under(WORLD.class_names, node))
        for node in ("natural", "vehicle", "tool")
    )
    natural = Task("natural", WORLD.name, natural.class_map, excluded=(3, 9))
    vehicles = Task("vehicle", WORLD.name, vehicles.class_map, excluded=(5,))
    more = union_task("natural and more", natural, vehicles, tools)
    assert more.num_classes == 20 + 4 + 4 and more.excluded == (3, 5, 9)
    coarse = cut_at_depth("K", tree, WORLD, 2, classes=natural.dataset_classes).task
    assert union_task("coarse and fine", coarse, tools).num_classes == 5 + 4


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([subset_task("A", TOY, [0])], "a union needs at least two tasks, got 1"),
        (
            [subset_task("A", TOY, [0, 1]), subset_task("B", TOY, [1])],
            "dataset class 1 of 'B' is in an earlier task too",
        ),
        (
            [subset_task("A", TOY, [0]), subset_task("B", TOY, [1], images_per_class=5)],
            "the images_per_class of 'B' is 5, that of 'A' is None; they must be equal",
        ),
        (
            [subset_task("A", TOY, [0]), subset_task("B", WORLD, [1])],
            "the dataset of 'B' is 'world', that of 'A' is 'toy/1.0.0'",
        ),
        (
            [subset_task("A", TOY, [0]), Task("B", TOY.name, (-1, 0))],
            "the number of dataset classes of 'B' is 2, that of 'A' is 5",
        ),
    ],
)
def test_bad_unions(tasks, message):
    with pytest.raises(ValueError, match=message):
        union_task("U", *tasks)
