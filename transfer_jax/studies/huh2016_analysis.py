"""What is read out of the networks of Huh et al. 2016, part by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from scipy.special import log_softmax

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.pipeline import select
from transfer_jax.data.relabelling import Relabelling, bottom_up, top_down
from transfer_jax.data.single_label import SingleLabelDataset
from transfer_jax.data.tasks import whole_task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.store import Store
from transfer_jax.readout.metrics import average_precisions, mean_per_class_accuracy
from transfer_jax.readout.neighbours import class_means, neighbour_accuracy, sibling_share
from transfer_jax.readout.protocols import layer_accuracy
from transfer_jax.studies import huh2016 as study
from transfer_jax.studies.analysis import (
    Files,
    Parts,
    Rows,
    Trained,
    hidden_layers,
    layer_features,
    merged,
    predictions,
    trained,
)
from transfer_jax.studies.settings import Opener

SCRATCH = "scratch"


@dataclasses.dataclass(frozen=True)
class Run:
    """What every part needs."""

    config: ConfigDict
    source: study.Source
    store: Store
    datasets: Sequence[Dataset]
    cache: Path

    def network(self, cell: Cell) -> Trained | None:
        """A cell as it was trained, or None where its training failed."""
        return trained(self.store, self.datasets, cell)


def analyse(
    config: ConfigDict, open_dataset: Opener, store: Store, datasets: Sequence[Dataset]
) -> None:
    """Computes what is missing of the workdir's `analysis`; networks that failed are left out."""
    source = study.source_of(config, open_dataset)
    run = Run(config, source, store, datasets, store.workdir / "features")
    parts = Parts(store.workdir / "analysis")
    targets = list(study.targets(config, source, open_dataset))
    conditions = study.conditions(config, source)
    cells = {
        (c.name, seed): study.base_cell(config, c.task, seed)
        for c in conditions
        for seed in config.seeds
    }
    hashes = {f"{name} seed {seed}": cell.hash for (name, seed), cell in cells.items()}
    parts.compute("conditions", hashes, lambda: _conditions(run, conditions, cells))
    parts.compute("targets", [_settings(target) for target in targets], lambda: _targets(targets))
    names = []
    for target in targets:
        for (name, seed), cell in cells.items():
            part = f"transfer-{target.name}-{cell.hash}"
            names.append(f"{part}.csv")
            inputs = [name, seed, _settings(target), config.fine_tune_recipe.to_dict()]
            parts.compute(
                part, inputs,
                lambda t=target, n=name, s=seed, c=cell, p=part: _transfer(run, t, n, s, c, p),
            )  # fmt: skip
        if config.experiments.scratch:
            part = f"transfer-{target.name}-scratch"
            names.append(f"{part}.csv")
            inputs = [_settings(target), list(config.seeds), config.fine_tune_recipe.to_dict()]
            parts.compute(part, inputs, lambda t=target, p=part: _scratch(run, t, p))
    merged(parts.directory, list(dict.fromkeys(names)), "transfer.csv")
    actions = [name.replace(".csv", "-actions.csv") for name in dict.fromkeys(names)]
    kept = [name for name in actions if (parts.directory / name).exists()]
    merged(parts.directory, kept, "actions.csv")
    if config.experiments.neighbours:
        levels = [c for c in conditions if c.question == "classes"]
        inputs = [hashes, [c.name for c in levels]]
        parts.compute("neighbours", inputs, lambda: _neighbours(run, levels, cells))
    parts.write_timings()


def _settings(target: study.Target) -> list:
    return [target.name, target.pool.name, target.classes, target.settings.to_dict()]


def _conditions(run: Run, conditions, cells) -> Files:
    """How each network was pretrained, and how well it learned its own task."""
    labels = run.source.dataset.labels("train")
    rows = []
    for condition in conditions:
        for seed in run.config.seeds:
            cell = cells[condition.name, seed]
            images = len(condition.task.select(labels)[0])
            top1 = (run.store.outcome(cell) or {}).get("top1")
            rows.append((condition.question, condition.name, condition.value, seed, cell.hash,
                         cell.task.num_classes, images, top1))  # fmt: skip
    header = ("question", "condition", "value", "seed", "hash", "num_classes", "num_images",
              "pretrain_top1")  # fmt: skip
    return {"conditions.csv": Rows(header, rows)}


def _targets(targets: Sequence[study.Target]) -> Files:
    rows = [
        (t.name, t.pool.name, len(t.classes), t.settings.train_per_class,
         t.settings.test_per_class, int(t.settings.classes != "all"), _kind(t))
        for t in targets
    ]  # fmt: skip
    header = ("target", "dataset", "num_classes", "train_per_class", "test_per_class",
              "from_pretraining_dataset", "kind")  # fmt: skip
    return {"targets.csv": Rows(header, rows)}


def _kind(target: study.Target) -> str:
    return "actions" if isinstance(target.pool, SingleLabelDataset) else "classification"


_TRANSFER = ("condition", "seed", "target", "measure", "accuracy", "num_test")


def _transfer(run: Run, target, name: str, seed: int, base: Cell, part: str) -> Files:
    """A pretrained network on a target: fine-tuned, and by an SVM on its frozen features."""
    fold, rows = target.fold(seed), []
    tuned = run.network(study.fine_tuned_cell(run.config, base, fold, seed))
    if tuned is not None:
        rows.append((name, seed, target.name, "fine_tuned", *_accuracy(tuned, fold)))
    frozen = run.network(base)
    if frozen is not None and run.config.experiments.frozen_features:
        layer = hidden_layers(frozen)[-1]
        x, labels = {}, {}
        for split in ("train", "val"):
            indices, labels[split] = select(fold, split, whole_task("B", fold))
            x[split] = layer_features(frozen, fold, split, indices, (layer,), run.cache)[layer]
        accuracy = layer_accuracy(x["train"], labels["train"], x["val"], labels["val"], "svm")
        rows.append((name, seed, target.name, "svm", accuracy, len(labels["val"])))
    files: dict = {f"{part}.csv": Rows(_TRANSFER, rows)}
    if tuned is not None and isinstance(fold, SingleLabelDataset):
        files[f"{part}-actions.csv"] = Rows(_ACTIONS, _actions(name, seed, tuned, fold))
    return files


_ACTIONS = ("condition", "seed", "class", "ap_area")


def _actions(name: str, seed: int, tuned: Trained, people: SingleLabelDataset) -> list[tuple]:
    """Average precision of each action over all people of the validation split, those who do
    several things at once among them."""
    targets = people.base.targets("val")
    cell, everyone = tuned.cell, np.arange(len(targets))
    last = cell.network.layer_names[-1]
    scores = layer_features(tuned, people, "val", everyone, (last,), None)[last]
    found = average_precisions(log_softmax(scores, axis=1), targets, "area")
    return [(name, seed, c, float(ap)) for c, ap in zip(people.class_names, found, strict=True)]


def _scratch(run: Run, target, part: str) -> Files:
    """The same network trained on the target alone."""
    rows = []
    for seed in run.config.seeds:
        fold = target.fold(seed)
        network = run.network(study.scratch_cell(run.config, fold, seed))
        if network is not None:
            rows.append((SCRATCH, seed, target.name, "fine_tuned", *_accuracy(network, fold)))
    return {f"{part}.csv": Rows(_TRANSFER, rows)}


def _accuracy(network: Trained, fold) -> tuple[float, int]:
    said = predictions(network, fold, "val")
    return mean_per_class_accuracy(said.probabilities, said.labels), len(said.labels)


def _neighbours(run: Run, levels, cells) -> Files:
    """Question 3: what features of networks that were trained on coarse classes know of the fine
    ones, and whether classes of one parent become neighbours."""
    source, fine = run.source, study.everything(run.source)
    merges = [
        (kind.replace("_", "-"), level)
        for kind, merge in (("bottom_up", bottom_up), ("top_down", top_down))
        for level in merge(source.hierarchy, source.dataset, classes=source.pretraining)
        if run.config.experiments.classes[kind]
    ]
    rows, siblings = [], []
    for condition in levels:
        for seed in run.config.seeds:
            network = run.network(cells[condition.name, seed])
            if network is None:
                continue
            layer = hidden_layers(network)[-1]
            x, labels = {}, {}
            for split in ("train", "val"):
                indices, labels[split] = select(source.dataset, split, fine)
                x[split] = layer_features(
                    network, source.dataset, split, indices, (layer,), run.cache
                )[layer]
            found = neighbour_accuracy(
                x["train"], labels["train"], x["val"], labels["val"], k=(1, 5)
            )
            classes = network.cell.task.num_classes
            rows.append((condition.name, classes, seed, found[1], found[5], fine.num_classes,
                         len(labels["val"])))  # fmt: skip
            means = class_means(x["val"], labels["val"])
            siblings += [
                (condition.name, classes, seed, f"{kind} {level.num_classes}", level.num_classes,
                 *_siblings(means, source, level))
                for kind, level in merges
            ]  # fmt: skip
    header = ("condition", "num_classes", "seed", "top1", "top5", "fine_classes", "queries")
    files = {"neighbours.csv": Rows(header, rows)}
    header = ("condition", "num_classes", "seed", "level", "level_classes", "share", "chance")
    return files | {"siblings.csv": Rows(header, siblings)}


def _siblings(means: np.ndarray, source: study.Source, level: Relabelling) -> tuple[float, float]:
    parents = np.array([level.task.class_map[c] for c in source.pretraining])
    found = sibling_share(means, parents)
    return found.share, found.chance
