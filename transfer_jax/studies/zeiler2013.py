"""Zeiler & Fergus 2013: the networks of "Visualizing and Understanding Convolutional Networks".

What is trained: both architectures and their ablations on the source classes (Tables 1 and 2), and
the first architecture anew on each small target (Tables 3 and 4). Everything else that the paper
shows is read out of these networks afterwards, see `zeiler2013_visual` and `zeiler2013_readout`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.folds import FoldedDataset
from transfer_jax.data.single_label import SingleLabelDataset
from transfer_jax.data.tasks import Task, whole_task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.imported import Imported
from transfer_jax.grid.imported_base import imported_base
from transfer_jax.networks import Network
from transfer_jax.studies.settings import (
    Opener,
    Work,
    imported_from,
    integers,
    network_from,
    recipe_from,
)
from transfer_jax.studies.zeiler2013_duplicates import excluded
from transfer_jax.studies.zeiler2013_targets import Target, all_source_images, targets
from transfer_jax.transfer import Treatment

ARCHITECTURES = ("zfnet", "alexnet")
NO_RULE = "zfnet no filter rule"


@dataclasses.dataclass(frozen=True)
class SourceNetwork:
    """One network trained on the source classes.

    Attributes:
      name: what the report calls it: the architecture, and how it differs.
      architecture: 'zfnet' or 'alexnet', the field of the config that describes it.
      variant: 'base' or a name in the config's `variants`.
      cell: the network to train.
    """

    name: str
    architecture: str
    variant: str
    cell: Cell


def plan(config: ConfigDict, open_dataset: Opener) -> Work:
    """Every network that the config asks for, and the datasets that they learn from.

    Args:
      config: see configs/zeiler2013.py.
      open_dataset: opens a dataset that the config describes.

    Raises:
      ValueError: for an unknown architecture, variant or set of classes.
    """
    imported_of(config)  # A wrong file comes out before a dataset is prepared.
    source = open_dataset(config.dataset)
    networks = source_networks(config, open_dataset)
    entries = [("networks", n.name, n.cell) for n in networks]
    datasets = {source.name: source}
    for target in targets(config, open_dataset):
        for size, seed, fold, cell in scratch_cells(config, target):
            entries.append(("scratch", f"{target.name} {size} fold {seed}", cell))
            datasets[fold.name] = fold
    wanted = config.experiments.multilabel
    if wanted.name and wanted.scratch:
        single, cell = multilabel_scratch_cell(config, open_dataset)
        entries.append(("scratch", wanted.name, cell))
        datasets[single.name] = single
    snapshots = {networks[0].cell.hash: tuple(snapshot_steps(config, source))}
    return Work(tuple(entries), tuple(datasets.values()), snapshots)


def source_task(config: ConfigDict, open_dataset: Opener) -> Task:
    """The task of the source networks, near-duplicates of the targets' images left out on
    request."""
    task = all_source_images(config, open_dataset(config.dataset))
    return dataclasses.replace(task, excluded=excluded(config, open_dataset))


def source_networks(config: ConfigDict, open_dataset: Opener) -> list[SourceNetwork]:
    """The networks of Tables 1 and 2 and Figure 5, each once; the first is the one looked into:
    zfnet, or the one that comes from a file."""
    task = source_task(config, open_dataset)
    recipe = recipe_from(config.recipe)
    wanted, main = config.experiments, main_architecture(config)
    imported = imported_of(config)
    if imported is None:
        found = [_source_network(config, main, task, recipe)]
    else:
        own = task if config.imported.same_classes else None
        base = imported_base(*imported, recipe, task=own, seed=config.seed)
        found = [SourceNetwork(main, main, "base", base)]
    if wanted.alexnet and main != "alexnet":
        found.append(_source_network(config, "alexnet", task, recipe))
    for architecture in ARCHITECTURES:
        for variant in wanted.ablations[architecture]:
            found.append(_source_network(config, architecture, task, recipe, variant))
    for seed in integers(wanted.ensemble_seeds, "experiments.ensemble_seeds"):
        if seed != config.seed:
            found.append(_source_network(config, "zfnet", task, recipe, seed=seed))
    if wanted.no_filter_rule:
        free = dataclasses.replace(recipe, max_filter_rms=None)
        found.append(
            dataclasses.replace(_source_network(config, "zfnet", task, free), name=NO_RULE)
        )
    return found


def main_architecture(config: ConfigDict) -> str:
    """The architecture that is looked into, and whose features are tried on the targets.

    Raises:
      ValueError: for an architecture that there is not.
    """
    if not config.imported.path:
        return "zfnet"
    if config.imported.architecture not in ARCHITECTURES:
        raise ValueError(
            f"config.imported.architecture={config.imported.architecture!r}: expected one of "
            f"{ARCHITECTURES}"
        )
    return config.imported.architecture


def imported_of(config: ConfigDict) -> tuple[Imported, Network] | None:
    """The main network's file, see `settings.imported_from`."""
    return imported_from(config, config[main_architecture(config)])


def _source_network(config, architecture, task, recipe, variant="base", seed=None) -> SourceNetwork:
    fields = config[architecture]
    name = architecture
    if variant != "base":
        fields, name = _varied(config, architecture, variant), f"{architecture} {variant}"
    if seed is not None:
        name = f"{name} seed {seed}"
    network = network_from(fields, task.num_classes)
    seed = config.seed if seed is None else seed
    cell = Cell(network, task, Treatment.parse("baseA"), recipe, int(seed))
    return SourceNetwork(name, architecture, variant, cell)


def _varied(config, architecture: str, variant: str) -> Mapping[str, Any]:
    """An architecture's config fields with a variant's layers removed and widths changed."""
    known = config.variants[architecture]
    if variant not in known:
        raise ValueError(
            f"config.experiments.ablations.{architecture} holds {variant!r}; expected some of "
            f"{sorted(known)}"
        )
    fields, change = dict(config[architecture]), known[variant]
    fields["widths"] = {**dict(fields["widths"]), **dict(change.get("widths", {}))}
    fields["remove"] = (*fields["remove"], *change.get("remove", ()))
    fields["widths"] = {k: v for k, v in fields["widths"].items() if k not in fields["remove"]}
    return fields


def scratch_cells(
    config: ConfigDict, target: Target
) -> Iterator[tuple[int, int, FoldedDataset, Cell]]:
    """The source architecture trained anew on a target: (images per class, fold, data, cell)."""
    recipe = recipe_from(config.recipe, **dict(config.scratch_recipe))
    for size in integers(target.settings.scratch, f"targets.{target.name}.scratch"):
        for seed in range(target.settings.folds):
            fold = target.fold(seed, size)
            task = whole_task("B", fold)
            network = network_from(config[main_architecture(config)], task.num_classes)
            yield size, seed, fold, Cell(network, task, Treatment.parse("baseB"), recipe, seed)


def multilabel_scratch_cell(
    config: ConfigDict, open_dataset: Opener
) -> tuple[SingleLabelDataset, Cell]:
    """The source architecture trained anew on images of several classes, or rather on those that
    show one class only, as its softmax wants; and these images."""
    single = SingleLabelDataset(
        open_dataset(config.experiments.multilabel.dataset, multilabel=True)
    )
    task = whole_task("B", single)
    network = network_from(config[main_architecture(config)], task.num_classes)
    recipe = recipe_from(config.recipe, **dict(config.scratch_recipe))
    return single, Cell(network, task, Treatment.parse("baseB"), recipe, int(config.seed))


def snapshot_steps(config: ConfigDict, dataset: Dataset) -> dict[int, float]:
    """Updates after which the visualised network is kept for Figure 4 -> epochs; epochs beyond the
    end of training are left out, and the end itself is always there. None of a network from a file,
    which is not trained here."""
    recipe = recipe_from(config.recipe)
    task = all_source_images(config, dataset)
    per_epoch = len(task.select(dataset.labels("train"))[0]) / recipe.batch_size
    epochs = config.experiments.evolution_epochs
    if not epochs or config.imported.path:
        return {}
    steps = {max(1, round(epoch * per_epoch)): float(epoch) for epoch in sorted(epochs)}
    kept = {step: epoch for step, epoch in steps.items() if step < recipe.steps}
    return kept | {recipe.steps: round(recipe.steps / per_epoch, 1)}
