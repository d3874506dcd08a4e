"""Huh et al. 2016: the pretraining tasks of "What makes ImageNet good for transfer learning?".

Every condition is a task over one dataset. A network is pretrained on it and fine-tuned on each
target: its last layer is replaced, all layers learn. Conditions that are the same task, whatever
question asks for it, are one network.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.tasks import whole_task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.run import Entry
from transfer_jax.studies.huh2016_conditions import Condition, all_conditions
from transfer_jax.studies.huh2016_source import source_of
from transfer_jax.studies.huh2016_targets import wanted_targets
from transfer_jax.studies.settings import (
    Opener,
    Work,
    imported_from,
    integers,
    network_from,
    recipe_from,
)
from transfer_jax.transfer import Treatment


def plan(config: ConfigDict, open_dataset: Opener) -> Work:
    """Every network that the config asks for: pretrained, fine-tuned, and trained from scratch.

    Args:
      config: see configs/huh2016.py.
      open_dataset: opens a dataset that the config describes.
    """
    imported_from(config, config.network)  # A wrong file comes out before a dataset is prepared.
    source = source_of(config, open_dataset)
    wanted = list(wanted_targets(config, source, open_dataset))
    seeds = integers(config.seeds, "seeds")
    declared = all_conditions(config, source)
    datasets = {source.dataset.name: source.dataset}
    entries: dict[tuple[str, str, str], Entry] = {}

    def add(experiment: str, split: str, cell: Cell) -> None:
        entries.setdefault((experiment, split, cell.name), (experiment, split, cell))

    for condition in declared:
        for seed in seeds:
            cell = base_cell(config, condition, seed)
            add("pretrained", f"{condition.name} seed {seed}", cell)
    for target in wanted:
        for seed in seeds:
            fold = target.fold(seed)
            datasets[fold.name] = fold
            for condition in target.asked_of(declared):
                base = base_cell(config, condition, seed)
                name = f"{condition.name} to {target.name} seed {seed}"
                add("fine_tuned", name, fine_tuned_cell(config, base, fold, seed))
            if config.experiments.scratch:
                add("scratch", f"{target.name} seed {seed}", scratch_cell(config, fold, seed))
    return Work(tuple(entries.values()), tuple(datasets.values()))


def base_cell(config: ConfigDict, condition: Condition, seed: int) -> Cell:
    """The network that is pretrained under a condition, or comes from a file."""
    if condition.base is not None:
        return dataclasses.replace(condition.base, seed=int(seed))
    network = network_from(config.network, condition.task.num_classes)
    recipe = recipe_from(config.recipe)
    return Cell(network, condition.task, Treatment.parse("baseA"), recipe, int(seed))


def fine_tuned_cell(config: ConfigDict, base: Cell, fold: Dataset, seed: int) -> Cell:
    """The pretrained network with a new last layer, all of it trained on a target (section 3)."""
    task = whole_task("B", fold)
    network = network_from(config.network, task.num_classes)
    recipe = recipe_from(config.recipe, **dict(config.fine_tune_recipe))
    treatment = Treatment("B", "A", len(network.layers) - 1, fine_tuned=True)
    return Cell(network, task, treatment, recipe, int(seed), base)


def scratch_cell(config: ConfigDict, fold: Dataset, seed: int) -> Cell:
    """The same network trained on the target alone, by the same recipe as the fine-tuned ones."""
    task = whole_task("B", fold)
    network = network_from(config.network, task.num_classes)
    recipe = recipe_from(config.recipe, **dict(config.fine_tune_recipe))
    return Cell(network, task, Treatment.parse("baseB"), recipe, int(seed))
