"""Oquab et al. 2014, "Learning and Transferring Mid-Level Image Representations using CNNs".

A network is pretrained on images of one object; layers FCa and FCb on its frozen fc7 learn to tell
windows of photographs apart; an image's score is that of all its windows, which drawn back on the
image are a map of where the object is. Beyond the paper, training from scratch is also given the
steps of pretraining, near classes are compared with as many random ones, and maps are tested
against boxes of other images.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ml_collections import ConfigDict
from PIL import Image

from transfer_jax.data.batches import permutation
from transfer_jax.data.dataset import Dataset, digest
from transfer_jax.data.hierarchy import class_hierarchy, relatives
from transfer_jax.data.splits import random_classes
from transfer_jax.data.tasks import Task, subset_task
from transfer_jax.data.windows import Grid, patch_task, whole_images
from transfer_jax.grid.cell import Cell, Entry
from transfer_jax.grid.store import Store, TrainedNetwork
from transfer_jax.networks import adapted
from transfer_jax.readout.metrics import average_precisions
from transfer_jax.readout.windows import Pyramid, image_score, scan, score_map
from transfer_jax.report import (
    MINUS,
    Results,
    Section,
    level,
    networks_section,
    plots,
    read_published,
    spread,
)
from transfer_jax.report.plots import COLOURS
from transfer_jax.studies import oquab2014_claims as claims
from transfer_jax.studies.oquab2014_claims import ADAPTATION, CUT
from transfer_jax.studies.settings import (
    SCRATCH,
    Opener,
    base_cell,
    chosen,
    imported_cell,
    integers,
    network_from,
    recipe_from,
)
from transfer_jax.training.recipe import as_long_as_both, twice_as_long
from transfer_jax.transfer import Treatment

TITLE = "Learning and transferring mid-level image representations"
CLAIMS = claims.CLAIMS

WAYS = ("all", "random", "near", "long")
"""To pretrain: on all classes but the targets, random ones, near ones; on all twice as long."""

POWERS = {"1": 1.0, "5": 5.0, "max": np.inf}
RULES = ("area", "voc2007")
SHARE = 0.2  # of a window that must lie in the box of the person who is asked about


# Cells


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """What networks are adapted to.

    Attributes:
      opened: as it was opened; its rows are what is ranked: images, or people.
      images: whole photographs, with their objects.
      classes: of both.
      learn, test: splits.
    """

    opened: Dataset
    images: Dataset
    classes: tuple[int, ...]
    learn: str
    test: str

    def task(self, config, seed: int, images_per_class: int = 0) -> Task:
        """Windows to learn from and to be tested on; 0 stands for all images."""
        grid = Grid(tuple(config.windows.scales), config.windows.overlap)
        return patch_task(
            "B",
            self.images,
            grid,
            config.seed + seed,
            size=network_from(config.network, 2).input_shape[0],
            per_class=config.windows.per_class,
            classes=self.classes,
            background=config.windows.background,
            images_per_class=images_per_class or None,
            splits=(self.learn, self.test),
        )

    def objects(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, boxes and difficulty of what is marked in a photograph, if anything is."""
        if self.images.boxes is None:
            return np.zeros(0, int), np.zeros((0, 4)), np.zeros(0, bool)
        return self.images.boxes[row]

    def tested(self, config, place: int) -> np.ndarray:
        """The test images of the seed at this place of the config's."""
        rows, folds = np.asarray(self.images.splits[self.test]), config.target.folds
        return np.sort(rows[permutation(len(rows), config.seed)][place % folds :: folds])


def entries(config: ConfigDict, open_dataset: Opener) -> list[Entry]:
    """Every network that the config asks for: pretrained, adapted, fine-tuned, from scratch."""
    target, wanted = _target(config, open_dataset), config.experiments
    amounts = integers(wanted.images_per_class, "experiments.images_per_class")
    depths = integers(wanted.adaptation_layers, "experiments.adaptation_layers")
    found: list[Entry] = []
    for seed in integers(config.seeds, "seeds"):
        task = target.task(config, seed)
        few = {count: target.task(config, seed, count) for count in amounts}
        bases = dict(_bases(config, open_dataset, target, task, seed))
        if not bases:
            raise ValueError("config.pretraining.ways and config.imported.path are empty")
        main = next(iter(bases.values()))
        make = functools.partial(_cell, config, seed)
        cells = [({"condition": name}, make(task, base)) for name, base in bases.items()]
        cells += [({"layer": cut}, make(task, main, cut)) for cut in wanted.layers if cut != CUT]
        cells += [({"adaptation": depth}, make(task, main, depth=depth)) for depth in depths
                  if depth != ADAPTATION]  # fmt: skip
        for count, less in few.items():
            cells.append(({"images_per_class": count}, make(less, main)))
            cells.append(({"condition": "scratch", "images_per_class": count}, make(less)))
        if wanted.fine_tuned:
            cells.append(({"experiment": "fine_tuned"}, make(task, main, fine_tuned=True)))
        alone = make(task)
        cells.append(({"condition": "scratch"}, alone))
        if main.imported is None:
            recipe = as_long_as_both(alone.recipe, main.recipe)
            longer = dataclasses.replace(alone, recipe=recipe)
            cells.append(({"condition": "scratch, as long"}, longer))
        usual = {"study": "oquab2014", "seed": seed, "condition": next(iter(bases))}
        found += [(usual | {"experiment": "pretrained", "condition": name}, base)
                  for name, base in bases.items()]  # fmt: skip
        usual |= {"layer": CUT, "adaptation": ADAPTATION, "images_per_class": 0}
        for tags, cell in cells:
            kind = "scratch" if cell.source is None else "frozen"
            found.append((usual | {"experiment": kind} | tags, cell))
    return found


def _target(config, open_dataset: Opener) -> Target:
    opened, wanted = open_dataset(config.target.dataset), config.target
    images = whole_images(opened)
    names = chosen(wanted.classes, images.class_names, "target.classes") or images.class_names
    chosen((wanted.learn, wanted.test), images.splits, "target.learn and target.test")
    classes = tuple(images.class_names.index(name) for name in names)
    return Target(opened, images, classes, wanted.learn, wanted.test)


def _bases(config, open_dataset, target: Target, task: Task, seed: int) -> Iterator:
    """Name and cell of each base, the reference first."""
    wanted, recipe = config.pretraining, recipe_from(config.recipe)
    if imported := imported_cell(config, task):
        yield "imported", imported
    ways = chosen(wanted.ways, WAYS, "pretraining.ways")
    if not ways:
        return
    data = open_dataset(config.dataset)
    names = {target.images.class_names[c] for c in target.classes}
    pool = [c for c, name in enumerate(data.class_names) if name not in names]
    for way in ways:
        classes = pool
        if way in ("random", "near"):
            if wanted.count < 2:
                raise ValueError(
                    f"--config.pretraining.count={wanted.count}: expected 2 classes or more"
                )
            near = _near(wanted, data, pool, names) if way == "near" else []
            draw = functools.partial(random_classes, seed=config.seed + seed)
            drawn = draw(near, min(wanted.count, len(near)))
            classes = [*drawn, *draw(set(pool) - set(near), wanted.count - len(drawn))]
        # What is trained on more steps is compared with what bears the same name.
        learned = subset_task("all" if way == "long" else way, data, classes)
        how = twice_as_long(recipe) if way == "long" else recipe
        yield way, base_cell(config.network, learned, how, seed)


def _near(wanted, data: Dataset, pool: Sequence[int], names: set[str]) -> list[int]:
    """Classes of the pool that share an ancestor with the targets, or with those named instead."""
    like = chosen(wanted.like or sorted(names), data.class_names, "pretraining.like")
    like = [data.class_names.index(name) for name in like]
    near = relatives(class_hierarchy(data, wanted.hierarchy_csv or None), like, wanted.depth)
    return sorted(set(near) & set(pool))


def _cell(
    config,
    seed: int,
    task: Task,
    base: Cell | None = None,
    cut: str = CUT,
    depth: int = ADAPTATION,
    fine_tuned: bool = False,
) -> Cell:
    """Adaptation layers on a base up to `cut`, or the same network from scratch."""
    below = network_from(config.network, 2) if base is None else base.network
    hidden = (config.adaptation_width,) * (depth - 1)
    network = adapted(below, cut, hidden, task.num_classes)
    treatment = Treatment("B")
    if base is not None:
        treatment = Treatment("B", "A", len(network.layers) - depth, fine_tuned)
    changes = config.train_recipe if base is None or fine_tuned else config.adapt_recipe
    return Cell(network, task, treatment, recipe_from(config.recipe, **changes), seed, base)


# What is read out of the networks


def measure(config: ConfigDict, open_dataset, entries: Sequence[Entry], store: Store) -> None:
    """Average precisions and the pointing game of every finished network; score maps of the
    reference."""
    target, pyramid = _target(config, open_dataset), _pyramid(config)
    tuned = [(tags, cell) for tags, cell in entries if tags["experiment"] != "pretrained"]
    finished, seeds = [entry for entry in tuned if store.finished(entry[1])], list(config.seeds)
    for number, (tags, cell) in enumerate(finished):
        rows = target.tested(config, seeds.index(tags["seed"]))
        tags = {**tags, "tested": digest(target.images.name, rows)}
        inputs, network = [tags, cell.hash, str(pyramid)], store.trained(cell)
        compute = functools.partial(_scored, tags, network, target, rows, pyramid)
        store.measure(f"windows/{digest(*tags.items())}", inputs, compute)
        if number == 0:  # the reference of the first seed
            compute = functools.partial(_maps, network, target, rows, pyramid, config.maps)
            store.measure("maps", [*inputs, config.maps], compute)


def _pyramid(config) -> Pyramid:
    return Pyramid(tuple(config.pyramid.scales), config.pyramid.stride)


def _scan(network: TrainedNetwork, target: Target, rows: np.ndarray, pyramid: Pyramid) -> Iterator:
    """(place in rows, boxes (M, 4), probabilities (M, classes)) of images; the background's are
    left out."""
    of = network.network, network.params, target.images.image, rows
    scale = network.recipe.pixel_scale
    for place, boxes, logits in scan(*of, mean=network.mean, pixel_scale=scale, pyramid=pyramid):
        yield place, boxes, np.asarray(jax.nn.softmax(logits))[:, :-1]


def _scored(tags, network: TrainedNetwork, target: Target, rows, pyramid):
    """Average precisions of images or people by all powers and rules, and the pointing game."""
    asked, peaks, found = _Asked.of(target, rows), {}, []
    scores = {k: np.zeros((len(asked.place), len(target.classes))) for k in POWERS}
    for place, boxes, said in _scan(network, target, rows, pyramid):
        for number in np.flatnonzero(asked.place == place):
            seen = said[asked.windows(number, boxes)]
            for k, power in POWERS.items():
                scores[k][number] = image_score(seen, power)
        peaks |= _peaks(target, rows, place, boxes, said)

    def tell(name, value, **more):
        found.append({**tags, "measure": name, "value": float(value), **more})

    for k, rule in itertools.product(POWERS, RULES):
        values = average_precisions(scores[k], asked.labels, rule)
        tell("mean_ap", np.nanmean(values), k=k, rule=rule)
        for label, value in zip(target.classes, values, strict=True):
            if k == "5" and np.isfinite(value):
                tell("ap", value, k=k, rule=rule, class_name=target.images.class_names[label])
    arrays = _pointing(target, rows, peaks)
    for name, right in arrays.items() if peaks else ():
        tell(name, right.mean(), right=name, images=f"{tags['tested']} objects")
    return found, arrays


@dataclasses.dataclass(frozen=True, eq=False)
class _Asked:
    """What is ranked: images, or people in them.

    Attributes:
      place: (Q,) the image of each, as a place in the rows.
      labels: (Q, classes).
      boxes: (Q, 4) of people; None for images.
    """

    place: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None

    @classmethod
    def of(cls, target: Target, rows: np.ndarray) -> _Asked:
        opened = target.opened
        if opened is target.images:
            labels = opened.labels[rows]
            if labels.ndim == 1:
                labels = (labels[:, None] == np.arange(len(opened.class_names))).astype(np.int8)
            return cls(np.arange(len(rows)), labels[:, target.classes], None)
        image_of = opened.source.source.places[opened.source.rows]
        people = np.flatnonzero(np.isin(image_of, rows))
        labels = opened.labels[people][:, target.classes]
        return cls(np.searchsorted(rows, image_of[people]), labels, opened.source.boxes[people])

    def windows(self, number: int, boxes: np.ndarray) -> np.ndarray:
        """Which windows count: all of an image's, of a person's those that overlap it enough, or
        most."""
        if self.boxes is None:
            return np.ones(len(boxes), bool)
        box = self.boxes[number]
        sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
        share = np.prod(np.maximum(sides, 0), axis=1)
        share = share / np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        return share >= min(SHARE, share.max())


def _peaks(target: Target, rows, place: int, boxes, said) -> dict[tuple, np.ndarray]:
    """(class, place) -> where the map is highest, (y, x) as fractions, for classes that show."""
    labels, _, difficult = target.objects(rows[place])
    shape, found = target.images.image(rows[place]).shape[:2], {}
    for label in sorted(set(labels[~difficult].tolist()) & set(target.classes)):
        heat = score_map(boxes, said[:, target.classes.index(label)], shape)
        peak = np.unravel_index(np.argmax(heat), shape)
        found[label, place] = (np.array(peak) + 0.5) / shape
    return found


def _pointing(target: Target, rows, peaks: dict) -> dict[str, np.ndarray]:
    """Whether peaks lie in a box of their class, in their own image and in the next one that shows
    the class, of classes that several images show."""
    own, other = [], []

    def inside(label, place, peak) -> bool:
        labels, boxes, _ = target.objects(rows[place])
        boxes = boxes[labels == label]
        return bool(((boxes[:, :2] <= peak) & (peak <= boxes[:, 2:])).all(axis=1).any())

    for label in target.classes:
        places = sorted(place for of, place in peaks if of == label)
        places = places if len(places) > 1 else []
        for here, there in zip(places, places[1:] + places[:1], strict=True):
            own.append(inside(label, here, peaks[label, here]))
            other.append(inside(label, there, peaks[label, here]))
    return {"pointing": np.array(own, bool), "pointing_permuted": np.array(other, bool)}


def _maps(network: TrainedNetwork, target: Target, rows, pyramid, count: int):
    """Pictures of the classes' strongest images, and of the strongest that do not show the class:
    thumbnails, maps, boxes, texts."""
    asked, best = _Asked.of(target, rows), {}
    for place, boxes, said in _scan(network, target, rows, pyramid):
        labels = asked.labels[asked.place == place]
        for column, value in enumerate(image_score(said)):
            key = bool((labels[:, column] == 1).any()), column
            if (labels[:, column] >= 0).all() and value > best.get(key, (0.0,))[0]:
                best[key] = value, place, boxes, said[:, column]
    arrays = {}
    for shows in (True, False):
        ranked = sorted((key for key in best if key[0] == shows), key=lambda key: -best[key][0])
        for number, key in enumerate(ranked[:count]):
            value, place, boxes, scores = best[key]
            pixels = Image.fromarray(target.images.image(rows[place]))
            pixels.thumbnail((96, 96))
            label, objects = target.classes[key[1]], target.objects(rows[place])
            name = f"{'strongest' if shows else 'failure'}{number}"
            text = f"{target.images.class_names[label]} {value ** (1 / 5):.2f}"
            arrays |= {
                f"{name}:image": np.asarray(pixels),
                f"{name}:map": score_map(boxes, scores, pixels.size[::-1]).astype(np.float32),
                f"{name}:boxes": objects[1][objects[0] == label],
                f"{name}:text": np.array(text),
            }
    return [], arrays


# Tables and figures

BARS = "Bars: 95 % intervals over seeds, none with one seed."


def compared(results: Results) -> dict[str, dict[str, pd.DataFrame]]:
    """Section -> what it compares -> rows of mean_ap."""
    frozen = results.select(None, experiment="frozen")

    def tried(tag):
        return sorted(set(frozen[tag].dropna())) if tag in frozen else []

    there = set(results.frame.get("condition", ()))
    names = [name for name in ("imported", *WAYS) if name in there]
    main = claims.reference(results)
    counts = {f"{n:g}" if n else "all": n for n in (*filter(None, tried("images_per_class")), 0)}
    return {
        "pretraining": {
            **{name: claims.networks(results, condition=name) for name in names},
            **{name: claims.scratch(results, name) for name in SCRATCH},
            f"{main}, fine-tuned": claims.networks(results, experiment="fine_tuned"),
        },
        "layer": {cut: claims.networks(results, layer=cut) for cut in tried("layer")},
        "adaptation layers": {
            f"{n:g}": claims.networks(results, adaptation=n) for n in tried("adaptation")
        },
        "score": {k: claims.networks(results, k=k) for k in POWERS},
        "adapted": {x: claims.networks(results, images_per_class=n) for x, n in counts.items()},
        "from scratch": {x: claims.scratch(results, images_per_class=n) for x, n in counts.items()},
    }


def sections(results: Results) -> list[Section]:
    """The study's part of the page."""
    main, found = claims.reference(results), compared(results)
    text = f"Layers adapted on '{main}', fc7, two adaptation layers, unless said otherwise. {BARS}"
    return [
        Section("Does pretraining help, and on which classes?", [
            (bars(results, found, ("pretraining",)), "Mean average precision over test images."),
            (table(results, found["pretraining"], main), "Mean and standard deviation over seeds; "
             f"points against '{main}'."),
            (by_class(results, found["pretraining"]), "Average precision (%) by class, area rule, "
             "mean over seeds; published: larger networks and images, the devkit's own division."),
        ], text),
        Section("Which layer, how many adaptation layers, which score?", [
            (bars(results, found, ("layer", "adaptation layers", "score")), f"mAP. {BARS}"),
            *((table(results, found[name], base), f"By {name}.") for name, base in
              (("layer", "fc8"), ("adaptation layers", "2"), ("score", "1"))
              if base in found[name]),
            (scores(results), "mAP (%) by score and rule."),
        ]),
        Section("How many images a class?", [
            (amounts(found), f"mAP by training images of each class. {BARS}"),
            (table(results, found["adapted"], "all"), "Adapted layers."),
            (table(results, found["from scratch"], "all"), "From scratch."),
        ]),
        Section("Where are the objects?", [
            (pointing(results), "The pointing game: images and classes whose map peaks in a box of "
             "the class (%), and in a box of that class in the next image that shows it."),
            (maps(results.arrays("maps"), "strongest"), "The strongest images of the classes with "
             "the highest scores, and their maps; white: boxes of the class. The number is the "
             "fifth root of the score."),
            (maps(results.arrays("maps"), "failure"), "Failures: the strongest images that do not "
             "show the class."),
        ]),
        networks_section(results, "pretrained"),
    ]  # fmt: skip


def table(results: Results, rows: dict[str, pd.DataFrame], base: str) -> pd.DataFrame | None:
    """mAP of what is compared, and the effect against one of them."""
    found = {
        name: {
            "mAP (%)": spread(of["value"]),
            f"{MINUS} {base}": "" if name == base else str(claims.gain(results, of, rows[base])),
        }
        for name, of in rows.items()
        if len(of)
    }
    return pd.DataFrame.from_dict(found, orient="index")


def scores(results: Results) -> pd.DataFrame | None:
    """mAP by score and rule, of the reference and from scratch."""
    rows = results.select("mean_ap", images_per_class=0, layer=CUT, adaptation=ADAPTATION)
    if rows.empty:
        return None
    rows = rows.assign(score="k = " + rows["k"] + ", " + rows["rule"])
    found = rows.groupby(["experiment", "condition", "score"], sort=False)["value"].agg(spread)
    return found.unstack()


SAME = ("experiment", "condition", "layer", "adaptation", "images_per_class", "seed")
"""What tells the measured networks apart."""


def by_class(results: Results, rows: dict[str, pd.DataFrame]) -> pd.DataFrame | None:
    """Average precision by class of the networks compared, by area, and as published."""
    ours, measured = {}, results.select("ap", rule="area")
    for name, of in rows.items():
        some = measured.merge(of[list(SAME)].drop_duplicates(), on=list(SAME))
        if len(some):
            values = some.groupby("class_name", sort=False)["value"].mean()
            ours[name] = 100 * pd.Series({"mean": values.mean(), **values})
    if not ours:
        return None
    ours = pd.DataFrame.from_dict(ours, orient="index")
    printed = [read_published(f"oquab2014_{kind}") for kind in ("objects", "actions")]
    for table in printed:
        table.index = table.pop("task") + ", " + table.pop("method") + " (published)"
    same = [table[list(ours)] for table in printed if set(ours) <= set(table)]
    return pd.concat([ours, *same]).map("{:.1f}".format)


def bars(results: Results, found: dict, names: Sequence[str]) -> Figure | None:
    """Levels of what is compared, one panel each."""
    names = [name for name in names if sum(len(of) > 0 for of in found[name].values()) > 1]
    if not names:
        return None
    figure, (panels,) = plots.new_figure(10, 3.4, ncols=len(names), sharey=True)
    for axes, name in zip(panels, names, strict=True):
        levels = {label: level(of) for label, of in found[name].items() if len(of)}
        plots.dots(axes, dict(enumerate(levels.values())), fmt="o", color=COLOURS["blue"])
        axes.set_xticks(range(len(levels)), list(levels), rotation=0 if len(levels) < 4 else 20)
        axes.set_xlim(-0.5, len(levels) - 0.5)
        axes.set_xlabel(name if name != "score" else "score: power k, or maximum")
    panels[0].set_ylabel("mAP (%)")
    return figure


def amounts(found: dict) -> Figure | None:
    """mAP against images a class, of adapted layers and from scratch."""
    labels = [label for label, of in found["adapted"].items() if len(of)]
    if len(labels) < 2:
        return None
    figure, ((axes,),) = plots.new_figure(6, 3.6)
    for name, colour, aside in (("adapted", "blue", -0.02), ("from scratch", "orange", 0.02)):
        levels = {x + aside: level(found[name][label]) for x, label in enumerate(labels)}
        plots.dots(axes, levels, fmt="o-", color=COLOURS[colour], label=name)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel="training images of each class", ylabel="mAP (%)")
    axes.legend()
    return figure


def pointing(results: Results) -> pd.DataFrame | None:
    """The pointing game by condition."""
    found = {}
    for condition in dict.fromkeys(results.select("pointing")["condition"]):
        kind = "scratch" if condition.startswith("scratch") else "frozen"
        own, other = (claims.networks(results, name, condition=condition, experiment=kind)
                      for name in ("pointing", "pointing_permuted"))  # fmt: skip
        if len(own):
            found[condition] = {
                "in a box of its own image": spread(own["value"]),
                "of another image": spread(other["value"]),
                "difference": str(claims.gain(results, own, other)),
            }
    return pd.DataFrame.from_dict(found, orient="index")


def maps(arrays: dict[str, np.ndarray], kind: str) -> Figure | None:
    """Images and their maps side by side, the boxes of the class drawn on both."""
    names = [name.removesuffix(":text") for name in arrays if name.endswith(":text")]
    names = [name for name in names if name.startswith(kind)]
    if not names:
        return None
    figure, (above, below) = plots.new_figure(10, 2.9, nrows=2, ncols=len(names))
    for top, bottom, name in zip(above, below, names, strict=True):
        image, heat = arrays[f"{name}:image"], arrays[f"{name}:map"]
        top.imshow(image)
        bottom.imshow(heat, cmap="magma", vmin=0)
        top.set_title(str(arrays[f"{name}:text"]), fontsize=8, loc="center", weight="normal")
        height, width = heat.shape
        for axes in (top, bottom):
            axes.axis("off")
            for y0, x0, y1, x1 in arrays[f"{name}:boxes"] * [height, width, height, width]:
                corner = x0 - 0.5, y0 - 0.5
                axes.add_patch(Rectangle(corner, x1 - x0, y1 - y0, fill=False, ec="white", lw=1))
    return figure
