"""Runs a study's cells, group by group, into a store."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from transfer_jax.grid.cell import Cell
from transfer_jax.grid.executors import Executor, LocalExecutor
from transfer_jax.grid.imported_base import keep_imported
from transfer_jax.grid.job import Job
from transfer_jax.grid.plan import Group, all_cells, build_plan
from transfer_jax.grid.schedule import carry_out
from transfer_jax.grid.store import Store
from transfer_jax.grid.supply import DataSupply, dataset_mean
from transfer_jax.training import processes
from transfer_jax.training.outcome import Outcome
from transfer_jax.training.progress import Progress
from transfer_jax.training.runtime import Runtime

__all__ = ["DataSupply", "Entry", "GroupsFailedError", "dataset_mean", "labels", "run_grid"]

log = logging.getLogger(__name__)

Entry = tuple[str, str, Cell]


class GroupsFailedError(RuntimeError):
    """Some groups could not be trained, for reasons that are not the cells' own."""


def run_grid(
    entries: Sequence[Entry],
    store: Store,
    supply: DataSupply,
    runtime: Runtime,
    *,
    executor: Executor | None = None,
    largest_group: int = 8,
    retry_failed: bool = False,
    snapshots: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Trains every cell that is not in the store yet, and writes results.csv.

    The store must be locked by the caller. Killed at any moment and started again, it goes on where
    it was and ends with the same accuracies. Processes that train together all call this with the
    same arguments, see `training.processes`; the first keeps the store.

    Args:
      entries: (experiment, split, cell) of the study.
      store: where cells are kept.
      supply: gives each cell's task its images.
      runtime: how to log, save and feed.
      executor: where groups are trained; by default on the devices of this process.
      largest_group: most cells with frozen layers trained side by side.
      retry_failed: train cells again that failed before.
      snapshots: hash of a cell -> updates after which its weights are kept, beside those of the
        runtime, which hold for every cell.

    Raises:
      ValueError: before anything is trained, when the supply cannot serve a cell.
      GroupsFailedError: after all others were trained, when some groups ended with an exception
        where several are trained at a time. Where one is, its exception is raised at once.
    """
    executor = executor or LocalExecutor()
    cells = all_cells(cell for _, _, cell in entries)
    if processes.is_first():
        _tidy(cells, store, supply, retry_failed)
    processes.barrier("the store is tidy")
    finished = {cell.hash for cell in cells if store.outcome(cell) is not None}
    limits = {"largest_group": largest_group, "largest_trained": runtime.largest_trained}
    plan = build_plan(cells, finished, store.opened_groups(), **limits)
    whole = build_plan(cells, **limits)
    processes.barrier("the plan is made")
    for group in plan:
        for cell in group.cells:
            supply.check(cell)
    trained = [cell for cell in cells if cell.imported is None]
    images = {cell.hash: cell.recipe.steps * cell.recipe.batch_size for cell in trained}
    progress = Progress.start(sum(images.values()))
    ahead = {cell.hash for group in plan for cell in group.cells}
    progress.skip(sum(size for hash, size in images.items() if hash not in ahead))
    log.info("%d cells, %d finished, %d groups to train", len(cells), len(finished), len(plan))
    job = Job(store.workdir.absolute(), supply, runtime, dict(snapshots or {}))
    _write_results(store, entries)
    names, failures = labels(entries), {}
    with contextlib.ExitStack() as stack:
        stack.callback(progress.close)
        if plan:
            stack.enter_context(executor.session())
            slots = stack.enter_context(executor.slots(job, whole, progress))
            submit = _submitter(slots.submit, store)
            for group, future in carry_out(plan, dataclasses.replace(slots, submit=submit)):
                if error := future.exception():
                    failures[group] = error
                    log.error("%s: %s: %s", _name(group, names), type(error).__name__, error)
                else:
                    _tell(_trainable(group, store), future.result(), names)
                _write_results(store, entries)
    if failures:
        raise GroupsFailedError(_failure_text(plan, failures, store, names)) from next(
            iter(failures.values())
        )
    if processes.is_first():
        store.sweep()
        for cell in trained:
            _report_missing_snapshots(cell, store, job.runtime_of([cell]))


def labels(entries: Sequence[Entry]) -> dict[str, str]:
    """What to call each cell, by its hash: its experiment and split, which tell apart cells whose
    treatments are alike."""
    return {cell.hash: f"{experiment} {split}" for experiment, split, cell in reversed(entries)}


def _tidy(cells: Sequence[Cell], store: Store, supply: DataSupply, retry_failed: bool) -> None:
    if retry_failed:
        for cell in cells:
            store.forget_failure(cell)
    store.sweep()
    with processes.alone():
        keep_imported(cells, store, supply)


def _write_results(store: Store, entries: Sequence[Entry]) -> None:
    if processes.is_first():
        store.write_results(entries)


def _submitter(submit, store: Store):
    """`submit`, for what is left of a group without the cells whose base failed, which fail too."""

    def submit_rest(group: Group) -> Future:
        rest = _trainable(group, store)
        if processes.is_first():
            for cell in group.cells:
                if cell not in rest:
                    store.describe(cell)
                    store.fail(cell, f"cell {cell.name}: its base {cell.source.name} failed")
        if rest:
            return submit(Group(rest))
        future: Future = Future()
        future.set_result([])
        return future

    return submit_rest


def _trainable(group: Group, store: Store) -> tuple[Cell, ...]:
    return tuple(c for c in group.cells if c.source is None or store.error(c.source) is None)


def _tell(cells: Sequence[Cell], outcomes: Sequence[Outcome], names: Mapping[str, str]) -> None:
    # There are no outcomes where another worker had finished the group.
    for cell, outcome in zip(cells, outcomes, strict=False):
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


def _name(group: Group, names: Mapping[str, str]) -> str:
    cells = group.cells
    label = cells[0].name if len(cells) == 1 else f"{cells[0].name}..{cells[-1].name}"
    return f"{label} ({names.get(cells[0].hash, f'task {cells[0].task.name}')})"


def _failure_text(plan, failures: Mapping, store: Store, names: Mapping[str, str]) -> str:
    open_cells = [c for group in plan for c in group.cells if store.outcome(c) is None]
    lost = sum(len(group.cells) for group in failures)
    reasons = "; ".join(
        f"{_name(group, names)}: {type(error).__name__}: {error}"
        for group, error in list(failures.items())[:3]
    )
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    return (
        f"{lost} cells could not be trained and {len(open_cells) - lost} wait for them: "
        f"{reasons}{more}. The same command tries them again"
    )


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
