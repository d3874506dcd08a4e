"""Which images each cell of a run sees, and what is subtracted from them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from transfer_jax.data.augment import channel_mean, mean_image
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.labels import replacing
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
        copies layers takes that of the dataset its base was trained on: a network that moves must
        see its pixels on one scale.

        Raises:
          ValueError: as `check` does.
        """
        self.check(cell)
        dataset = self._dataset(cell)
        count = sum(len(select(dataset, split, cell.task)[0]) for split in ("train", "val"))
        mode = choose_mode(
            self.runtime.data_mode, count, dataset.image_shape, self.runtime.device_data_bytes
        )
        mean = dataset_mean(self._dataset(cell.source or cell), cell.recipe.mean)
        return TaskData(dataset, cell.task, mean, mode == "resident", self.runtime.workers)

    def check(self, cell: Cell) -> None:
        """Looks whether the cell can be served; reads no image.

        Raises:
          ValueError: when the task, or that of the base, is over none of the datasets, when images
            have several shapes, or when a mean image does not fit the images it is taken from.
        """
        dataset, origin = self._dataset(cell), self._dataset(cell.source or cell)
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

    def _dataset(self, cell: Cell) -> Dataset:
        for dataset in self.datasets:
            if dataset.name == cell.task.dataset:
                return dataset
        names = ", ".join(repr(dataset.name) for dataset in self.datasets) or "none"
        raise ValueError(
            f"task {cell.task.name!r} is over dataset {cell.task.dataset!r}; those of this run are "
            f"{names}"
        )


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
    # A view of a dataset may name a folder that nothing was written to yet.
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, open(partial, "wb") as file:
        np.save(file, mean)
    return mean
