"""When each group of a plan runs: the loop that carries a plan out, and its forecast."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from transfer_jax.grid.plan import Group


def _one(group: Group) -> int:
    return 1


@dataclasses.dataclass(frozen=True)
class Slots:
    """Where groups are trained.

    Attributes:
      capacity: number of slots.
      submit: starts the training of a group; the future ends with it.
      width: how many slots a group takes, at most `capacity`.
    """

    capacity: int
    submit: Callable[[Group], Future]
    width: Callable[[Group], int] = _one


def carry_out(plan: Sequence[Group], slots: Slots) -> Iterator[tuple[Group, Future]]:
    """Trains a plan: each group once the cells that it depends on are trained and slots are free.

    Of the groups that could start, the first of the plan does; none overtakes a wider one.

    Args:
      plan: from `build_plan`. Cells that none of its groups trains count as trained.
      slots: where.

    Yields:
      (group, future) as each group ends. One whose future holds an exception leaves its cells
      untrained: what depends on them is not started, and never yielded.
    """
    waiting = list(plan)
    running: dict[Future, Group] = {}
    untrained = {cell.hash for group in plan for cell in group.cells}
    while True:
        free = slots.capacity - sum(map(slots.width, running.values()))
        for group in [g for g in waiting if not {b.hash for b in g.depends_on} & untrained]:
            if slots.width(group) > free:
                break
            free -= slots.width(group)
            waiting.remove(group)
            running[slots.submit(group)] = group
        if not running:
            return
        wait(running, return_when=FIRST_COMPLETED)
        for future in [future for future in running if future.done()]:
            group = running.pop(future)
            if future.exception() is None:
                untrained -= {cell.hash for cell in group.cells}
            yield group, future


@dataclasses.dataclass(frozen=True)
class Turn:
    """One group's place in a schedule.

    Attributes:
      group: what is trained.
      workers: by which workers, some of 0 .. capacity - 1.
      start, end: seconds from the beginning.
    """

    group: Group
    workers: tuple[int, ...]
    start: float
    end: float


def schedule(
    plan: Sequence[Group],
    seconds: Sequence[float],
    capacity: int,
    width: Callable[[Group], int] = _one,
) -> list[Turn]:
    """The schedule that `carry_out` arrives at where each group takes the time that was foreseen.

    Args:
      plan: from `build_plan`: bases before what copies them. Cells that none of its groups trains
        count as trained.
      seconds: of each group, on as many workers as it takes.
      capacity: number of workers.
      width: how many workers a group takes, at most `capacity`.

    Returns:
      a turn for each group, in the order in which they start.

    Raises:
      ValueError: no worker, numbers that do not match, or groups that wait for each other.

    Example:
      >>> turns = schedule(plan, [60.0] * len(plan), 8)
      >>> max(turn.end for turn in turns) / 60  # minutes
    """
    if capacity < 1:
        raise ValueError(f"workers={capacity}: expected at least 1")
    if len(seconds) != len(plan):
        raise ValueError(f"{len(seconds)} times were given for {len(plan)} groups")
    planned = {cell.hash for group in plan for cell in group.cells}
    waits_for = [{base.hash for base in group.depends_on} & planned for group in plan]
    waiting, idle = list(range(len(plan))), list(range(capacity))
    running: list[tuple[float, int, tuple[int, ...]]] = []
    trained: set[str] = set()
    turns: list[Turn] = []
    now = 0.0
    while waiting or running:
        for place in [p for p in waiting if waits_for[p] <= trained]:
            if width(plan[place]) > len(idle):
                break
            workers = tuple(heapq.heappop(idle) for _ in range(width(plan[place])))
            waiting.remove(place)
            end = now + seconds[place]
            heapq.heappush(running, (end, place, workers))
            turns.append(Turn(plan[place], workers, now, end))
        if not running:
            raise ValueError(f"{len(waiting)} groups of the plan wait for each other")
        now, place, workers = heapq.heappop(running)
        for worker in workers:
            heapq.heappush(idle, worker)
        trained |= {cell.hash for cell in plan[place].cells}
    return turns
