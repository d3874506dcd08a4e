"""The embedded world as the arrays of a dataset, training rows first, class by class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from transfer_jax.world.classes import CLASSES, class_names, class_paths
from transfer_jax.world.rendering import render_images, render_scenes
from transfer_jax.world.scenes import ABSENT

_NAMES = {"class_names": class_names(), "class_paths": class_paths()}
_DIFFICULT = 1 / 12  # share of the picture below which the box of an object counts as small


def world_arrays(
    size: int = 32, train_per_class: int = 500, val_per_class: int = 100, seed: int = 0
) -> dict:
    """Pictures of one object each: images (N, size, size, 3) uint8, labels (N,) int32, boxes (N, 4)
    float32 as (ymin, xmin, ymax, xmax) in 0..1, splits {'train': rows, 'val': rows}, class_names
    and class_paths.
    """

    def draw(class_ids, indices, split):
        images, boxes = render_images(class_ids, indices, split=split, seed=seed, size=size)
        return images, class_ids.astype(np.int32), boxes

    images, labels, boxes, splits = both_splits(draw, train_per_class, val_per_class)
    return {"images": images, "labels": labels, "boxes": boxes, "splits": splits, **_NAMES}


def scene_arrays(
    size: int = 32,
    train_per_class: int = 25,
    val_per_class: int = 12,
    max_objects: int = 3,
    seed: int = 0,
) -> dict:
    """Pictures of 1 to `max_objects` objects; `*_per_class` counts those whose first is of a class.

    As `world_arrays`, but labels (N, classes) int8: 1 shows, 0 does not, -1 shows as a small or
    mostly covered object; and boxes, a list with (labels (k,) int32, boxes (k, 4) float32,
    difficult (k,) bool) of every picture. What is covered altogether has neither, as an annotator
    could not have marked it.
    """

    def draw(class_ids, indices, split):
        return render_scenes(
            class_ids, indices, split=split, seed=seed, size=size, max_objects=max_objects
        )

    images, found, boxes, splits = both_splits(draw, train_per_class, val_per_class)
    sides = boxes[..., 2:] - boxes[..., :2]
    seen = (found != ABSENT) & (sides[..., 0] > 0)
    difficult = sides[..., 0] * sides[..., 1] < _DIFFICULT
    labels = np.zeros((len(images), len(CLASSES)), np.int8)
    labels[np.nonzero(seen)[0], found[seen]] = np.where(difficult[seen], -1, 1)
    objects = [
        (found[i, shown].astype(np.int32), boxes[i, shown], difficult[i, shown])
        for i, shown in enumerate(seen)
    ]
    return {"images": images, "labels": labels, "boxes": objects, "splits": splits, **_NAMES}


def both_splits(
    draw: Callable, train_per_class: int, val_per_class: int, num_classes: int = len(CLASSES)
):
    """What `draw(class_ids, indices, split)` returns, joined, and the rows of each split."""
    parts = []
    for split, per_class in (("train", train_per_class), ("val", val_per_class)):
        class_ids, indices = np.indices((num_classes, per_class)).reshape(2, -1)
        parts.append(draw(class_ids, indices, split))
    train, val = np.split(np.arange(sum(len(part[0]) for part in parts)), [len(parts[0][0])])
    joined = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return *joined, {"train": train, "val": val}
