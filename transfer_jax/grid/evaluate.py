"""What finished cells make of validation images, for ensembles and other readouts."""

from __future__ import annotations

import numpy as np

from transfer_jax.grid.cell import Cell
from transfer_jax.grid.store import Store
from transfer_jax.grid.supply import DataSupply
from transfer_jax.training.evaluation import class_probabilities


def validation_probabilities(
    cell: Cell, store: Store, supply: DataSupply, *, step: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities of a trained cell on its task's validation images.

    The view is that of the recipe's evaluations: the centre crop, or probabilities averaged over
    ten crops. Cells of one network are evaluated by one compiled program, whatever their treatment.
    For params that no cell has, see `training.evaluation.class_probabilities`.

    Args:
      cell: a finished cell; one in training will do where a step is given.
      store: where its params are.
      supply: gives its task's images.
      step: None for the params after the last update, or the step of a snapshot.

    Returns:
      probabilities, float32 (N, classes), in the order of the task's validation records, and
      labels, int32 (N,). Cells of one task have the same labels, so an ensemble is the mean of
      their probabilities (Zeiler & Fergus 2013, Table 1).

    Raises:
      FileNotFoundError: when the cell is not finished, or the snapshot was not kept.
      ValueError: when the supply cannot serve the cell.

    Example:
      >>> both = [validation_probabilities(cell, store, supply) for cell in cells]
      >>> labels, ensemble = both[0][1], np.mean([p for p, _ in both], axis=0)
      >>> top1_error = (ensemble.argmax(axis=1) != labels).mean()
    """
    params = store.params(cell) if step is None else store.snapshot_params(cell, step)
    return class_probabilities(cell.network, cell.recipe, params, supply(cell))
