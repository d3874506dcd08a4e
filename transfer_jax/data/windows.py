"""Windows: squares of images, labelled by the objects in them, as images of their own (Oquab et al.
2014, section 3.2). A window is a row of a dataset that cuts it out as it is read."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Sequence

import numpy as np

from transfer_jax.data.batches import permutation, stream
from transfer_jax.data.dataset import Dataset, digest
from transfer_jax.data.records import Boxes, Crops
from transfer_jax.data.tasks import TRAIN_VAL, Task, single_labels

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True)
class Grid:
    """Squares of side min(width, height) / scale, for each of `scales`, in whole pixels, spread
    evenly so that neighbours share at least `overlap` of their area.

    The paper says at least a half, and about 500 an image: half gives 275 on 500 x 375 pixels, this
    default 496.
    """

    scales: tuple[float, ...] = (1.0, 1.3, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0)
    overlap: float = 0.65

    def windows(self, height: int, width: int) -> np.ndarray:
        """int64 (M, 4), (top, left, bottom, right) of every square, scale by scale."""
        found = []
        for scale in self.scales:
            side = max(1, round(min(height, width) / scale))
            step = max(1, int(side * (1 - self.overlap)))
            tops, lefts = (_places(length - side, step) for length in (height, width))
            corners = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
            found.append(np.concatenate([corners, corners + side], axis=1))
        return np.concatenate(found)


def _places(room: int, step: int) -> np.ndarray:
    """From 0 to `room`, evenly, no two neighbours farther apart than `step`."""
    gaps = -(-room // step)
    return np.arange(gaps + 1) * room // max(gaps, 1)


def window_labels(
    windows: np.ndarray, labels: np.ndarray, boxes: np.ndarray, difficult: np.ndarray
) -> np.ndarray:
    """What each window (M, 4) shows: int32 (M,), a class, -1 for nothing certain, -2 for nothing.

    It shows an object if it shares at least a fifth of its own area with it, and three fifths of
    the object's, and if all objects that it touches are of that class. Background touches none.
    Difficult objects, and those of label -1, count as touched but are never shown. Boxes (k, 4) and
    windows are (top, left, bottom, right) in pixels.
    """
    if not len(boxes):
        return np.full(len(windows), -2, np.int32)
    boxes = np.round(boxes, 3)  # as they were before they became fractions
    starts = np.maximum(windows[:, None, :2], boxes[:, :2])
    ends = np.minimum(windows[:, None, 2:], boxes[:, 2:])
    shared = np.prod(np.maximum(ends - starts, 0), axis=2)
    areas, sizes = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (windows, boxes))
    touched = shared > 0
    # In tenths, so that whole numbers of pixels are compared exactly.
    shown = (10 * shared >= 2 * areas[:, None]) & (10 * shared >= 6 * sizes)
    shown &= touched & ~difficult & (labels >= 0)
    lowest = np.where(touched, labels, np.iinfo(np.int32).max).min(axis=1)
    highest = np.where(touched, labels, -1).max(axis=1)
    found = np.where(shown.any(axis=1) & (lowest == highest), highest, -1)
    return np.where(touched.any(axis=1), found, -2).astype(np.int32)


@functools.lru_cache(maxsize=4)
def whole_images(dataset: Dataset) -> Dataset:
    """The photographs that a dataset of parts (VOC's people) was cut out of, the parts being their
    objects: of the class that they show, difficult where that is not one. Others as they are."""
    if not isinstance(dataset.source, Crops):
        return dataset
    crops, classes = dataset.source, single_labels(dataset)
    image_of = crops.source.places[crops.rows]
    members = [np.flatnonzero(image_of == image) for image in range(image_of.max() + 1)]
    labels = [(dataset.labels[of] == 1).any(axis=0) for of in members]
    return Dataset(
        f"{dataset.name}/whole",
        dataset.class_names,
        np.array(labels, np.int8),
        {split: np.unique(image_of[rows]) for split, rows in dataset.splits.items()},
        dataclasses.replace(crops.source, places=None),
        boxes=Boxes.of_rows((classes[of], crops.boxes[of], classes[of] < 0) for of in members),
    )


@functools.lru_cache(maxsize=8)
def window_dataset(dataset: Dataset, grid: Grid, size: int, classes: tuple[int, ...]) -> Dataset:
    """All windows of all images, squashed to `size` pixels: labels (N,) are those of some classes
    in their order, then the background, -1 for what is left out.

    Objects of other classes make a window uncertain. Where an image has one label and no boxes, the
    whole image is the object.
    """
    whole = dataset.boxes is None
    if whole and dataset.labels.ndim == 2:
        raise ValueError(f"{dataset.name} has several labels an image and no boxes: expected boxes")
    class_map = np.full(len(dataset.class_names) + 1, -1, np.int32)
    class_map[list(classes)] = np.arange(len(classes))  # the last stays -1, for label -1
    labels, parts, rows = [], [], []
    for row, shape in enumerate(_shapes(dataset)):
        windows, sides = grid.windows(*shape), np.tile(shape, 2)
        if whole:
            objects = dataset.labels[row : row + 1], np.array([[0, 0, 1, 1]]), np.zeros(1, bool)
        else:
            objects = dataset.boxes[row]
        of_box, boxes, difficult = objects
        labels.append(window_labels(windows, class_map[of_box], boxes * sides, difficult))
        parts.append((windows / sides).astype(np.float32))
        rows.append(np.full(len(windows), row, np.int32))
    labels = np.concatenate(labels)
    labels[labels == -2] = len(classes)
    return Dataset(
        f"{dataset.name}/windows{size}_{digest(str(grid), classes)}",
        (*(dataset.class_names[c] for c in classes), BACKGROUND),
        labels,
        {},
        Crops(dataset.source, np.concatenate(rows), np.concatenate(parts), size),
        image_shape=(size, size, 3),
    )


def _shapes(dataset: Dataset) -> Iterable[Sequence[int]]:
    """(height, width) of every image."""
    rows = range(len(dataset.labels))
    if dataset.image_shape is not None:
        return [dataset.image_shape[:2]] * len(rows)
    return stream(dataset.source.shape, rows, os.cpu_count())


def patch_task(
    name: str,
    dataset: Dataset,
    grid: Grid,
    seed: int,
    *,
    size: int,
    per_class: int,
    classes: Iterable[int] | None = None,
    background: float = 0.1,
    images_per_class: int | None = None,
    splits: Sequence[str] = TRAIN_VAL,
) -> Task:
    """Windows of a dataset's images to tell apart: some of its classes (None: all), and background.

    Args:
      grid, size: which windows, and the pixels of the squares that they become.
      seed: of all draws.
      per_class: at most so many windows of each class, in training and in testing.
      background: the share of the background's windows that is kept before.
      images_per_class: train on the windows of so many images of each class, and on the background
        of those alone; fewer of one seed are among more. None takes all images.
      splits: that are learned from and tested on.
    """
    chosen = range(len(dataset.class_names)) if classes is None else classes
    windows = window_dataset(dataset, grid, size, tuple(chosen))
    last, image_of = len(windows.class_names) - 1, windows.source.rows
    sides = []
    for split, few in zip(splits, (images_per_class, None), strict=True):
        there = np.isin(image_of, dataset.splits[split])
        kept, seen = [], np.zeros(0, np.int64)
        for label in range(last + 1):
            found = np.flatnonzero(there & (windows.labels == label))
            drawn = found[permutation(len(found), seed, label, 0)]
            if label == last:
                drawn, images = drawn[: round(background * len(found))], seen
            else:
                images = np.unique(image_of[found])
                images = images[permutation(len(images), seed, label, 1)][:few]
                seen = np.union1d(seen, images)
            if few is not None:
                drawn = drawn[np.isin(image_of[drawn], images)]
            kept.append(drawn[:per_class])
        kept = np.sort(np.concatenate(kept))
        sides.append((kept, windows.labels[kept]))
    empty = np.flatnonzero(np.bincount(sides[0][1], minlength=last)[:last] == 0)
    if empty.size:
        raise ValueError(
            f"task {name!r}: no window of {dataset.name} shows {windows.class_names[empty[0]]!r} "
            f"({empty.size} such classes)"
        )
    return Task(name, windows, windows.class_names, *sides)
