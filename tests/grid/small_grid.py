"""A small grid over pictures in memory."""

import dataclasses

from tests.training import small
from transfer_jax.data.tasks import Task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.run import run_grid
from transfer_jax.grid.store import Store
from transfer_jax.networks import alexnet_mini
from transfer_jax.training.trainer import Runtime
from transfer_jax.transfer import Treatment

NET = alexnet_mini(2, widths=small.WIDTHS, dropout=0.3)
TASKS = {
    "A": Task("A", "pictures", (0, 1, -1, -1)),
    "B": Task("B", "pictures", (-1, -1, 0, 1)),
}
RUNTIME = Runtime(checkpoint_every=4, log_every=3)


def cell(name, recipe=small.RECIPE, seed=0, source_recipe=None):
    treatment = Treatment.parse(name)
    base = treatment.base
    source = cell(str(base), source_recipe or recipe, seed) if base else None
    return Cell(NET, TASKS[treatment.target], treatment, recipe, seed, source)


def supply(task, recipe):
    return dataclasses.replace(small.DATA, task=task)


def run(workdir, names, **options):
    """Trains the named cells; returns (store, entries)."""
    entries = [
        ("random_halves", "0", item if isinstance(item, Cell) else cell(item)) for item in names
    ]
    store = Store(workdir)
    with store.lock():
        run_grid(entries, store, supply, RUNTIME, **options)
    return store, entries
