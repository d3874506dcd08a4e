"""Runs a plan on the local devices, group by group, into a store."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from transfer_jax.data.augment import channel_mean, mean_image
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.labels import replacing
from transfer_jax.data.pipeline import choose_mode, select
from transfer_jax.data.tasks import Task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.plan import Group, all_cells, build_plan
from transfer_jax.grid.store import Store, random_layers
from transfer_jax.training.feed import TaskData
from transfer_jax.training.progress import Progress
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.trainer import Member, Runtime, train_group

log = logging.getLogger(__name__)

Entry = tuple[str, str, Cell]


@dataclasses.dataclass(frozen=True)
class DataSupply:
    """Gives each cell's task its images.

    Attributes:
      dataset: the dataset of every task of the run.
      runtime: decides between resident and streamed images.
    """

    dataset: Dataset
    runtime: Runtime

    def __call__(self, task: Task, recipe: Recipe) -> TaskData:
        """The images of a task, normalised as the recipe says.

        The mean is that of the whole dataset's training images, not of the task's: a network that
        moves from one task to another must see its pixels on one scale.

        Raises:
          ValueError: when the task belongs to another dataset, or images have several shapes.
        """
        if task.dataset != self.dataset.name:
            raise ValueError(
                f"task {task.name!r} is over dataset {task.dataset!r}, this run's is "
                f"{self.dataset.name!r}"
            )
        if self.dataset.image_shape is None:
            raise ValueError(
                f"the images of {self.dataset.name} have several shapes: set "
                "config.dataset.image_size to the side length that they should be squashed to"
            )
        count = sum(len(select(self.dataset, split, task)[0]) for split in ("train", "val"))
        mode = choose_mode(
            self.runtime.data_mode,
            count,
            self.dataset.image_shape,
            self.runtime.device_data_bytes,
        )
        mean = dataset_mean(self.dataset, recipe.mean)
        return TaskData(self.dataset, task, mean, mode == "resident", self.runtime.workers)


@functools.lru_cache(maxsize=4)
def dataset_mean(dataset: Dataset, kind: str) -> np.ndarray:
    """Mean over a dataset's training images, kept beside its files.

    Args:
      dataset: any dataset whose images have one shape.
      kind: 'channel' for (3,) or 'image' for (h, w, 3).

    Returns:
      float32, in pixel values 0..255.
    """
    size = "x".join(map(str, dataset.image_shape[:2]))
    path = dataset.directory / f"mean_{kind}_{size}.npy"
    if path.exists():
        return np.load(path)
    count = dataset.num_records["train"]
    chunks = (
        dataset.images("train", np.arange(start, min(start + 4096, count)))
        for start in range(0, count, 4096)
    )
    mean = {"channel": channel_mean, "image": mean_image}[kind](chunks)
    with replacing(path) as partial, open(partial, "wb") as file:
        np.save(file, mean)
    return mean


def run_grid(
    entries: Sequence[Entry],
    store: Store,
    supply: Callable[[Task, Recipe], TaskData],
    runtime: Runtime,
    *,
    largest_group: int = 8,
    retry_failed: bool = False,
) -> None:
    """Trains every cell that is not in the store yet, and writes results.csv.

    The store must be locked by the caller. Killed at any moment and started again, it goes on where
    it was and ends with the same accuracies.

    Args:
      entries: (experiment, split, cell) of the study.
      store: where cells are kept.
      supply: gives a task's images.
      runtime: how to log, save and feed.
      largest_group: most cells trained side by side.
      retry_failed: train cells again that failed before.
    """
    cells = all_cells(cell for _, _, cell in entries)
    if retry_failed:
        for cell in cells:
            store.forget_failure(cell)
    store.sweep()
    finished = {cell.hash for cell in cells if store.outcome(cell) is not None}
    plan = build_plan(cells, finished, store.opened_groups(), largest_group)
    images = {cell.hash: cell.recipe.steps * cell.recipe.batch_size for cell in cells}
    progress = Progress.start(sum(images.values()))
    ahead = {cell.hash for group in plan for cell in group.cells}
    progress.skip(sum(size for hash, size in images.items() if hash not in ahead))
    log.info("%d cells, %d finished, %d groups to train", len(cells), len(finished), len(plan))
    store.write_results(entries)
    for group in plan:
        _run_group(group, store, supply, runtime, progress)
        store.write_results(entries)
    progress.close()


def _run_group(group: Group, store: Store, supply, runtime: Runtime, progress: Progress) -> None:
    for base in group.depends_on:
        if store.error(base) is not None:
            for cell in group.cells:
                store.describe(cell)
                store.fail(cell, f"cell {cell.name}: its base {base.name} failed")
            return
    for cell in group.cells:
        store.describe(cell)
    checkpoints = store.open_group(group)
    program, first = group.program, group.cells[0]
    outcomes = train_group(
        program,
        members(group, store),
        supply(first.task, first.recipe),
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
                "%s on %s: top-1 %.2f %% (best %.2f %%), %d steps in %.0f s, %.0f images/s",
                cell.name,
                cell.task.name,
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
