"""Azizpour, Razavian, Sullivan, Maki, Carlsson 2014, "Factors of Transferability for a Generic
ConvNet Representation".

Networks are trained on one source and read on many targets, which are ordered by their distance
from it. A setting is one choice for one factor, all others at their default: of the source network
(its training, width, depth, data) or of the reading (layer, pooling, dimensions). Every second test
image of a target chooses settings, the others report them. Beyond the paper, settings are also
chosen without the target that they are judged on, and distance is measured.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import itertools
import logging
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from ml_collections import ConfigDict

from transfer_jax.data.batches import permutation
from transfer_jax.data.benchmarks import GROUPS, Benchmark, RetrievalTask, open_tasks
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.splits import man_made_natural
from transfer_jax.data.tasks import Task, budget_task, subset_task
from transfer_jax.grid.cell import Cell, Entry
from transfer_jax.grid.run import with_snapshots
from transfer_jax.grid.store import Store, TrainedNetwork
from transfer_jax.networks import Network
from transfer_jax.readout.features import GRIDS, POOLS, View
from transfer_jax.readout.neighbours import nearest
from transfer_jax.readout.reading import Reading, features, reduced
from transfer_jax.readout.retrieval import patch_view, sub_patches
from transfer_jax.readout.worth import HALVES, rightness, sides, worth
from transfer_jax.report import MINUS, Results, Section, networks_section, over_units, plots
from transfer_jax.report.plots import COLOURS
from transfer_jax.studies import azizpour2014_claims as claims
from transfer_jax.studies.settings import (
    Opener,
    base_cell,
    build,
    chosen,
    imported_cell,
    integers,
    network_from,
    recipe_from,
)
from transfer_jax.training.recipe import twice_as_long
from transfer_jax.transfer import Treatment

TITLE = "Factors of transferability for a generic ConvNet representation"
CLAIMS = claims.CLAIMS

log = logging.getLogger(__name__)

FACTORS = {
    "early stopping": "updates of the source network",
    "width": "width of the source network, a multiple",
    "depth": "weight layers of the source network",
    "source data": "what the source network learned",
    "classes at one budget": "source classes, the same number of images in all",
    "dropout": "dropout rate in the source network",
    "weight decay": "weight decay of the source network",
    "fine-tuning": "the source network's layers",
    "layer": "layer that is read",
    "pooling": "pooling of the last maps",
    "dimensions": "principal components",
    "whitening": "principal components",
    "scaling": "features",
    "copies": "copies of an image",
    "patches": "patches of an image, matched",
}
"""What is varied, and what its settings are."""

Setting = tuple[str, str, float | None]
"""Factor, name, and place where the factor's settings have an order."""


# Cells


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A source network: what it is called, its cell, and the settings that it stands for."""

    name: str
    cell: Cell
    settings: list[Setting]


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A target as a seed draws it."""

    seed: int
    benchmark: Benchmark
    task: Task | RetrievalTask
    rank: float

    @property
    def tags(self) -> dict:
        """What results say of it."""
        of = {name: getattr(self.benchmark, name) for name in ("group", "protocol", "metric")}
        return {"seed": self.seed, "target": self.benchmark.name, "rank": self.rank, **of}


def entries(config: ConfigDict, open_dataset: Opener) -> list[Entry]:
    """Every network that the config asks for: of the source, and fine-tuned on targets."""
    dataset, found = open_dataset(config.dataset), []
    for seed in integers(config.seeds, "seeds"):
        tags = {"study": "azizpour2014", "experiment": "source", "seed": seed}
        sources = _sources(config, dataset, seed)
        for source in sources:
            # The base trained twice as long is compared with the default network.
            network = "default" if source.name == "long" else source.name
            found.append(({**tags, "condition": source.name, "network": network}, source.cell))
        tags |= {"experiment": "fine_tuned", "condition": "fine-tuned"}
        for name, target in _targets(config, open_dataset, seed).items():
            readings(config, sources[0].cell.network, target.task, True)  # what is wrong comes out
            if cell := _fine_tuned(config, sources[0], target):
                found.append(({**tags, "target": name}, cell))
    return found


def _sources(config: ConfigDict, dataset: Dataset, seed: int) -> list[Source]:
    """The networks of the source, the default one first."""
    found: dict[str, Source] = {}
    for factor, name, place, cell in _ways(config, dataset, seed):
        called = name if factor in ("default", "long") else f"{factor} {name}"
        source = found.setdefault(cell.hash, Source(called, cell, []))
        if factor in FACTORS:
            source.settings.append((factor, name, place))
    return list(found.values())


def _ways(
    config: ConfigDict, dataset: Dataset, seed: int
) -> Iterator[tuple[str, str, float | None, Cell]]:
    """Factor, setting and its place, and cell of every way to train on the source. The default is a
    setting of each factor on whose axis it lies."""
    wanted, recipe = config.sources, recipe_from(config.recipe)
    classes = _source_classes(config, dataset)
    whole = subset_task("A", dataset, classes)

    def cell(task=whole, recipe=recipe, **network):
        return base_cell({**config.network, **network}, task, recipe, seed)

    own = {
        "default": ("default", None),
        "early stopping": (f"{recipe.steps}", recipe.steps),
        "width": (f"{config.network.width:g}", config.network.width),
        "source data": ("both", None),
        "dropout": (f"{config.network.dropout:g}", config.network.dropout),
        "weight decay": (f"{recipe.weight_decay:g}", recipe.weight_decay),
        "fine-tuning": ("frozen", None),
    }
    if config.network.name.startswith("deep"):
        depth = len(network_from(config.network, 2).layers)
        own["depth"] = (f"{depth}", depth)
    default = imported_cell(config, whole)
    if default:
        own = {factor: own[factor] for factor in ("default", "fine-tuning")}
    else:
        stops = integers(wanted.snapshots, "sources.snapshots")
        if late := [step for step in stops if step >= recipe.steps]:
            raise ValueError(
                f"--config.sources.snapshots holds {late[0]}: expected steps before the last, "
                f"recipe.steps={recipe.steps}"
            )
        default = with_snapshots(cell(), [step for step in stops if step])
    for factor, (name, place) in own.items():
        yield factor, name, place, default

    for width in () if config.network.widths else wanted.widths:
        yield "width", f"{width:g}", width, cell(width=width)
    for name in wanted.depths:
        deep = cell(name=name)
        depth = len(deep.network.layers)
        yield "depth", f"{depth}", depth, deep
    for rate in wanted.dropouts:
        yield "dropout", f"{rate:g}", rate, cell(dropout=rate)
    for decay in wanted.weight_decays:
        changed = dataclasses.replace(recipe, weight_decay=decay)
        yield "weight decay", f"{decay:g}", decay, cell(recipe=changed)

    # One kind of classes has half of the images, on average of the two.
    if wanted.data:
        halves = man_made_natural(dataset.class_names, dataset.class_paths)
        for name, kind in zip(claims.ONE_KIND, halves, strict=True):
            task = subset_task(name, dataset, set(kind) & set(classes))
            yield "source data", name, None, cell(task)
        half = len(whole.train[0]) // len(classes) // 2
        task = subset_task(claims.BOTH_HALVED, dataset, classes, images_per_class=half)
        yield "source data", claims.BOTH_HALVED, None, cell(task)
    for number in integers(wanted.budget.num_classes, "sources.budget.num_classes"):
        of = (f"{number} classes", dataset, number, wanted.budget.total_images)
        task = budget_task(*of, config.seed + seed, classes=classes)
        yield "classes at one budget", f"{number}", number, cell(task)
    if wanted.long:
        yield "long", "long", None, cell(recipe=twice_as_long(recipe))


def _source_classes(config: ConfigDict, dataset: Dataset) -> list[int]:
    """Those that are not held out for targets, by name or by what lies above them."""
    paths = dataset.class_paths or [(name,) for name in dataset.class_names]
    if unknown := set(config.held_out) - {name for path in paths for name in path}:
        raise ValueError(f"config.held_out names {min(unknown)!r}, which {dataset.name} lacks")
    return [label for label, path in enumerate(paths) if not {*config.held_out} & {*path}]


def _targets(config: ConfigDict, open_dataset: Opener, seed: int) -> dict[str, Target]:
    """The targets whose images are there, with their places in the order of distance: a target's
    own, or where some say none, those of the groups. Of the world, each seed draws others."""
    benchmarks = {}
    for name, fields in config.targets.items():
        fields = {**fields, "name": name, "dataset": dict(fields["dataset"])}
        benchmark = build(Benchmark, fields, f"targets.{name}")
        if benchmark.dataset["kind"].startswith("world"):
            drawn = {**benchmark.dataset, "seed": benchmark.dataset.get("seed", 0) + 1 + seed}
            benchmark = dataclasses.replace(benchmark, dataset=drawn)
        benchmarks[name] = benchmark
    tasks, missing = open_tasks(benchmarks.values(), open_dataset, config.seed + seed)
    for line in missing:
        log.warning(line)
    ranks = {name: benchmarks[name].distance for name in tasks}
    if None in ranks.values():
        ranks = {name: 1 + GROUPS.index(benchmarks[name].group) for name in tasks}
    return {name: Target(seed, benchmarks[name], task, ranks[name]) for name, task in tasks.items()}


def _fine_tuned(config: ConfigDict, default: Source, target: Target) -> Cell | None:
    """The default network tuned to a target, whose images have one label each."""
    if not config.sources.fine_tuning or target.benchmark.protocol != "single":
        return None
    recipe = recipe_from(config.recipe, **dict(config.fine_tune_recipe))
    alone = base_cell(config.network, target.task, recipe, target.seed, "B")
    treatment = Treatment("B", "A", len(alone.network.layers) - 1, fine_tuned=True)
    return dataclasses.replace(alone, treatment=treatment, source=default.cell)


# What is read out of the networks


def measure(config: ConfigDict, open_dataset, entries: Sequence[Entry], store: Store) -> None:
    """What every source network is worth on every target, in all its readings, and how far the
    targets are; of networks that are finished."""
    del entries
    dataset = open_dataset(config.dataset)
    for seed in config.seeds:
        sources = _sources(config, dataset, seed)
        targets = _targets(config, open_dataset, seed).values()
        of = functools.partial(_measure_target, config, store, sources)
        # Classifiers of one target take one core.
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(of, targets))


def _measure_target(config: ConfigDict, store: Store, sources, target: Target) -> None:
    for source in sources:
        whole = source is sources[0]
        if not store.finished(source.cell) or source.name == "long":
            continue
        ways = readings(config, source.cell.network, target.task, whole)
        looks = [(source, None, ways)]
        for step in config.sources.snapshots if whole and not source.cell.imported else ():
            stopped = [("early stopping", f"{step}", step)]
            look = Source(f"early stopping {step}", source.cell, stopped)
            looks.append((look, step, {reading: [] for reading in list(ways)[:1]}))
        tuned = _fine_tuned(config, source, target) if whole else None
        tuned = tuned if tuned and store.finished(tuned) else None
        for look, step, of in looks:
            inputs = [source.cell.hash, step, target.task.digest, tuned and tuned.hash]
            inputs += [target.tags, look.settings, [[repr(r), s] for r, s in of.items()]]
            compute = functools.partial(_read, store, look, step, target, of, whole, tuned)
            name = f"{target.seed}/{target.benchmark.name}/{look.name}"
            store.measure(name, inputs, compute, version=2)


def readings(
    config: ConfigDict, network: Network, task: Task | RetrievalTask, whole: bool
) -> dict[Reading, list[Setting]]:
    """The ways to read a network, the default one first, and the settings that they stand for.

    Of networks other than the default one (`whole` is false) a few. Layers are called as in the
    config's network; those of another one are at the same place from the end.
    """
    wanted, names = config.readings, network_from(config.network, 2).layer_names

    def here(layer):
        (layer,) = chosen([layer], names, "readings")
        return network.layer_names[names.index(layer) - len(names)]

    plain = build(Reading, wanted.default, "readings.default")
    plain = dataclasses.replace(plain, layer=here(plain.layer))
    chosen([plain.copies], (1,), "readings.default.copies")
    found: dict[Reading, list[Setting]] = {plain: []}

    def add(factor, name, place=None, **changes):
        reading = dataclasses.replace(plain, **changes)
        found.setdefault(reading, []).append((factor, name, place))

    if not whole:
        for layer in wanted.others:
            add("combined", layer, layer=here(layer))
        return found
    for layer in wanted.layers:
        add("layer", layer, 1 + names.index(here(layer)), layer=layer)
    for pool in chosen(wanted.pools, POOLS, "readings.pools"):
        height, width, _ = network.output_shapes[here(wanted.pooled)]
        cells = height * width if pool == "flat" else sum(g * g for g in GRIDS[pool[3:]])
        add("pooling", pool, cells, layer=wanted.pooled, pool=pool)
    for count in (*wanted.dimensions, None):
        size = count or int(np.prod(network.output_shapes[plain.layer]))
        add("dimensions", f"{count or 'all'}", size, dimensions=count)
    if wanted.whitened:
        for name in ("plain", "whitened"):
            add("whitening", name, dimensions=wanted.whitened, whiten=name == "whitened")
    if wanted.scaling:
        add("scaling", "of length 1", l2=True, signed_root=False)
        add("scaling", "as they are", l2=False, signed_root=False)
        add("scaling", "signed roots", l2=True, signed_root=True)
    retrieval = isinstance(task, RetrievalTask)
    for levels in wanted.levels if retrieval else ():
        count = len(sub_patches(levels))
        add("patches", f"{count}", count, copies=count)
    for count in chosen(wanted.copies, (1, 10), "readings.copies") if not retrieval else ():
        add("copies", f"{count}", count, copies=count)
    for layer, count in itertools.product(wanted.combined.layers, wanted.combined.dimensions):
        add("combined", f"{layer}, {count}", layer=here(layer), dimensions=count)
    return found


def views(trained: TrainedNetwork, ways: Sequence[Reading], task) -> dict[int, View]:
    """How so many copies of an image are seen: of a retrieval its patches, else ten crops."""
    found = {1: trained.view}
    for copies in {reading.copies for reading in ways} - {1}:
        if isinstance(task, RetrievalTask):
            levels = next(h for h in itertools.count(2) if len(sub_patches(h)) == copies)
            found[copies] = patch_view(trained.view, levels)
        else:
            found[copies] = trained.ten_crops
    return found


def _read(store, source: Source, step, target: Target, ways, whole: bool, tuned: Cell | None):
    """Rows and arrays of one source network, or a snapshot of it, on one target."""
    task, metric, cell = target.task, target.benchmark.metric, source.cell
    if step == 0:
        trained = TrainedNetwork(cell.network, cell.init_params(), cell.recipe, cell.mean(), "")
    else:
        trained = store.trained(cell, step)
    rows, arrays, plain = [], {}, next(iter(ways))
    tags = {"source": source.name, **target.tags}
    tested = store.keep_images(task.dataset.name, sides(task)[1][HALVES["test"]])

    def tell(candidate, settings, each, **more):
        known = {"validation": {}, "test": {"right": f"{len(arrays)}", "images": tested}}
        arrays[f"{len(arrays)}"] = each["test"]
        for factor, setting, place in settings:
            of = {"factor": factor, "setting": setting, "place": place, "candidate": candidate}
            for part, values in each.items():
                value = {"measure": part, "value": float(values.mean()), **known[part]}
                rows.append({**tags, **of, **more, **value})

    of = {"views": views(trained, list(ways), task), "metric": metric}
    found = worth(trained.network, trained.params, task, list(ways), **of)
    for reading, each in found.items():
        settings = ways[reading] + (source.settings if reading == plain else [])
        default = whole and step is None and reading == plain
        candidate = f"{source.name}: {name_of(reading)}"
        tell(candidate, settings, each, default=default, **dataclasses.asdict(reading))
    if tuned and step is None:
        each = rightness(store.right(tuned)[1], task.val[1], metric)
        tell("fine-tuned", [("fine-tuning", "fine-tuned", None)], each, default=False)
    if whole and step is None and not cell.imported:  # whose source images are not at hand
        rows.append({**tags, "measure": "overlap", "value": _overlap(trained, source, task, plain)})
    return rows, arrays


def name_of(reading: Reading) -> str:
    """What a reading is called: its layer and what departs from the plainest way."""
    words = {
        "pool": reading.pool,
        "dimensions": f"{reading.dimensions} dimensions",
        "whiten": "whitened",
        "signed_root": "signed roots",
        "l2": "as they are",
        "copies": f"{reading.copies} copies",
    }
    own = {f.name: f.default for f in dataclasses.fields(Reading)}
    told = [text for name, text in words.items() if getattr(reading, name) != own[name]]
    return ", ".join([reading.layer, *told])


def _overlap(trained: TrainedNetwork, source: Source, task, plain: Reading) -> float:
    """Share of a target's test images (or queries) whose nearest image, among its training images
    (references) and as many of the source, is one of the source: a half where a network cannot tell
    the two kinds of image apart (Schilling's test of two samples), 0 where they lie apart."""
    (own, test), learned = sides(task), source.cell.task
    other, count = learned.train[0], min(len(own), len(learned.train[0]), 2000)
    own, other = (rows[permutation(len(rows), 0)[:count]] for rows in (own, other))

    def read(task, rows):
        of = (trained.network, trained.params, task.dataset.read, rows, [plain])
        return features(*of, views={1: trained.view}, batch_size=128)[plain.key]

    both = np.concatenate([read(task, own), read(learned, other)])
    ((_, both, test),) = reduced({plain.key: both}, {plain.key: read(task, test)}, [plain])
    return float(np.mean(nearest(test[:, 0], both[:, 0], 1) >= count))


# Tables and figures

MARKERS = "osD^vPX*"
_MARKED = zip(("blue", "green", "orange", "purple", "vermilion"), MARKERS, strict=False)
LOOKS = dict(zip(GROUPS, _MARKED, strict=True))
"""Colour and marker of each group of targets."""


def sections(results: Results) -> list[Section]:
    """The study's part of the page: distance, a section a factor, what moves, what to choose."""
    return [
        Section("The targets, by distance from the source", [
            (targets_table(results), "Means over seeds, %. Overlap: the share of test images whose "
             "nearest image, of training images and as many of the source, is one of the source "
             "(50 %: not to be told apart)."),
        ], "Performance is accuracy or mean average precision on test images, as the table says. "
           "Claims are about these targets; those of distance ask of others, too."),
        Section("Does the best setting move with distance?", [
            (movement(results), "Spearman's rho over targets between a factor's best setting (on "
             "validation images, mean over seeds) and three measures of distance: the order of "
             "groups, the default setting's error, and minus the overlap; p by permutation of "
             "targets. Shift: what the upper half of the settings gains over the lower half, at "
             "the farthest targets minus at the nearest (points, a straight line over the order); "
             "95 % intervals over seeds, and over targets as units."),
        ]),
        *(Section(f"{factor[0].upper()}{factor[1:]}: {about}", [
            (figure(results, factor), "A line a target, by group. Left: performance, mean over "
             "seeds. Middle: minus that of the reference. Right: the best setting on validation "
             "images by the order of distance."),
            (table(results, factor), "Performance by group (%), means over seeds and the targets "
             "that have all settings; points against the reference over all targets that have "
             "both."),
        ]) for factor, about in FACTORS.items()),
        Section("What to choose", [
            (choice_figure(results), "Share of the default setting's error that is saved, by "
             "target; bars: 95 % intervals over seeds."),
            (choice_table(results), "The same over all targets: mean with its 95 % interval over "
             "seeds, the best target's mean, and the share of what the target's own validation "
             "images save."),
            (advice(results), "What most seeds choose for each target, source network and reading: "
             "without it, on the other targets, the nearer the more; and on its own validation "
             "images."),
        ], "; ".join(f"{way}: {text}" for way, text in claims.WAYS.items()) + "."),
        networks_section(results, "source"),
    ]  # fmt: skip


def targets_of(results: Results) -> pd.DataFrame:
    """A row a target, nearest first: performance of the default setting, its error, overlap."""
    rows = results.select("test", default=True)
    if rows.empty:
        return rows
    rows = rows.drop_duplicates(["seed", "target"])  # one of each factor's settings
    found = rows.groupby([*claims.TASK, "metric"], as_index=False)["value"].mean()
    overlap = results.select("overlap").groupby("target")["value"].mean()
    found = found.assign(error=1 - found["value"], overlap=found["target"].map(overlap))
    return found.sort_values(["rank", "target"], ignore_index=True)


def targets_table(results: Results) -> pd.DataFrame | None:
    """Targets as the page shows them."""
    found = targets_of(results)
    if found.empty:
        return None
    names = {"value": "default setting", "overlap": "overlap with the source"}
    shown = found.drop(columns="error").rename(columns=names)
    for name in names.values():
        shown[name] = (100 * shown[name]).map("{:.1f}".format).replace("nan", "")
    shown["rank"] = shown["rank"].map("{:g}".format)
    return shown


def movement(results: Results) -> pd.DataFrame | None:
    """Whether each factor's best setting moves with each measure of distance."""
    targets, rows = targets_of(results), []
    if targets.empty:
        return None
    orders = {"order of groups": "rank", "error": "error", "less overlap": "overlap"}
    for factor in FACTORS:
        best = claims.best_settings(results, factor).merge(targets[["target", "error", "overlap"]])
        if best["place"].nunique() < 2:
            continue
        row = {"factor": factor, "targets": len(best)}
        for name, column in orders.items():
            sign = -1 if column == "overlap" else 1
            row[f"rho, {name}"] = _correlation(best["place"], sign * best[column])
        seeds, tasks = claims.shift(claims.advantage(results, factor))
        rows.append({**row, "shift over seeds": str(seeds), "over targets": str(tasks)})
    return pd.DataFrame(rows)


def _correlation(one, other) -> str:
    rho, p = claims.rank_correlation(one, other)
    return "" if np.isnan(rho) else f"{rho:+.2f} (p {p:.2g})".replace("-", MINUS)


def table(results: Results, factor: str) -> pd.DataFrame | None:
    """By setting of a factor: performance by group, and gain over the reference as text."""
    rows = results.select("test", factor=factor)
    if rows.empty or rows["setting"].nunique() < 2:
        return None
    order, whole = _ordered(rows), rows.groupby("target")["setting"].transform("nunique")
    shared = rows[whole == rows["setting"].nunique()]
    means = 100 * shared.pivot_table(index="setting", columns="group", values="value", sort=False)
    means = means.reindex(index=order, columns=[g for g in GROUPS if g in means])
    against = _reference(rows, order)
    change = {s: str(claims.gain(results, factor, s, against)) for s in order if s != against}
    found = means.map("{:.1f}".format).replace("nan", "")
    found[f"{MINUS} {against}"] = pd.Series(change, dtype=str)
    return found.rename_axis(factor)


def _reference(rows: pd.DataFrame, order: Sequence[str]) -> str:
    """The default setting, where it is one of the factor's; else the first."""
    known = rows.loc[rows["default"].eq(True), "setting"]
    return known.iloc[0] if len(known) else order[0]


def _ordered(rows: pd.DataFrame) -> list[str]:
    """Settings by place, then in the order of the rows."""
    return list(rows.sort_values("place", kind="stable")["setting"].unique())


def figure(results: Results, factor: str) -> Figure | None:
    """Performance of every target by a factor's settings, and the best one by distance."""
    rows = results.select("test", factor=factor)
    if rows.empty or rows["setting"].nunique() < 2:
        return None
    order, best = _ordered(rows), claims.best_settings(results, factor)
    against, looks = _reference(rows, order), _looks(results)
    drawing, (panels,) = plots.new_figure(11, 3.9, ncols=2 + (len(best) > 1))
    for target, of in rows.groupby("target", sort=False):
        means = 100 * of.groupby("setting")["value"].mean().reindex(order)
        for axes, values in ((panels[0], means), (panels[1], means - means[against])):
            axes.plot(range(len(order)), values, **looks[target])
    panels[0].set_ylabel("performance (%)")
    panels[1].set_ylabel(f"minus {against} (points)")
    panels[1].axhline(0, color="black", linewidth=0.8)
    long = max(map(len, order)) > 5 and len(order) > 3
    for axes in panels[:2]:
        turned = {"rotation": 40, "ha": "right"} if long else {}
        axes.set_xticks(range(len(order)), order, **turned)
        axes.set_xlabel(FACTORS[factor])
    if len(best) > 1:
        for rank, of in best.groupby("rank"):
            spread = rank + 0.12 * (np.arange(len(of)) - (len(of) - 1) / 2)
            for x, row in zip(spread, of.itertuples(), strict=True):
                dot = {name: looks[row.target][name] for name in ("color", "marker")}
                panels[2].plot(x, order.index(row.setting), linestyle="", **dot)
        told = _correlation(best["place"], best["rank"])
        panels[2].set(xlabel="distance (order)", ylabel="best setting")
        panels[2].set_title(told and f"rho {told}")
        panels[2].set_yticks(range(len(order)), order)
        ranks = results.select("test")["rank"]
        panels[2].set(ylim=(-0.5, len(order) - 0.5), xlim=(ranks.min() - 0.5, ranks.max() + 0.5))
        panels[2].title.set(fontsize=9, fontweight="normal")
    named = rows.sort_values("rank", kind="stable")["target"].unique()
    handles = [Line2D([], [], label=target, **looks[target]) for target in named]
    looks = {"fontsize": 8, "handlelength": 4}  # long enough for dashes to be seen
    drawing.legend(handles=handles, loc="outside lower center", ncols=5, **looks)
    return drawing


def _looks(results: Results) -> dict[str, dict]:
    """Each target's colour and marker, those of its group, whose targets differ by their lines; its
    own where there is but one group."""
    rows, found = results.select("test").drop_duplicates("target"), {}
    for group, kin in rows.groupby("group", sort=False):
        for place, target in enumerate(kin["target"]):
            if rows["group"].nunique() > 1:
                colour, marker = LOOKS[group]
            else:
                colour, marker = list(COLOURS)[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            style = ("-", plots.DASHED, plots.DOTTED)[place % 3]
            look = {"color": COLOURS[colour], "marker": marker, "linestyle": style}
            found[target] = {**look, "linewidth": 1.4}
    return found


WAY_LOOKS = (("grey", "_"), ("black", "o"), ("blue", "s"), ("vermilion", "D"))


def choice_figure(results: Results) -> Figure | None:
    """Relative error saved on each target by each way to choose."""
    chosen = claims.recommendations(results)
    if chosen.empty:
        return None
    order = list(chosen.sort_values("rank", kind="stable")["target"].unique())
    drawing, ((axes,),) = plots.new_figure(10, 4.2)
    for place, (way, (colour, marker)) in enumerate(zip(claims.WAYS, WAY_LOOKS, strict=True)):
        of = chosen[chosen["way"] == way].groupby("target")["value"]
        aside = 0.18 * (place - 1.5)
        effects = {order.index(target) + aside: over_units(values) for target, values in of}
        looks = {"fmt": marker, "color": COLOURS[colour], "label": way, "capsize": 2}
        plots.dots(axes, effects, **looks)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(order)), order, rotation=25, ha="right")
    axes.set_ylabel("error saved against the default (%)")
    drawing.legend(loc="outside upper center", ncols=4)
    return drawing


def choice_table(results: Results) -> pd.DataFrame | None:
    """By way to choose: what it saves over all targets, at best, and against the target's own."""
    chosen, rows = claims.recommendations(results), []
    if chosen.empty:
        return None
    saves = claims.saved(results, "own validation images").mean
    for way, of in chosen.groupby("way", sort=False):
        effect, best = claims.saved(results, way), of.groupby("target")["value"].mean()
        row = {"chosen": way, "error saved (%)": str(effect), "units": effect.units}
        row |= {"best target": f"{best.idxmax()}: {100 * best.max():.1f}"}
        share = f"{effect.mean / saves:.0%}" if saves > 0 else ""
        rows.append({**row, "of the own choice": share.replace("-", MINUS)})
    return pd.DataFrame(rows)


def advice(results: Results) -> pd.DataFrame:
    """By group, nearest first: what most seeds choose."""
    chosen, rows = claims.recommendations(results), []
    for (_, group, target), of in chosen.groupby(["rank", "group", "target"]):
        row = {"group": group, "target": target}
        for way in ("nearer targets", "own validation images"):
            counts = of.loc[of["way"] == way, "candidate"].value_counts()
            if len(counts):
                row[way] = f"{counts.index[0]} ({counts.iloc[0]} of {counts.sum()})"
        rows.append(row)
    return pd.DataFrame(rows)
