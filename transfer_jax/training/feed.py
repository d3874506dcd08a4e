"""A task's images on their way to the steps: resident on the devices, or streamed from the disk."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from transfer_jax.data.batches import BatchOrder, padded_batches, stream
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.tasks import Task
from transfer_jax.training import parallel
from transfer_jax.training.step import Source


def is_resident(task: Task, limit: int) -> bool:
    """Whether a task's images, training and validation, fit into `limit` bytes."""
    count = len(task.train[0]) + len(task.val[0])
    return count * task.dataset.read(task.train[0][:1]).nbytes <= limit


def train_batches(
    task: Task, mean: Any, order: BatchOrder, start: int, stop: int, chunk: int, resident: bool
) -> Iterator[tuple[Source, np.ndarray]]:
    """What the update takes, from step `start` up to `stop`, `chunk` steps at a time.

    The images of step s are those of `order.indices(s)`, so the place in the data is the step's
    number. Of several processes each reads its own part of every batch.

    Yields:
      (source, indices) with a leading axis of devices; indices (devices, local batch), or
      (devices, chunk, local batch) where chunk is more than 1, which streamed batches do not take.
    """
    part = parallel.own_part(order.batch_size)
    steps = range(start, stop)
    batches = (order.slice(step, *part) for step in steps)
    if chunk > 1:
        calls = (steps[i : i + chunk] for i in range(0, len(steps), chunk))
        batches = (np.stack([order.slice(step, *part) for step in call]) for call in calls)
    return _fed(task, "train", mean, batches, resident)


def val_batches(
    task: Task, mean: Any, batch_size: int, resident: bool
) -> Iterator[tuple[Source, np.ndarray]]:
    """Every validation image once, in order, the last batch filled up with the first image."""
    part = slice(*parallel.own_part(batch_size))
    batches = (indices[part] for indices, _ in padded_batches(len(task.val[0]), batch_size))
    return _fed(task, "val", mean, batches, resident)


def _fed(
    task: Task, split: str, mean: Any, batches: Iterable[np.ndarray], resident: bool
) -> Iterator[tuple[Source, np.ndarray]]:
    """Each batch of places in a split, with the images that they are places in."""
    if resident:
        source = Source(*_on_devices(task.dataset, task, split), mean)
        for indices in batches:
            yield source, parallel.split_batch(indices.astype(np.int32), axis=-1)
        return
    rows, labels = task.select(split)

    def read(indices: np.ndarray) -> tuple[np.ndarray, Any]:
        return task.dataset.read(rows[indices]), jax.tree.map(lambda leaf: leaf[indices], labels)

    for batch in stream(read, batches, threads=os.cpu_count()):
        images, targets = jax.tree.map(parallel.split_batch, batch)
        places = np.arange(images.shape[1], dtype=np.int32)
        source = Source(*parallel.put((images, targets)), mean)
        yield source, np.broadcast_to(places, images.shape[:2])


# The cells of one task follow each other, so few are kept.
@functools.lru_cache(maxsize=4)
def _on_devices(dataset: Dataset, task: Task, split: str) -> tuple[Any, Any]:
    # Tasks are equal by the name of their dataset, which in a notebook may be given twice.
    rows, labels = task.select(split)
    return parallel.replicate((dataset.read(rows), labels))
