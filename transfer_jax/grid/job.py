"""Job: all that is needed to train any group of a run, in any thread, process or machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from transfer_jax.grid.cell import Cell
from transfer_jax.grid.plan import Group
from transfer_jax.grid.store import Store, random_layers
from transfer_jax.grid.supply import DataSupply
from transfer_jax.training import processes
from transfer_jax.training.outcome import Member, Outcome
from transfer_jax.training.progress import Progress
from transfer_jax.training.runtime import Runtime
from transfer_jax.training.trainer import train_group


@dataclasses.dataclass(frozen=True)
class Job:
    """What the groups of a run have in common; it can be pickled.

    Attributes:
      workdir: where cells are kept, absolute: another machine must find it there.
      supply: gives each cell's task its images, which are opened where they are trained on.
      runtime: how to log, save and feed.
      snapshots: hash of a cell -> updates after which its weights are kept, beside those of the
        runtime.
    """

    workdir: Path
    supply: DataSupply
    runtime: Runtime
    snapshots: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)

    def runtime_of(self, cells: Sequence[Cell]) -> Runtime:
        """The runtime, with the snapshots of these cells."""
        steps = {step for cell in cells for step in self.snapshots.get(cell.hash, ())}
        merged = tuple(sorted(steps.union(self.runtime.snapshot_steps)))
        return dataclasses.replace(self.runtime, snapshot_steps=merged)

    def train(self, group: Group, progress: Progress) -> list[Outcome]:
        """Trains a group into the store, from its last checkpoint where there is one.

        The cells that it depends on must be in the store. Of processes that train together all call
        this, and the first writes.

        Returns:
          an outcome for each cell, without the weights, which lie in the store.

        Raises:
          whatever `train_group` raises, or reading the images.
        """
        store, writes = Store(self.workdir), processes.is_first()
        first = group.cells[0]
        data = self.supply(first)
        if writes:
            for cell in group.cells:
                store.describe(cell)
                np.save(store.cell_dir(cell) / "mean.npy", data.mean)
            store.open_group(group)
        outcomes = train_group(
            group.program,
            members(group, store),
            data,
            stream_seed=first.stream_seed,
            checkpoint_dir=store.checkpoint_dir(group),
            runtime=self.runtime_of(group.cells),
            progress=progress,
        )
        if writes:
            store.close_group(group, outcomes)
        processes.barrier(f"group {group.hash}")
        return [dataclasses.replace(outcome, learned=None) for outcome in outcomes]


def members(group: Group, store: Store) -> list[Member]:
    """The group's cells with their initial params: fresh draws, spliced with their bases."""
    bases = {base.hash: store.params(base) for base in group.depends_on}
    found = []
    for cell, frozen in zip(group.cells, group.program.frozen, strict=True):
        key = jax.random.key(cell.init_seed)
        if cell.source is not None:
            base_params = bases[cell.source.hash]
        elif cell.treatment.n:
            base_params = random_layers(cell)
        else:
            base_params = None
        params = cell.treatment.initial_params(cell.network, key, base_params)
        found.append(Member(cell.name, frozen, params, Path(store.cell_dir(cell))))
    return found
