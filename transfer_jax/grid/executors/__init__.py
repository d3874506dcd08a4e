"""Executors: where the groups of a plan are trained. `LocalExecutor` uses the devices of this
process, `RayExecutor` the machines of a Ray cluster; `grid.schedule.carry_out` drives either."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from transfer_jax.grid.executors.local import LocalExecutor
from transfer_jax.grid.executors.on_ray import RayExecutor
from transfer_jax.grid.job import Job
from transfer_jax.grid.plan import Group
from transfer_jax.grid.schedule import Slots
from transfer_jax.training.progress import Progress

__all__ = ["Executor", "LocalExecutor", "RayExecutor"]


class Executor(Protocol):
    """Trains groups somewhere. A value that can be compared and pickled; what it opens it closes.

    Futures of its slots hold the outcomes that `Job.train` returns, or what it raised.
    """

    def session(self) -> AbstractContextManager[None]:
        """Connects to where groups will be trained, and looks whether they can be. Sessions may be
        nested."""

    def slots(
        self, job: Job, whole: Sequence[Group], progress: Progress
    ) -> AbstractContextManager[Slots]:
        """Slots for the groups of a job, inside a session. What is still in training when they are
        left is stopped, and goes on from its checkpoint in another run.

        Args:
          job: what the groups have in common.
          whole: the plan of the whole study, finished groups included, so that what is decided by
            it stays when a run is resumed.
          progress: bars to move.
        """
