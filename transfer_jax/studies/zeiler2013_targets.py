"""The tasks of Zeiler & Fergus 2013: the source classes, and the small targets (section 5.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.folds import Fold, FoldedDataset, classes_without, fold_dataset
from transfer_jax.data.splits import random_halves
from transfer_jax.data.tasks import Task, subset_task, whole_task
from transfer_jax.studies.settings import Opener, asked_targets


@dataclasses.dataclass(frozen=True)
class Target:
    """A small classification task that the source network's features are tried on.

    Attributes:
      name: as in the config.
      pool: the dataset that folds are drawn from.
      classes: its classes that take part.
      settings: the target's fields of the config.
    """

    name: str
    pool: Dataset
    classes: tuple[int, ...]
    settings: ConfigDict

    def fold(self, seed: int, train_per_class: int) -> FoldedDataset:
        """One draw of training and test images; the test images do not depend on how many train."""
        largest = max((*self.settings.train_per_class, *self.settings.curve))
        fold = Fold(
            seed=seed,
            train_per_class=train_per_class,
            test_per_class=self.settings.test_per_class,
            classes=self.classes,
            reserve=largest,
        )
        return fold_dataset(self.pool, fold)

    def records(self) -> list[tuple[str, np.ndarray]]:
        """(split, positions) of all images that folds are drawn from."""
        found = []
        for split in Fold(0, 1).splits:
            labels = self.pool.labels(split)
            found.append((split, np.flatnonzero(np.isin(labels, self.classes))))
        return found


def all_source_images(config: ConfigDict, dataset: Dataset) -> Task:
    """The task of the source networks, no image left out: half A of the classes, or all."""
    if config.source_classes == "all":
        return whole_task("A", dataset)
    if config.source_classes == "half":
        half, _ = random_halves(len(dataset.class_names), config.seed)
        return subset_task("A", dataset, half)
    raise ValueError(f"config.source_classes={config.source_classes!r}: expected 'half' or 'all'")


def targets(config: ConfigDict, open_dataset: Opener) -> Iterator[Target]:
    """The targets of Tables 3, 4 and 6 that the config asks for."""
    for name, settings in asked_targets(config):
        if settings.classes == "others":
            pool = open_dataset(config.dataset)
            _, classes = random_halves(len(pool.class_names), config.seed)
            if config.source_classes != "half":
                raise ValueError(
                    f"config.targets.{name}.classes='others': expected "
                    "config.source_classes='half', so that there are others"
                )
        elif settings.classes == "all":
            pool = open_dataset(settings.dataset)
            classes = classes_without(pool.class_names, *settings.without)
        else:
            raise ValueError(
                f"config.targets.{name}.classes={settings.classes!r}: expected 'others' (the "
                "source's other half) or 'all'"
            )
        yield Target(name, pool, tuple(int(c) for c in classes), settings)
