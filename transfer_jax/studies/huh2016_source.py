"""The pretraining dataset of Huh et al. 2016, and which of its classes are kept for targets."""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.hierarchy import Hierarchy, dataset_hierarchy
from transfer_jax.data.splits import man_made_natural
from transfer_jax.data.subsets import random_classes
from transfer_jax.data.tasks import Task, subset_task
from transfer_jax.studies.settings import Opener


@dataclasses.dataclass(frozen=True)
class Source:
    """The pretraining dataset, and which of its classes are kept for targets.

    Attributes:
      dataset: what all pretraining tasks are over.
      hierarchy: in which its class names are nodes.
      pretraining: classes that pretraining may see.
      held_out: the others.
      natural, man_made: the same classes in two kinds; empty where that is not known.
      published: whether the hierarchy is that of the paper's label sets for ILSVRC2012.
    """

    dataset: Dataset
    hierarchy: Hierarchy
    pretraining: tuple[int, ...]
    held_out: tuple[int, ...]
    natural: frozenset[int]
    man_made: frozenset[int]
    published: bool = False


def source_of(config: ConfigDict, open_dataset: Opener) -> Source:
    """Opens the pretraining dataset and sets the held-out classes aside.

    Raises:
      ValueError: no hierarchy is known, or more classes are held out than there are.
    """
    dataset = open_dataset(config.dataset)
    hierarchy = dataset_hierarchy(dataset, config.hierarchy_csv or None)
    every = range(len(dataset.class_names))
    held_out = random_classes(len(every), config.held_out, config.seed) if config.held_out else []
    pretraining = tuple(sorted(set(every) - set(held_out)))
    if len(pretraining) < 2:
        raise ValueError(f"config.held_out={config.held_out} leaves {len(pretraining)} classes")
    man_made, natural = [], []
    if config.experiments.unrelated:
        csv_path = config.superclass_csv or None
        man_made, natural = man_made_natural(dataset.class_names, dataset.class_paths, csv_path)
    return Source(
        dataset=dataset,
        hierarchy=hierarchy,
        pretraining=pretraining,
        held_out=tuple(held_out),
        natural=frozenset(natural),
        man_made=frozenset(man_made),
        published=not config.hierarchy_csv and dataset.class_paths is None,
    )


def everything(source: Source) -> Task:
    """The task of all pretraining classes with all their images."""
    return subset_task("A", source.dataset, source.pretraining)
