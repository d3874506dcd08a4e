"""Which examples make up which batch, and how batches are read ahead of whoever takes them."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from transfer_jax.world.randomness import mix

Item = TypeVar("Item")
Result = TypeVar("Result")

_GOLDEN = 0x9E3779B97F4A7C15


def permutation(num: int, *key: int) -> np.ndarray:
    """A permutation of 0 .. num - 1 drawn from integers of up to 64 bits alone, int64 (num,).

    The examples are sorted by their words of the SplitMix64 stream (Steele et al. 2014) that the
    key starts. The words of a stream differ from each other, so the order does not depend on the
    sorting algorithm, and the same key gives the same permutation on every machine, under every
    version of NumPy.
    """
    state = len(key)
    for number in key:
        word = (state + _GOLDEN * (int(number) + 1)) % 2**64
        state = int(mix(np.array([word], np.uint64))[0])  # arrays wrap around silently
    counters = np.arange(1, num + 1, dtype=np.uint64)
    return np.argsort(mix(np.uint64(state) + counters * np.uint64(_GOLDEN)))


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """Which of `num` examples make up each training step: shuffled epochs, end to end.

    Epoch e is `permutation(num, seed, e)`; the epochs are concatenated and cut into batches, so
    every example is seen once before any is seen again, every batch is full, and a batch may
    straddle epochs (or hold several, when it is larger than the task). The examples of a step are
    a function of the step alone, so step 10**9 is as near as step 0.
    """

    num: int
    batch_size: int
    seed: int = 0

    @functools.cached_property
    def _epoch(self) -> Callable[[int], np.ndarray]:
        # One is 10 MB for ImageNet; a batch needs two where it straddles epochs.
        return functools.lru_cache(3)(functools.partial(permutation, self.num, self.seed))

    def indices(self, step: int) -> np.ndarray:
        """The examples of one step: int64 (batch_size,), in 0 .. num - 1."""
        return self.slice(step, 0, self.batch_size)

    def slice(self, step: int, start: int, stop: int) -> np.ndarray:
        """`indices(step)[start:stop]`, without the epochs that only the rest needs."""
        begin, end = int(step) * self.batch_size + start, int(step) * self.batch_size + stop
        pieces = [np.zeros(0, np.int64)]
        while begin < end:
            epoch, offset = divmod(begin, self.num)
            pieces.append(self._epoch(epoch)[offset : offset + end - begin])
            begin += len(pieces[-1])
        return np.concatenate(pieces)


def padded_batches(num: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Examples 0 .. num - 1 in order, in batches of one shape, for evaluation.

    Yields `indices`, int64 (batch_size,), and `mask`, bool (batch_size,): False marks padding,
    whose index is 0 and whose result must not be counted.
    """
    for start in range(0, num, batch_size):
        indices = np.arange(start, start + batch_size, dtype=np.int64)
        mask = indices < num
        yield np.where(mask, indices, 0), mask


def stream(
    read: Callable[[Item], Result], items: Iterable[Item], threads: int = 2
) -> Iterator[Result]:
    """`map(read, items)` by threads, in order, with at most `threads` results read ahead.

    `items` may be endless: they are drawn in the thread that takes the results. What `read` raises
    is raised where its result is due. When the taker stops early, reads that have begun are waited
    for and the others are never made.

      orders = (order.indices(step) for step in itertools.count(start))
      for images in stream(lambda examples: dataset.read(rows[examples]), orders, threads=8): ...
    """
    pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(read, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
