"""Timing of contenders against each other: interleaved, so that all of them meet the same machine.

A machine that other programs use, or that heats up, is not equally fast from one minute to the
next. Contenders therefore take turns in every round, and are compared by their fastest rounds
(what the code can do) and by their median rounds (what it did).
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

STATISTICS = ("minimum", "median")


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a step of one contender, one number for each round."""

    seconds: tuple[float, ...]

    def __post_init__(self):
        if not self.seconds or min(self.seconds) <= 0:
            raise ValueError(f"timing {self.seconds}: expected at least one positive duration")

    @property
    def minimum(self) -> float:
        """Of the fastest round."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.seconds)


def interleave(
    contenders: Mapping[str, Callable[[int], None]], *, repeats: int, steps: int
) -> dict[str, Timing]:
    """Times contenders by turns.

    Every contender first runs one step unmeasured. In each round all of them run, in an order that
    turns around from round to round, so that none has the same neighbour before it every time.

    Args:
      contenders: name -> run(steps), which returns when the work of that many steps is done.
      repeats: number of rounds.
      steps: steps a contender makes in one round.

    Returns:
      name -> its seconds a step, round by round.

    Raises:
      ValueError: when repeats or steps is not positive.
    """
    if repeats < 1 or steps < 1:
        raise ValueError(f"repeats={repeats}, steps={steps}: expected both at least 1")
    for run in contenders.values():
        run(1)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in tqdm(range(repeats), desc="rounds", leave=False, disable=None):
        for name in order:
            started = time.perf_counter()
            contenders[name](steps)
            seconds[name].append((time.perf_counter() - started) / steps)
        order.reverse()
    return {name: Timing(tuple(rounds)) for name, rounds in seconds.items()}
