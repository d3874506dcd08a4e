"""Batches read from disk through Grain, for tasks that do not fit on the device.

The stream of a `BatchOrder` has no end and its batch s is a function of s alone; threads or
worker processes only decide how soon it is ready. Threads decode the images of one batch side by
side, which serves a few cores: outside the decoder, reading holds Python's lock. Many cores want
workers.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from transfer_jax.data.batch_order import BatchOrder, check_step, padded_batch
from transfer_jax.data.reading import MOST_THREADS, Batch, decoding_threads, read_batch
from transfer_jax.data.records import RecordSource

_ENDLESS = 2**62
_open_at_exit: weakref.WeakSet = weakref.WeakSet()


class BatchStream:
    """An endless iterator over training batches whose position can be saved and set.

    Made by `stream`. Worker processes and threads start at the first `next`; `close` (or leaving
    a `with` block) ends them.
    """

    def __init__(self, read: Callable[[int], Batch], order: BatchOrder, step: int, options: dict):
        self._read, self._order, self._options = read, order, options
        self._step, self._batches = check_step(step), None

    def __iter__(self) -> BatchStream:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = _grain_iterator(self._read, self._step, _ENDLESS, **self._options)
            _close_at_exit(self)
        try:
            batch = next(self._batches)
        except BaseException:
            # Grain counts a batch that failed as delivered; starting afresh keeps the position.
            self.close()
            raise
        self._step += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The position: the step whose batch comes next, and the order it belongs to.

        See `BatchOrder.position`; a consumer that takes batches before it uses them should save
        `order.position(step)` of its own step, since this one is ahead of it.
        """
        return self._order.position(self._step)

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues from a saved position.

        Raises:
          ValueError: the state of a stream over another order, or one that is no position.
        """
        step = self._order.step_at(state)
        if step != self._step:
            self.close()
            self._step = step

    def close(self) -> None:
        """Ends the stream's workers. A later `next` starts them again where it left off."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def __enter__(self) -> BatchStream:
        return self

    def __exit__(self, *error) -> None:
        self.close()


def stream(
    source: RecordSource,
    record_indices: np.ndarray,
    task_labels: np.ndarray,
    order: BatchOrder,
    *,
    start_step: int = 0,
    num_workers: int = 0,
    prefetch: int = 2,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchStream:
    """Training batches read from disk as they are needed, in `order`, without end.

    The batch of step s holds exactly the examples `order.indices(s)`, whatever the workers, the
    prefetching and the step it started from.

    Args:
      source: random access to records; must bear reading from several threads, and pickling
        where there are workers.
      record_indices: int (order.num_records,), the task's records in the source (see `select`).
      task_labels: int (order.num_records,), their labels in the task.
      order: which examples make up which step.
      start_step: the first step to deliver; k gives the stream at 0 without its first k batches.
      num_workers: processes that read and decode; 0 reads in threads of this process. As with
        any spawned process, a script that asks for workers must guard its entry with
        `if __name__ == "__main__":`.
      prefetch: batches kept ready (by each worker, where there are any); 0 reads a batch when it
        is asked for. Without workers, threads read each batch piece by piece, one for each core
        up to 16.
      process_index, process_count: this host's place among the hosts of a distributed run, each
        of which gets its contiguous share of every batch, in order.

    Returns:
      An iterator of `{'image': uint8 (local, h, w, channels), 'label': int32 (local,)}` with
      local = batch_size / process_count, and with `get_state`, `set_state` and `close`.

    Raises:
      ValueError: arguments that do not fit each other, or out of range.

    Example:
      >>> records, labels = select(dataset, "train", task)
      >>> order = BatchOrder(len(records), batch_size=256, seed=0)
      >>> with stream(dataset.record_source("train"), records, labels, order) as batches:
      ...     batch = next(batches)
    """
    record_indices, task_labels = _check_records(record_indices, task_labels)
    if len(record_indices) != order.num_records:
        raise ValueError(
            f"there are {len(record_indices)} records; expected order.num_records, "
            f"{order.num_records}."
        )
    start, stop = _share(order.batch_size, process_index, process_count)
    threaded = not num_workers

    def read(step: int) -> Batch:
        threads = decoding_threads() if threaded else None
        positions = order.slice(step, start, stop)
        return read_batch(source, record_indices, task_labels, positions, threads=threads)

    return BatchStream(read, order, start_step, _check_options(num_workers, prefetch))


def stream_once(
    source: RecordSource,
    record_indices: np.ndarray,
    task_labels: np.ndarray,
    batch_size: int,
    *,
    num_workers: int = 0,
    prefetch: int = 2,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Evaluation batches read from disk: every example once, in record order, in one shape.

    Args:
      source, record_indices, task_labels: as for `stream`.
      batch_size: examples a batch, over all processes; the last batch is padded.
      num_workers, prefetch, process_index, process_count: as for `stream`.

    Yields:
      `{'image', 'label', 'mask'}`: as `stream`, with `mask` bool (local,) False where a row is
      padding (a repeat of the task's first example) and must not be counted.

    Raises:
      ValueError: arguments that do not fit each other, or out of range.
    """
    record_indices, task_labels = _check_records(record_indices, task_labels)
    options = _check_options(num_workers, prefetch)
    start, stop = _share(batch_size, process_index, process_count)
    count = len(record_indices)
    threaded = not num_workers

    def read(number: int) -> Batch:
        threads = decoding_threads() if threaded else None
        positions, mask = padded_batch(number, count, batch_size)
        mine = positions[start:stop]
        batch = read_batch(source, record_indices, task_labels, mine, threads=threads)
        return {**batch, "mask": mask[start:stop]}

    inner = _grain_iterator(read, 0, -(-count // batch_size), **options)

    def batches() -> Iterator[Batch]:
        try:
            yield from inner
        finally:
            inner.close()

    iterator = batches()
    _close_at_exit(iterator)
    return iterator


def _grain_iterator(read: Callable[[int], Batch], start: int, stop: int, *, num_workers, prefetch):
    # Imported on use: it takes a second and warns about its profiler, and resident data needs none.
    import grain

    _settle_grain_flag()
    # One element is one batch, so that slicing the dataset over workers and putting their
    # elements back together keeps the batches and their order.
    dataset = grain.MapDataset.range(start, stop).map(read)
    threads = 0 if num_workers else prefetch
    read_options = grain.ReadOptions(
        num_threads=min(threads, MOST_THREADS), prefetch_buffer_size=threads
    )
    dataset = dataset.to_iter_dataset(read_options)
    if num_workers:
        options = grain.MultiprocessingOptions(
            num_workers=num_workers, per_worker_buffer_size=max(1, prefetch)
        )
        dataset = dataset.mp_prefetch(options).map(_owned)
    return iter(dataset)


def _close_at_exit(batches) -> None:
    # Last registered, first run: workers must end before multiprocessing itself is taken down.
    _open_at_exit.add(batches)
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for batches in list(_open_at_exit):
        batches.close()


def _owned(batch: Batch) -> Batch:
    # Workers deliver in shared memory, which a batch still held at exit would be said to leak.
    return {name: np.array(array) for name, array in batch.items()}


def _settle_grain_flag() -> None:
    # Grain 0.2.18 beside jaxlib >= 0.11 reads this flag before it starts workers, which absl
    # refuses in programs that parse no flags, notebooks and pytest among them
    # (github.com/google/grain/issues/1355). Marked as present, it reads as its default.
    from absl import flags

    name = "grain_enable_multiprocess_worker_profiling"
    if name in flags.FLAGS and not flags.FLAGS.is_parsed():
        flags.FLAGS[name].present = 1


def _share(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index is {process_index} with process_count {process_count}; expected "
            "0 <= process_index < process_count."
        )
    if batch_size % process_count:
        raise ValueError(
            f"batch_size is {batch_size}, which {process_count} processes cannot share equally; "
            f"expected a multiple of {process_count}."
        )
    local = batch_size // process_count
    return process_index * local, (process_index + 1) * local


def _check_records(record_indices: Sequence[int], task_labels: Sequence[int]):
    record_indices, task_labels = np.asarray(record_indices), np.asarray(task_labels)
    if record_indices.ndim != 1 or record_indices.shape != task_labels.shape:
        raise ValueError(
            f"record_indices has shape {record_indices.shape} and task_labels "
            f"{task_labels.shape}; expected one label for each record."
        )
    return record_indices, task_labels


def _check_options(num_workers: int, prefetch: int) -> dict[str, int]:
    for name, value in (("num_workers", num_workers), ("prefetch", prefetch)):
        if value < 0:
            raise ValueError(f"{name} is {value}; expected 0 or more.")
    return {"num_workers": num_workers, "prefetch": prefetch}
