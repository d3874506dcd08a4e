"""Tasks: which images are to be told apart, as rows and labels over a dataset. Nothing here reads
an image.

In what is made by class (`subset_task`, `fold_task`, ...) an image of multi-label data counts
where it shows one class only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from transfer_jax.data.batches import permutation
from transfer_jax.data.dataset import Dataset, digest
from transfer_jax.data.means import mean_of
from transfer_jax.data.splits import random_classes

TRAIN_VAL = ("train", "val")


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Images to learn from and to be tested on. Tasks of equal digests are equal.

    `train` and `val` are pairs of rows of the dataset, int64 (n,), and their labels in the task:
    int32 (n,) in 0 .. num_classes - 1, or int8 (n, num_classes) for several labels an image, coded
    as in the dataset. `name` is what reports call the task ('A', 'B', ...), no part of the digest.
    `objective` says how it is learned, see `training.objective`; None stands for one class an
    image. Others may take other labels: any tree of arrays with a leading axis n.
    """

    name: str
    dataset: Dataset
    class_names: tuple[str, ...]
    train: tuple[np.ndarray, np.ndarray]
    val: tuple[np.ndarray, np.ndarray]
    objective: Any = None

    @property
    def num_classes(self) -> int:
        """How many classes are told apart."""
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        """Outputs of a network that learns it."""
        num = self.num_classes
        return num if self.objective is None else self.objective.num_outputs(num)

    def select(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """`(rows, labels)` of 'train' or 'val'."""
        return {"train": self.train, "val": self.val}[split]

    @functools.cached_property
    def digest(self) -> str:
        """Identity of the content: 16 hex digits of the dataset's name, the rows and labels."""
        how = () if self.objective is None else (repr(self.objective),)
        return digest(self.dataset.name, self.num_classes, self.train, self.val, *how)

    def __eq__(self, other):
        return isinstance(other, Task) and self.digest == other.digest

    def __hash__(self):
        return hash(self.digest)

    def mean(self, kind: str) -> np.ndarray:
        """Mean pixel values, float32: 'channel' (3,), or 'image' (h, w, 3).

        They are taken over the dataset's 'train' split, so that all tasks of a dataset share them;
        over the task's own training images where there is no such split.
        """
        return mean_of(self.dataset, self.dataset.splits.get("train", self.train[0]), kind)


def single_labels(dataset: Dataset) -> np.ndarray:
    """The class of every row, int32 (N,), -1 where there is none. Of multi-label data the only
    class that an image shows (a difficult one does not count as shown)."""
    if dataset.labels.ndim == 1:
        return dataset.labels
    shown = dataset.labels == 1
    return np.where(shown.sum(axis=1) == 1, shown.argmax(axis=1), -1).astype(np.int32)


def whole_task(name: str, dataset: Dataset, images_per_class: int | None = None) -> Task:
    """All classes of a dataset; multi-label data keep all their labels. `images_per_class` is that
    of `relabelled_task`."""
    if dataset.labels.ndim == 1:
        return single_label_task(name, dataset, images_per_class=images_per_class)
    train, val = ((rows, dataset.labels[rows]) for rows in _split_rows(dataset, TRAIN_VAL))
    return Task(name, dataset, dataset.class_names, train, val)


def single_label_task(name: str, dataset: Dataset, **options) -> Task:
    """All classes of a dataset and the images that show one of them only (VOC's actions, where
    most people do one); options of `relabelled_task`."""
    return subset_task(name, dataset, range(len(dataset.class_names)), **options)


def subset_task(name: str, dataset: Dataset, classes: Iterable[int], **options) -> Task:
    """Some classes of a dataset, renumbered 0, 1, ... in ascending order; options of
    `relabelled_task`."""
    classes = sorted(set(classes))
    class_map = np.full(len(dataset.class_names), -1, np.int32)
    class_map[classes] = np.arange(len(classes))
    class_names = [dataset.class_names[index] for index in classes]
    return relabelled_task(name, dataset, class_map, class_names, **options)


def relabelled_task(
    name: str,
    dataset: Dataset,
    class_map: Sequence[int],
    class_names: Sequence[str],
    *,
    images_per_class: int | None = None,
    splits: Sequence[str] = TRAIN_VAL,
) -> Task:
    """The images of a dataset under other labels (Huh et al. 2016, section 5.1).

    `class_map` gives each dataset class its class in the task, or -1 where it is left out.
    `images_per_class` keeps the first N training images, in record order, of each *dataset* class
    (Yosinski et al. 2014, supplement; Huh et al. 2016, section 4). Testing always uses every image.
    ValueError where a class of the task has nothing to learn from.
    """
    labels = single_labels(dataset)
    # The appended -1 is what label -1 picks.
    mapped = np.array([*class_map, -1], np.int32)[labels]
    train, val = (rows[mapped[rows] >= 0] for rows in _split_rows(dataset, splits))
    if images_per_class is not None:
        before = pd.Series(train).groupby(labels[train]).cumcount()  # how many of its class
        train = train[before < images_per_class]
    empty = np.flatnonzero(np.bincount(mapped[train], minlength=len(class_names)) == 0)
    if empty.size:
        raise ValueError(
            f"task {name!r}: class {class_names[empty[0]]!r} has no training image in "
            f"{dataset.name} ({empty.size} such classes)"
        )
    return Task(name, dataset, tuple(class_names), (train, mapped[train]), (val, mapped[val]))


def budget_task(
    name: str,
    dataset: Dataset,
    num_classes: int,
    total_images: int,
    seed: int,
    *,
    classes: Iterable[int] | None = None,
) -> Task:
    """Some classes under a budget of training images (Huh et al. 2016, section 5.5).

    `num_classes` random ones of `classes` (None: of all) with the first `total_images //
    num_classes` training images of each, exactly; ValueError where one has fewer. Of one seed, the
    classes of a smaller number are among those of a larger one.
    """
    pool = range(len(dataset.class_names)) if classes is None else classes
    share = total_images // num_classes
    drawn = random_classes(pool, num_classes, seed)
    task = subset_task(name, dataset, drawn, images_per_class=share)
    counts = np.bincount(task.train[1])
    if counts.min() < share:
        raise ValueError(
            f"task {name!r}: {share} images of each of {num_classes} classes are wanted, but one "
            f"has {counts.min()}: total_images may be at most {counts.min() * num_classes}"
        )
    return task


def fold_task(
    name: str,
    dataset: Dataset,
    *,
    seed: int,
    train_per_class: int,
    test_per_class: int | None = None,
    classes: Iterable[int] | None = None,
    splits: Sequence[str] = TRAIN_VAL,
    reserve: int | None = None,
) -> Task:
    """Random training and test images, a few a class: the protocols of Caltech-101 and Caltech-256
    (Zeiler & Fergus 2013, section 5.2).

    The images of each class in all of `splits` (in all, where the dataset has no splits) are
    shuffled by (seed, class). The first `train_per_class` are learned from; up to `test_per_class`
    (None: all) of the last ones are tested on, none of the first `reserve` (None:
    `train_per_class`) among them. So training sets of one seed contain one another, and with one
    `reserve`, the largest size, all share their test images. ValueError where a class has too few.
    """
    chosen = range(len(dataset.class_names)) if classes is None else sorted(set(classes))
    reserve = train_per_class if reserve is None else reserve
    labels, pool = single_labels(dataset), np.arange(len(dataset.labels))
    if dataset.splits:
        pool = np.unique(np.concatenate(_split_rows(dataset, splits)))
    classes, train, val = labels[pool], [], []
    for index in chosen:
        members = pool[classes == index]
        if len(members) <= reserve:
            raise ValueError(
                f"task {name!r}: class {dataset.class_names[index]!r} has {len(members)} images; "
                f"{reserve} are set aside for training and at least 1 is wanted for testing"
            )
        # Keyed by class: leaving one out does not change the others.
        drawn = members[permutation(len(members), seed, index)]
        train.append(drawn[:train_per_class])
        val.append(drawn[reserve:][::-1][:test_per_class])
    class_names = tuple(dataset.class_names[index] for index in chosen)
    sides = [np.sort(np.concatenate(rows)) for rows in (train, val)]
    renumbered = [np.searchsorted(chosen, labels[rows]).astype(np.int32) for rows in sides]
    return Task(name, dataset, class_names, *zip(sides, renumbered, strict=True))


def without(task: Task, rows: Iterable[int]) -> Task:
    """A task less some training images, for instance near-duplicates of a target's test images."""
    kept = ~np.isin(task.train[0], list(rows))
    return dataclasses.replace(task, train=(task.train[0][kept], task.train[1][kept]))


def classes_without(class_names: Sequence[str], dropped: Iterable[str]) -> list[int]:
    """The classes that are left when some are dropped by name, in any case of letters:
    'background_google' of Caltech-101, '257.clutter' of Caltech-256. ValueError for a name that no
    class has."""
    names, dropped = [name.lower() for name in class_names], {name.lower() for name in dropped}
    if unknown := dropped - set(names):
        raise ValueError(f"no class {min(unknown)!r} to leave out among {', '.join(names)}")
    return [index for index, name in enumerate(names) if name not in dropped]


def _split_rows(dataset: Dataset, splits: Sequence[str]) -> list[np.ndarray]:
    if unknown := set(splits) - {*dataset.splits, *TRAIN_VAL}:
        raise ValueError(f"{dataset.name} has no split {min(unknown)!r}: {[*dataset.splits]}")
    # Data without a validation split have no rows of it.
    return [np.asarray(dataset.splits.get(split, ()), np.int64) for split in splits]
