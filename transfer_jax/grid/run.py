"""Runs a plan on the local devices, group by group, into a store."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from transfer_jax.grid.cell import Cell
from transfer_jax.grid.plan import Group, all_cells, build_plan
from transfer_jax.grid.store import Store, random_layers
from transfer_jax.grid.supply import DataSupply, dataset_mean
from transfer_jax.training.progress import Progress
from transfer_jax.training.trainer import Member, Runtime, train_group

__all__ = ["DataSupply", "Entry", "dataset_mean", "members", "run_grid"]

log = logging.getLogger(__name__)

Entry = tuple[str, str, Cell]


def run_grid(
    entries: Sequence[Entry],
    store: Store,
    supply: DataSupply,
    runtime: Runtime,
    *,
    largest_group: int = 8,
    retry_failed: bool = False,
    snapshots: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Trains every cell that is not in the store yet, and writes results.csv.

    The store must be locked by the caller. Killed at any moment and started again, it goes on where
    it was and ends with the same accuracies.

    Args:
      entries: (experiment, split, cell) of the study.
      store: where cells are kept.
      supply: gives each cell's task its images.
      runtime: how to log, save and feed.
      largest_group: most cells trained side by side.
      retry_failed: train cells again that failed before.
      snapshots: hash of a cell -> updates after which its weights are kept, beside those of the
        runtime, which hold for every cell.

    Raises:
      ValueError: before anything is trained, when the supply cannot serve a cell.
    """
    cells = all_cells(cell for _, _, cell in entries)
    if retry_failed:
        for cell in cells:
            store.forget_failure(cell)
    store.sweep()
    finished = {cell.hash for cell in cells if store.outcome(cell) is not None}
    plan = build_plan(cells, finished, store.opened_groups(), largest_group)
    for group in plan:
        for cell in group.cells:
            supply.check(cell)
    images = {cell.hash: cell.recipe.steps * cell.recipe.batch_size for cell in cells}
    progress = Progress.start(sum(images.values()))
    ahead = {cell.hash for group in plan for cell in group.cells}
    progress.skip(sum(size for hash, size in images.items() if hash not in ahead))
    log.info("%d cells, %d finished, %d groups to train", len(cells), len(finished), len(plan))
    store.write_results(entries)
    names = labels(entries)
    for group in plan:
        of_group = _with_snapshots(runtime, group.cells, snapshots or {})
        _run_group(group, store, supply, of_group, progress, names)
        store.write_results(entries)
    progress.close()
    for cell in cells:
        _report_missing_snapshots(cell, store, _with_snapshots(runtime, [cell], snapshots or {}))


def labels(entries: Sequence[Entry]) -> dict[str, str]:
    """What to call each cell, by its hash: its experiment and split, which tell apart cells whose
    treatments are alike."""
    return {cell.hash: f"{experiment} {split}" for experiment, split, cell in reversed(entries)}


def _with_snapshots(runtime: Runtime, cells: Sequence[Cell], snapshots: Mapping) -> Runtime:
    steps = {step for cell in cells for step in snapshots.get(cell.hash, ())}
    merged = tuple(sorted(steps.union(runtime.snapshot_steps)))
    return dataclasses.replace(runtime, snapshot_steps=merged)


def _report_missing_snapshots(cell: Cell, store: Store, runtime: Runtime) -> None:
    wanted = {step for step in runtime.snapshot_steps if step <= cell.recipe.steps}
    missing = sorted(wanted - set(store.snapshots(cell)))
    if missing and store.error(cell) is None:
        log.warning(
            "%s on %s has no snapshots of steps %s: its training had passed them before they were "
            "asked for. A new workdir trains it again",
            cell.name,
            cell.task.name,
            missing,
        )


def _run_group(
    group: Group,
    store: Store,
    supply,
    runtime: Runtime,
    progress: Progress,
    names: Mapping[str, str],
) -> None:
    for base in group.depends_on:
        if store.error(base) is not None:
            for cell in group.cells:
                store.describe(cell)
                store.fail(cell, f"cell {cell.name}: its base {base.name} failed")
            return
    program, first = group.program, group.cells[0]
    data = supply(first)
    for cell in group.cells:
        store.describe(cell)
        np.save(store.cell_dir(cell) / "mean.npy", data.mean)
    checkpoints = store.open_group(group)
    outcomes = train_group(
        program,
        members(group, store),
        data,
        stream_seed=first.stream_seed,
        checkpoint_dir=checkpoints,
        runtime=runtime,
        progress=progress,
    )
    store.close_group(group, outcomes)
    for cell, outcome in zip(group.cells, outcomes, strict=True):
        if outcome.error:
            log.error("%s", outcome.error)
        else:
            log.info(
                "%s (%s): top-1 %.2f %% (best %.2f %%), %d steps in %.0f s, %.0f images/s",
                cell.name,
                names.get(cell.hash, f"task {cell.task.name}"),
                100 * outcome.top1,
                100 * outcome.top1_best_mean,
                outcome.steps,
                outcome.seconds,
                outcome.images_per_second,
            )


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
