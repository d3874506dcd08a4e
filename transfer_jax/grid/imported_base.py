"""Bases whose weights come from a file: cells that are kept, and never trained."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from transfer_jax.data.tasks import Task
from transfer_jax.grid.cell import SHOWN_BY, Cell
from transfer_jax.grid.evaluate import validation_probabilities
from transfer_jax.grid.imported import Imported
from transfer_jax.grid.store import Store, write_json
from transfer_jax.grid.supply import DataSupply
from transfer_jax.networks import Network
from transfer_jax.training import checkpoint
from transfer_jax.training.recipe import Recipe
from transfer_jax.transfer import Treatment

log = logging.getLogger(__name__)


def imported_base(
    imported: Imported,
    network: Network,
    recipe: Recipe,
    *,
    task: Task | None = None,
    letter: str = "A",
    seed: int = 0,
) -> Cell:
    """The base that a file holds, as a cell that others copy from.

    Args:
      imported: the file.
      network: that it holds.
      recipe: of the cells that copy from it: the base is shown images as they are, by its
        augmentation, mean, pixel_scale, ten_crop and dtype. The rest does not matter.
      task: what the network tells apart, where a dataset of the run has its classes, so that its
        accuracy can be measured; None where none has.
      letter: what the treatment calls the task.
      seed: of the cells that copy from it; does not matter to the base.

    Raises:
      ValueError: when the task has another number of classes than the file.

    Example:
      >>> base = imported_base(read_imported(path, network), network, recipe)
      >>> Cell(network_b, task_b, Treatment.parse("A3B"), recipe, seed=0, source=base)
    """
    if task is None:
        task = Task(letter, f"file:{imported.digest[:16]}", tuple(range(network.num_classes)))
    if task.num_classes != network.num_classes:
        raise ValueError(
            f"{imported.file_name} tells {network.num_classes} classes apart and the classes that "
            f"it is said to be of, those of task {task.name} over {task.dataset}, are "
            f"{task.num_classes}: set config.imported.same_classes=False"
        )
    shown = Recipe(**{name: getattr(recipe, name) for name in SHOWN_BY})
    return Cell(network, task, Treatment(letter), shown, seed, imported=imported)


def keep_imported(cells: Iterable[Cell], store: Store, supply: DataSupply) -> None:
    """Puts the imported bases among some cells into the store, as finished.

    The top-1 accuracy of those whose task is over a dataset of the run is measured on its
    validation images; the others have none. What is there already stays.

    Raises:
      OSError, ValueError: a file is gone, has changed, or does not fit.
    """
    served = {dataset.name for dataset in supply.datasets}
    for cell in cells:
        if cell.imported is None:
            continue
        measured = cell.task.dataset in served
        done = store.outcome(cell) or {}
        if "error" in done or "top1" not in done:
            _keep(cell, store, supply)
        if measured and done.get("top1") is None:
            probabilities, labels = validation_probabilities(cell, store, supply)
            top1 = float((probabilities.argmax(axis=1) == labels).mean())
            store.describe(cell, imported=cell.imported.file_name, num_eval=len(labels))
            _finish(cell, store, top1)
            log.info("%s (%s): top-1 %.2f %%", cell.name, cell.imported.file_name, 100 * top1)


def _keep(cell: Cell, store: Store, supply: DataSupply) -> None:
    folder, imported = store.cell_dir(cell), cell.imported
    params = imported.params(cell.network, cell.recipe.pixel_scale)
    store.forget_failure(cell)
    store.describe(cell, imported=imported.file_name)
    np.save(folder / "mean.npy", imported.mean_for(cell.recipe.mean, None))
    checkpoint.save_params(folder / "params", params)
    np.save(folder / "conv1.npy", params[cell.network.layer_names[0]]["kernel"])
    _finish(cell, store, None)


def _finish(cell: Cell, store: Store, top1: float | None) -> None:
    figures = {
        "top1": top1,
        "top1_best_mean": None,
        "imported from": cell.imported.file_name,
        "digest": cell.imported.digest,
    }
    write_json(store.cell_dir(cell) / "done.json", figures)
