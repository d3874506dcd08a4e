"""What is read out of the networks of Huh et al. 2016, part by part."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from scipy.special import log_softmax

from transfer_jax.data.pipeline import select
from transfer_jax.data.relabelling import Relabelling
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
from transfer_jax.studies.huh2016_conditions import all_conditions, relabellings
from transfer_jax.studies.huh2016_source import Source, everything, source_of
from transfer_jax.studies.huh2016_targets import Target, wanted_targets
from transfer_jax.studies.settings import Opener

SCRATCH = "scratch"


@dataclasses.dataclass(frozen=True)
class Run:
    """What every part needs."""

    config: ConfigDict
    source: Source
    store: Store
    cache: Path

    def network(self, cell: Cell) -> Trained | None:
        """A cell as it was trained, or None where its training failed."""
        return trained(self.store, cell)

    def state(self, cell: Cell) -> tuple[str, str | None]:
        """Which cell, and why it failed: a part is computed anew once it has been retried."""
        return cell.hash, self.store.error(cell)


def analyse(config: ConfigDict, open_dataset: Opener, store: Store) -> None:
    """Computes what is missing of the workdir's `analysis`; networks that failed are left out."""
    source = source_of(config, open_dataset)
    run = Run(config, source, store, store.workdir / "features")
    parts = Parts(store.workdir / "analysis")
    targets = list(wanted_targets(config, source, open_dataset))
    conditions = all_conditions(config, source)
    cells = {
        (c.name, seed): study.base_cell(config, c, seed)
        for c in conditions
        for seed in config.seeds
    }
    states = {f"{name} seed {seed}": run.state(cell) for (name, seed), cell in cells.items()}
    inputs = [[[c.question, c.name, c.value] for c in conditions], states]
    parts.compute("conditions", inputs, lambda: _conditions(run, conditions, cells))
    parts.compute("targets", [_settings(target) for target in targets], lambda: _targets(targets))
    names = [name for target in targets for name in _transfers(run, parts, target, conditions)]
    merged(parts.directory, names, "transfer.csv")
    actions = [name.replace(".csv", "-actions.csv") for name in names]
    kept = [name for name in actions if (parts.directory / name).exists()]
    merged(parts.directory, kept, "actions.csv")
    if config.experiments.neighbours:
        levels = [c for c in conditions if c.question == "classes"]
        inputs = [states, [c.name for c in levels]]
        parts.compute("neighbours", inputs, lambda: _neighbours(run, levels, cells))
    parts.write_timings()


def _transfers(run: Run, parts: Parts, target: Target, conditions) -> list[str]:
    """What each network is worth on a target, a part for each; names of the parts' tables."""
    config, names = run.config, []
    folds = {seed: target.fold(seed) for seed in config.seeds}
    # Conditions that are the same task are one network, whose numbers count for each of them.
    called: dict[tuple[str, int], tuple[Cell, dict[str, None]]] = {}
    for condition in target.asked_of(conditions):
        for seed in config.seeds:
            base = study.base_cell(config, condition, seed)
            called.setdefault((base.hash, seed), (base, {}))[1][condition.name] = None
    for base, of in called.values():
        fold, of = folds[base.seed], list(of)
        tuned = study.fine_tuned_cell(config, base, fold, base.seed)
        # A network from a file is one for all seeds.
        network = base if base.imported is None else tuned
        part = f"transfer-{target.name}-{network.hash}"
        inputs = [of, _settings(target), config.experiments.frozen_features,
                  run.state(base), run.state(tuned)]  # fmt: skip
        compute = functools.partial(_transfer, run, target, fold, of, base, tuned, part)
        parts.compute(part, inputs, compute)
        names.append(f"{part}.csv")
    if config.experiments.scratch:
        part = f"transfer-{target.name}-scratch"
        cells = {seed: study.scratch_cell(config, fold, seed) for seed, fold in folds.items()}
        inputs = [_settings(target), [run.state(cell) for cell in cells.values()]]
        compute = functools.partial(_scratch, run, target, folds, cells, part)
        parts.compute(part, inputs, compute)
        names.append(f"{part}.csv")
    return names


def _settings(target: Target) -> list:
    return [target.name, target.pool.name, target.classes, target.settings.to_dict()]


def _conditions(run: Run, conditions, cells) -> Files:
    """How each network was pretrained, and how well it learned its own task."""
    labels = run.source.dataset.labels("train")
    rows = []
    for condition in conditions:
        for seed in run.config.seeds:
            cell = cells[condition.name, seed]
            known = cell.imported is None
            images = len(condition.task.select(labels)[0]) if known else None
            top1 = (run.store.outcome(cell) or {}).get("top1")
            rows.append((condition.question, condition.name, condition.value, seed, cell.hash,
                         cell.task.num_classes, images, top1))  # fmt: skip
    header = ("question", "condition", "value", "seed", "hash", "num_classes", "num_images",
              "pretrain_top1")  # fmt: skip
    return {"conditions.csv": Rows(header, rows)}


def _targets(targets: Sequence[Target]) -> Files:
    rows = [
        (t.name, t.pool.name, len(t.classes), t.settings.train_per_class,
         t.settings.test_per_class, int(t.settings.classes != "all"), _kind(t))
        for t in targets
    ]  # fmt: skip
    header = ("target", "dataset", "num_classes", "train_per_class", "test_per_class",
              "from_pretraining_dataset", "kind")  # fmt: skip
    return {"targets.csv": Rows(header, rows)}


def _kind(target: Target) -> str:
    return "actions" if isinstance(target.pool, SingleLabelDataset) else "classification"


_TRANSFER = ("condition", "seed", "target", "measure", "accuracy", "num_test")


def _transfer(
    run: Run, target, fold, names: Sequence[str], base: Cell, tuned: Cell, part: str
) -> Files:
    """A pretrained network on a target: fine-tuned, and by an SVM on its frozen features."""
    found: list[tuple] = []
    after, frozen, seed = run.network(tuned), run.network(base), base.seed
    if after is not None:
        found.append(("fine_tuned", *_accuracy(after, fold)))
    if frozen is not None and run.config.experiments.frozen_features:
        layer = hidden_layers(frozen)[-1]
        x, labels = {}, {}
        for split in ("train", "val"):
            indices, labels[split] = select(fold, split, whole_task("B", fold))
            x[split] = layer_features(frozen, fold, split, indices, (layer,), run.cache)[layer]
        accuracy = layer_accuracy(x["train"], labels["train"], x["val"], labels["val"], "svm")
        found.append(("svm", accuracy, len(labels["val"])))
    rows = [(name, seed, target.name, *numbers) for name in names for numbers in found]
    files: dict = {f"{part}.csv": Rows(_TRANSFER, rows)}
    if after is not None and isinstance(fold, SingleLabelDataset):
        files[f"{part}-actions.csv"] = Rows(_ACTIONS, _actions(names, seed, after, fold))
    return files


_ACTIONS = ("condition", "seed", "class", "ap_area")


def _actions(
    names: Sequence[str], seed: int, tuned: Trained, people: SingleLabelDataset
) -> list[tuple]:
    """Average precision of each action over all people of the validation split, those who do
    several things at once among them."""
    targets = people.base.targets("val")
    cell, everyone = tuned.cell, np.arange(len(targets))
    last = cell.network.layer_names[-1]
    scores = layer_features(tuned, people, "val", everyone, (last,), None)[last]
    found = average_precisions(log_softmax(scores, axis=1), targets, "area")
    columns = list(zip(people.class_names, found.tolist(), strict=True))
    return [(name, seed, c, ap) for name in names for c, ap in columns]


def _scratch(run: Run, target, folds, cells, part: str) -> Files:
    """The same network trained on the target alone."""
    rows, actions = [], []
    for seed, fold in folds.items():
        network = run.network(cells[seed])
        if network is None:
            continue
        rows.append((SCRATCH, seed, target.name, "fine_tuned", *_accuracy(network, fold)))
        if isinstance(fold, SingleLabelDataset):
            actions += _actions([SCRATCH], seed, network, fold)
    files: dict = {f"{part}.csv": Rows(_TRANSFER, rows)}
    if actions:
        files[f"{part}-actions.csv"] = Rows(_ACTIONS, actions)
    return files


def _accuracy(network: Trained, fold) -> tuple[float, int]:
    said = predictions(network, fold, "val")
    return mean_per_class_accuracy(said.probabilities, said.labels), len(said.labels)


def _neighbours(run: Run, levels, cells) -> Files:
    """Question 3: what features of networks that were trained on coarse classes know of the fine
    ones, and whether classes of one parent become neighbours."""
    source, fine = run.source, everything(run.source)
    merges = [
        (kind.replace("_", "-"), level)
        for kind in ("bottom_up", "top_down")
        for level in relabellings(source, kind)
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


def _siblings(means: np.ndarray, source: Source, level: Relabelling) -> tuple[float, float]:
    parents = np.array([level.task.class_map[c] for c in source.pretraining])
    found = sibling_share(means, parents)
    return found.share, found.chance
