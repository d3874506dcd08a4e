"""Zeiler & Fergus 2013, "Visualizing and Understanding Convolutional Networks".

Both architectures and their ablations are trained on source classes, each from several seeds
(Tables 1 and 2), and the first one anew on small targets (Tables 3 and 4). All else is read out of
the first one: what its layers see (Figures 2, 4, 5, 6), and what its features are worth elsewhere
(Tables 3 to 6, Figure 7). A unit of every claim is one training of a source network, with all that
is read out of it. Beyond the paper, networks trained twice as long stand beside those whose
comparison supposes that learning is over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from transfer_jax.data.dataset import Dataset
from transfer_jax.data.outline import NoImagesError
from transfer_jax.data.seals import kept_array
from transfer_jax.data.splits import random_halves
from transfer_jax.data.tasks import (
    Task,
    classes_without,
    fold_task,
    single_labels,
    subset_task,
    whole_task,
    without,
)
from transfer_jax.grid.cell import Cell, Entry
from transfer_jax.grid.run import with_snapshots
from transfer_jax.grid.store import Store, TrainedNetwork
from transfer_jax.networks import Conv, Network, receptive_field
from transfer_jax.readout.duplicates import describe, find_duplicates
from transfer_jax.readout.features import layer_features, map_images, probabilities
from transfer_jax.readout.linear import KINDS, layer_accuracy, multilabel_scores
from transfer_jax.readout.metrics import (
    average_precision_by_image,
    average_precisions,
    class_accuracy_by_image,
    right_bits,
)
from transfer_jax.report import MINUS, Claim, Effect, Results, Verdict, all_of, converged, paired
from transfer_jax.report.plots import stretched
from transfer_jax.studies.settings import (
    SCRATCH,
    Opener,
    asked_by,
    base_cell,
    chosen,
    imported_cell,
    integers,
    network_from,
    recipe_from,
)
from transfer_jax.training.recipe import as_long_as_both, twice_as_long
from transfer_jax.visual import (
    centres_inside,
    filter_statistics,
    occlusion_maps,
    project_units,
    top_activations,
)

log = logging.getLogger(__name__)

BATCH = 256
NO_RULE = "no filter rule"

_HALF, _DOUBLE = {"fc6": 1 / 2, "fc7": 1 / 2}, {"fc6": 2, "fc7": 2}
_WIDE = {"conv3": 4 / 3, "conv4": 8 / 3, "conv5": 2}
VARIANTS = {
    "without_3_4": {"conv3": 0, "conv4": 0},
    "without_7": {"fc7": 0},
    "without_6_7": {"fc6": 0, "fc7": 0},
    "without_3_4_6_7": {"conv3": 0, "conv4": 0, "fc6": 0, "fc7": 0},
    "fc_half": _HALF,
    "fc_double": _DOUBLE,
    "conv345_wide": _WIDE,
    "fc_double_conv345_wide": _DOUBLE | _WIDE,
}
"""Table 2: factors of the layers' widths; 0 removes the layer."""

ABLATIONS = {"alexnet": tuple(VARIANTS)[:6], "zfnet": tuple(VARIANTS)[4:]}
"""Those that the paper made of each architecture."""


# Cells


@dataclasses.dataclass(frozen=True)
class Target:
    """A small task on which features are tried: classes of a dataset, drawn from in folds.

    `settings` are the target's fields of the config, see `configs/zeiler2013.py`.
    """

    name: str
    dataset: Dataset
    classes: tuple[int, ...]
    settings: ConfigDict

    def folds(self, seed: int) -> range:
        """The folds of a source network's seed: no two seeds share one."""
        return range(seed * self.settings.folds, (seed + 1) * self.settings.folds)

    def task(self, fold: int, size: int) -> Task:
        """`size` training images a class of a fold; smaller sets lie in larger ones, and all are
        tested on the same images."""
        with asked_by(f"targets.{self.name}"):
            return fold_task(
                "B",
                self.dataset,
                seed=fold,
                train_per_class=size,
                test_per_class=self.settings.test_per_class,
                classes=self.classes,
                reserve=max(self.settings.sizes),
            )

    def rows(self) -> np.ndarray:
        """Rows of all images that folds are drawn from."""
        return np.flatnonzero(np.isin(single_labels(self.dataset), self.classes))


def targets(config: ConfigDict, open_dataset: Opener) -> list[Target]:
    """The targets that the config asks for."""
    found = []
    for name in chosen(config.experiments.targets, config.targets, "experiments.targets"):
        settings = config.targets[name]
        if settings.classes == "others":
            dataset = open_dataset(config.dataset)
            _, classes = random_halves(len(dataset.class_names), config.seed)
        else:
            dataset = open_dataset(settings.dataset)
            with asked_by(f"targets.{name}.without"):
                classes = classes_without(dataset.class_names, settings.without)
        found.append(Target(name, dataset, tuple(map(int, classes)), settings))
    return found


def source_task(config: ConfigDict, open_dataset: Opener, whole: bool = False) -> Task:
    """Half of the classes or all, less (unless `whole`) the training images that targets show."""
    dataset = open_dataset(config.dataset)
    if chosen([config.source_classes], ("half", "all"), "source_classes") == ("all",):
        task = whole_task("A", dataset)
    else:
        task = subset_task("A", dataset, random_halves(len(dataset.class_names), config.seed)[0])
    wanted = chosen(config.experiments.duplicates, config.targets, "experiments.duplicates")
    found = [target for target in targets(config, open_dataset) if target.name in wanted]
    try:
        left_out = [near_duplicates(task, target)[0] for target in found if not whole]
    except NoImagesError:  # A plan can be made without images.
        left_out = []
    return without(task, np.concatenate([[], *left_out]))


def near_duplicates(task: Task, target: Target) -> np.ndarray:
    """(3, pairs): rows of the source's training images and of the target's that show the same
    picture, and their correlation (section 5.2). Kept beside the source dataset."""
    source, rows, others = task.dataset, task.train[0], target.rows()
    key = hashlib.sha256(repr((source.name, target.dataset.name)).encode())
    key.update(rows.tobytes() + others.tobytes())
    key = key.hexdigest()[:16]

    def compute():
        one = map_images(describe, source.read, rows)
        other = map_images(describe, target.dataset.read, others)
        sources, shown, correlation = find_duplicates(one, other)
        return np.stack([rows[sources], others[shown], correlation])

    path = source.directory and source.directory / f"duplicates-{key}.npy"
    return kept_array(path, key, compute)


def entries(config: ConfigDict, open_dataset: Opener) -> list[Entry]:
    """Every network that the config's `experiments` ask for."""
    task = source_task(config, open_dataset)
    return [*_source(config, task), *_scratch(config, open_dataset)]


def _source(config, task: Task) -> Iterator[Entry]:
    """The networks of Tables 1 and 2 and Figure 5, each from every seed; the first is the one that
    is looked into."""
    wanted, recipe, main = config.experiments, recipe_from(config.recipe), config.network.name
    found = {main: (config.network, recipe)}
    if wanted.alexnet and main != "alexnet":
        found["alexnet"] = (config.alexnet, recipe)
    bases = {main: config.network, "alexnet": config.alexnet}
    for architecture, variants in wanted.ablations.items():
        there = variants if architecture in bases else ()  # another network may be the main one
        for variant in chosen(there, VARIANTS, "experiments.ablations"):
            found[f"{architecture} {variant}"] = (varied(bases[architecture], variant), recipe)
    if wanted.no_filter_rule:
        free = dataclasses.replace(recipe, max_filter_rms=None)
        found[f"{main} {NO_RULE}"] = (config.network, free)
    chosen(wanted.long, (*found, "scratch"), "experiments.long")
    if wanted.ensemble_of < 1:
        raise ValueError(
            f"--config.experiments.ensemble_of={wanted.ensemble_of}: expected 1 or more"
        )
    seeds = integers(wanted.seeds, "experiments.seeds")
    others = integers(wanted.other_seeds, "experiments.other_seeds")
    tags = {"study": "zeiler2013", "experiment": "source", "split": str(config.seed)}
    for name, (fields, how) in found.items():
        tags |= {"network": name, "condition": "standard"}
        if name == main and (imported := imported_cell(config, task)):
            yield tags | {"seed": 0, "group": 0}, imported
            continue
        for place, seed in enumerate(seeds if name == main else others):
            cell, more = base_cell(fields, task, how, seed), {"seed": seed}
            if name == main:
                cell = with_snapshots(cell, snapshot_steps(config, task))
                more["group"] = place // wanted.ensemble_of
            yield tags | more, cell
        for seed in others if name in wanted.long else ():
            cell = base_cell(fields, task, twice_as_long(how), seed)
            yield tags | {"seed": seed, "condition": "long"}, cell


def varied(fields: ConfigDict, variant: str) -> dict[str, Any]:
    """An architecture's fields with a variant's layers removed and widths changed."""
    factors = VARIANTS[variant]
    widths = {
        layer.name: round(layer.features * factors.get(layer.name, 1))
        for layer in network_from(fields, 2).layers[:-1]
    }
    remove = (*fields.remove, *(name for name, factor in factors.items() if not factor))
    return {**fields, "widths": {n: w for n, w in widths.items() if w}, "remove": remove}


def _scratch(config, open_dataset: Opener) -> Iterator[Entry]:
    """The first architecture trained anew on the folds of each seed of the source network; where
    'scratch' is among the long, too, for the steps of both trainings, on the first fold and most
    images of each."""
    wanted = config.experiments
    recipe = recipe_from(config.recipe, **dict(config.scratch_recipe))
    recipes = (recipe, as_long_as_both(recipe, recipe_from(config.recipe)))
    seeds = (0,) if config.imported.path else wanted.seeds
    long = () if config.imported.path or "scratch" not in wanted.long else wanted.other_seeds
    for target in targets(config, open_dataset):
        sizes = target.settings.scratch
        for size, seed in itertools.product(sizes, seeds):
            for fold in target.folds(seed):
                task = target.task(fold, size)
                tags = {"study": "zeiler2013", "experiment": "scratch", "split": str(config.seed)}
                tags |= {"network": config.network.name, "seed": seed}
                tags |= {"pool": target.name, "size": size, "fold": fold}
                too = seed in long and size == max(sizes) and fold == target.folds(seed)[0]
                for name, how in zip(SCRATCH[: 1 + too], recipes, strict=False):
                    cell = base_cell(config.network, task, how, fold, "B")
                    yield tags | {"condition": name}, cell


def snapshot_steps(config: ConfigDict, task: Task) -> dict[int, float]:
    """Updates after which the first network is kept for Figure 4 -> epochs, from 0 to the end."""
    epochs, recipe = config.experiments.evolution_epochs, recipe_from(config.recipe)
    if not epochs or config.imported.path:
        return {}
    per_epoch = len(task.train[0]) / recipe.batch_size
    steps = {max(1, round(epoch * per_epoch)): float(epoch) for epoch in sorted(epochs)}
    kept = {step: epoch for step, epoch in steps.items() if step < recipe.steps}
    return {0: 0.0} | kept | {recipe.steps: round(recipe.steps / per_epoch, 1)}


# Measures

Measured = tuple[list[dict], dict[str, np.ndarray]]
"""Rows for the frame, and arrays for figures."""


def measure(
    config: ConfigDict, open_dataset: Opener, entries: Sequence[Entry], store: Store
) -> None:
    """Reads out of the networks what claims and figures need; those that failed are left out."""
    wanted, main = config.experiments, config.network.name
    done = [entry for entry in entries if store.finished(entry[1])]
    standard = [e for e in done if e[0]["condition"] == "standard"]
    standard = [e for e in standard if e[0]["experiment"] == "source"]
    mains = {tags["seed"]: cell for tags, cell in standard if tags["network"] == main}
    if not mains:
        log.warning("no network %s was trained: nothing is read out", main)
        return
    task, shown = source_task(config, open_dataset), wanted.projections.to_dict()
    first, most = next(iter(mains)), shown["images"]

    def keep(name, cells, more, compute, *arguments, version=1):
        inputs = [[cell.hash for cell in cells], task.digest, more]
        store.measure(name, inputs, lambda: compute(*arguments), version=version)

    val, train = (some_rows(task, split, most) for split in ("val", "train"))
    looked = store.trained(mains[first])
    keep("projections", [mains[first]], shown, projections, looked, task, val, shown["maps"])
    filtered = [e for e in standard if e[0]["network"] in (main, "alexnet", f"{main} {NO_RULE}")]
    cells = [cell for _, cell in filtered]
    keep("filters", cells, shown, _filters, store, filtered, task, val, shown["second_layer"])
    if mains[first].task == task:
        cells = [cell for _, cell in standard]
        keep("ensembles", cells, [tags for tags, _ in standard], _ensembles, store, standard)
        settings = wanted.occlusion.to_dict()
        keep("occlusion", mains.values(), settings, _occlusion, store, mains, settings, version=2)
    scenes = wanted.multilabel.name and open_dataset(wanted.multilabel.dataset)
    for seed, cell in mains.items():
        if steps := snapshot_steps(config, task):
            maps = shown["evolution_maps"] if seed == first else 0
            inputs = (seed, store, cell, steps, task, train, maps)
            keep(f"evolution-{seed}", [cell], [*steps, most, maps], _evolution, *inputs)
        for target in targets(config, open_dataset):
            more = [target.settings.to_dict(), target.rows().tolist()]
            inputs = (store, cell, target, seed)
            keep(f"transfer-{target.name}-{seed}", [cell], more, _transfer, *inputs, version=2)
            scratch = [e for e in done if e[0].get("pool") == target.name and e[0]["seed"] == seed]
            cells = [anew for _, anew in scratch]
            keep(f"scratch-{target.name}-{seed}", cells, None, _trained_anew, store, scratch)
        if scenes:
            more = [scenes.name, wanted.multilabel.to_dict()]
            inputs = (store, cell, seed, scenes, wanted.multilabel)
            keep(f"multilabel-{seed}", [cell], more, _multilabel, *inputs, version=2)
    for target in targets(config, open_dataset):
        if target.name in wanted.duplicates:
            inputs = (config, open_dataset, target)
            keep(f"duplicates-{target.name}", [], target.rows().tolist(), _duplicates, *inputs)


def _numbers(tags: dict, numbers: Mapping[str, float]) -> list[dict]:
    return [{**tags, "measure": name, "value": float(value)} for name, value in numbers.items()]


def _ensembles(store: Store, standard: Sequence[Entry]) -> Measured:
    """Table 1: networks averaged in groups that share no member; groups that lack one do not
    count."""
    groups: dict[int, list[Cell]] = {}
    for tags, cell in standard:
        if "group" in tags:
            groups.setdefault(tags["group"], []).append(cell)
    size, rows, bits = max(map(len, groups.values())), [], {}
    for group, members in groups.items():
        if len(members) < max(size, 2):
            continue
        dataset, (tested, labels) = members[0].task.dataset, members[0].task.val
        told = []
        for one in map(store.trained, members):
            view = one.ten_crops if one.recipe.ten_crop else one.view
            told.append(probabilities(one.network, one.params, dataset.read, tested, view=view))
        images, _ = store.right(members[0])
        told = np.mean(told, axis=0, dtype=np.float64)
        top1, top5 = (right_bits(told, labels, k) for k in (1, 5))
        bits[str(group)] = top1
        tags = {"experiment": "ensemble", "network": f"{members[0].network.name} x {size}"}
        tags["group"] = group
        rows += _numbers({**tags, "right": str(group), "images": images}, {"top1": top1.mean()})
        if members[0].task.num_classes > 5:
            rows += _numbers(tags, {"top5": top5.mean()})
    return rows, bits


def convolutions(network: Network) -> list[str]:
    """Names of the convolution layers in order."""
    return [layer.name for layer in network.layers if isinstance(layer, Conv)]


def some_rows(task: Task, split: str, most: int) -> np.ndarray:
    """At most so many of a task's rows, evenly spread over a split."""
    rows, _ = task.select(split)
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def strongest(trained: TrainedNetwork, task: Task, rows: np.ndarray, layers, count=9):
    """`top_activations` of some rows of a task's dataset; an image's id is its row."""
    blocks = np.split(rows, range(BATCH, len(rows), BATCH))
    views = ((block, np.asarray(trained.view(task.dataset.read(block)))) for block in blocks)
    return top_activations(trained.network, trained.params, views, layers, count=count)


def projections(trained: TrainedNetwork, task: Task, rows: np.ndarray, count: int) -> Measured:
    """Figure 2: some maps of each convolution layer, drawn among those that any image switches on,
    and their nine strongest activations."""
    names = convolutions(trained.network)
    found, arrays = strongest(trained, task, rows, names), {}
    for name, top in found.items():
        maps = _some_alive(top.values, count)
        patches, pictures = seen(
            trained, task, name, maps, top.image_ids[maps], top.positions[maps]
        )
        arrays |= {f"{name}/maps": maps, f"{name}/values": top.values[maps]}
        arrays |= {f"{name}/patches": patches, f"{name}/projections": stretched(pictures)}
    return [], arrays


def _some_alive(values: np.ndarray, count: int) -> np.ndarray:
    alive = np.flatnonzero(values[:, 0] > 0)
    return np.sort(np.random.RandomState(0).permutation(alive)[:count])


def seen(trained, task: Task, layer: str, maps, ids, places) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and projections of units (M, k), cut to what these see: (M, k, s, s, 3) each.

    A field larger than the image is the whole image; a smaller one may hang over its border.
    """
    field, side = receptive_field(trained.network, layer), trained.network.input_shape[0]
    units, pixels = places.reshape(-1, 2), task.dataset.read(ids.reshape(-1))
    size, corners = min(field.size, side), field.offset + field.stride * units
    if field.size >= side:
        corners = np.zeros_like(corners)
    pad = int(np.maximum(-corners, corners + size - side).max(initial=0))
    down = project(trained, pixels, layer, np.repeat(maps, ids.shape[1]), units)
    found = []
    for pictures, mode in ((trained.pixels(pixels), "edge"), (down, "constant")):
        padded = np.pad(pictures, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)
        cut = [
            p[y : y + size, x : x + size] for p, (y, x) in zip(padded, corners + pad, strict=True)
        ]
        found.append(np.reshape(cut, (*ids.shape, size, size, 3)))
    return found[0], found[1]


def project(trained, pixels: np.ndarray, layer: str, maps, places=None):
    """Projections (n, H, W, 3) of one unit of each image, a batch of one size at a time."""
    found = [np.empty((0, *trained.network.input_shape), np.float32)]
    for start in range(0, len(pixels), BATCH):
        here = np.resize(np.arange(start, min(start + BATCH, len(pixels))), min(BATCH, len(pixels)))
        view, units = trained.view(pixels[here]), None if places is None else places[here]
        down = project_units(trained.network, trained.params, view, layer, maps[here], units)
        found.append(np.asarray(down)[: len(pixels) - start])
    return np.concatenate(found)


def _filters(store: Store, entries: Sequence[Entry], task: Task, rows, most: int) -> Measured:
    """Figure 5: numbers of the first two layers of every network, and pictures of one of each kind:
    filters, and the strongest projection of each map of the second layer."""
    found, arrays = [], {}
    for tags, cell in entries:
        trained, name = store.trained(cell), tags["network"]
        first, second = convolutions(trained.network)[:2]
        for layer in (first, second):
            kernel = np.asarray(trained.params[layer]["kernel"])
            rms = np.sqrt(np.mean(kernel**2, axis=(0, 1, 2)))
            numbers = filter_statistics(kernel)
            common = {"experiment": "filters", "network": name, "seed": tags["seed"]}
            shares = {"dead": numbers.dead, "strongest": numbers.strongest}
            shares |= {"equal share": 1 / numbers.count}
            shares["at the limit"] = np.mean(rms > 0.999 * (cell.recipe.max_filter_rms or np.inf))
            shares |= dict(zip(("low", "middle", "high"), numbers.bands, strict=True))
            found += _numbers({**common, "layer": layer}, shares)
        if f"{name}/first" not in arrays:
            top = strongest(trained, task, rows, [second], count=1)[second]
            maps = np.flatnonzero(top.values[:, 0] > 0)[:most]
            down = seen(trained, task, second, maps, top.image_ids[maps], top.positions[maps])[1]
            arrays[f"{name}/first"] = np.asarray(trained.params[first]["kernel"])
            arrays[f"{name}/second"] = stretched(down)[:, 0]
    return found, arrays


def _evolution(seed, store: Store, cell: Cell, steps: Mapping[int, float], task, rows, count):
    """Figure 4: the strongest activation of some maps at each snapshot.

    `overlap` is the share of a map's nine strongest images at the end that are among its nine
    strongest already; `progress` of a layer how far it has come from its overlap before training
    to 1, averaged over the snapshots between.
    """
    snapshots = [store.trained(cell, step) for step in steps]
    names, epochs = convolutions(cell.network), list(steps.values())
    tops = [strongest(trained, task, rows, names) for trained in snapshots]
    found, arrays = [], {"epochs": np.array(epochs)}
    for place, name in enumerate(names):
        last = tops[-1][name]
        alive = np.flatnonzero(last.values[:, 0] > 0)
        shared = [[np.isin(t[name].image_ids[m], last.image_ids[m]) for m in alive] for t in tops]
        overlaps = [float(np.mean(of)) if len(alive) else 0.0 for of in shared]
        tags = {"experiment": "evolution", "seed": seed, "layer": name}
        for epoch, overlap in zip(epochs, overlaps, strict=True):
            found += _numbers({**tags, "epoch": epoch}, {"overlap": overlap})
        middle = 2 * place + 1 == len(names)
        tags["half"] = "middle" if middle else "lower" if 2 * place < len(names) else "upper"
        progress = (np.mean(overlaps[1:-1]) - overlaps[0]) / max(1 - overlaps[0], 1e-9)
        found += _numbers(tags, {"progress": progress})
        maps = _some_alive(last.values, count)
        if len(maps):
            pictures = [
                project(trained, task.dataset.read(top[name].image_ids[maps, 0]), name, maps,
                        top[name].positions[maps, 0])
                for top, trained in zip(tops, snapshots, strict=True)
            ]  # fmt: skip
            arrays |= {f"{name}/maps": maps}
            arrays[f"{name}/projections"] = stretched(np.stack(pictures, axis=1))
    return found, arrays if count else {}


def _occlusion(store: Store, mains: Mapping[int, Cell], settings: Mapping[str, int]) -> Measured:
    """Figure 6, and where the probability of the true class falls most, for every seed.

    `inside`: share of a network's images, all classified rightly, in which the worst place of the
    square has its centre in the object's box. `inside another box`: the same with the boxes of the
    other images, of all of them in turn. Seeds look at images of their own where these suffice.
    """
    found, arrays, bits, tested = [], {}, {}, settings["tested"]
    for number, (seed, cell) in enumerate(mains.items()):
        trained, data = store.trained(cell), cell.task.dataset
        order = np.random.RandomState(0).permutation(len(cell.task.val[0]))
        right, shown = [], []
        for place in np.roll(order, -number * tested)[:tested]:
            row, label = (int(part[place]) for part in cell.task.val)
            pixels = data.read([row])
            maps = occlusion_maps(
                trained.network, trained.params, np.asarray(trained.view(pixels))[0], label,
                square=settings["square"], stride=settings["stride"], batch_size=settings["batch"],
            )  # fmt: skip
            if maps.unoccluded_predicted == label:
                boxes = data.boxes[row][1] if data.boxes else ()
                right.append((maps, box_in_view(trained, pixels.shape[1:3], boxes), row))
                if maps.unoccluded_probability > 0.5:  # the paper's examples are sure
                    shown.append((trained.pixels(pixels)[0], maps, pixels))
        right = [one for one in right if one[1] is not None]
        if len(right) > 1:
            places = np.array([centres_inside(right[0][0], box).ravel() for _, box, _ in right])
            inside = places[:, [maps.probability.argmin() for maps, *_ in right]]  # boxes x images
            own = np.diag(inside)
            images = store.keep_images(data.name, np.array([row for *_, row in right]))
            tags = {"experiment": "occlusion", "seed": seed}
            found += _numbers(tags, {"images": len(right)})
            others = (inside.sum(axis=0) - own) / (len(own) - 1)
            for name, each in (("inside", own), ("inside another box", others)):
                bits[f"{name} {seed}"] = each
                known = {"right": f"{name} {seed}", "images": images}
                found += _numbers(tags | known, {name: each.mean()})
        if not arrays and shown:
            images, maps, pixels = zip(*shown[: settings["shown"]], strict=True)
            fields = ("activation", "probability", "predicted", "true_class", "feature_map")
            arrays = {name: np.stack([getattr(m, name) for m in maps]) for name in fields}
            down = project(trained, np.concatenate(pixels), maps[0].layer, arrays["feature_map"])
            arrays |= {"images": np.stack(images), "projections": stretched(down)}
            arrays["class_names"] = np.array(cell.task.class_names)
            fields = ("layer", "square", "rows", "columns")
            arrays |= {name: np.array(getattr(maps[0], name)) for name in fields}
    return found, arrays | bits


def box_in_view(trained: TrainedNetwork, image_size, boxes) -> tuple | None:
    """The first of an image's boxes as shares of the view's sides; None without one in view."""
    if not len(boxes):
        return None
    augmentation = trained.recipe.augmentation
    sides = np.array([*image_size, *image_size], float)
    offset = (sides + 2 * augmentation.pad - augmentation.size) // 2 - augmentation.pad
    box = np.clip((np.asarray(boxes[0], float) * sides - offset) / augmentation.size, 0, 1)
    return tuple(box) if box[0] < box[2] and box[1] < box[3] else None


def _transfer(store: Store, cell: Cell, target: Target, seed: int) -> Measured:
    """Tables 3, 4, 6 and Figure 7 by one source network: SVMs on every layer, a softmax on the last
    convolution and, for every size, on the last hidden layer."""
    trained, sizes = store.trained(cell), sorted(target.settings.sizes)
    *layers, _ = trained.network.layer_names
    wanted = [("svm", layer, sizes[-1]) for layer in layers]
    wanted += [("softmax", convolutions(trained.network)[-1], sizes[-1])]
    wanted += [("softmax", layers[-1], size) for size in sizes]
    rows, bits = [], {}
    for fold in target.folds(seed):
        task = target.task(fold, sizes[-1])
        tested, labels = task.val
        images = store.keep_images(task.dataset.name, tested)
        read, how = target.dataset.read, {"view": trained.view}
        train, test = (
            layer_features(trained.network, trained.params, read, of, layers, **how)
            for of in (task.train[0], tested)
        )
        for readout, layer, size in wanted:
            few = np.isin(task.train[0], target.task(fold, size).train[0])
            x, y = train[layer][few], task.train[1][few]
            right = layer_accuracy(x, y, test[layer], labels, readout)
            name = f"{readout} {layer} {size} {fold}"
            tags = {"experiment": "transfer", "pool": target.name, "readout": readout}
            tags |= {"layer": layer, "size": size, "seed": seed, "fold": fold}
            bits[name] = class_accuracy_by_image(right, labels)
            tags |= {"right": name, "images": images}
            rows += _numbers(tags, {"accuracy": bits[name].mean()})
    return rows, bits


def _trained_anew(store: Store, scratch: Sequence[Entry]) -> Measured:
    """Accuracies on a target of the networks that learned from it alone, measured as readouts'."""
    rows, bits = [], {}
    for tags, cell in scratch:
        images, right = store.right(cell)
        bits[cell.hash] = class_accuracy_by_image(right, cell.task.val[1])
        found = {"experiment": "transfer", "readout": tags["condition"], "layer": None}
        found |= {name: tags[name] for name in ("pool", "size", "seed", "fold")}
        found |= {"right": cell.hash, "images": images}
        rows += _numbers(found, {"accuracy": bits[cell.hash].mean()})
    return rows, bits


def _multilabel(store: Store, cell: Cell, seed: int, dataset: Dataset, wanted: ConfigDict):
    """Table 5: average precisions of each class on images of several, by a softmax on the last
    hidden layer, as in the paper, and by one SVM a class, which lets several classes be there."""
    trained, x, y = store.trained(cell), {}, {}
    layer = trained.network.layer_names[-2]
    for split in wanted.splits:
        rows, how = dataset.splits[split], {"view": trained.view}
        found = layer_features(trained.network, trained.params, dataset.read, rows, (layer,), **how)
        x[split], y[split] = found[layer], dataset.labels[rows]
    train, test = x
    images = store.keep_images(dataset.name, dataset.splits[test])
    data, found, added = (x[train], y[train], x[test]), [], {}
    for readout, scores in (("softmax", softmax_scores), ("svm", multilabel_scores)):
        scored = scores(*data)
        tags = {"experiment": "multilabel", "pool": wanted.name, "readout": readout, "seed": seed}
        for place, which in enumerate(dataset.class_names):
            of = scored[:, [place]], y[test][:, [place]]
            if not (of[1] == 1).any():
                continue
            for rule, measure in (("area", "AP"), ("voc2007", "AP at 11 recalls")):
                name = f"{readout} {rule} {place}"
                added[name] = average_precision_by_image(*of, rule)
                known = {"class": which, "right": name, "images": images}
                found += _numbers(tags | known, {measure: added[name].mean()})
    return found, added


def softmax_scores(train_x: np.ndarray, labels: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """Log-probabilities (M, K) of a softmax that learned all classes of an image in equal shares;
    labels (N, K) as in `Dataset`. Of the usual values of C the best on a third of the images."""
    mean, length = train_x.mean(axis=0), np.sqrt(train_x.var(axis=0, dtype=np.float64).sum()) or 1
    train_x, test_x = ((x - mean) / length for x in (train_x, test_x))

    def scores(rows, c, x):
        images, classes = np.nonzero(labels[rows] == 1)
        weights = 1 / np.bincount(images)[images]
        model = LogisticRegression(C=c, max_iter=1000)
        model.fit(train_x[rows][images], classes, sample_weight=weights)
        found = np.full((len(x), labels.shape[1]), -1e3)
        found[:, model.classes_] = model.predict_log_proba(x)
        return found

    fit, held = train_test_split(np.arange(len(train_x)), test_size=1 / 3, random_state=0)

    def worth(c):
        return np.nanmean(average_precisions(scores(fit, c, train_x[held]), labels[held]))

    # Small products on many threads take many times as long where the cores are busy.
    with threadpool_limits(1, "blas"):
        return scores(np.arange(len(train_x)), max(KINDS["softmax"], key=worth), test_x)


def _duplicates(config: ConfigDict, open_dataset: Opener, target: Target) -> Measured:
    """How many images were left out of the source, and the strongest pairs."""
    whole = source_task(config, open_dataset, whole=True)
    pairs, counts = near_duplicates(whole, target), {"source images": len(whole.train[0])}
    counts |= {"target images": len(target.rows()), "pairs": pairs.shape[1]}
    counts["source images left out"] = len(np.unique(pairs[0]))
    rows = _numbers({"experiment": "duplicates", "pool": target.name}, counts)
    shown = pairs[:, np.argsort(-pairs[2], kind="stable")[:8]]
    if not shown.size:
        return rows, {}
    one, other = shown[:2].astype(int)
    arrays = {"source": whole.dataset.read(one), "target": target.dataset.read(other)}
    return rows, arrays | {"correlation": shown[2]}


# Effects and claims

FOLD = ("seed", "pool", "size", "fold")
LITTLE = 0.05  # the paper's removals of two layers cost up to 4.9 points and are called little
SLIGHT = 0.03  # its other sizes of fc6 and fc7 change up to 1.8 points
FALL = 0.02  # among the layers that it calls rising one falls by 0.7 points
LATE = 0.05  # least difference of progress that tells lower from upper layers


def networks(results: Results, *names: str, condition="standard") -> pd.DataFrame:
    """Top-1 of source networks."""
    return results.select(experiment="source", network=list(names), condition=condition)


def transferred(results: Results, readout: str, **tags: Any) -> pd.DataFrame:
    """Accuracies on targets; those of 'pretrained' are a softmax's on the last hidden layer."""
    if readout == "pretrained":
        layers = depths(transferred(results, "svm"))
        return transferred(results, "softmax", layer=layers[-1:], **tags)
    return results.select("accuracy", experiment="transfer", readout=readout, **tags)


def main_network(results: Results) -> str:
    """The network that is looked into: 'zfnet' unless another was imported."""
    rows = results.select(None, experiment="source")
    return rows["network"].iloc[0] if len(rows) else "zfnet"


def depths(rows: pd.DataFrame) -> list[str]:
    """Layers of rows, which are measured from the lowest up."""
    return list(dict.fromkeys(rows.get("layer", ())))


def compared(sign: str, plus: Sequence[str], minus: Sequence[str], margin: float):
    """A claim's test of source networks, 'above' or 'within' a margin, that supposes that learning
    is over.

    Where networks trained twice as long are there too, the verdict is theirs and must agree with
    that of the shorter schedule; where they are not, the page's own test of convergence must hold.
    """

    def test(results: Results) -> Verdict:
        name, verdicts = f"{' and '.join(plus)} {MINUS} {' and '.join(minus)}", []
        for condition, words in (("standard", ""), ("long", ", twice as long")):
            rows = {n: networks(results, n, condition=condition) for n in (*plus, *minus)}
            sides = (pd.concat([rows[n] for n in names]) for names in (plus, minus))
            there = all(len(found) for found in rows.values())
            effect = paired(results, *sides) if there else Effect()
            verdicts.append(getattr(effect, sign)(margin, name + words))
        standard, long = verdicts
        if not long.effect.units:
            return standard.supposing(converged(results), "networks are still learning, or may be")
        verdict = dataclasses.replace(long, parts=(standard, long))
        if standard.outcome == long.outcome:
            return verdict
        return dataclasses.replace(verdict, outcome="undecided", note="the two schedules differ")

    return test


def every(sign: str, pairs: Sequence[tuple[str, str]], margin: float):
    """A claim's test of several variants against their bases, of those that were run."""

    def test(results: Results) -> Verdict:
        run = [pair for pair in pairs if len(networks(results, pair[0]))] or pairs
        return all_of(*(compared(sign, [one], [base], margin)(results) for one, base in run))

    return test


def _averaging(results: Results) -> Verdict:
    main = main_network(results)
    ensembles = results.select(experiment="ensemble")
    gain = paired(results, ensembles, networks(results, main), ("group",), ("group",))
    return gain.above(0, f"ensemble {MINUS} its members")


def _first_layer(results: Results, network: str, measure: str) -> pd.DataFrame:
    return results.select(measure, experiment="filters", network=network, layer="conv1")


def _of_weights(results: Results, treated: pd.DataFrame, reference: pd.DataFrame) -> Effect:
    """`paired`, of numbers of weights, which have no images."""
    return dataclasses.replace(paired(results, treated, reference), noise=())


def _dominant_filters(results: Results) -> Verdict:
    main = main_network(results)
    free = _first_layer(results, f"{main} {NO_RULE}", "strongest")
    kept = _first_layer(results, main, "strongest")
    twice = _of_weights(results, free, kept.assign(value=2 * kept["value"]))
    limit = _first_layer(results, main, "at the limit")
    acts = _of_weights(results, limit, limit.assign(value=0.0)).above(0)
    name = f"strongest filter's share without the rule {MINUS} twice that with it"
    return twice.above(0, name).supposing(acts, "the rule did not act on the first layer")


def _dead_filters(results: Results) -> Verdict:
    theirs, ours = (_first_layer(results, name, "dead") for name in ("alexnet", "zfnet"))
    return _of_weights(results, theirs, ours).above(0, f"dead filters, alexnet {MINUS} zfnet")


def pretraining_gain(results: Results, scratch: str, **tags: Any) -> Effect:
    """Pretrained minus from scratch in one of the ways `SCRATCH`, over the folds and sizes that
    both have."""
    rows = (transferred(results, kind, **tags) for kind in ("pretrained", scratch))
    return paired(results, *rows, FOLD)


def _pretraining(results: Results) -> Verdict:
    pools = sorted(set(transferred(results, "scratch").get("pool", ()))) or [""]
    return all_of(
        *(
            pretraining_gain(results, way, pool=pool).above(0, f"pretrained {MINUS} {way}, {pool}")
            for pool, way in itertools.product(pools, SCRATCH)
        )
    )


def _few_images(results: Results) -> Verdict:
    # Of each target the size nearest to 6 of which scratch ran with ten times as many or more.
    verdicts, scratch = [], transferred(results, "scratch")
    for pool in sorted(set(scratch.get("pool", ()))):
        many = sorted(set(scratch.loc[scratch["pool"] == pool, "size"]))
        few = transferred(results, "pretrained", pool=pool)["size"]
        if small := [n for n in sorted(set(few)) if 10 * n <= many[-1]]:
            n = min(small, key=lambda size: abs(np.log(size / 6)))
            large = min(size for size in many if size >= 10 * n)
            rows = transferred(results, "pretrained", pool=pool, size=n)
            for way in SCRATCH:
                anew = transferred(results, way, pool=pool, size=large)
                lead = paired(results, rows, anew, ("seed", "pool", "fold"))
                name = f"pretrained with {n:.0f} {MINUS} {way} with {large:.0f}, {pool}"
                verdicts.append(lead.above(0, name))
    return all_of(*verdicts or [Effect().above(0, f"pretrained {MINUS} scratch with ten times")])


def _higher_layers(results: Results) -> Verdict:
    rows = transferred(results, "svm")
    layers = depths(rows)
    if len(layers) < 2:
        return Effect().above(0)

    def over(upper, lower, margin):
        sides = (rows[rows["layer"] == layer] for layer in (upper, lower))
        return paired(results, *sides, FOLD).above(margin, f"{upper} {MINUS} {lower}")

    steps = [over(upper, lower, -FALL) for lower, upper in itertools.pairwise(layers)]
    return all_of(over(layers[-1], layers[0], 0), *steps)


def _occluded(results: Results) -> Verdict:
    names = ("inside", "inside another box")
    sides = (results.select(measure, experiment="occlusion") for measure in names)
    return paired(results, *sides).above(0, f"in its own box {MINUS} in other images'")


def _convergence(results: Results) -> Verdict:
    halves = ("lower", "upper")
    sides = (results.select("progress", experiment="evolution", half=half) for half in halves)
    return paired(results, *sides).above(LATE, f"progress of lower {MINUS} upper layers")


def _several_labels(results: Results) -> Verdict:
    kinds = ("svm", "softmax")
    sides = (results.select("AP", experiment="multilabel", readout=kind) for kind in kinds)
    lead = paired(results, *sides, ("seed", "pool", "class"))
    return lead.above(0, f"SVM a class {MINUS} softmax, mean AP")


SIZES = [(f"{a} fc_{size}", a) for a in ("alexnet", "zfnet") for size in ("half", "double")]
BOTH = ["alexnet", "alexnet without_3_4_6_7"]
ALONE = ["alexnet without_3_4", "alexnet without_6_7"]
DENSE = [(f"alexnet without_{which}", "alexnet") for which in ("7", "6_7")]

CLAIMS = tuple(
    Claim(*claim)
    for claim in (
        ("A smaller, denser first layer helps: zfnet beats alexnet. Supposes that learning is "
         "over.", compared("above", ["zfnet"], ["alexnet"], 0), "+2.1"),
        ("Averaging probabilities helps: an ensemble beats the mean of its members. Ensembles "
         "share no member.", _averaging, "+1.7 (five networks)"),
        ("Removing fully connected layers (7; 6 and 7) costs alexnet less than 5 points. "
         "Supposes that learning is over.", every("above", DENSE, -LITTLE),
         f"+0.5; {MINUS}4.3"),
        ("Removing convolutional layers 3 and 4 costs alexnet less than 5 points. Supposes "
         "that learning is over.", compared("above", ALONE[:1], ["alexnet"], -LITTLE),
         f"{MINUS}4.9"),
        ("Depth matters: removing layers 3, 4, 6 and 7 costs alexnet more than the two "
         "removals together (half the excess is shown). Supposes that learning is over.",
         compared("above", ALONE, BOTH, 0), "+10.8"),
        ("Halving or doubling layers 6 and 7 changes top-1 by less than 3 points either way. "
         "Supposes that learning is over.", every("within", SIZES, SLIGHT),
         f"{MINUS}1.8 to +0.5"),
        ("Wider layers 3 to 5 help zfnet. Supposes that learning is over.",
         compared("above", ["zfnet conv345_wide"], ["zfnet"], 0), "+0.9"),
        ("Without the filter rule a few filters dominate the first layer: the strongest holds "
         "more than twice the share of energy that it holds with the rule.", _dominant_filters),
        ("More first-layer filters are dead in alexnet than in zfnet.", _dead_filters),
        ("Pretrained features beat the same network trained from scratch on small targets, also "
         "for the steps of both trainings.",
         _pretraining, "Caltech-101 +61.0 (15 images), +40.0 (30); Caltech-256 +35.4 (60)"),
        ("Pretrained features with few images a class (about 6) beat training from scratch "
         "with ten times as many, which stands for the best other method of the paper.",
         _few_images, "6 images beat the other's 60"),
        ("Higher layers are more discriminative: an SVM on the last hidden layer beats one on "
         "the first, and no layer falls 2 points or more below the one under it.",
         _higher_layers, f"+40.7; steps from {MINUS}0.7 to +21.4 (Caltech-101)"),
        ("Covering the object hurts most: the worst place of the square lies in the image's "
         "own box more often than in boxes of other images.", _occluded),
        ("Lower layers converge early, upper ones late: between the ends of training the "
         "strongest images of lower layers have come further, by more than 5 points.",
         _convergence),
        ("On images of several classes a readout that allows for several (one SVM a class) "
         "beats softmax.", _several_labels, "supposed, no figure"),
    )
)  # fmt: skip
