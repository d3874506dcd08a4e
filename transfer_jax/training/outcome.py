"""What goes into training a group and what comes out: its cells, their records, their outcomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from transfer_jax.training import checkpoint, processes
from transfer_jax.training.metrics_log import MetricsLog, best_mean
from transfer_jax.training.plateau import rate_scales
from transfer_jax.training.recipe import learning_rate_schedule
from transfer_jax.training.step import Program, TrainState


@dataclasses.dataclass(frozen=True)
class Member:
    """One cell of a group, as the trainer sees it.

    Attributes:
      name: for messages and bars, such as 'A3B'.
      frozen: number of frozen lower layers.
      params: its full initial params.
      directory: where its metrics and snapshots go.
    """

    name: str
    frozen: int
    params: Any
    directory: Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What training one cell came to; the same in all processes that trained it together.

    Attributes:
      learned: params of the layers that learned, as NumPy arrays.
      top1: share of validation images whose most likely class is right, at the last evaluation;
        None when training failed.
      top1_best_mean: mean over the best evaluations; None when training failed.
      steps: updates made.
      seconds: wall time of the group's training, evaluations included, divided by its cells.
      images_per_second: training images of this cell per second of that share.
      num_eval: number of validation images.
      error: why training failed, or None.
    """

    learned: Any
    top1: float | None
    top1_best_mean: float | None
    steps: int
    seconds: float
    images_per_second: float
    num_eval: int
    error: str | None


class Records:
    """What is written down while a group trains, in its cells' folders: metrics.jsonl, snapshots,
    and TensorBoard events on request. Of several processes only the first writes."""

    def __init__(self, members: Sequence[Member], tensorboard: bool):
        self._members = members if processes.is_first() else ()
        self._logs = [MetricsLog(member.directory / "metrics.jsonl") for member in self._members]
        self._events = _event_writers(self._members) if tensorboard else []

    def keep_until(self, step: int) -> None:
        """Drops what was logged after `step`, as a resumed run writes it again."""
        for log in self._logs:
            log.keep_until(step)

    def append(self, i: int, entry: Mapping) -> None:
        """Logs an entry of the group's cell i, with its "step"."""
        if self._logs:
            self._logs[i].append(entry)
        if self._events:
            for name, value in entry.items():
                if name != "step":
                    self._events[i].add_scalar(name, value, entry["step"])

    def keep_snapshots(self, learned: Sequence[Any], step: int) -> None:
        """Keeps what each cell has learned after `step` updates, for good."""
        for member, params in zip(self._members, learned[: len(self._members)], strict=True):
            checkpoint.save_snapshot(member.directory, step, params)

    def top1s(self) -> list[list[float]]:
        """Top-1 accuracy of each cell at each of its evaluations."""
        return [[entry["top1"] for entry in log.evaluations()] for log in self._logs]

    def close(self) -> None:
        """Ends the TensorBoard files."""
        for writer in self._events:
            writer.close()


def outcomes(
    program: Program,
    members: Sequence[Member],
    final: TrainState,
    records: Records,
    seconds: float,
    num_eval: int,
) -> list[Outcome]:
    """What a group's training came to.

    Args:
      program: the group's program.
      members: its cells.
      final: its last state, without a device axis.
      records: what was written down.
      seconds: wall time of the whole group.
      num_eval: number of validation images.
    """
    # Files, and clocks, are the first process's.
    told = processes.broadcast(
        "outcomes", {"seconds": seconds / len(members), "top1s": records.top1s()}
    )
    final = jax.tree.map(np.asarray, final)
    return [
        _outcome(program, member, top1s, final, i, told["seconds"], num_eval)
        for i, (member, top1s) in enumerate(zip(members, told["top1s"], strict=True))
    ]


def _outcome(program, member, top1s, final: TrainState, i, seconds, num_eval) -> Outcome:
    recipe, bad = program.recipe, int(final.bad_step[i])
    steps = int(final.step)
    speed = steps * recipe.batch_size / seconds if seconds else 0.0
    learned = final.learned[i]
    if bad >= 0:
        rate = float(learning_rate_schedule(recipe)(bad))
        rate *= float(rate_scales(final.plateau, len(program.frozen))[i])
        error = (
            f"cell {member.name}: the loss was not finite at step {bad} (learning rate "
            f"{rate:.4g}) with recipe {recipe}"
        )
        return Outcome(learned, None, None, bad, seconds, speed, num_eval, error)
    best = best_mean(top1s, recipe.best_evals)
    return Outcome(learned, top1s[-1], best, steps, seconds, speed, num_eval, None)


def _event_writers(members: Sequence[Member]) -> list:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "runtime.tensorboard=True needs the package tensorboardX: install "
            "transfer_jax[tensorboard]"
        ) from error
    return [SummaryWriter(str(member.directory / "events")) for member in members]
