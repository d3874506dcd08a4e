"""Every way to make a task, at the size of ILSVRC2012: it stays arithmetic on one array."""

import time
import types

import numpy as np

from transfer_jax.data.ancestor_splits import split_by_ancestors
from transfer_jax.data.hierarchy import dataset_hierarchy
from transfer_jax.data.label_sets import read_label_sets
from transfer_jax.data.relabelling import bottom_up, label_set_tasks
from transfer_jax.data.splits import ilsvrc_indices, random_halves
from transfer_jax.data.subsets import budget_task, union_task, without_classes
from transfer_jax.data.tasks import Task, subset_task, whole_task

NUM_IMAGES = 1_281_167


def ilsvrc_like():
    labels = np.random.default_rng(0).permutation(np.arange(NUM_IMAGES, dtype=np.int32) % 1000)
    return types.SimpleNamespace(
        name="ilsvrc", class_names=tuple(ilsvrc_indices()), labels=lambda split: labels
    )


def all_tasks(dataset):
    """One of each kind, with the number of images that it should have."""
    names = dataset.class_names
    counts = np.bincount(dataset.labels("train"))
    tree = dataset_hierarchy(dataset)
    for halves in (random_halves(1000, 0), split_by_ancestors(tree, names)):
        task_a, task_b = (subset_task("half", dataset, half) for half in halves)
        yield task_a, counts[halves[0]].sum()
        yield union_task("A+B", task_a, task_b), NUM_IMAGES
    yield from ((level.task, NUM_IMAGES) for level in bottom_up(tree, dataset))
    for level in label_set_tasks(read_label_sets(), dataset, images_per_class=500).values():
        yield level.task, 500_000
    yield whole_task("W", dataset, images_per_class=125), 125_000
    yield budget_task("250 x 400", dataset, 250, 100_000, 0), 100_000
    yield without_classes("W", dataset, names[:100]), counts[100:].sum()
    yield Task("W", "ilsvrc", tuple(range(1000)), 500, tuple(range(9_000))), 500_000


def test_seconds_for_all_tasks_of_ilsvrc():
    dataset = ilsvrc_like()
    start, num_tasks = time.perf_counter(), 0
    for task, num_images in all_tasks(dataset):
        indices, labels = task.select(dataset.labels("train"))
        assert len(indices) == len(labels) == num_images
        assert labels.max() == task.num_classes - 1
        num_tasks += 1
    seconds = time.perf_counter() - start
    assert num_tasks == 43
    # Thirty times as long as it takes on two cores.
    assert seconds < 120, seconds
