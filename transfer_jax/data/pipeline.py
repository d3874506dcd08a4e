"""How batches reach the train step: one order of examples, two ways to fetch them, one choice.

A task that fits on the device lives there as uint8 (`load_resident`) and the step picks its
examples by index; a larger one is read from disk as it is needed (`stream`, built on Grain).
`choose_mode` decides by size. Both follow the same `BatchOrder`, so the examples of a step are
the same whichever way they come, and training resumes at any step without replaying the ones
before.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Literal

import numpy as np

from transfer_jax.data.batch_order import BatchOrder, padded_batches
from transfer_jax.data.reading import read_batch
from transfer_jax.data.streaming import BatchStream, stream, stream_once

__all__ = [
    "RESIDENT_BUDGET_BYTES",
    "BatchOrder",
    "BatchStream",
    "ResidentData",
    "choose_mode",
    "fits_on_device",
    "load_resident",
    "padded_batches",
    "read_batch",
    "select",
    "stream",
    "stream_once",
]

# The share of a 16 GB accelerator that a small network leaves to its data without noticing.
RESIDENT_BUDGET_BYTES = 2 * 1024**3


@dataclasses.dataclass(frozen=True, eq=False)
class ResidentData:
    """All examples of a task in memory, ready to be put on the device.

    Attributes:
      images: uint8 (n, height, width, channels).
      labels: int32 (n,), task labels in 0..num_classes - 1; row i of both is example i of
        `BatchOrder`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load_resident(dataset, split: str, task) -> ResidentData:
    """Reads every example of a task into memory.

    Args:
      dataset: a `Dataset` (`labels(split)`, `images(split, indices)`).
      split: 'train', 'val', or another of the dataset's splits. The task's limit on images per
        class holds for 'train' only.
      task: a `Task`, which selects and renumbers.

    Returns:
      The task's images and labels in record order.

    Raises:
      ValueError: the task selects nothing from this split, or the images that come back are not
        uint8 of one shape.

    Example:
      >>> data = load_resident(dataset, "train", task)
      >>> order = BatchOrder(len(data), batch_size=64, seed=0)
      >>> batch = data.images[order.indices(step)]
    """
    indices, labels = select(dataset, split, task)
    images = np.asarray(dataset.images(split, indices))
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(indices):
        raise ValueError(
            f"dataset {dataset.name!r} gave images of dtype {images.dtype} and shape "
            f"{images.shape} for split {split!r}; expected uint8 ({len(indices)}, h, w, channels)."
        )
    return ResidentData(images, labels)


def select(dataset, split: str, task) -> tuple[np.ndarray, np.ndarray]:
    """A task's records in one split, in record order, without decoding an image.

    Args:
      dataset: a `Dataset`.
      split: one of its splits. The task's limit on images per class holds for 'train' only.
      task: a `Task`.

    Returns:
      `record_indices`, int64 (n,), and `task_labels`, int32 (n,): what `stream` takes.

    Raises:
      ValueError: the task selects nothing from this split.
    """
    indices, labels = task.select(dataset.labels(split), limit=split == "train")
    if not len(indices):
        raise ValueError(
            f"task {task.name!r} selects no image from split {split!r} of dataset "
            f"{dataset.name!r}; expected at least one."
        )
    return np.asarray(indices, np.int64), np.asarray(labels, np.int32)


def fits_on_device(num_images: int, image_shape: tuple[int, ...], budget_bytes: int) -> bool:
    """Whether that many uint8 images and their int32 labels take at most `budget_bytes`.

    Example:
      >>> fits_on_device(100_000, (32, 32, 3), 2 * 1024**3)
      True
    """
    pixels = functools.reduce(operator.mul, map(int, image_shape), 1)
    return int(num_images) * (pixels + 4) <= budget_bytes


def choose_mode(
    mode: Literal["auto", "resident", "stream"],
    num_images: int,
    image_shape: tuple[int, ...] | None,
    budget_bytes: int = RESIDENT_BUDGET_BYTES,
) -> Literal["resident", "stream"]:
    """How a task's images reach the device.

    Args:
      mode: 'resident' or 'stream' to insist, 'auto' to go by size.
      num_images: images to be held, all splits together.
      image_shape: (height, width, channels), or None where it is not known or not one.
      budget_bytes: device memory that the images may take.

    Returns:
      'resident' or 'stream'.

    Raises:
      ValueError: another mode, or 'resident' for images of no known shape.
    """
    if mode not in ("auto", "resident", "stream"):
        raise ValueError(f"mode is {mode!r}; expected 'auto', 'resident' or 'stream'.")
    if mode == "resident" and image_shape is None:
        raise ValueError(
            "mode is 'resident', but the dataset's image_shape is None; expected images of one "
            "known shape (prepare the dataset at a fixed size)."
        )
    if mode != "auto":
        return mode
    fits = image_shape is not None and fits_on_device(num_images, image_shape, budget_bytes)
    return "resident" if fits else "stream"
