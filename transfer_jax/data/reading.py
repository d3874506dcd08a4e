"""The examples of one batch, read from records: one after the other, or by threads side by side."""

from __future__ import annotations

import concurrent.futures
import functools
import os

import numpy as np

from transfer_jax.data.records import RecordSource, image_at

Batch = dict[str, np.ndarray]

MOST_THREADS = 16
"""More would only wait for each other: what is not decoding holds Python's lock."""

_PIECE = 8


def read_batch(
    source: RecordSource,
    record_indices: np.ndarray,
    task_labels: np.ndarray,
    positions: np.ndarray,
    *,
    threads: concurrent.futures.Executor | None = None,
) -> Batch:
    """Reads the examples at some positions of a task.

    Args:
      source: random access to records; where it has a method `read_image(index)`, that is used, and
        `source[index]["image"]` where it has none.
      record_indices: int (n,), the task's records in the source.
      task_labels: int (n,), their labels in the task (the record's own label is not used).
      positions: int (b,), in 0..n - 1: a step of `BatchOrder`, for instance.
      threads: read pieces of the batch side by side; None reads one record after the other.

    Returns:
      `{'image': uint8 (b, h, w, channels), 'label': int32 (b,)}`.

    Raises:
      ValueError: no positions, or an image that is not uint8 (h, w, channels) or not of the
        first one's shape. An error raised by the source passes through, with a note that names
        the record.
    """
    if not len(positions):
        raise ValueError("positions is empty; expected at least one example to read.")
    records = record_indices[positions].tolist()
    first = _read_image(source, records[0], None)
    images = np.empty((len(records), *first.shape), np.uint8)
    images[0] = first

    def fill(start: int) -> None:
        for row, record in enumerate(records[start : start + _PIECE], start):
            images[row] = _read_image(source, record, first.shape)

    starts = range(1, len(records), _PIECE)
    for _ in map(fill, starts) if threads is None else threads.map(fill, starts):
        pass
    return {"image": images, "label": np.asarray(task_labels[positions], np.int32)}


def _read_image(source: RecordSource, record: int, shape: tuple[int, ...] | None) -> np.ndarray:
    try:
        image = np.asarray(image_at(source, record))
    except Exception as error:
        error.add_note(f"while reading record {record} for a batch")
        raise
    if image.dtype != np.uint8 or image.ndim != 3 or (shape and image.shape != shape):
        raise ValueError(
            f"record {record} holds an image of dtype {image.dtype} and shape {image.shape}; "
            f"expected uint8 {shape or '(h, w, channels)'}, the same for the whole batch."
        )
    return image


@functools.cache
def decoding_threads() -> concurrent.futures.ThreadPoolExecutor:
    """The threads that all streams of this process share: one for each core it may use."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return concurrent.futures.ThreadPoolExecutor(min(cores, MOST_THREADS), "decoding")
