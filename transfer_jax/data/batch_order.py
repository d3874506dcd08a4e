"""Which examples make up which batch: shuffled epochs for training, one pass for evaluation."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterator, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """Which examples make up each training step: shuffled epochs, end to end.

    Epoch e is a permutation drawn from (seed, e) alone; the epochs are concatenated and cut into
    batches, so every example is seen once before any is seen again, every batch is full, and a
    batch may straddle epochs (or hold several, when it is larger than the task).

    Attributes:
      num_records: number of examples in the task.
      batch_size: examples a step, over all devices and processes.
      seed: a non-negative integer.

    Raises:
      ValueError: a count below 1 or a negative seed.

    Example:
      >>> order = BatchOrder(num_records=1000, batch_size=64, seed=0)
      >>> order.indices(step=123456)  # as fast as step 0
    """

    num_records: int
    batch_size: int
    seed: int

    def __post_init__(self):
        for name, least in (("num_records", 1), ("batch_size", 1), ("seed", 0)):
            value = operator.index(getattr(self, name))
            if value < least:
                raise ValueError(f"BatchOrder.{name} is {value}; expected at least {least}.")

    def indices(self, step: int) -> np.ndarray:
        """The examples of one step: int64 (batch_size,), positions in 0..num_records - 1.

        A pure function of the step and the order's fields. (NumPy promises equal permutations
        from equal seeds within a version, not across versions.)

        Raises:
          ValueError: a negative step.
        """
        return self.slice(step, 0, self.batch_size)

    def slice(self, step: int, start: int, stop: int) -> np.ndarray:
        """`indices(step)[start:stop]`, without the permutations that only the rest needs."""
        step = check_step(step)
        begin, end = step * self.batch_size + start, step * self.batch_size + stop
        pieces = []
        while begin < end:
            epoch, offset = divmod(begin, self.num_records)
            permutation = _permutation(self.num_records, self.seed, epoch)
            pieces.append(permutation[offset : offset + end - begin])
            begin += len(pieces[-1])
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def epoch(self, step: int) -> float:
        """Epochs completed before `step`, as a fraction: for schedules and progress lines."""
        return step * self.batch_size / self.num_records

    def position(self, step: int) -> dict[str, int]:
        """The place before `step`, for a checkpoint: plain integers, fit for JSON or Orbax.

        It is the place of the whole run: how many workers read, how many processes share each
        batch, and what any of them has read ahead is no part of it, so all of these may differ
        where training goes on.

        Raises:
          ValueError: a negative step.
        """
        fields = {name: int(value) for name, value in dataclasses.asdict(self).items()}
        return {"step": check_step(step), **fields}

    def step_at(self, position: Mapping[str, int]) -> int:
        """The step of a saved `position`.

        Raises:
          ValueError: the position is one of another order, lacks a field, or has a negative step.

        Example:
          >>> order = BatchOrder(1000, batch_size=64, seed=0)
          >>> order.step_at(order.position(17))
          17
        """
        fields = dataclasses.asdict(self)
        missing = [name for name in ("step", *fields) if name not in position]
        if missing:
            raise ValueError(
                f"the saved position {dict(position)} lacks {', '.join(missing)}; expected what "
                "BatchOrder.position returns."
            )
        theirs = {name: int(position[name]) for name in fields}
        if theirs != fields:
            raise ValueError(
                f"the saved position belongs to {BatchOrder(**theirs)}; this stream follows {self}."
            )
        return check_step(int(position["step"]))


def check_step(step: int) -> int:
    """The step as an int; ValueError where it is negative."""
    step = operator.index(step)
    if step < 0:
        raise ValueError(f"step is {step}; expected 0 or more.")
    return step


# Few are kept: one is 10 MB for ImageNet, and a batch needs two where it straddles epochs.
@functools.lru_cache(maxsize=4)
def _permutation(num_records: int, seed: int, epoch: int) -> np.ndarray:
    # spawn_key rather than a longer seed: the words of [seed, epoch] could collide.
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
    permutation = np.random.Generator(np.random.Philox(sequence)).permutation(num_records)
    permutation.setflags(write=False)
    return permutation


def padded_batches(n: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions 0..n - 1 in order, in batches of one shape, for evaluation.

    Args:
      n: number of examples; 0 gives no batch.
      batch_size: examples a batch.

    Yields:
      `indices`, int64 (batch_size,), and `mask`, bool (batch_size,): False marks padding, whose
      index is 0 and whose result must not be counted.

    Raises:
      ValueError: a negative n or a batch size below 1.

    Example:
      >>> correct = sum(int((hit(images[i]) & mask).sum()) for i, mask in padded_batches(n, 256))
    """
    if n < 0:
        raise ValueError(f"n is {n}; expected 0 or more examples.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1.")
    return (padded_batch(number, n, batch_size) for number in range(-(-n // batch_size)))


def padded_batch(number: int, n: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Batch `number` of `padded_batches(n, batch_size)`."""
    indices = np.arange(number * batch_size, (number + 1) * batch_size, dtype=np.int64)
    mask = indices < n
    return np.where(mask, indices, 0), mask
