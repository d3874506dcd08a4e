"""Cells over four classes, and small grids of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests import small
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.tasks import Task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.run import DataSupply, Entry, run_grid
from transfer_jax.grid.store import Store
from transfer_jax.networks import Network, alexnet_mini
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.trainer import Runtime
from transfer_jax.transfer import Treatment

MINI = alexnet_mini(2, widths=small.WIDTHS, input_size=small.IMAGE_SIZE)
RUNTIME = Runtime(checkpoint_every=4, log_every=3)
CLASS_MAPS = {"A": (0, 1, -1, -1), "B": (-1, -1, 0, 1)}


def cell(
    name: str,
    *,
    recipe: Recipe = small.RECIPE,
    seed: int = 0,
    source_recipe: Recipe | None = None,
    network: Network = MINI,
    dataset: str = "pictures",
) -> Cell:
    """The cell of a treatment, with the base that it needs."""
    treatment = Treatment.parse(name)
    source = None
    if treatment.base:
        options = {"seed": seed, "network": network, "dataset": dataset}
        source = cell(str(treatment.base), recipe=source_recipe or recipe, **options)
    task = Task(treatment.target, dataset, CLASS_MAPS[treatment.target])
    return Cell(network, task, treatment, recipe, seed, source)


@dataclasses.dataclass(frozen=True)
class Grids:
    """Makes and runs grids of the small network on a dataset of four classes.

    `other` is a second dataset of four classes, of as many images of the same size.
    """

    dataset: Dataset
    other: Dataset

    def supply(self, runtime: Runtime = RUNTIME) -> DataSupply:
        return DataSupply([self.dataset, self.other], runtime)

    def cell(self, name: str, **options) -> Cell:
        return cell(name, network=small.network(), dataset=self.dataset.name, **options)

    def moved(self, name: str, **options) -> Cell:
        """A cell of task T, the first two classes of the other dataset; 'A2T' copies from A."""
        treatment = Treatment.parse(name, ("A", "T"))
        task = Task("T", self.other.name, CLASS_MAPS["A"])
        source = self.cell(str(treatment.base)) if treatment.base == Treatment("A") else None
        fields = {"network": small.network(), "recipe": small.RECIPE, "seed": 0, **options}
        return Cell(task=task, treatment=treatment, source=source, **fields)

    def entries(self, items) -> list[Entry]:
        cells = [item if isinstance(item, Cell) else self.cell(item) for item in items]
        return [("random_halves", "0", item) for item in cells]

    def run(self, workdir: Path, items, runtime: Runtime = RUNTIME, **options) -> Store:
        """Trains cells, given as they are or by name, and returns their store."""
        store = Store(workdir)
        with store.lock():
            run_grid(self.entries(items), store, self.supply(runtime), runtime, **options)
        return store
