"""A task's images on their way to the steps: resident on the devices, or streamed through Grain."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.pipeline import (
    BatchOrder,
    load_resident,
    padded_batches,
    select,
    stream,
    stream_once,
)
from transfer_jax.data.tasks import Task
from transfer_jax.training import devices, processes
from transfer_jax.training.step import Source


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The images and labels that the cells of one task train and are evaluated on.

    Attributes:
      dataset: where they are read.
      task: which of them, and their labels.
      mean: (3,) or (h, w, 3) float32, subtracted from every image.
      resident: True keeps both splits on the devices as uint8; False streams them.
      workers: processes that decode streamed images; 0 decodes in this one.
    """

    dataset: Dataset
    task: Task
    mean: np.ndarray
    resident: bool
    workers: int = 0

    def num_records(self, split: str) -> int:
        """Number of the task's images in a split."""
        return len(select(self.dataset, split, self.task)[0])


def training_batches(
    data: TaskData, order: BatchOrder, start: int, stop: int, chunk: int
) -> Iterator[tuple[Source, np.ndarray]]:
    """What the training step takes, from step `start` up to `stop`, `chunk` steps at a time.

    The images of step s are those that `order.indices(s)` names, on both ways to the device, so the
    place in the data is the step's number, see `BatchOrder.position`. Of several processes each
    reads its own part of every batch. Streamed batches are on their way to the devices while the
    step before runs.

    Yields:
      (source, indices): source with a leading device axis; indices (devices, local batch) int32,
      or (devices, chunk, local batch) where chunk is more than 1.
    """
    if data.resident:
        source = _resident_source(_Split.of(data, "train"))
        part = devices.own_part(order.batch_size)
        for step in range(start, stop, chunk):
            steps = range(step, min(step + chunk, stop))
            indices = np.stack([order.slice(s, *part) for s in steps]).astype(np.int32)
            yield source, devices.split_batch(indices if chunk > 1 else indices[0], axis=-1)
        return
    records, labels = select(data.dataset, "train", data.task)
    reader = data.dataset.record_source("train")
    with stream(
        *(reader, records, labels, order),
        start_step=start,
        num_workers=data.workers,
        process_index=processes.index(),
        process_count=processes.count(),
    ) as batches:
        to_devices = _transfer(data.mean)
        yield from _one_ahead(to_devices(next(batches)) for _ in range(start, stop))


def evaluation_batches(
    data: TaskData, batch_size: int
) -> Iterator[tuple[Source, np.ndarray, np.ndarray]]:
    """What the evaluation step takes: every validation image of the task once, the last batch
    padded, and of several processes each its own part.

    Yields:
      (source, indices, mask) with a leading device axis; mask is 1 for images that count.
    """
    if data.resident:
        source = _resident_source(_Split.of(data, "val"))
        part = slice(*devices.own_part(batch_size))
        for indices, mask in padded_batches(data.num_records("val"), batch_size):
            yield (
                source,
                devices.split_batch(indices[part].astype(np.int32)),
                devices.split_batch(mask[part].astype(np.float32)),
            )
        return
    records, labels = select(data.dataset, "val", data.task)
    reader = data.dataset.record_source("val")
    batches = stream_once(
        *(reader, records, labels, batch_size),
        num_workers=data.workers,
        process_index=processes.index(),
        process_count=processes.count(),
    )
    to_devices = _transfer(data.mean)
    with contextlib.closing(batches):
        yield from _one_ahead(
            (*to_devices(batch), devices.split_batch(batch["mask"].astype(np.float32)))
            for batch in batches
        )


def _transfer(mean: np.ndarray) -> Callable[[dict], tuple[Source, jax.Array]]:
    """A function that puts a batch of images on the devices; what all batches share is there."""
    means = devices.replicate(mean)
    places: dict[tuple, Any] = {}

    def to_devices(batch: dict) -> tuple[Source, jax.Array]:
        images, labels = devices.split_batch(batch["image"]), devices.split_batch(batch["label"])
        if labels.shape not in places:
            row = np.arange(labels.shape[1], dtype=np.int32)
            places[labels.shape] = devices.put(np.broadcast_to(row, labels.shape))
        images, labels = devices.put((images, labels))
        return Source(images, labels, means), places[labels.shape]

    return to_devices


def _one_ahead(items: Iterator) -> Iterator:
    """The same items; each is made, in a thread of its own, while the one before is in use."""
    context = contextvars.copy_context()  # Which devices are in use, among others.
    # Its own thread has left the items before they are closed.
    with contextlib.closing(items), ThreadPoolExecutor(1, "feed") as thread:
        following = thread.submit(context.run, next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(context.run, next, items, None)
            yield item


@dataclasses.dataclass(frozen=True)
class _Split:
    """A split of a task's images, known by what is in it."""

    dataset: str
    task: Task
    split: str
    mean: bytes
    data: TaskData = dataclasses.field(compare=False, repr=False)

    @classmethod
    def of(cls, data: TaskData, split: str) -> _Split:
        return cls(data.dataset.name, data.task, split, data.mean.tobytes(), data)


@dataclasses.dataclass(frozen=True, eq=False)
class _Copy:
    """A split on some devices: what a weak reference can point at."""

    source: Source


_COPIES: weakref.WeakValueDictionary[_Split, _Copy] = weakref.WeakValueDictionary()
_LOADING = threading.Lock()


def _resident_source(split: _Split) -> Source:
    return _copy(split).source


# The cells of one task follow each other, so few are kept.
@devices.cached(maxsize=4)
def _copy(split: _Split) -> _Copy:
    """The split on the devices in use: from other devices that hold it, or from the dataset."""
    with _LOADING:
        if other := _COPIES.get(split):
            source = devices.unreplicate(other.source)
        else:
            loaded = load_resident(split.data.dataset, split.split, split.data.task)
            source = Source(loaded.images, loaded.labels, split.data.mean)
        _COPIES[split] = copy = _Copy(devices.replicate(source))
        return copy
