"""A task's images on their way to the steps: resident on the devices, or streamed through Grain."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

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
from transfer_jax.training import devices
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
    place in the data is the step's number and nothing else has to be remembered.

    Yields:
      (source, indices): source with a leading device axis; indices (devices, local batch) int32,
      or (devices, chunk, local batch) where chunk is more than 1.
    """
    if data.resident:
        source = _resident_source(data, "train")
        for step in range(start, stop, chunk):
            steps = range(step, min(step + chunk, stop))
            indices = np.stack([order.indices(s) for s in steps]).astype(np.int32)
            yield source, devices.split_batch(indices if chunk > 1 else indices[0], axis=-1)
        return
    records, labels = select(data.dataset, "train", data.task)
    reader = data.dataset.record_source("train")
    with stream(
        reader, records, labels, order, start_step=start, num_workers=data.workers
    ) as batches:
        for _ in range(start, stop):
            yield _batch_source(next(batches), data.mean)


def evaluation_batches(
    data: TaskData, batch_size: int
) -> Iterator[tuple[Source, np.ndarray, np.ndarray]]:
    """What the evaluation step takes: every validation image of the task once, the last batch
    padded.

    Yields:
      (source, indices, mask) with a leading device axis; mask is 1 for images that count.
    """
    if data.resident:
        source = _resident_source(data, "val")
        for indices, mask in padded_batches(data.num_records("val"), batch_size):
            yield (
                source,
                devices.split_batch(indices.astype(np.int32)),
                devices.split_batch(mask.astype(np.float32)),
            )
        return
    records, labels = select(data.dataset, "val", data.task)
    reader = data.dataset.record_source("val")
    for batch in stream_once(reader, records, labels, batch_size, num_workers=data.workers):
        mask = devices.split_batch(batch["mask"].astype(np.float32))
        yield *_batch_source(batch, data.mean), mask


def _batch_source(batch: dict, mean: np.ndarray) -> tuple[Source, np.ndarray]:
    images, labels = devices.split_batch(batch["image"]), devices.split_batch(batch["label"])
    means = np.broadcast_to(mean, (devices.num_devices(), *mean.shape))
    places = np.arange(images.shape[1], dtype=np.int32)
    return Source(images, labels, means), np.broadcast_to(places, images.shape[:2])


_RESIDENT: dict[tuple, Source] = {}


def _resident_source(data: TaskData, split: str) -> Source:
    """The split on the devices. The last few are kept: the cells of one task follow each other."""
    key = (data.dataset.name, data.task, split, data.mean.tobytes())
    if key not in _RESIDENT:
        while len(_RESIDENT) >= 4:
            del _RESIDENT[next(iter(_RESIDENT))]
        loaded = load_resident(data.dataset, split, data.task)
        source = Source(loaded.images, loaded.labels, data.mean)
        _RESIDENT[key] = devices.replicate(source)
    return _RESIDENT[key]
