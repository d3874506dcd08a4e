"""A task: which classes of a dataset are to be told apart, and how many images of each there are.

A task is arithmetic on labels. It never touches an image and never copies one.
"""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class HasClasses(Protocol):
    """What a task has to know about a dataset."""

    name: str
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Task:
    """A classification task over (part of) a dataset.

    Attributes:
      name: what reports call it: 'A', 'B', 'W' (the whole dataset), ...
      dataset: the identity (`Dataset.name`) of the dataset that the classes are taken from.
      class_map: for each class of the dataset its class in the task, or -1 where it is left out.
        Several dataset classes may share one task class. The task classes are 0 .. K - 1, each
        used at least once.
      images_per_class: keep only the first N training images, in record order, of each dataset
        class (Yosinski et al. 2014, supplement; Huh et al. 2016, section 4); None keeps them all.
      excluded: positions in the dataset's training split of records that are left out of training,
        for instance near-duplicates of a target's images. They do not count towards
        `images_per_class`, so that others take their place. Kept sorted, each once.
        `dataclasses.replace(task, excluded=positions)` adds them to a task.
    """

    name: str
    dataset: str
    class_map: tuple[int, ...]
    images_per_class: int | None = None
    excluded: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "class_map", tuple(int(index) for index in self.class_map))
        if not self.class_map:
            raise ValueError(f"task {self.name!r}: class_map is empty")
        lowest = min(self.class_map)
        if lowest < -1:
            raise ValueError(f"task {self.name!r}: class_map holds {lowest}; the least is -1")
        unused = set(range(max(self.class_map) + 1)) - set(self.class_map)
        if unused:
            raise ValueError(
                f"task {self.name!r}: no dataset class is mapped to task class {min(unused)}, "
                f"though class_map goes up to {max(self.class_map)}"
            )
        if max(self.class_map) < 0:
            raise ValueError(f"task {self.name!r}: class_map leaves every class out")
        if self.images_per_class is not None and self.images_per_class < 1:
            raise ValueError(
                f"task {self.name!r}: images_per_class must be at least 1 or None, "
                f"got {self.images_per_class}"
            )
        self._set_excluded()

    def _set_excluded(self):
        try:
            positions = sorted({operator.index(position) for position in self.excluded})
        except TypeError as error:
            raise TypeError(
                f"task {self.name!r}: excluded must be whole positions of records: {error}"
            ) from None
        if positions and positions[0] < 0:
            raise ValueError(
                f"task {self.name!r}: excluded holds {positions[0]}; positions start at 0"
            )
        object.__setattr__(self, "excluded", tuple(positions))

    @property
    def num_classes(self) -> int:
        """How many classes the task tells apart."""
        return max(self.class_map) + 1

    @functools.cached_property
    def dataset_classes(self) -> tuple[int, ...]:
        """The dataset classes that take part, in index order."""
        return tuple(index for index, target in enumerate(self.class_map) if target >= 0)

    def select(
        self,
        labels: np.ndarray,
        *,
        limit: bool = True,
        class_names: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which records of a split belong to the task, and what their labels are in it.

        Args:
          labels: integers (N,), the dataset class of every record of the split; -1 marks a record
            without a label, which is left out.
          limit: whether `images_per_class` and `excluded` apply. True for the training split; pass
            False for validation, which always uses every image.
          class_names: the dataset's class names, only used to make errors readable.

        Returns:
          `(indices, task_labels)`: int64 (n,) positions in the split, ascending, and int32 (n,)
          labels in 0 .. num_classes - 1.

        Raises:
          ValueError: a label lies outside the class map, an excluded position outside the split, or
            a class of the task has no image.

        Example:
          >>> task = Task("A", "toy", (-1, 0, 1), images_per_class=1)
          >>> task.select(np.array([1, 2, 0, 2, 1]))
          (array([0, 1]), array([0, 1], dtype=int32))
        """
        labels = np.asarray(labels)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels must be a vector of integers, got shape {labels.shape} of {labels.dtype}"
            )
        num_dataset_classes = len(self.class_map)
        if labels.size and not (labels.min() >= -1 and labels.max() < num_dataset_classes):
            raise ValueError(
                f"task {self.name!r} maps {num_dataset_classes} dataset classes, but the labels "
                f"go from {labels.min()} to {labels.max()}: is this the dataset {self.dataset!r}?"
            )
        # The appended -1 is what label -1 picks.
        mapped = np.array((*self.class_map, -1), np.int32)[labels]
        keep = mapped >= 0
        if limit:
            keep &= self._within_limits(labels)
        indices = np.flatnonzero(keep).astype(np.int64)
        self._require_images(mapped[indices], class_names)
        return indices, mapped[indices]

    def _within_limits(self, labels: np.ndarray) -> np.ndarray:
        """Whether each training record is neither excluded nor beyond `images_per_class`."""
        if self.excluded and self.excluded[-1] >= labels.size:
            raise ValueError(
                f"task {self.name!r} excludes record {self.excluded[-1]}, but the training split "
                f"of {self.dataset!r} has {labels.size} records"
            )
        within = np.ones(labels.size, bool)
        within[list(self.excluded)] = False
        if self.images_per_class is not None:
            within[within] = _rank_within_class(labels[within]) < self.images_per_class
        return within

    def _require_images(self, task_labels: np.ndarray, class_names: Sequence[str] | None):
        counts = np.bincount(task_labels, minlength=self.num_classes)
        empty = np.flatnonzero(counts == 0)
        if not empty.size:
            return
        sources = [index for index, target in enumerate(self.class_map) if target == empty[0]]
        named = ", ".join(str(i) if class_names is None else class_names[i] for i in sources)
        more = f", nor have {empty.size - 1} other classes" if empty.size > 1 else ""
        raise ValueError(
            f"task {self.name!r}: task class {empty[0]} (dataset class {named}) has no image in "
            f"this split of {self.dataset!r}{more}"
        )


def whole_task(name: str, dataset: HasClasses, *, images_per_class: int | None = None) -> Task:
    """The task of telling all classes of a dataset apart.

    Args:
      name: what reports call the task.
      dataset: a `Dataset` (its `name` and `class_names` are read).
      images_per_class: see `Task`.
    """
    return Task(name, dataset.name, tuple(range(len(dataset.class_names))), images_per_class)


def subset_task(
    name: str,
    dataset: HasClasses,
    classes: Sequence[int],
    *,
    images_per_class: int | None = None,
) -> Task:
    """The task of telling some classes of a dataset apart, renumbered 0, 1, ... in index order.

    Args:
      name: what reports call the task.
      dataset: a `Dataset` (its `name` and `class_names` are read).
      classes: indices of dataset classes, in any order, each at most once.
      images_per_class: see `Task`.

    Raises:
      ValueError: no class, a class named twice, or one that the dataset does not have.

    Example:
      half_a, half_b = random_halves(len(dataset.class_names), seed=0)
      task_a, task_b = subset_task("A", dataset, half_a), subset_task("B", dataset, half_b)
    """
    chosen = sorted(int(index) for index in classes)
    num_dataset_classes = len(dataset.class_names)
    if not chosen:
        raise ValueError(f"task {name!r}: no classes given")
    if chosen[0] < 0 or chosen[-1] >= num_dataset_classes:
        wrong = chosen[0] if chosen[0] < 0 else chosen[-1]
        raise ValueError(
            f"task {name!r}: class {wrong} is not one of the {num_dataset_classes} classes "
            f"(0 .. {num_dataset_classes - 1}) of {dataset.name!r}"
        )
    twice = [index for index, following in itertools.pairwise(chosen) if index == following]
    if twice:
        raise ValueError(f"task {name!r}: class {twice[0]} is named twice")
    class_map = [-1] * num_dataset_classes
    for target, index in enumerate(chosen):
        class_map[index] = target
    return Task(name, dataset.name, tuple(class_map), images_per_class)


def _rank_within_class(labels: np.ndarray) -> np.ndarray:
    """For each record, how many records of its class come before it."""
    # NumPy sorts 16-bit integers in linear time.
    short = labels.astype(np.int16) if labels.max(initial=0) < 2**15 else labels
    order = np.argsort(short, kind="stable")
    grouped = labels[order]
    starts = np.flatnonzero(np.diff(grouped, prepend=grouped[:1] - 1))
    sizes = np.diff(starts, append=grouped.size)
    ranks = np.empty(labels.size, np.int64)
    ranks[order] = np.arange(labels.size) - np.repeat(starts, sizes)
    return ranks
