"""Runs a study's cells, group by group, into a store: here, or as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from transfer_jax.grid import on_ray
from transfer_jax.grid.cell import Cell, Entry, Group, all_cells, group_hash, groups
from transfer_jax.grid.frozen_once import frozen_once
from transfer_jax.grid.store import Store
from transfer_jax.training import loop, parallel
from transfer_jax.training.loop import Runtime

log = logging.getLogger(__name__)


class GroupsFailedError(RuntimeError):
    """Some groups could not be trained, for reasons that are not the cells' own."""


def run_grid(
    entries: Sequence[Entry],
    store: Store,
    runtime: Runtime,
    *,
    ray: on_ray.Ray | None = None,
    retry_failed: bool = False,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Trains every cell that is not in the store yet, which the caller has locked.

    Killed at any moment and started again, it goes on where it was and ends with the same weights.
    Processes that train together all call this. The nodes of a cluster train the groups with `ray`,
    otherwise this process does, one after the other, each on all devices. `after_each` is called in
    the first process when a group has ended. Where tasks of Ray end with an exception, the others
    are trained before GroupsFailedError; here an exception is raised at once.
    """
    cells = all_cells(cell for _, cell in entries)
    names = {cell.hash: str(cell.treatment) for cell in cells}
    names |= {cell.hash: _label(tags, cell) for tags, cell in reversed(entries)}
    if parallel.is_first():
        store.mend(cells)
        for cell in cells:
            if retry_failed:
                store.forget_failure(cell)
        store.sweep()
    parallel.barrier("the store is tidy")
    for cell in cells:
        if cell.imported and store.outcome(cell) is None:
            keep_imported(store, cell, runtime)
    parallel.barrier("files are in the store")
    finished = [cell.hash for cell in cells if store.outcome(cell) is not None]
    plan = groups(cells, finished, store.opened_groups())
    parallel.barrier("the plan is made")
    log.info("%d cells, %d finished, %d groups to train", len(cells), len(finished), len(plan))
    failures: dict[Group, BaseException] = {}
    images = sum(cell.recipe.steps * cell.recipe.batch_size for group in plan for cell in group)
    with tqdm(total=images, unit="image", unit_scale=True, smoothing=0.1, leave=False,
              disable=None if parallel.is_first() else True) as bar:  # fmt: skip

        def ended(group: Group, error: BaseException | None) -> None:
            if error is not None:
                failures[group] = error
                log.error("%s: %s: %s", names[group[0].hash], type(error).__name__, error)
            elif parallel.is_first():
                for cell in group:
                    _tell(names[cell.hash], store.outcome(cell))
                after_each()

        if ray is not None:
            on_ray.train_groups(ray, train_group, store.workdir, plan, runtime, ended, bar)
        else:
            for group in plan:
                train_group(store.workdir, group, runtime, bar)
                ended(group, None)
    if failures:
        reasons = "; ".join(f"{names[g[0].hash]}: {e}" for g, e in list(failures.items())[:3])
        raise GroupsFailedError(
            f"{len(failures)} groups could not be trained, and what waits for them: {reasons}. The "
            "same command tries them again"
        ) from next(iter(failures.values()))
    if parallel.is_first():
        shutil.rmtree(store.workdir / "locks", ignore_errors=True)


def train_group(workdir: Path, group: Group, runtime: Runtime, bar: tqdm | None = None) -> None:
    """Trains a group into the store, from its last checkpoint where there is one.

    The cell that it copies from must be in the store; where that has failed its own fail too. Of
    processes that train together all call this, and the first writes.
    """
    store, writes = Store(workdir), parallel.is_first()
    first, position = group[0], [0]
    if first.source and "error" in (store.outcome(first.source) or {}):
        for cell in group if writes else ():
            error = f"cell {cell.treatment}: its base {first.source.treatment} failed"
            store.finish(cell, {}, {"error": error, "steps": 0})
        return

    def told(step: int, loss: float) -> None:
        if bar is not None:
            bar.set_description(f"{first.treatment} loss {loss:.3f}", refresh=False)
            bar.update((step - position[0]) * first.recipe.batch_size * len(group))
            position[0] = step

    # Of processes that train together the first holds the lock for all.
    with store.group_lock(group) if writes else contextlib.nullcontext():
        # A worker that was given up for dead may have got through.
        if all(store.outcome(cell) is not None for cell in group):
            return
        if writes:
            store.open_group(group)
        source = store.params(first.source) if first.source else None
        params, task = [cell.init_params(source) for cell in group], first.task
        if first.recipe.frozen_once and first.frozen:
            task = frozen_once(store.workdir / "features", first, params[0])
        results = loop.train_group(
            first.network,
            first.recipe,
            [cell.treatment for cell in group],
            params,
            task,
            first.mean(),
            stream_seed=first.stream_seed,
            folder=store.group_folder(group) / "checkpoints",
            cell_folders=[store.folder(cell) for cell in group],
            snapshots=[cell.snapshots for cell in group],
            runtime=runtime,
            told=told,
        )
        if writes:
            for cell, (full, row) in zip(group, results, strict=True):
                store.finish(cell, full, row)
            store.close_group(group)
    parallel.barrier(f"group {group_hash(group)}")


def keep_imported(store: Store, cell: Cell, runtime: Runtime) -> None:
    """Puts a base that comes from a file into the store; its accuracy is measured where its task
    has validation images. All processes measure, the first writes."""
    params, row = cell.imported.params(cell.network, cell.recipe.pixel_scale), {}
    if len(cell.task.val[0]):
        row = loop.evaluate(cell.network, cell.recipe, params, cell.task, cell.mean(), runtime)
    if parallel.is_first():
        store.finish(cell, params, {**row, "steps": 0, "file": Path(cell.imported.path).name})


def _label(tags: dict, cell: Cell) -> str:
    told = " ".join(
        str(tags[name]) for name in ("experiment", "split", "condition") if tags.get(name)
    )
    return f"{cell.treatment} ({told})"


def _tell(name: str, outcome: dict | None) -> None:
    if outcome and "error" in outcome:
        log.error("%s: %s", name, outcome["error"])
    elif outcome:
        scored = f"top-1 {outcome['top1']:.2%}, " if "top1" in outcome else ""
        log.info("%s: %s%d steps in %.0f s, %.0f images/s", name, scored, outcome["steps"],
                 outcome["seconds"], outcome["images_per_second"])  # fmt: skip


def with_snapshots(cell: Cell, steps: Sequence[int]) -> Cell:
    """The cell, with snapshots after these updates."""
    return dataclasses.replace(cell, snapshots=tuple(sorted({*cell.snapshots, *map(int, steps)})))
