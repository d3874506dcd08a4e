"""Tasks over part of a dataset, or over several parts: how many classes, which, and of how many
images (Huh et al. 2016, sections 4, 5.5, 5.6 and 6). All of it is arithmetic on labels.
"""

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from transfer_jax.data.tasks import HasClasses, Task, subset_task, whole_task


class HasLabels(HasClasses, Protocol):
    """What has to be known of a dataset to spend a budget of its images."""

    def labels(self, split: str) -> np.ndarray:
        """int (N,): the dataset class of every record of a split."""
        ...


def random_classes(classes: int | Iterable[int], count: int, seed: int) -> list[int]:
    """Draws some classes, so that of one seed a smaller draw is part of every larger one.

    They are the first `count` of `np.random.RandomState([seed]).permutation(sorted(classes))`.

    Args:
      classes: how many classes the dataset has, or the indices of those to draw from.
      count: how many to draw, at least 1.
      seed: an integer in 0 .. 2**32 - 1.

    Returns:
      Sorted class indices.

    Raises:
      ValueError: more are to be drawn than there are, or none.

    Example:
      >>> few, more = random_classes(100, 10, seed=0), random_classes(100, 20, seed=0)
      >>> set(few) < set(more)
      True
    """
    pool = range(classes) if isinstance(classes, int | np.integer) else sorted(set(classes))
    if not 1 <= count <= len(pool):
        raise ValueError(f"count must lie in 1 .. {len(pool)} (the classes there are), got {count}")
    order = np.random.RandomState([seed]).permutation(np.array(pool, np.int64))
    return sorted(int(index) for index in order[:count])


def budget_task(
    name: str,
    dataset: HasLabels,
    num_classes: int,
    total_images: int,
    seed: int,
    *,
    classes: Iterable[int] | None = None,
) -> Task:
    """A task of some classes under a budget of training images (Huh et al. 2016, section 5.5).

    It has `num_classes` random classes with the first `total_images // num_classes` training images
    of each. Of one seed, the classes of a smaller number are among those of a larger one.

    Args:
      name: what reports call the task.
      dataset: a `Dataset`; its `name`, `class_names` and training labels are read.
      num_classes: how many classes.
      total_images: how many training images in all, at most.
      seed: which random classes, an integer in 0 .. 2**32 - 1.
      classes: the dataset classes to draw from; None draws from all.

    Returns:
      The task, with `images_per_class` set. It has exactly `num_classes * images_per_class`
      training images.

    Raises:
      ValueError: there are not as many classes, the budget is less than one image for each, or a
        class has too few images for its share (the message says which and how large the budget may
        be).

    Example:
      few = budget_task("250 x 200", dataset, num_classes=250, total_images=50_000, seed=0)
      many = budget_task("500 x 100", dataset, num_classes=500, total_images=50_000, seed=0)
    """
    pool = len(dataset.class_names) if classes is None else classes
    drawn = random_classes(pool, num_classes, seed)
    share = total_images // num_classes
    if share < 1:
        raise ValueError(
            f"task {name!r}: {total_images} images are less than one for each of {num_classes} "
            "classes"
        )
    task = subset_task(name, dataset, drawn, images_per_class=share)
    labels = dataset.labels("train")
    available = np.bincount(labels[labels >= 0], minlength=len(dataset.class_names))[drawn]
    least = int(available.argmin())
    if available[least] < share:
        raise ValueError(
            f"task {name!r}: {share} images of each of {num_classes} classes are wanted, but class "
            f"{dataset.class_names[drawn[least]]} of {dataset.name!r} has {available[least]}; "
            f"total_images may be at most {available[least] * num_classes}"
        )
    return task


def without_classes(
    name: str, dataset: HasClasses, classes: Iterable[int | str], *, task: Task | None = None
) -> Task:
    """A task less some classes, for instance those that a target also has (Huh et al. 2016,
    section 5.6).

    Args:
      name: what reports call the new task.
      dataset: a `Dataset` (its `name` and `class_names` are read).
      classes: dataset classes to take out, by index or by name; the task need not have all of them.
        `Hierarchy.classes_under` finds those that are kinds of a target's class.
      task: what to take them out of; None takes them out of the whole dataset.

    Returns:
      The task without them, its classes renumbered in their order. A merged class stays as long as
      one of its parts does. Everything else is as in `task`.

    Raises:
      ValueError: the dataset has no such class, the task is of another one, or no class is left.

    Example:
      dogs = dataset_hierarchy(dataset).classes_under(dataset.class_names, "dog")
      no_dogs = without_classes("no dogs", dataset, dogs)
    """
    task = whole_task(name, dataset) if task is None else task
    if task.dataset != dataset.name:
        raise ValueError(f"task {task.name!r} is of {task.dataset!r}, not of {dataset.name!r}")
    removed = set(class_indices(dataset, classes))
    left = [-1 if i in removed else target for i, target in enumerate(task.class_map)]
    numbers = {target: number for number, target in enumerate(sorted(set(left) - {-1}))}
    if not numbers:
        raise ValueError(f"task {name!r}: no class of {task.name!r} is left")
    class_map = tuple(numbers.get(target, -1) for target in left)
    return dataclasses.replace(task, name=name, class_map=class_map)


def union_task(name: str, *tasks: Task) -> Task:
    """One task of telling apart the classes of several, with all of their images.

    It answers whether other images help (Huh et al. 2016, section 6): pretrain on `task_a` alone
    and on `union_task("A+B", task_a, task_b)`, and transfer both to `task_a`, or evaluate both on
    it as they are. The classes of the first task keep their numbers, so that outputs
    `0 .. task_a.num_classes - 1` of the larger network are those of A, in the same order, and A's
    labels need no translation.

    With `subset_task` of another superclass's classes as the second task it adds data that has
    nothing to do with the first.

    Args:
      name: what reports call the task.
      *tasks: at least two, of one dataset, without a dataset class in common and with equal
        `images_per_class`.

    Returns:
      The task: the classes of the first, then those of the second, and so on. Records that any of
      them excludes are excluded.

    Raises:
      ValueError: the tasks are not such that they can be joined; the message says how.

    Example:
      half_a, half_b = split_by_ancestors(dataset_hierarchy(dataset), dataset.class_names)
      task_a, task_b = subset_task("A", dataset, half_a), subset_task("B", dataset, half_b)
      both = union_task("A+B", task_a, task_b)
    """
    if len(tasks) < 2:
        raise ValueError(f"task {name!r}: a union needs at least two tasks, got {len(tasks)}")
    first = tasks[0]
    class_map = [-1] * len(first.class_map)
    offset = 0
    for task in tasks:
        for what, own, wanted in (
            ("dataset", task.dataset, first.dataset),
            ("number of dataset classes", len(task.class_map), len(first.class_map)),
            ("images_per_class", task.images_per_class, first.images_per_class),
        ):
            if own != wanted:
                raise ValueError(
                    f"task {name!r}: the {what} of {task.name!r} is {own!r}, that of "
                    f"{first.name!r} is {wanted!r}; they must be equal"
                )
        for index in task.dataset_classes:
            if class_map[index] >= 0:
                raise ValueError(
                    f"task {name!r}: dataset class {index} of {task.name!r} is in an earlier task "
                    "too"
                )
            class_map[index] = offset + task.class_map[index]
        offset += task.num_classes
    excluded = tuple(position for task in tasks for position in task.excluded)
    return dataclasses.replace(first, name=name, class_map=tuple(class_map), excluded=excluded)


def class_indices(dataset: HasClasses, classes: Iterable[int | str]) -> list[int]:
    """Indices of classes that are given by index or by name, in the order given.

    Args:
      dataset: a `Dataset` (its `name` and `class_names` are read).
      classes: indices in 0 .. len(class_names) - 1, names, or some of both.

    Raises:
      ValueError: the dataset has no such class; the message names those it lacks.
    """
    by_name = {name: index for index, name in enumerate(dataset.class_names)}
    found = [(given, _class_index(by_name, given)) for given in classes]
    unknown = [given for given, index in found if index is None]
    if unknown:
        raise ValueError(
            f"{dataset.name} has no class {_few(unknown)}; it has {len(by_name)}: "
            f"{_few(dataset.class_names)}"
        )
    return [index for _, index in found if index is not None]


def _class_index(by_name: dict[str, int], given: int | str) -> int | None:
    if isinstance(given, str):
        return by_name.get(given)
    index = operator.index(given)
    return index if 0 <= index < len(by_name) else None


def _few(things: Sequence) -> str:
    shown = ", ".join(repr(thing) for thing in things[:5])
    return shown if len(things) <= 5 else f"{shown}, ..."
