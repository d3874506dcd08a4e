"""Huh, Agrawal, Efros 2016, "What makes ImageNet good for transfer learning?".

A network is pretrained on a part or a relabelling of one dataset and fine-tuned on targets: its
last layer is replaced, all layers learn. A way to pretrain is the tags question, condition and
amount (its place on the question's axis); ways that are the same task are one network. Beyond the
paper, halves and budgets are drawn anew for each seed, the base trained twice as long says whether
more steps would change transfer, and an untrained network stands beside the nearest neighbours.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ml_collections import ConfigDict
from PIL import Image

from transfer_jax.data.ancestor_splits import split_by_ancestors
from transfer_jax.data.dataset import Dataset, digest
from transfer_jax.data.hierarchy import class_hierarchy
from transfer_jax.data.label_sets import HUH2016_TOP_DOWN, Level, bottom_up, published, top_down
from transfer_jax.data.outline import NoImagesError
from transfer_jax.data.splits import man_made_natural, random_classes, random_halves
from transfer_jax.data.tasks import (
    Task,
    budget_task,
    fold_task,
    relabelled_task,
    single_label_task,
    subset_task,
)
from transfer_jax.detection import evaluate
from transfer_jax.detection.network import detector
from transfer_jax.detection.objective import detection_task
from transfer_jax.detection.proposals import SelectiveSearch, proposals
from transfer_jax.grid.cell import Cell, Entry
from transfer_jax.grid.store import Store, TrainedNetwork
from transfer_jax.readout.features import layer_features, probabilities
from transfer_jax.readout.linear import layer_accuracy
from transfer_jax.readout.metrics import average_precision_by_image
from transfer_jax.readout.neighbours import class_means, nearest, neighbours_right, sibling_share
from transfer_jax.report import MINUS, Results, Section, level, networks_section, plots, spread
from transfer_jax.report.plots import COLOURS, DOTTED
from transfer_jax.studies import huh2016_claims as claims
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
from transfer_jax.transfer import Treatment

TITLE = "What makes ImageNet good for transfer learning?"
CLAIMS = claims.CLAIMS

TITLES = {
    "images": "How many pretraining images are needed?",
    "classes": "How many pretraining classes are needed, and how fine?",
    "budget": "More classes, or more images of each?",
    "overlap": "What if the target's classes are pretrained on?",
    "halves": "Does the other half of the classes help?",
    "unrelated": "Do unrelated classes help?",
    "long": "Would more steps of pretraining help?",
    "imported": "Transfer from an imported network",
}
"""The questions, and what they ask."""

FIELDS = {name: f"experiments.{name}" for name in TITLES}
FIELDS |= {"images": "experiments.images_per_class", "imported": "imported.path"}
"""What in a config asks for them."""

KINDS = ("classification", "actions", "detection")
"""Of targets. 'actions' are multi-label data of which images with one label are learned from, and
the average precision over all of them is measured beside the accuracy. 'detection' is Fast R-CNN on
images with boxes, conv1 held, of which the mean average precision is measured."""


# Cells


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """What is pretrained on: a dataset, the classes that pretraining may see, those that are held
    out for targets, and which of all are natural (none where the config does not ask)."""

    dataset: Dataset
    classes: Sequence[int]
    held_out: Sequence[int]
    natural: frozenset[int]

    def task(self, classes: Sequence[int] | None = None, **options) -> Task:
        """All images of the pretraining classes, or of others."""
        classes = self.classes if classes is None else classes
        return subset_task("A", self.dataset, classes, **options)


@dataclasses.dataclass(frozen=True)
class Target:
    """What networks are fine-tuned on: the fields of the config, and what they mean here."""

    name: str
    settings: ConfigDict
    pool: Dataset
    classes: Sequence[int]
    splits: tuple[str, ...]
    proposals: np.ndarray | None = dataclasses.field(default=None, repr=False)

    @property
    def tags(self) -> dict:
        """What results say of it."""
        return {"target": self.name, "kind": self.settings.kind, "classes": self.settings.classes}

    def task(self, seed: int) -> Task:
        """One draw of training and test images; the pool's own split where none are drawn."""
        wanted = self.settings
        if wanted.kind == "detection":
            return self.found
        if wanted.train_per_class == 0:
            return single_label_task("B", self.pool)
        sizes = {name: wanted[name] for name in ("train_per_class", "test_per_class")}
        of = {"classes": self.classes, "splits": self.splits}
        with asked_by(f"targets.{self.name}"):
            return fold_task("B", self.pool, seed=seed, **sizes, **of)

    @functools.cached_property
    def found(self) -> Task:
        """The task of detection, the same for all seeds."""
        return detection_task("B", self.pool, self.proposals, splits=self.splits)

    def cell(self, config: ConfigDict, seed: int) -> Cell:
        """The network of the config trained on the target alone."""
        task, changes = self.task(seed), {**config.fine_tune_recipe, **self.settings.recipe}
        recipe = recipe_from(config.recipe, **changes)
        network = network_from(config.network, task.num_classes)
        if self.settings.kind == "detection":
            network = detector(network, task.num_classes, self.pool.image_shape[0])
        return Cell(network, task, Treatment("B"), recipe, seed)


def entries(config: ConfigDict, open_dataset: Opener) -> list[Entry]:
    """Every network that the config asks for: pretrained, fine-tuned, and trained from scratch."""
    source = _source(config, open_dataset)
    targets = list(_targets(config, source, open_dataset))
    found: list[Entry] = []
    for seed in integers(config.seeds, "seeds"):
        bases = list(_pretrained(config, source, seed))
        found += [({**tags, "experiment": "pretrained"}, cell) for tags, cell in bases]
        for target in targets:
            alone = target.cell(config, seed)
            recipes = alone.recipe, as_long_as_both(alone.recipe, recipe_from(config.recipe))
            tags = {"study": "huh2016", "experiment": "scratch", "seed": seed, **target.tags}
            for name, how in zip(SCRATCH, recipes, strict=True):
                found.append(({**tags, "condition": name}, dataclasses.replace(alone, recipe=how)))
            held = 1 if target.settings.kind == "detection" else 0
            treatment = Treatment("B", "A", len(alone.network.layers) - 1, True, held)
            for tags, base in bases:
                if tags["question"] in (target.settings.questions or tags["question"]):
                    cell = dataclasses.replace(alone, treatment=treatment, source=base)
                    found.append(({**tags, "experiment": "fine_tuned", **target.tags}, cell))
    return found


def _pretrained(config, source: Source, seed: int) -> Iterator[Entry]:
    recipe, whole = recipe_from(config.recipe), source.task()
    found = list(_ways(config, source, config.seed + seed))
    amounts = {"images": len(whole.train[0]) / whole.num_classes, "classes": whole.num_classes}
    # What the other ways of a question are compared with; a budget's are with each other.
    asked = dict.fromkeys(question for question, _, _ in found if question != "budget")
    if config.imported.path:
        asked["imported"] = None
    for question in asked or ("images",):
        found.append((question, {"condition": "all", "amount": amounts.get(question)}, whole))
    for question, way, task in found:
        long = way["condition"] == "long"
        # What is trained on more steps is compared with what bears the same name.
        task = dataclasses.replace(task, name="all" if long else way["condition"])
        more = {"num_images": len(task.train[0]), "seed": seed}
        cell = base_cell(config.network, task, twice_as_long(recipe) if long else recipe, seed)
        yield {"study": "huh2016", "question": question, **way, **more}, cell
    if config.imported.path:
        own = source.task(range(len(source.dataset.class_names)))
        tags = {"study": "huh2016", "question": "imported", "condition": "imported", "seed": seed}
        yield tags, imported_cell(config, own)


def _ways(config, source: Source, seed: int) -> Iterator[tuple[str, dict, Task]]:
    """Question, tags and task of every way to pretrain but on everything."""
    wanted, dataset, classes = config.experiments, source.dataset, source.classes

    # Section 4: how many pretraining images are needed?
    for count in integers(wanted.images_per_class, "experiments.images_per_class"):
        task = source.task(images_per_class=count)
        yield "images", {"condition": "first images", "amount": count}, task

    # Section 5.1: how many pretraining classes, and how fine?
    for kind in ("bottom_up", "top_down"):
        known = levels(config, source, kind) if wanted.classes[kind] else {}
        for size in chosen(wanted.classes[kind], known, f"experiments.classes.{kind}"):
            task = relabelled_task("A", dataset, *known[size])
            yield "classes", {"condition": kind.replace("_", "-"), "amount": size}, task

    # Section 5.5: more classes or more images of each?
    for count in integers(wanted.budget.num_classes, "experiments.budget.num_classes"):
        with asked_by(f"experiments.budget.num_classes={count}"):
            total = wanted.budget.total_images
            task = budget_task("A", dataset, count, total, seed, classes=classes)
        yield "budget", {"condition": "budget", "amount": count}, task

    # Section 5.6: what if the target's classes are pretrained on? They displace as many others.
    if wanted.overlap:
        with asked_by(f"held_out={config.held_out} (experiments.overlap)"):
            rest = random_classes(classes, len(classes) - len(source.held_out), seed)
        task = source.task([*source.held_out, *rest])
        yield "overlap", {"condition": "with target classes"}, task

    # Section 6: does the other half of the classes help, near or far? Do unrelated classes?
    for kind in filter(wanted.halves.get, ("random", "apart")):
        if kind == "random":
            halves = random_halves(len(classes), seed)
        else:
            with asked_by("hierarchy_csv"):
                every = class_hierarchy(dataset, config.hierarchy_csv or None)
            halves = split_by_ancestors([every[c] for c in classes], seed)
        for side in chosen(wanted.halves[kind], "AB", f"experiments.halves.{kind}"):
            half = [classes[i] for i in halves["AB".index(side)]]
            yield "halves", {"condition": f"half, {kind}", "side": side}, source.task(half)
    for kind in chosen(wanted.unrelated, ("natural", "man-made"), "experiments.unrelated"):
        kept = [c for c in classes if (c in source.natural) == (kind == "natural")]
        yield "unrelated", {"condition": kind}, source.task(kept)

    # Not in the paper: would twice the steps change transfer?
    if wanted.long:
        yield "long", {"condition": "long"}, source.task()


def levels(config, source: Source, kind: str) -> dict[int, Level]:
    """The pretraining classes merged to fewer and fewer, 'bottom_up' or 'top_down', by number.

    The tree of ILSVRC2012 is that of the paper's bottom-up label sets, from which its top-down ones
    do not follow: those are read from its table.
    """
    dataset = source.dataset
    if kind == "top_down" and not config.hierarchy_csv and dataset.class_paths is None:
        found = published(dataset.class_names, HUH2016_TOP_DOWN, source.classes)
    else:
        with asked_by("hierarchy_csv"):
            paths = class_hierarchy(dataset, config.hierarchy_csv or None)
        found = {"bottom_up": bottom_up, "top_down": top_down}[kind](paths, source.classes)
    return {level.num_classes: level for level in found}


def _source(config, open_dataset: Opener) -> Source:
    dataset = open_dataset(config.dataset)
    every, natural = range(len(dataset.class_names)), []
    with asked_by(f"held_out={config.held_out}"):
        held_out = random_classes(every, config.held_out, config.seed)
    classes = sorted(set(every) - set(held_out))
    if len(classes) < 2:
        raise ValueError(f"--config.held_out={config.held_out} leaves {len(classes)} classes")
    if config.experiments.unrelated:
        table = config.superclass_csv or None
        with asked_by("superclass_csv"):
            _, natural = man_made_natural(dataset.class_names, dataset.class_paths, table)
    return Source(dataset, classes, held_out, frozenset(natural))


def _targets(config, source: Source, open_dataset: Opener) -> Iterator[Target]:
    for name, wanted in config.targets.items():
        field = f"targets.{name}"
        chosen([wanted.kind], KINDS, f"{field}.kind")
        held_out = () if wanted.kind == "detection" else ("held_out", "held_out_natural")
        chosen([wanted.classes], ("all", *held_out), f"{field}.classes")
        chosen(wanted.questions, TITLES, f"{field}.questions")
        boxes = None
        if wanted.classes == "all":
            pool, splits = open_dataset(wanted.dataset), ("train", "val")
            classes = range(len(pool.class_names))
        else:
            # Pretraining learns from 'train': the target's images are others, whatever the class.
            pool, splits, classes = source.dataset, ("val",), source.held_out
            if wanted.classes == "held_out_natural":
                classes = sorted(set(classes) & source.natural)
            if len(classes) < 2 or wanted.train_per_class == 0:
                raise ValueError(
                    f"--config.{field}: {len(classes)} held-out classes of train_per_class="
                    f"{wanted.train_per_class} images; expected at least 2, of 1 (natural ones are "
                    "known where config.experiments.unrelated asks)"
                )
        if wanted.kind == "detection":
            if pool.image_shape is None or wanted.dataset.fit != "squash":
                raise ValueError(
                    f"--config.{field}.dataset: expected an image_size and fit='squash', so that "
                    "boxes fit their images"
                )
            splits = ("trainval", "test") if "test" in pool.splits else splits
            try:
                boxes = proposals(pool, wanted.proposals or SelectiveSearch(**wanted.search))
            except NoImagesError:  # it is planned with public counts
                boxes = np.zeros((len(pool.labels), 1, 4), np.float32)
        yield Target(name, wanted, pool, classes, splits, boxes)


# What is read out of the networks


def measure(config: ConfigDict, open_dataset, entries: Sequence[Entry], store: Store) -> None:
    """Linear SVMs on frozen features, average precisions of actions and of detections, neighbours
    and siblings; of networks that are finished."""
    del open_dataset
    parts: dict[tuple, list[Entry]] = {}
    for tags, cell in entries:
        if not store.finished(cell):
            continue
        if tags.get("kind") == "detection":
            name, compute = f"detection_{tags['target']}", _detection
        elif tags["experiment"] == "fine_tuned":
            name, compute = f"transfer_{tags['target']}", _transfer
        elif tags.get("question") == "classes":
            name, compute = "neighbours", _neighbours
        else:
            continue
        parts.setdefault((f"{name}_{tags['seed']}", compute), []).append((tags, cell))
    for (name, compute), found in parts.items():
        inputs = [[tags, cell.hash] for tags, cell in found]
        store.measure(name, inputs, functools.partial(compute, store, found))


def _transfer(store: Store, found: Sequence[Entry]):
    """What each network is worth on a target, beside its accuracy after fine-tuning."""
    rows, arrays, known = [], {}, {}
    for tags, cell in found:
        if cell.hash not in known:
            measured = known[cell.hash] = []
            x, y = _features(store.trained(cell.source), cell.task)
            right = layer_accuracy(x["train"], y["train"], x["val"], y["val"])
            arrays[cell.hash] = right
            bits = {"right": cell.hash, "images": store.right(cell)[0]}
            measured.append({"measure": "svm", "value": float(right.mean()), **bits})
            if tags["kind"] == "actions":
                data = cell.task.dataset
                everyone = data.splits["val"]
                said = _probabilities(store.trained(cell), data, everyone)
                added = arrays[f"{cell.hash} mean_ap"] = average_precision_by_image(
                    said, data.labels[everyone]
                )
                images = store.keep_images(data.name, everyone)
                bits = {"right": f"{cell.hash} mean_ap", "images": images}
                measured.append({"measure": "mean_ap", "value": float(added.mean()), **bits})
        rows += [{**tags, **row} for row in known[cell.hash]]
    return rows, arrays


SHOWN, DRAWN = 5, 3
"""Test images whose detections the page shows, and detections in each."""


def _detection(store: Store, found: Sequence[Entry]):
    """Mean average precisions of detectors, and what some find in a few test images."""
    rows, known, task = [], {}, found[0][1].task
    tested, truth = digest(task.dataset.name, task.val[0]), task.dataset.boxes.take(task.val[0])
    shown = np.linspace(0, len(task.val[0]) - 1, SHOWN).astype(int)
    arrays = {"shown": shown, "images": task.dataset.read(task.val[0][shown])}
    arrays |= {f"truth:{name}": array for name, array in vars(truth.take(shown)).items()}
    for tags, cell in found:
        if cell.hash not in known:
            network = store.trained(cell)
            of = network.network, network.params, network.recipe, network.mean, task
            detections = evaluate.detect(*of)
            measured = known[cell.hash] = []
            right = evaluate.judged(detections, truth)
            of = detections, right, truth, task.num_classes
            for measure, rule in (("map_voc07", "voc2007"), ("map_area", "area")):
                added = arrays[f"{cell.hash} {measure}"] = evaluate.by_image(*of, rule)
                kept = {"right": f"{cell.hash} {measure}", "images": tested}
                measured.append({"measure": measure, "value": float(added.mean()), **kept})
            best = [np.flatnonzero(detections.images == place)[:DRAWN] for place in shown]
            name = claims.name_of((tags["condition"], tags.get("amount")))
            for field, array in detections._asdict().items():
                arrays[f"{name}:{field}"] = array[np.concatenate(best)]
        rows += [{**tags, **row} for row in known[cell.hash]]
    return rows, arrays


def _neighbours(store: Store, found: Sequence[Entry]):
    """Question 3: what features of networks that were trained on coarse classes know of the fine
    ones, and whether classes of one parent become neighbours; an untrained network beside them."""
    rows, arrays = [], {}
    whole, fine = next((entry for entry in found if entry[0]["condition"] == "all"), (None, None))
    if fine is None:  # it diverged
        return rows, arrays
    task, (images, _) = fine.task, store.right(fine)
    plain = TrainedNetwork(fine.network, fine.init_params(), fine.recipe, fine.mean(), "untrained")
    untrained, y = _features(plain, task)
    parents = {}
    for tags, cell in found:
        if cell is not fine:
            # Both tasks have the same images, in the same order.
            of = np.zeros(task.num_classes, int)
            of[task.train[1]] = cell.task.train[1]
            parents[claims.name_of((tags["condition"], tags["amount"]))] = of

    def tell(tags, measure, right, images=images, **more):
        key = f"{len(arrays)}"
        arrays[key] = right
        kept = {"measure": measure, "value": float(right.mean()), "right": key, "images": images}
        rows.append({**tags, **kept, **more})

    for tags, cell in ({**whole, "condition": "untrained"}, None), *found:
        x = untrained if cell is None else _features(store.trained(cell), task)[0]
        right = neighbours_right(x["train"], y["train"], x["val"], y["val"])
        tell(tags, "neighbours", right[1])
        if task.num_classes > 5:
            tell(tags, "neighbours_top5", right[5])
        means = class_means(x["val"], y["val"])
        for merged, of in parents.items():
            by_class, chance = sibling_share(means, of)
            some = ~np.isnan(by_class)
            if some.any():
                more = {"level": merged, "chance": chance}
                tell(tags, "siblings", by_class[some] == 1, f"classes {merged}", **more)
        of = parents.get(claims.name_of((tags["condition"], tags["amount"])))
        if of is not None:
            said = _probabilities(store.trained(cell), task.dataset, task.val[0]).argmax(axis=1)
            tell(tags, "guess", _guessed(of, said, tags["seed"]) == y["val"])
            # Images of another class than the said one are moved away, farther than any of it.
            reach = max(np.linalg.norm(part, axis=1).max() for part in untrained.values())
            apart = 2 * reach * np.eye(of.max() + 1)
            train = np.concatenate([untrained["train"], apart[of[y["train"]]]], axis=1)
            val = np.concatenate([untrained["val"], apart[said]], axis=1)
            within = y["train"][nearest(val, train, 1)[:, 0]]
            tell(tags, "untrained_within", within == y["val"])
    return rows, arrays


def _guessed(parents: np.ndarray, said: np.ndarray, seed: int) -> np.ndarray:
    """A fine class drawn uniformly among those of the coarse class that is said."""
    members = np.argsort(parents, kind="stable")
    sizes = np.bincount(parents)
    drawn = (np.random.RandomState(seed).random_sample(len(said)) * sizes[said]).astype(int)
    return members[(np.cumsum(sizes) - sizes)[said] + drawn]


def _features(network: TrainedNetwork, task: Task) -> tuple[dict, dict]:
    """The last hidden layer's features of a task's images, and their labels, by split."""
    layer, x, y = network.network.layer_names[-2], {}, {}
    for split in ("train", "val"):
        rows, y[split] = task.select(split)
        of = (network.network, network.params, task.dataset.read, rows, [layer])
        x[split] = layer_features(*of, view=network.view)[layer]
    return x, y


def _probabilities(network: TrainedNetwork, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    of = (network.network, network.params, dataset.read, rows)
    return probabilities(*of, view=network.view)


# Tables and figures

AXES = {
    "images": "training images of each class",
    "classes": "classes pretrained on",
    "budget": "classes pretrained on, one budget of images",
}
"""Questions whose ways to pretrain have a place on an axis."""
# Only where the tasks differ by their images are accuracies on them compared.
LOOKS = (
    ("pretrained", "top1", "own task", "black", "D"),
    ("fine_tuned", "top1", "fine-tuned", "blue", "o"),
    ("fine_tuned", "svm", "linear SVM", "vermilion", "s"),
    ("fine_tuned", "map_voc07", "detection, mAP", "green", "^"),
)
LOST = {"images": (claims.halved, 1.5), "classes": (claims.fewer, 2.8)}
"""What the paper lost by half of the images and by 127 of 1000 classes, in points of mAP of VOC
2007 detection; and the ways that stand for these here."""
BARS = "Bars: 95 % intervals over seeds, none with one seed."


def sections(results: Results) -> list[Section]:
    """The study's part of the page: a section a question, then features and networks."""
    drawn = f"Left: accuracy. Right: minus the reference, of the same seed and target. {BARS}"
    star = " Star: what the paper lost, in mAP of VOC 2007 detection."
    scratch = {
        f"{target}, {measure}": {
            f"{condition} {MINUS} {alone}": str(
                claims.over_scratch(results, alone, condition, measure, target=target)
            )
            for condition, alone in itertools.product(("all", "imported"), SCRATCH)
        }
        for measure in ("top1", "map_voc07", "map_area")
        for target in results.select(measure, experiment="scratch")["target"].unique()
    }
    return [
        *(Section(title, [
            (figure(results, name), drawn + star * (name in LOST)),
            (table(results, name), "Top-1 (%), mean and standard deviation over seeds, on the "
             "pretraining's own task and on targets; points against the reference."),
        ], field=FIELDS[name]) for name, title in TITLES.items()),
        Section("Do coarse labels teach fine classes, and fine ones coarse?", [
            (features(results), "Left: images whose nearest training image is of their fine class, "
             "by the classes pretrained on. 'guess': a fine class drawn within the coarse one that "
             "the network says; 'untrained_within': the nearest in an untrained network's features "
             "within that class. Right: classes whose nearest other class, by mean features, has "
             f"the same parent. {BARS}"),
            (_by_way(results.select(READOUTS), "measure"), "The same on the left (%)."),
            (_by_way(results.select("siblings"), "level"), "The same on the right (%)."),
        ]),
        Section("Against training from scratch", [
            (pd.DataFrame.from_dict(scratch, orient="index"), "Points by target and measure."),
        ]),
        Section("What detectors find", [
            (precisions(results), "Mean average precision in percent, mean and standard deviation "
             "over seeds: VOC 2007's eleven points, and the area."),
            *((detections(results, target), f"{target}, one seed: the {DRAWN} best detections of "
               "an image with their probabilities; dotted, the marked objects.")
              for target in results.select("map_voc07")["target"].unique()),
        ]),
        networks_section(results, "pretrained", lambda r: claims.name_of((r.condition, r.amount))),
    ]  # fmt: skip


def reference(results: Results, question: str) -> claims.Way | None:
    """What a question's ways are compared with: all classes and images, else the most."""
    found = claims.ways(results, question)
    return next((way for way in found if way[0] == "all"), found[-1] if found else None)


def table(results: Results, question: str) -> pd.DataFrame | None:
    """By way to pretrain: accuracies on its own task and the targets, and effects as text."""
    found, against = claims.ways(results, question), reference(results, question)
    if len(found) < 2:
        return None
    rows = results.select(["top1", "svm", "mean_ap", "map_voc07", "map_area"], question=question)
    tuned = rows["experiment"] == "fine_tuned"
    column = (rows["target"] + ", " + rows["measure"]).where(tuned, "own task")
    shown = _by_way(rows.assign(column=column), "column")
    for experiment, measure, label, *_ in LOOKS[question != "images" :]:
        of = {"measure": measure, "experiment": experiment}
        change = {
            claims.name_of(way): str(claims.gain(results, question, way, against, **of))
            for way in found
            if way != against
        }
        shown[f"{label} {MINUS} {claims.name_of(against)}"] = pd.Series(change, dtype=str)
    return shown


def _by_way(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    if rows.empty:
        return pd.DataFrame()
    names = [claims.name_of(way) for way in zip(rows["condition"], rows["amount"], strict=True)]
    way = pd.Series(names, rows.index, name="pretrained on")
    values = rows["value"].groupby([way, rows[column]], sort=False)
    return values.agg(spread).unstack(fill_value="").rename_axis(columns=None)


def figure(results: Results, question: str) -> Figure | None:
    """Accuracy of a question's ways to pretrain, and what they change against the reference."""
    found, against = claims.ways(results, question), reference(results, question)
    if len(found) < 2:
        return None
    axis = AXES.get(question)
    place = {way: way[1] if axis else number for number, way in enumerate(found)}
    drawing, ((left, right),) = plots.new_figure(10, 4, ncols=2)
    for kind in dict.fromkeys(way[0] for way in found):
        line = "-" if axis and kind != "top-down" else ":"
        own = [way for way in found if way[0] == kind or (axis and way == against)]
        for number, (experiment, measure, label, colour, marker) in enumerate(LOOKS, start=-1):
            of = {"measure": measure, "experiment": experiment}
            looks = {"fmt": marker + line * bool(axis), "color": COLOURS[colour], "label": label}
            # Beside each other, so that no bar hides another.
            x = {w: place[w] * 1.03**number if axis else place[w] + 0.1 * number for w in own}
            levels = {x[w]: level(claims.networks(results, question, w, **of)) for w in own}
            changes = {x[w]: claims.gain(results, question, w, against, **of) for w in own}
            plots.dots(left, levels, **looks)
            if question == "images" or experiment == "fine_tuned":
                plots.dots(right, changes, **looks)
    choose, lost = LOST.get(question, (None, 0.0))
    if choose and (pair := choose(results)):
        looks = {"color": COLOURS["grey"], "markersize": 12, "zorder": 4}
        right.plot(place[pair[1]], -lost, "*", **looks)
    for axes in (left, right):
        axes.set_xscale("log" if axis else "linear")
        names = [f"{way[1]:g}" if axis else claims.name_of(way) for way in found]
        axes.set_xticks(list(place.values()), names)
        axes.minorticks_off()
        axes.set_xlabel(axis or "pretrained on")
    left.set_ylabel("top-1, mAP (%)")
    right.axhline(0, color="black", linewidth=0.8)
    right.set_ylabel(f"minus {claims.name_of(against)} (points)")
    labelled = dict(zip(*left.get_legend_handles_labels()[::-1], strict=True))
    drawing.legend(labelled.values(), labelled.keys(), loc="outside right center")
    return drawing


def precisions(results: Results) -> pd.DataFrame:
    """Mean average precisions of detectors by what they were pretrained on."""
    rows = results.select(["map_voc07", "map_area"])
    # What is pretrained on everything is one network in every question.
    rows = rows.assign(amount=rows["amount"].mask(rows["condition"] == "all"))
    rows = rows.drop_duplicates(["target", "condition", "amount", "seed", "measure"])
    return _by_way(rows.assign(column=rows["target"] + ", " + rows["measure"]), "column")


def detections(results: Results, target: str) -> Figure | None:
    """A few test images with what the detectors from scratch and pretrained on everything find."""
    seed = results.select("map_voc07", target=target)["seed"].min()
    kept = results.arrays(f"detection_{target}_{seed:.0f}")
    if not kept:
        return None
    found = [name.removesuffix(":scores") for name in kept if name.endswith(":scores")]
    found = [name for name in found if name.split()[0] in ("scratch", "all", "imported")]
    alone = results.select(None, experiment="scratch", target=target)["hash"].dropna().iloc[0]
    class_names = results.cell(alone)["class_names"]
    images, (truth, starts) = kept["images"], (kept["truth:boxes"], kept["truth:offsets"])
    down, across = len(found), len(images)
    drawing, grid = plots.new_figure(2.4 * across, 3.1 * down, nrows=down, ncols=across)
    for (row, name), (column, image) in itertools.product(enumerate(found), enumerate(images)):
        axes, (height, width) = grid[row, column], image.shape[:2]
        small = Image.fromarray(image)
        small.thumbnail((96, 96))
        axes.imshow(small, extent=(0, width, height, 0))
        room = "\n" * DRAWN  # for the texts below
        axes.set(xticks=[], yticks=[], xlabel=room, ylabel="" if column else name.split()[0])
        axes.grid(False)
        scale = np.array([height, width, height, width])
        for box in truth[starts[column] : starts[column + 1]] * scale:
            _frame(axes, box, "white", DOTTED)
        of = np.flatnonzero(kept[f"{name}:images"] == kept["shown"][column])[:DRAWN]
        for i, (place, colour) in enumerate(zip(of, list(COLOURS.values())[1:], strict=False)):
            box, score = kept[f"{name}:boxes"][place] * scale, kept[f"{name}:scores"][place]
            label = class_names[kept[f"{name}:labels"][place]]
            _frame(axes, box, colour, "-")
            axes.text(0, -0.03 - 0.1 * i, f"\N{FULL BLOCK} {label} {score:.0%}", fontsize=10,
                      color=colour, va="top", transform=axes.transAxes)  # fmt: skip
    return drawing


def _frame(axes: Axes, box: np.ndarray, colour: str, line) -> None:
    top, left, bottom, right = box
    looks = {"edgecolor": colour, "linestyle": line, "facecolor": "none", "linewidth": 1.4}
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, **looks))


READOUTS = ("neighbours", "guess", "untrained_within", "neighbours_top5")


def features(results: Results) -> Figure | None:
    """Nearest neighbours by the classes that were pretrained on, and siblings by level."""
    rows = results.select("neighbours")
    if rows.empty:
        return None
    drawing, ((left, right),) = plots.new_figure(10, 4, ncols=2)
    looks = zip((1.0, 0.97, 1.03), READOUTS[:3], ("blue", "grey", "orange"), "oxv", strict=True)
    for aside, measure, colour, marker in looks:
        of = results.select(measure)
        of = of[of["condition"] != "untrained"]
        means = {x * aside: level(y) for x, y in of.groupby("amount")}
        plots.dots(left, means, fmt=marker, color=COLOURS[colour], label=measure)
    plain = 100 * rows.loc[rows["condition"] == "untrained", "value"].mean()
    left.axhline(plain, color=COLOURS["green"], linestyle=DOTTED, label="untrained")
    rows = results.select("siblings")
    names = list(rows["level"].unique())
    for condition, colour, shift in (("all", "blue", -0.1), ("untrained", "green", 0.1)):
        of = rows[rows["condition"] == condition]
        means = {i + shift: level(of[of["level"] == name]) for i, name in enumerate(names)}
        plots.dots(right, means, fmt="o", color=COLOURS[colour], label=condition)
    chance = 100 * rows.groupby("level", sort=False)["chance"].mean()
    right.plot(range(len(names)), chance, "_", color="black", markersize=14, label="chance")
    left.set(xscale="log", xlabel=AXES["classes"], ylabel="right (%)")
    ticks = sorted(rows["amount"].unique())
    left.set_xticks(ticks, [f"{x:g}" for x in ticks])
    left.minorticks_off()
    right.set_xticks(range(len(names)), names)
    right.set(xlabel="level of the hierarchy", ylabel="nearest is a sibling (%)")
    right.set_xlim(-0.5, len(names) - 0.5)
    for axes in (left, right):
        axes.legend()
    return drawing
