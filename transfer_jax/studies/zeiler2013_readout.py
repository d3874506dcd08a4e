"""What Zeiler & Fergus 2013 measure: errors, ensembles, and the worth of features elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.multilabel import MultiLabelDataset
from transfer_jax.readout.ensemble import ensemble
from transfer_jax.readout.metrics import average_precisions, mean_per_class_accuracy
from transfer_jax.readout.protocols import fit_readout, layer_accuracy
from transfer_jax.studies.analysis import (
    Files,
    Rows,
    Trained,
    hidden_layers,
    layer_features,
    predictions,
)
from transfer_jax.studies.zeiler2013 import SourceNetwork
from transfer_jax.studies.zeiler2013_targets import Target

TRAIN_IMAGES = 10_000
"""Most training images on which a network's training error is measured."""


def errors(networks: Mapping[str, tuple[SourceNetwork, Trained]], dataset: Dataset) -> Files:
    """Tables 1 and 2: error rates of single networks, their size, and ensembles of them."""
    rows, said = [], {}
    for name, (network, trained) in networks.items():
        cell = trained.cell
        seen = predictions(trained, dataset, "train", TRAIN_IMAGES)
        val = said[name] = predictions(trained, dataset, "val")
        rows.append((
            name, network.architecture, network.variant, cell.seed,
            int(cell.recipe.max_filter_rms is not None), cell.hash, cell.network.num_params,
            cell.network.train_flops() / 1e9, seen.error(), val.error(), val.error(5),
            len(val.labels),
        ))  # fmt: skip
    header = ("name", "architecture", "variant", "seed", "filter_rule", "hash", "params",
              "train_gflop_per_image", "train_top1_error", "val_top1_error", "val_top5_error",
              "num_val")  # fmt: skip
    files = {"networks.csv": Rows(header, rows)}
    averaged = []
    for name, members in _ensembles(networks).items():
        mean = ensemble([said[member] for member in members])
        averaged.append((name, len(members), mean.error(), mean.error(5), len(mean.labels)))
    header = ("name", "members", "val_top1_error", "val_top5_error", "num_val")
    return files | {"ensembles.csv": Rows(header, averaged)}


def _ensembles(networks) -> dict[str, list[str]]:
    """Table 1: several of one network (a), and those with the wide one (b)."""
    plain = [
        name
        for name, (network, trained) in networks.items()
        if (network.architecture, network.variant) == ("zfnet", "base")
        and (name == "zfnet" or "seed" in name)
    ]
    found = {}
    if len(plain) > 1:
        found[f"zfnet x {len(plain)}"] = plain
        if "zfnet conv345_wide" in networks:
            found[f"zfnet x {len(plain)} and wide"] = [*plain, "zfnet conv345_wide"]
    return found


def transfer(
    trained: Trained,
    target: Target,
    scratch: Sequence[tuple[int, int, Trained, Dataset]],
    cache: Path,
) -> Files:
    """Tables 3, 4, 6 and Figure 7 on one target; `zeiler2013_analysis` joins the targets.

    Args:
      trained: the source network.
      target: where its features are tried.
      scratch: (images per class, fold, network, fold's data) of those trained from scratch.
      cache: folder for features.
    """
    settings = target.settings
    sizes = sorted({*settings.train_per_class, *settings.curve})
    rows = []
    for seed in range(settings.folds):
        train, test = _fold_features(trained, target, seed, max(sizes), cache)
        layers = hidden_layers(trained)
        classes = len(target.classes)
        # A fold's training images are ordered by class and then as drawn, nested by size.
        rank = np.arange(len(train[1])) % max(sizes)
        for layer in layers:
            few = [] if layer != layers[-1] else sizes[:-1]
            for readout, size in [("svm", sizes[-1]), *(("softmax", s) for s in (sizes[-1], *few))]:
                keep = rank < size
                accuracy = layer_accuracy(
                    train[0][layer][keep], train[1][keep], test[0][layer], test[1], kind=readout
                )
                rows.append((target.name, target.pool.name, classes, readout, layer, size, seed,
                             accuracy, len(test[1])))  # fmt: skip
    for size, seed, network, fold in scratch:
        said = predictions(network, fold, "val")
        accuracy = mean_per_class_accuracy(said.probabilities, said.labels)
        rows.append((target.name, target.pool.name, len(target.classes), "scratch", None, size,
                     seed, accuracy, len(said.labels)))  # fmt: skip
    header = ("target", "dataset", "num_classes", "readout", "layer", "train_per_class", "fold",
              "accuracy", "num_test")  # fmt: skip
    return {f"transfer-{target.name}.csv": Rows(header, rows)}


def _fold_features(trained, target, seed, size, cache):
    fold = target.fold(seed, size)
    found = []
    for split in ("train", "val"):
        labels = fold.labels(split)
        indices = np.arange(len(labels))
        found.append(
            (layer_features(trained, fold, split, indices, hidden_layers(trained), cache), labels)
        )
    return found


def multilabel(
    trained: Trained, scratch: Trained | None, name: str, dataset: MultiLabelDataset, cache: Path
) -> Files:
    """Table 5: average precision of each class, by softmax and by sigmoid readouts of the last
    hidden layer, and by the network that was trained from scratch where there is one."""
    targets = {split: dataset.targets(split) for split in ("train", "val")}
    layer = hidden_layers(trained)[-1]
    x = {
        split: layer_features(trained, dataset, split, np.arange(len(of)), (layer,), cache)[layer]
        for split, of in targets.items()
    }
    scores = {
        readout: fit_readout(x["train"], targets["train"], readout).scores(x["val"])
        for readout in ("softmax", "sigmoid")
    }
    if scratch is not None:
        last, everyone = scratch.cell.network.layer_names[-1], np.arange(len(targets["val"]))
        scores["scratch"] = layer_features(scratch, dataset, "val", everyone, (last,), None)[last]
    positives = (targets["val"] > 0).sum(axis=0)
    rows = []
    for readout, of_images in scores.items():
        if readout != "sigmoid":
            # Logits of a softmax compare classes of one image; probabilities compare images.
            of_images = log_softmax(of_images, axis=1)
        area, voc2007 = (
            average_precisions(of_images, targets["val"], method) for method in ("area", "voc2007")
        )
        columns = zip(dataset.class_names, positives, area, voc2007, strict=True)
        rows += [(name, readout, c, int(count), float(a), float(b)) for c, count, a, b in columns]
    header = ("target", "readout", "class", "positives", "ap_area", "ap_voc2007")
    return {"multilabel.csv": Rows(header, rows)}
