"""Random training and test sets of a few images a class, drawn from a dataset: the protocols of
Caltech-101 and Caltech-256.

A fold is arithmetic on labels. Its images stay where they lie.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.records import RecordSource, image_at


@dataclasses.dataclass(frozen=True)
class Fold:
    """How images are drawn for training and for testing (Zeiler & Fergus 2013, section 5.2).

    Each class's images are shuffled by the seed, whatever other classes take part. The first
    `reserve` are set aside for training, of which the first `train_per_class` are taken; the next
    `test_per_class` are for testing. So folds of one seed and one `reserve` share their test
    images, and their training sets contain one another (Figure 7 of the paper).

    Attributes:
      seed: of the draw; 0 .. 4 make the five folds of Caltech-101.
      train_per_class: training images of each class, exactly.
      test_per_class: test images of each class at most; None takes all that are left.
      classes: dataset classes that take part, renumbered 0, 1, ... in ascending order; None
        takes all. `classes_without` leaves classes out by name.
      splits: the dataset's splits whose images are pooled and drawn from.
      reserve: training images that are set aside in each class; None: `train_per_class`.

    Raises:
      ValueError: a number out of range, no split, or a class or split named twice.

    Example:
      >>> [Fold(seed, train_per_class=30, test_per_class=50) for seed in range(5)][4].reserve
      30
    """

    seed: int
    train_per_class: int
    test_per_class: int | None = None
    classes: tuple[int, ...] | None = None
    splits: tuple[str, ...] = ("train", "val")
    reserve: int | None = None

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"the seed of a fold must not be negative, got {self.seed}")
        for name in ("train_per_class", "test_per_class"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} of a fold must be at least 1, got {value}")
        if self.reserve is None:
            object.__setattr__(self, "reserve", self.train_per_class)
        if self.reserve < self.train_per_class:
            raise ValueError(
                f"reserve of a fold must be at least its train_per_class, {self.train_per_class}, "
                f"got {self.reserve}"
            )
        object.__setattr__(self, "splits", tuple(self.splits))
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ValueError(f"splits of a fold must be different names, got {self.splits}")
        if self.classes is not None:
            classes = tuple(sorted(int(index) for index in self.classes))
            if not classes or len(set(classes)) < len(classes):
                raise ValueError(f"classes of a fold must be different, got {self.classes}")
            object.__setattr__(self, "classes", classes)

    @property
    def name(self) -> str:
        """Tells this fold from every other; valid as the name of a folder."""
        test = "all" if self.test_per_class is None else self.test_per_class
        parts = [f"fold{self.seed}", f"{self.train_per_class}train", f"{test}test"]
        if self.reserve != self.train_per_class:
            parts.append(f"{self.reserve}reserved")
        if self.splits != ("train", "val"):
            parts.append("of-" + "+".join(self.splits))
        if self.classes is not None:
            digest = hashlib.sha256(repr(self.classes).encode()).hexdigest()[:10]
            parts.append(f"{len(self.classes)}classes-{digest}")
        return "_".join(parts)


@dataclasses.dataclass(frozen=True)
class FoldedDataset:
    """A fold of a dataset, to be used as a `Dataset`. Made by `fold_dataset`.

    'train' and 'val' hold the fold's training and test images, ordered by class and then as drawn:
    a `Task` with `images_per_class=n` takes the first n drawn, which is the training set of the
    fold with `train_per_class=n` and the same `reserve`.

    Attributes:
      base: what the images are drawn from.
      fold: how.
      positions: for 'train' and for 'val' where their records lie in `base`: int64 (n, 2), each a
        place in `fold.splits` and an index in that split.
    """

    base: Dataset
    fold: Fold
    positions: Mapping[str, np.ndarray] = dataclasses.field(compare=False, repr=False)

    splits = ("train", "val")

    @property
    def name(self) -> str:
        """Identity of the content: the base's name and all of the fold."""
        return f"{self.base.name}/{self.fold.name}"

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """In label order."""
        return tuple(self.base.class_names[index] for index in self._classes)

    @functools.cached_property
    def class_paths(self) -> tuple[tuple[str, ...], ...] | None:
        """The hierarchy, one path from root to leaf per class, or None."""
        paths = self.base.class_paths
        return None if paths is None else tuple(paths[index] for index in self._classes)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(h, w, 3) where all images have one shape, else None."""
        return self.base.image_shape

    @property
    def image_size(self) -> int | None:
        """Side length of the squares that images are made as they are decoded, or None."""
        return self.base.image_size

    @property
    def fit(self) -> str:
        """How images are made squares as they are decoded, one of `images.FITS`."""
        return self.base.fit

    @property
    def directory(self) -> Path:
        """Where what is computed from the fold can be kept; made when it is first asked for."""
        directory = self.base.directory / "folds" / self.fold.name
        # Where the base cannot be written either, whoever writes says so.
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
        return directory

    @functools.cached_property
    def num_records(self) -> dict[str, int]:
        """How many images each split has."""
        return {split: len(positions) for split, positions in self.positions.items()}

    def labels(self, split: str) -> np.ndarray:
        """The class of every record of a split: int32 (N,), in 0 .. len(class_names) - 1."""
        positions = self._positions(split)
        labels = np.empty(len(positions), np.int32)
        for place, source in enumerate(self.fold.splits):
            rows = positions[:, 0] == place
            labels[rows] = self.base.labels(source)[positions[rows, 1]]
        return np.searchsorted(self._classes, labels).astype(np.int32)

    def images(
        self, split: str, indices: Sequence[int] | np.ndarray, *, progress: bool = False
    ) -> np.ndarray:
        """Decoded images of a split, see `Dataset.images`.

        Args:
          split: 'train' or 'val'.
          indices: (n,) positions in the split, in any order.
          progress: whether to show a progress bar while decoding.

        Returns:
          uint8 (n, h, w, 3), in the order of `indices`.

        Raises:
          ValueError: the images do not all have one shape.
          IndexError: an index lies outside the split.
        """
        positions = self._positions(split)
        indices = np.asarray(indices, np.int64).reshape(-1)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(positions)):
            raise IndexError(
                f"indices of {self.name} {split} lie in 0 .. {len(positions) - 1}, got "
                f"{indices.min()} .. {indices.max()}"
            )
        wanted = positions[indices]
        images = np.empty((len(wanted), *(self.image_shape or ())), np.uint8)
        for place, source in enumerate(self.fold.splits):
            rows = np.flatnonzero(wanted[:, 0] == place)
            if rows.size or self.image_shape is None:
                images[rows] = self.base.images(source, wanted[rows, 1], progress=progress)
        return images

    def record_source(self, split: str) -> RecordSource:
        """Random access to the records of a split, see `Dataset.record_source`.

        Their labels are those of the fold, their ids those of the base.
        """
        positions = self._positions(split)
        sources = tuple(self.base.record_source(source) for source in self.fold.splits)
        return _FoldedRecords(sources, positions, np.asarray(self._classes))

    @functools.cached_property
    def _classes(self) -> tuple[int, ...]:
        return _classes_of(self.fold, self.base)

    def _positions(self, split: str) -> np.ndarray:
        if split not in self.positions:
            raise ValueError(f"{self.name} has the splits train, val; got {split!r}")
        return self.positions[split]


class _FoldedRecords:
    def __init__(self, sources: tuple[RecordSource, ...], positions: np.ndarray, classes):
        self._sources, self._positions, self._classes = sources, positions, classes

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place, position = self._positions[range(len(self))[index]].tolist()
        record = self._sources[place][position]
        return {**record, "label": int(np.searchsorted(self._classes, record["label"]))}

    def read_image(self, index: int) -> np.ndarray:
        place, position = self._positions[range(len(self))[index]].tolist()
        return image_at(self._sources[place], position)


def fold_dataset(dataset: Dataset, fold: Fold) -> FoldedDataset:
    """Draws a fold from a dataset. No image is read, only labels.

    Args:
      dataset: what to draw from; it may be a fold itself, or have an empty 'val'.
      fold: what to draw.

    Returns:
      The drawn images as a dataset. The same dataset, fold and seed give the same images on every
      machine.

    Raises:
      ValueError: the dataset lacks a split or class of the fold, or a class has so few images that
        none would be left for testing; the message names it and how many it has.

    Example:
      caltech = open_dataset(DatasetSpec("tfds", name="caltech101", image_size=256), data_dir)
      kept = classes_without(caltech.class_names, "background_google")
      folds = [fold_dataset(caltech, Fold(seed, 30, 50, kept)) for seed in range(5)]
    """
    labels = [np.asarray(dataset.labels(split)) for split in fold.splits]
    places = np.concatenate([np.full(len(part), place) for place, part in enumerate(labels)])
    indices = np.concatenate([np.arange(len(part)) for part in labels])
    positions = np.stack([places, indices], axis=1).astype(np.int64)
    pooled = np.concatenate(labels)
    # NumPy sorts 16-bit integers in linear time.
    short = pooled.astype(np.int16) if len(dataset.class_names) <= 2**15 else pooled
    order = np.argsort(short, kind="stable")
    grouped = pooled[order]
    train, test = [], []
    for index in _classes_of(fold, dataset):
        start, stop = np.searchsorted(grouped, (index, index + 1))
        if stop - start <= fold.reserve:
            raise ValueError(
                f"class {dataset.class_names[index]} has {stop - start} images in the splits "
                f"{', '.join(fold.splits)} of {dataset.name}, but {fold.reserve} are set aside "
                "for training and at least 1 is wanted for testing: take fewer, or leave the "
                "class out"
            )
        # Each class has a generator of its own: leaving one out does not change the others.
        drawn = np.random.default_rng((fold.seed, index)).permutation(order[start:stop])
        train.append(drawn[: fold.train_per_class])
        test.append(drawn[fold.reserve :][: fold.test_per_class])
    chosen = {"train": positions[np.concatenate(train)], "val": positions[np.concatenate(test)]}
    for part in chosen.values():
        part.setflags(write=False)
    return FoldedDataset(dataset, fold, chosen)


def classes_without(class_names: Sequence[str], *dropped: str) -> tuple[int, ...]:
    """The classes that are left when some are dropped by name, for `Fold.classes`.

    Args:
      class_names: of a dataset, in label order.
      *dropped: names, in either case: 'background_google' of Caltech-101, '257.clutter' of
        Caltech-256.

    Raises:
      ValueError: a name that no class has, or no class left.

    Example:
      >>> classes_without(("ant", "BACKGROUND_Google", "bee"), "background_google")
      (0, 2)
    """
    known = {name.lower() for name in class_names}
    for name in dropped:
        if name.lower() not in known:
            raise ValueError(f"there is no class {name!r} to drop among {', '.join(class_names)}")
    lowered = {name.lower() for name in dropped}
    left = tuple(i for i, name in enumerate(class_names) if name.lower() not in lowered)
    if not left:
        raise ValueError(f"every class is dropped: {', '.join(class_names)}")
    return left


def _classes_of(fold: Fold, dataset: Dataset) -> tuple[int, ...]:
    count = len(dataset.class_names)
    if fold.classes is None:
        return tuple(range(count))
    wrong = [index for index in fold.classes if not 0 <= index < count]
    if wrong:
        raise ValueError(
            f"class {wrong[0]} of the fold is not one of the {count} classes (0 .. {count - 1}) "
            f"of {dataset.name}"
        )
    return fold.classes
