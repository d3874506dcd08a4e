"""Squares of one colour a class on noise, with their boxes and proposals around them."""

import dataclasses

import numpy as np

from tests import small
from transfer_jax.data.dataset import Dataset
from transfer_jax.detection.network import detector
from transfer_jax.detection.objective import Detection, detection_task

SIZE = 16
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220]])


def dataset(images=12, val=6):
    """Images with one to three squares, some of which are difficult."""
    rng, pictures, boxes = np.random.default_rng(0), [], []
    for _ in range(images + val):
        picture = rng.integers(60, 160, (SIZE, SIZE, 3))
        labels = rng.permutation(3)[: rng.integers(1, 4)]
        corners = rng.integers(0, SIZE - 8, (len(labels), 2))
        sides = rng.integers(5, 9, len(labels))
        for label, (y, x), side in zip(labels, corners, sides, strict=True):
            picture[y : y + side, x : x + side] = COLOURS[label] + rng.integers(-20, 20, 3)
        of = np.concatenate([corners, corners + sides[:, None]], axis=1) / SIZE
        boxes.append((labels, of, rng.random(len(labels)) < 0.2))
        pictures.append(picture.astype(np.uint8))
    splits = {"train": np.arange(images), "val": np.arange(images, images + val)}
    shown = np.zeros((images + val, 3), np.int8)
    for row, (labels, _, _) in zip(shown, boxes, strict=True):
        row[labels] = 1
    return Dataset.from_arrays(np.stack(pictures), shown, list("rgb"), boxes=boxes, splits=splits)


def around(data):
    """Proposals (N, 40, 4): half of them the objects' boxes shaken, some are none."""
    rng = np.random.default_rng(0)
    found = np.sort(rng.random((len(data.labels), 40, 2, 2)), axis=2).reshape(-1, 40, 4)
    for row, boxes in enumerate(found):
        _, objects, _ = data.boxes[row]
        near = objects[np.arange(20) % len(objects)] + rng.normal(0, 0.05, (20, 4))
        boxes[:20] = np.clip(near, 0, 1)
    found[..., 2:] = np.maximum(found[..., 2:], found[..., :2] + 0.02).clip(0, 1)
    found[:, 35:] = 0
    return found.astype(np.float32)


def task():
    data = dataset()
    return dataclasses.replace(detection_task("A", data, around(data)), objective=Detection(16))


def network():
    return detector(small.network(), 3, SIZE)
