"""Yosinski et al. 2014, "How transferable are features in deep neural networks?".

Layers 1 to n of a network for task A become those of a network for task B, frozen (AnB) or
fine-tuned (AnB+); BnB and BnB+ copy from a network for B itself. Beyond the paper, a base trained
twice as long is the control of all that trains in two schedules, and random layers are also frozen
under the very tasks that distant features are carried to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from transfer_jax.data.dataset import Dataset
from transfer_jax.data.splits import man_made_natural, random_halves
from transfer_jax.data.tasks import Task, subset_task, whole_task
from transfer_jax.grid.cell import Cell, Entry
from transfer_jax.report import MINUS, Results, Section, judge, over_units, plots
from transfer_jax.report.plots import COLOURS, DASHED, DOTTED
from transfer_jax.studies.settings import (
    Opener,
    asked_by,
    base_cell,
    chosen,
    imported_cell,
    integers,
    recipe_from,
)
from transfer_jax.studies.yosinski2014_claims import (
    CLAIMS,
    LAYERS,
    NAMES,
    TREATMENTS,
    UNIT,
    effect,
    gains,
    networks,
    published,
)
from transfer_jax.training.recipe import Recipe, twice_as_long
from transfer_jax.transfer import RANDOM, Treatment

TITLE = "How transferable are features in deep neural networks?"

# Cells


def entries(config: ConfigDict, open_dataset: Opener) -> list[Entry]:
    """Every network that the config's `experiments` ask for; bases come before their copies."""
    dataset, recipe = open_dataset(config.dataset), recipe_from(config.recipe)
    found = [
        *_random_halves(config, dataset, recipe),
        *_man_natural(config, dataset, recipe),
        *_random_weights(config, dataset, recipe),
        *_images_per_class(config, dataset),
        *(_imported(config, dataset, recipe) if config.imported.path else ()),
    ]
    if not found:
        raise ValueError("--config.experiments asks for no network at all")
    return found


def _random_halves(config, dataset: Dataset, recipe: Recipe) -> Iterator[Entry]:
    """Section 4.1, halves of the classes drawn at random; and the bases trained twice as long."""
    wanted = config.experiments.random_halves
    for split in integers(wanted.splits, "experiments.random_halves.splits"):
        with asked_by("dataset"):
            tasks = _pair(dataset, random_halves(len(dataset.class_names), split))
        for seed in integers(wanted.seeds, "experiments.random_halves.seeds"):
            bases = _bases(config, tasks, recipe, seed)
            yield from _tagged("random_halves", split, _all_towards(bases, wanted))
            if wanted.long:
                twice = twice_as_long(recipe)
                long = [dataclasses.replace(bases[t], recipe=twice) for t in wanted.targets]
                yield from _tagged("random_halves", split, long, condition="long")


def _man_natural(config, dataset: Dataset, recipe: Recipe) -> Iterator[Entry]:
    """Section 4.2, A has the man-made classes and B the natural; one division, many seeds."""
    wanted = config.experiments.man_natural
    for seed in integers(wanted.seeds, "experiments.man_natural.seeds"):
        paths, table = dataset.class_paths, wanted.superclass_csv or None
        with asked_by("experiments.man_natural.superclass_csv"):
            tasks = _pair(dataset, man_made_natural(dataset.class_names, paths, table))
        bases = _bases(config, tasks, recipe, seed)
        yield from _tagged("man_natural", "natman", _all_towards(bases, wanted))


def _random_weights(config, dataset: Dataset, recipe: Recipe) -> Iterator[Entry]:
    """Section 4.3 as in the paper, lower layers frozen at random on all classes."""
    wanted, task = config.experiments.random_weights, whole_task("W", dataset)
    for seed in integers(wanted.seeds, "experiments.random_weights.seeds"):
        bases = {"W": base_cell(config.network, task, recipe, seed, "W")}
        random = _towards(bases, "W", ("random_frozen",), wanted.ns)
        yield from _tagged("random_weights", "whole", [bases["W"], *random])


def _images_per_class(config, dataset: Dataset) -> Iterator[Entry]:
    """Supplement, bases trained on the first images of each class, by a recipe of their own."""
    wanted = config.experiments.images_per_class
    recipe = recipe_from(config.recipe, **dict(wanted.recipe))
    for count in integers(wanted.counts, "experiments.images_per_class.counts"):
        with asked_by("experiments.images_per_class.counts"):
            task = whole_task("W", dataset, images_per_class=count)
        cell = base_cell(config.network, task, recipe, config.seed, "W")
        yield from _tagged("images_per_class", "whole", [cell], images_per_class=count)


def _imported(config, dataset: Dataset, recipe: Recipe) -> Iterator[Entry]:
    """Not in the paper: base A comes from a file, B is the whole dataset."""
    wanted, task = config.experiments.imported, whole_task("B", dataset)
    base_a = imported_cell(config, dataclasses.replace(task, name="A"))
    for seed in integers(wanted.seeds, "experiments.imported.seeds"):
        bases = {"A": base_a, "B": base_cell(config.network, task, recipe, seed, "B")}
        cells = [*bases.values(), *_towards(bases, "B", wanted.treatments, wanted.ns)]
        yield from _tagged("imported", "whole", cells, seed=seed)


def _pair(dataset: Dataset, halves) -> dict[str, Task]:
    return {name: subset_task(name, dataset, half) for name, half in zip("AB", halves, strict=True)}


def _bases(config, tasks: dict[str, Task], recipe: Recipe, seed: int) -> dict[str, Cell]:
    return {t: base_cell(config.network, task, recipe, seed, t) for t, task in tasks.items()}


def _all_towards(bases: dict[str, Cell], wanted) -> Iterator[Cell]:
    """Both bases, and the wanted treatments towards each wanted target."""
    yield from bases.values()
    for target in chosen(wanted.targets, "AB", "experiments: targets"):
        for kind in wanted.treatments:
            tuned = kind.endswith("finetuned") and wanted.get("fine_tuned_ns")
            yield from _towards(bases, target, [kind], tuned or wanted.ns)


def _towards(bases: dict[str, Cell], target: str, treatments, ns) -> Iterator[Cell]:
    other, base = {"A": "B", "B": "A"}.get(target), bases[target]
    for kind in chosen(treatments, tuple(NAMES)[1:], "experiments: treatments"):
        origin, manner = kind.split("_")
        source = {"selffer": target, "transfer": other, "random": RANDOM}[origin]
        for n in ns:
            treatment = Treatment(target, source, n, manner == "finetuned")
            yield dataclasses.replace(base, treatment=treatment, source=bases.get(source))


def _tagged(experiment: str, split, cells, condition="standard", **more) -> Iterator[Entry]:
    for cell in cells:
        tags = {"study": "yosinski2014", "experiment": experiment, "split": str(split)}
        tags |= {"target": cell.treatment.target, "seed": cell.seed, "condition": condition}
        yield tags | more, cell


# Tables and figures

LOOKS = {
    "selffer_frozen": (COLOURS["blue"], "s", -0.2),
    "selffer_finetuned": (COLOURS["sky"], "^", -0.07),
    "transfer_frozen": (COLOURS["vermilion"], "D", 0.07),
    "transfer_finetuned": (COLOURS["orange"], "v", 0.2),
}
BAND = (
    "Lines: means of differences to the own base (in brackets: units); shading: 95 % interval, "
    "none with one unit; dashed: the authors' networks."
)
DROP = (
    f"Points of top-1 by n with 95 % intervals. base {MINUS} BnB is co-adaptation, BnB {MINUS} AnB "
    "specificity; long is the base trained twice as long."
)
TABLE1 = (
    "Points by ranges of n. The paper took the difference of plain means (last column), but its "
    "AnB+ were trained towards B only, seven of ten in split 0, where B has the better base."
)


def sections(results: Results) -> list[Section]:
    """The study's part of the page."""
    theirs = published()
    return [
        Section("Figure 2: similar tasks, random halves of the classes", [
            (figure2(results, theirs), "Above: every network. Below: minus its own base. " + BAND),
            (accuracies(results), "Mean top-1 (%) of the networks by n."),
            (contrasts(results), DROP),
        ], field="experiments.random_halves.splits"),
        Section("Table 1: what fine-tuned transfer gains", [(boosts(results, theirs), TABLE1)]),
        Section("The authors' own logs, read again", [
            (reread(theirs), "Points that networks of the random halves gain."),
            (judged_again(theirs), "The claims above, judged by the authors' networks (points)."),
        ], "Each network is compared with the base of its own half. The authors trained BnB+ "
           "towards A and AnB+ towards B only, and no base for as long as either."),
        Section("Figure 3: dissimilar tasks and random weights", [
            (figure3(results, theirs), "Left, middle: top-1 by target. Right: minus own base. "
             + BAND),
        ], field="experiments.man_natural.seeds and experiments.random_weights.seeds"),
        Section("Transfer from an imported network", [
            (figure2(results, None, "imported"), f"Base A is a file, the base that of B. {BAND}"),
        ], field="imported.path"),
        Section("Images per class", [
            (images_per_class(results, theirs), "Bases on the first images of each class, all "
             "classes. Dashed: the authors' networks."),
        ], field="experiments.images_per_class.counts"),
        Section("The networks themselves", [
            (_curves(results), "Loss and accuracy along training, one split and seed."),
            (_filters(results), "First-layer filters of bases; grey is zero."),
        ]),
    ]  # fmt: skip


def accuracies(results: Results) -> pd.DataFrame:
    """Mean top-1 in percent by treatment and n, random halves."""
    found = {
        name: 100 * networks(results, kind).groupby("n")["value"].mean()
        for kind, name in {**NAMES, "long": "long base"}.items()
    }
    table = pd.DataFrame({name: means for name, means in found.items() if len(means)})
    return table.T.rename_axis("treatment")


def contrasts(results: Results) -> pd.DataFrame:
    """Effects by n as text, random halves: the drop in its two parts, and the '+' cells."""
    ns = sorted(set(results.select(experiment="random_halves")["n"]) - {0})
    pairs = (
        ("base", "selffer_frozen"),
        ("selffer_frozen", "transfer_frozen"),
        ("base", "transfer_frozen"),
        ("transfer_finetuned", "long"),
        ("selffer_finetuned", "long"),
        ("transfer_finetuned", "selffer_finetuned"),
    )
    rows = {
        f"{NAMES[a]} {MINUS} {NAMES.get(b, b)}": [str(effect(results, a, b, ns=[n])) for n in ns]
        for a, b in pairs
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[f"n = {n:.0f}" for n in ns])
    return table.rename_axis("points")


def boosts(results: Results, theirs: Results) -> pd.DataFrame:
    """Table 1: AnB+ against its base, the long base, BnB+, over ranges of n; and the paper's."""
    rows, kind = [], "transfer_finetuned"
    for ns in (range(1, 8), range(3, 8), range(5, 8)):
        run = sorted(set(networks(results, kind, ns)["n"]))
        row = {"n": f"{ns[0]} to 7", "run here at n =": ", ".join(f"{n:g}" for n in run)}
        for b in ("base", "long", "selffer_finetuned"):
            row[f"AnB+ {MINUS} {NAMES.get(b, b)}"] = str(effect(results, kind, b, ns=ns))
        for name, gain in (100 * gains(theirs, kind, ns).mean()).items():
            row[f"authors: {MINUS} {name}"] = f"{gain:+.2f}"
        rows.append(row)
    return pd.DataFrame(rows).set_index("n")


def reread(results: Results) -> pd.DataFrame:
    """What networks gain on their own base and on the mean base, in points, by treatment."""
    rows = []
    for kind in TREATMENTS:
        found, towards = gains(results, kind), sorted(set(networks(results, kind)["target"]))
        row = {"treatment": NAMES[kind], "networks": len(found), "towards": ", ".join(towards)}
        row |= {f"{MINUS} {name}": 100 * found[name].mean() for name in found}
        of_splits = over_units(found["own base"].groupby("split").mean())
        rows.append(row | {f"{MINUS} own base, splits as units": str(of_splits)})
    return pd.DataFrame(rows).set_index("treatment")


def judged_again(results: Results) -> pd.DataFrame:
    """The claims judged by other results, as a short table."""
    judged = judge(CLAIMS, results)
    judged = judged[judged["claim"] != ""].set_index("number")
    judged[["effect", "low", "high"]] *= 100
    return judged[["verdict", "condition", "effect", "low", "high", "rule", "units", "note"]]


def figure2(
    results: Results, theirs: Results | None, experiment: str = "random_halves"
) -> Figure | None:
    """Figure 2: every network above, differences to their own bases below."""
    rows = {kind: networks(results, kind, experiment=experiment) for kind in ("base", *LOOKS)}
    if all(rows[kind].empty for kind in LOOKS):
        return None
    figure, ((above,), (below,)) = plots.new_figure(9, 8.2, nrows=2, sharex=True)
    bases = rows["base"]
    above.scatter(bases["n"], 100 * bases["value"], s=32, facecolor="white", edgecolor="black")
    for kind, (colour, marker, shift) in LOOKS.items():
        n, values = rows[kind]["n"].astype(float), 100 * rows[kind]["value"]
        above.scatter(n + shift, values, s=18, color=colour, marker=marker, alpha=0.8)
        _against_base(below, results, kind, experiment, colour, marker, NAMES[kind])
        if theirs is not None:
            _dashed(below, theirs, kind, experiment, colour)
    long = effect(results, "long", "base", experiment=experiment)
    if long.units:
        below.axhline(100 * long.mean, color=COLOURS["green"], linestyle=DOTTED, label="long base")
    above.set_ylabel("top-1 (%)")
    below.set_ylabel(f"top-1 {MINUS} own base (points)")
    below.axhline(0, color="black", linewidth=0.8)
    plots.layer_axis(below)
    plots.chance_line(above, max(kept["num_classes"].max() for kept in rows.values()))
    figure.legend(*below.get_legend_handles_labels(), loc="outside right center")
    return figure


def figure3(results: Results, theirs: Results) -> Figure | None:
    """Figure 3: man-made and natural, random weights, and all frozen layers against their base."""
    natman_random = len(networks(results, "random_frozen", experiment="man_natural"))
    random_in = "man_natural" if natman_random else "random_weights"
    series = (
        ("similar, AnB", "transfer_frozen", "random_halves", "vermilion", "D"),
        ("dissimilar, AnB", "transfer_frozen", "man_natural", "green", "h"),
        ("random, RnB", "random_frozen", random_in, "purple", "X"),
    )
    if all(networks(results, kind, experiment=ours).empty for _, kind, ours, *_ in series[1:]):
        return None
    figure, ((natman, random, drops),) = plots.new_figure(12, 4, ncols=3)
    for axes, (label, kind, ours, name, marker) in zip((None, natman, random), series, strict=True):
        rows, colour = networks(results, kind, experiment=ours), COLOURS[name]
        _against_base(drops, results, kind, ours, colour, marker, label)
        _dashed(drops, theirs, kind, "random_weights" if axes is random else ours, colour)
        if axes is not None:
            bases = networks(results, "base", experiment=ours)
            lines = pd.concat([bases[bases["target"].isin(rows["target"])], rows])
            for style, (target, line) in zip(("-", DASHED), lines.groupby("target"), strict=False):
                means = 100 * line.groupby("n")["value"].mean()
                axes.plot(means.index, means, color=colour, linestyle=style, label=f"to {target}")
                axes.scatter(line["n"], 100 * line["value"], color=colour, marker=marker, s=14)
    natman.set(title="Man-made (A), natural (B)", ylabel="top-1 (%)")
    random.set(title="Random weights", ylabel="top-1 (%)")
    drops.set(title="Against the own base", ylabel="points")
    drops.axhline(0, color="black", linewidth=0.8)
    for axes in (natman, random, drops):
        plots.layer_axis(axes)
        axes.set_xlabel("frozen layers n")
        if axes is not drops and axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower left")
    figure.legend(*drops.get_legend_handles_labels(), loc="outside right center")
    return figure


def images_per_class(results: Results, theirs: Results) -> Figure | None:
    """Supplement: top-1 against the number of training images kept in each class."""
    count = "images_per_class"
    ours, paper = (found.select(experiment=count) for found in (results, theirs))
    if ours.empty:
        return None
    figure, ((axes,),) = plots.new_figure(6.5, 3.8)
    for rows, colour, style in ((ours, "blue", "o-"), (paper, "grey", "--")):
        line = rows.sort_values(count)
        axes.plot(line[count], 100 * line["value"], style, color=COLOURS[colour])
    axes.set(xscale="log", xlabel="training images per class", ylabel="top-1 (%)")
    plots.chance_line(axes, ours["num_classes"].iloc[0])
    return figure


def _against_base(axes: Axes, results, kind, experiment, colour, marker, label) -> None:
    ns = sorted(set(networks(results, kind, experiment=experiment)["n"]))
    found = {n: effect(results, kind, "base", ns=[n], experiment=experiment) for n in ns}
    found = {n: at_n for n, at_n in found.items() if at_n.units}
    units = max((at_n.units for at_n in found.values()), default=0)
    plots.band(axes, found, colour, marker, f"{label} ({units})")


def _dashed(axes: Axes, theirs: Results, kind: str, experiment: str, colour: str) -> None:
    found = (effect(theirs, kind, "base", ns=[n], experiment=experiment) for n in LAYERS)
    line = [100 * at_n.mean for at_n in found]
    axes.plot(LAYERS, line, color=colour, linestyle=DASHED, linewidth=1.2, alpha=0.8)


def _curves(results: Results) -> Figure | None:
    """Bases, the long base, and each treatment at n = 4 or next to it, of one split and seed."""
    first = results.select(experiment="random_halves").head(1)
    one = dataclasses.replace(results, frame=results.frame.merge(first[list(UNIT)]))
    cells = []
    colours = {"base": COLOURS["black"], "long": COLOURS["green"]}
    for kind, colour in (colours | {kind: look[0] for kind, look in LOOKS.items()}).items():
        found = networks(one, kind)
        found = found[(found["n"] - 4).abs() == (found["n"] - 4).abs().min()]
        end = " (long)" if kind == "long" else ""
        cells += [(f"{row.cell}{end}", colour, row.hash) for row in found.itertuples()]
    return plots.learning_curves(results, cells)


def _filters(results: Results) -> Figure | None:
    bases = results.select(None, treatment=["base", "imported"], state="done")
    bases = bases[bases["experiment"] != "images_per_class"].drop_duplicates("hash").head(8)
    titles = {f"{row.cell}, {row.split}": row.hash for row in bases.itertuples()}
    return plots.first_layer_filters(results, titles)
