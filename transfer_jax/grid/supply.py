"""Which images each cell of a run sees, and what is subtracted from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.means import dataset_mean
from transfer_jax.data.pipeline import choose_mode, select
from transfer_jax.grid.cell import Cell
from transfer_jax.training.feed import TaskData
from transfer_jax.training.runtime import Runtime


@dataclasses.dataclass(frozen=True)
class DataSupply:
    """Gives each cell's task its images.

    Attributes:
      datasets: those that the tasks of a run are over; a task names its own.
      runtime: decides between resident and streamed images.

    Raises:
      ValueError: when two datasets have one name.
    """

    datasets: Sequence[Dataset]
    runtime: Runtime

    def __post_init__(self):
        object.__setattr__(self, "datasets", tuple(self.datasets))
        names = [dataset.name for dataset in self.datasets]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two datasets of one run are named {min(twice)!r}")

    def __call__(self, cell: Cell) -> TaskData:
        """The images of a cell's task, normalised as its recipe says.

        The mean is that of all training images of a dataset, not of a task's, and a cell that
        copies layers takes that of the dataset its base was trained on, or that of the file that
        its base comes from: a network that moves must see its pixels on one scale.

        Raises:
          ValueError: as `check` does.
        """
        self.check(cell)
        dataset = self.dataset(cell)
        resident = self.is_resident(cell)
        return TaskData(dataset, cell.task, self._mean(cell), resident, self.runtime.workers)

    def check(self, cell: Cell) -> None:
        """Looks whether the cell can be served; reads no image.

        Raises:
          ValueError: when the task, or that of the base, is over none of the datasets, when images
            have several shapes, or when a mean image does not fit the images it is taken from.
        """
        base, dataset = cell.source or cell, self.dataset(cell)
        # Nothing is read of the dataset that a file's network was trained on.
        origin = dataset if base.imported is not None else self.dataset(base)
        for each in (dataset, origin):
            if each.image_shape is None:
                raise ValueError(
                    f"the images of {each.name} have several shapes: set "
                    "config.dataset.image_size to the side length that they should be squashed to"
                )
        if cell.recipe.mean == "image" and tuple(dataset.image_shape) != tuple(origin.image_shape):
            raise ValueError(
                f"cell {cell.name}: recipe.mean='image' is the mean image of {origin.name}, of "
                f"shape {origin.image_shape}, but the images of {dataset.name} have shape "
                f"{dataset.image_shape}: open both with one image_size, or set "
                "recipe.mean='channel'"
            )
        if base.imported is not None:
            base.imported.mean_for(cell.recipe.mean, dataset.image_shape)

    def _mean(self, cell: Cell) -> np.ndarray:
        base = cell.source or cell
        if base.imported is None:
            return dataset_mean(self.dataset(base), cell.recipe.mean)
        return base.imported.mean_for(cell.recipe.mean, self.dataset(cell).image_shape)

    def is_resident(self, cell: Cell) -> bool:
        """Whether the images of a cell's task are kept on the devices; reads none of them."""
        dataset = self.dataset(cell)
        count = sum(len(select(dataset, split, cell.task)[0]) for split in ("train", "val"))
        mode = choose_mode(
            self.runtime.data_mode, count, dataset.image_shape, self.runtime.device_data_bytes
        )
        return mode == "resident"

    def dataset(self, cell: Cell) -> Dataset:
        """The dataset of a cell's task; ValueError where it is none of the run's."""
        for dataset in self.datasets:
            if dataset.name == cell.task.dataset:
                return dataset
        names = ", ".join(repr(dataset.name) for dataset in self.datasets) or "none"
        raise ValueError(
            f"task {cell.task.name!r} is over dataset {cell.task.dataset!r}; those of this run are "
            f"{names}"
        )
