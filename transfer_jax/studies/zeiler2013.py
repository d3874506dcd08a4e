"""The figures and tables of Zeiler & Fergus 2013, from a workdir's numbers and arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from transfer_jax.grid.cell import from_json
from transfer_jax.networks import zfnet
from transfer_jax.report import MINUS, Results, Section, paired, plots, read_published, spread
from transfer_jax.report.plots import COLOURS, DASHED, mosaic
from transfer_jax.studies.settings import SCRATCH
from transfer_jax.studies.zeiler2013_measures import (
    CLAIMS as CLAIMS,
    entries as entries,
    measure as measure,
    networks,
    pretraining_gain,
    transferred,
)

TITLE = "Visualizing and understanding convolutional networks"

CYCLE = [COLOURS[name] for name in ("blue", "vermilion", "green", "purple", "sky", "orange")]


def sections(results: Results) -> list[Section]:
    """The study's part of the page."""
    several = "Means over seeds; effects in points with 95 % intervals."
    looked = results.arrays("projections")
    return [
        Section("Figure 2: what excites each layer", [
            (figure2(looked), "Each pair of blocks is one map: left its strongest activations over "
             "the validation images, each projected down alone and stretched by itself (grey is "
             "zero); right the pixels behind them, in the same order."),
        ], field="experiments.projections.maps"),
        Section("Figure 4: how features come about", [
            (figure4(results), "The strongest activation of a map over the training images at each "
             "epoch, projected down. Rows are maps."),
            (_pivot(results, "evolution", "layer", "epoch", "overlap"), "Overlap: share of a map's "
             "nine strongest images at the end that are among its nine strongest at this epoch."),
        ], field="experiments.evolution_epochs"),
        Section("Figure 5: filters of the first two layers", [
            (figure5(results, "first"), "First layer, each filter scaled by itself; grey is zero."),
            (figure5(results, "second"), "Second layer: the strongest activation of each map, "
             "projected down and cut to what the unit sees."),
            (_pivot(results, "filters", ["network", "layer"], "measure"), "Mean shares over seeds: "
             "dead filters; energy in the strongest filter, beside an equal share; filters at the "
             "rule's limit; energy by spatial frequency (below 1/8, to 1/4, above, cycles a "
             "pixel)."),
        ]),
        Section("Figure 6: occlusion", [
            (figure6(results), "A grey square slides over the image; maps show, at its centre, the "
             "summed activation of the strongest map, the probability of the true class, and the "
             "most probable class."),
            (_pivot(results, "occlusion", "measure", "seed"), "Images classified rightly: "
             "shares whose worst place lies in the object's box, and in boxes of other images."),
        ], field="experiments.occlusion.tested"),
        Section("Tables 1 and 2: architectures, ensembles and ablations", [
            (errors(results), f"Validation errors (%), and top-1 accuracy minus that of the "
             f"network's own base. {several} GFLOP: a training step, for one image."),
            (_curves(results), "Loss and accuracy along training, first seed."),
        ]),
        Section("Tables 3 and 4, Figure 7: pretrained against scratch", [
            (tables34(results), f"Mean of the classes' accuracies (%). {several} Every seed has "
             "folds of its own; 'scratch, as long' ran on the first of them."),
            *((figure7(results, pool), f"{pool}: accuracy by training images a class; bars are "
               "standard deviations between source networks. Dashed: the paper, "
               f"{_dashed(pool)[1]}.")
              for pool in _pools(results)),
            (read_published("zeiler2013_table3"), "Table 3 as printed, Caltech-101."),
            (read_published("zeiler2013_table4"), "Table 4 as printed, Caltech-256."),
        ], field="experiments.targets"),
        Section("Table 5: images of several classes", [
            (table5(results), "Average precision (%) of each class, mean over seeds: area under "
             "the curve, and at 11 recalls (VOC 2007). The paper's are on VOC 2012, by softmax."),
        ], field="experiments.multilabel.name"),
        Section("Table 6: how discriminative each layer is", [
            (table6(results, pool), f"{pool}, most images a class: accuracy (%) by layer, mean ± "
             "standard deviation over source networks; beside them the paper's.")
            for pool in _pools(results)
        ]),
        Section("Near-duplicates", [
            (_pivot(results, "duplicates", "measure", "pool"), ""),
            *((duplicates(results, pool), f"{pool}: the pairs that correlate most, source above.")
              for pool in results.select("pairs", experiment="duplicates").get("pool", ())),
        ], "Training images of the source that a target shows again are left out.",
           "experiments.duplicates"),
    ]  # fmt: skip


def _pools(results: Results) -> list[str]:
    return list(dict.fromkeys(transferred(results, "svm").get("pool", ())))


def _pivot(results: Results, experiment: str, index, columns: str, measure: str | None = None):
    rows = results.select(measure, experiment=experiment)
    if rows.empty:
        return None
    table = rows.pivot_table("value", index, columns, sort=index == "layer")
    return table.rename(columns=lambda name: name if isinstance(name, str) else f"{name:g}")


# Tables


def errors(results: Results) -> pd.DataFrame | None:
    """Tables 1 and 2: networks, ensembles and ablations beside the paper's."""
    single = read_published("zeiler2013_table2")
    variants = (" " + single["variant"]).replace(" base", "")
    averaged = read_published("zeiler2013_table1").dropna(subset="like")
    paper = pd.concat(
        [averaged.set_index("like"), single.set_index(single["architecture"] + variants)]
    )
    rows, top = [], ["top1", "top5"]
    for name, of in results.select(top, experiment="source").groupby("network", sort=False):
        base = name.split()[0]
        change, long = (
            paired(results, *(networks(results, n, condition=c) for n in (name, base)))
            for c in ("standard", "long")
        )
        network = from_json(results.cell(of["hash"].iloc[0])["network"])
        row = {"parameters (M)": network.num_params / 1e6, "GFLOP": network.train_flops() / 1e9}
        row |= _error(of[of["condition"] == "standard"], name, paper)
        effects = {"change": str(change), "change, twice as long": str(long)}
        rows.append({"network": name, **row, **(effects if name != base else {})})
    for name, of in results.select(top, experiment="ensemble").groupby("network", sort=False):
        rows.append({"network": name, **_error(of, name, paper)})
    return pd.DataFrame(rows).set_index("network") if rows else None


def _error(rows: pd.DataFrame, name: str, paper: pd.DataFrame) -> dict:
    like = " ".join("n" if word.isdigit() else word for word in name.split())
    theirs = paper.loc[[like]].iloc[0] if like in paper.index else {}
    found = {"trained": int((rows["measure"] == "top1").sum())}
    few = rows["num_classes"].max() <= 5 or "top5" not in set(rows["measure"])
    for top in ("top1",) if few else ("top1", "top5"):
        found[f"{top} error"] = 100 * (1 - rows.loc[rows["measure"] == top, "value"].mean())
        found[f"paper's {top}"] = theirs.get(f"val_{top}")
    return found


def tables34(results: Results) -> pd.DataFrame | None:
    """Pretrained against scratch, by target and size."""
    ours, rows = transferred(results, "pretrained"), []
    for (pool, size), of in ours.groupby(["pool", "size"]) if len(ours) else ():
        row = {"target": pool, "images a class": f"{size:.0f}"}
        row["pretrained"] = 100 * of["value"].mean()
        for way in SCRATCH:
            anew = transferred(results, way, pool=pool, size=size)["value"]
            gain = str(pretraining_gain(results, way, pool=pool, size=size))
            row |= {way: 100 * anew.mean(), f"pretrained {MINUS} {way}": gain}
        rows.append(row)
    return pd.DataFrame(rows).set_index("target") if rows else None


def table5(results: Results) -> pd.DataFrame | None:
    """Average precisions by class."""
    rows = results.select(None, experiment="multilabel")
    if rows.empty:
        return None
    table = 100 * rows.pivot_table("value", "class", ["measure", "readout"], sort=False)
    table.columns = [f"{readout}, {measure}" for measure, readout in table.columns]
    paper = read_published("zeiler2013_table5").set_index("voc_name")["zeiler_fergus"]
    mean = table.mean().to_frame("mean").T
    return pd.concat([mean, table]).assign(paper=lambda t: [
        paper.iloc[-1] if name == "mean" else paper.get(name) for name in t.index
    ]).rename_axis("class")  # fmt: skip


def table6(results: Results, pool: str) -> pd.DataFrame | None:
    """Readouts of each layer of a target at its most images a class."""
    rows = pd.concat([transferred(results, readout, pool=pool) for readout in ("svm", "softmax")])
    rows = rows[rows["size"] == rows["size"].max()]
    units = rows.groupby(["layer", "readout", "seed"])["value"].mean().groupby(["layer", "readout"])
    table = units.agg(spread).unstack()
    paper = read_published("zeiler2013_table6").set_index(["readout", "layer"])
    places = {name: place for place, name in enumerate(zfnet().layer_names, 1)}
    for readout, name in ((r, n) for r in ("svm", "softmax") for n in ("caltech101", "caltech256")):
        table[f"paper: {readout}, {name}"] = [
            paper[name].get((readout, places.get(layer))) for layer in table.index
        ]
    return table


# Figures


def figure2(arrays) -> Figure | None:
    """Strongest activations of some maps, a row a layer: projections and patches."""
    layers = [name[:-5] for name in arrays if name.endswith("/maps") and len(arrays[name])]
    if not layers:
        return None
    most = max(len(arrays[f"{layer}/maps"]) for layer in layers)
    figure, grid = plots.new_figure(2.4 * most, 1.4 * len(layers), nrows=len(layers), ncols=most)
    for row, layer in zip(grid, layers, strict=True):
        dim = arrays[f"{layer}/values"] <= 0  # fewer images than places excite the map
        parts = [np.where(dim[..., None, None, None], 255, arrays[f"{layer}/{kind}"])
                 for kind in ("projections", "patches")]  # fmt: skip
        for axes, number, *pair in zip(row, arrays[f"{layer}/maps"], *parts, strict=False):
            gap = max(1, pair[0].shape[1] // 16)
            pair = [mosaic(tiles, 3, gap) for tiles in pair]
            show(axes, np.concatenate([pair[0], np.full_like(pair[0][:, :gap], 255), pair[1]], 1))
            axes.set_title(f"{layer}, map {number}", fontsize=8)
        for axes in row[len(arrays[f"{layer}/maps"]) :]:
            axes.axis("off")
    return figure


def figure4(results: Results) -> Figure | None:
    """Projections of some maps along training, a block a layer."""
    found = results.select("overlap", experiment="evolution")
    arrays = results.arrays(f"evolution-{found['seed'].iloc[0]:.0f}") if len(found) else {}
    layers = [name[:-5] for name in arrays if name.endswith("/maps")]
    if not layers:
        return None
    epochs = [f"{epoch:g}" for epoch in arrays["epochs"]]
    down = -(-len(layers) // 3)
    figure, grid = plots.new_figure(10, 2.6 * down, nrows=down, ncols=3)
    for axes in grid.flat:
        axes.axis("off")
    for axes, layer in zip(grid.flat, layers, strict=False):
        axes.axis("on")
        tiles = arrays[f"{layer}/projections"]
        large = mosaic(tiles.reshape(-1, *tiles.shape[2:]), len(epochs), 4)
        show(axes, large)
        step = tiles.shape[2] + 4
        axes.set_xticks((np.arange(len(epochs)) + 0.5) * step, epochs, fontsize=7)
        axes.set_yticks((np.arange(len(tiles)) + 0.5) * step, arrays[f"{layer}/maps"], fontsize=7)
        axes.set_title(layer)
    return figure


def figure5(results: Results, which: str) -> Figure | None:
    """First-layer filters, or projections of the second layer, of the networks side by side."""
    arrays = {
        name.removesuffix(f"/{which}"): array
        for name, array in results.arrays("filters").items()
        if name.endswith(f"/{which}") and len(array)
    }
    if not arrays:
        return None
    figure, (row,) = plots.new_figure(2.6 * len(arrays), 2.8, ncols=len(arrays))
    for axes, (name, array) in zip(row, arrays.items(), strict=True):
        across = int(np.ceil(np.sqrt(len(array))))
        show(axes, plots.filter_tiles(array) if which == "first" else mosaic(array, across, 2))
        axes.set_title(name)
    return figure


def figure6(results: Results) -> Figure | None:
    """Occlusion maps, a row an image."""
    arrays = results.arrays("occlusion")
    if "images" not in arrays:  # none that the network is sure of
        return None
    images, square = arrays["images"], int(arrays["square"])
    y, x = (arrays[name] + square / 2 for name in ("rows", "columns"))
    titles = ("image and square", "activation", "projection", "probability", "most probable class")
    figure, grid = plots.new_figure(12, 2.3 * len(images), nrows=len(images), ncols=5)
    for i, row in enumerate(grid):
        for axes, title in zip(row, titles, strict=True):
            show(axes, np.full_like(images[i], 240))
            axes.set_title(title if i == 0 else "")
        row[0].imshow(images[i])
        row[0].add_patch(Rectangle((0, 0), square, square, facecolor="#808080", edgecolor="white"))
        row[0].set_ylabel(str(arrays["class_names"][arrays["true_class"][i]]))
        row[2].imshow(arrays["projections"][i])
        row[2].set_xlabel(f"{arrays['layer']}, map {arrays['feature_map'][i]}", fontsize=8)
        for axes, name in ((row[1], "activation"), (row[3], "probability")):
            top = 1 if name == "probability" else None
            mesh = axes.pcolormesh(x, y, arrays[name][i], vmin=0, vmax=top)
            figure.colorbar(mesh, ax=axes, fraction=0.046, pad=0.03)
        true, names = arrays["true_class"][i], arrays["class_names"]
        _classes(row[4], x, y, arrays["predicted"][i], true, names)
    return figure


def _classes(axes: Axes, x, y, predicted: np.ndarray, true: int, names: np.ndarray) -> None:
    found, counts = np.unique(predicted, return_counts=True)
    others = [c for c in found[np.argsort(-counts, kind="stable")] if c != true][: len(CYCLE) - 1]
    codes = np.full(predicted.shape, len(CYCLE))
    for code, label in enumerate([true, *others]):
        codes[predicted == label] = code
    colours = ListedColormap([*CYCLE, "#D5D5D5"])
    axes.pcolormesh(x, y, codes, cmap=colours, norm=BoundaryNorm(np.arange(8) - 0.5, 7))
    labels = [f"{names[true]} (true)", *(str(names[c]) for c in others)]
    patches = [Patch(color=c, label=label) for c, label in zip(CYCLE, labels, strict=False)]
    axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=7)


def _dashed(pool: str) -> tuple[int, str]:
    """The paper's table that a target is drawn beside, and what that is of."""
    return (3, "Caltech-101") if pool == "caltech101" else (4, "Caltech-256")


def figure7(results: Results, pool: str) -> Figure | None:
    """Accuracy by training images a class, and the paper's dashed."""
    figure, ((axes,),) = plots.new_figure(7, 3.8)
    paper, ticks = read_published(f"zeiler2013_table{_dashed(pool)[0]}"), set()
    for kind, colour, marker in zip(("pretrained", *SCRATCH), CYCLE, "os^", strict=False):
        rows = transferred(results, kind, pool=pool)
        units = 100 * rows.groupby(["size", "seed"])["value"].mean()
        line = units.groupby("size").agg(["mean", "std"]).fillna(0)
        look = {"color": colour, "marker": marker, "capsize": 3}
        if len(line):
            axes.errorbar(line.index, line["mean"], line["std"], label=kind, **look)
        theirs = paper[paper["kind"] == kind]
        x, y = theirs["train_per_class"], theirs["accuracy"]
        look = {"color": colour, "linestyle": DASHED, "marker": marker, "markerfacecolor": "white"}
        if len(x):
            axes.plot(x, y, linewidth=1, label=f"paper, {kind}", **look)
        ticks |= {*line.index, *x}
    axes.set(xscale="log", xlabel="training images a class", ylabel="accuracy (%)")
    axes.set_xticks(sorted(ticks), [f"{tick:.0f}" for tick in sorted(ticks)])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right center")
    return figure


def duplicates(results: Results, pool: str) -> Figure | None:
    """Pairs of near-duplicates, above each other."""
    arrays = results.arrays(f"duplicates-{pool}")
    if not arrays:
        return None
    count = len(arrays["source"])
    figure, grid = plots.new_figure(1.4 * count, 3.2, nrows=2, ncols=count)
    for axes, name in zip(grid, ("source", "target"), strict=True):
        for one, image in zip(axes, arrays[name], strict=True):
            show(one, image)
    for axes, correlation in zip(grid[0], arrays["correlation"], strict=True):
        axes.set_title(f"{correlation:.3f}", fontsize=8)
    return figure


def _curves(results: Results) -> Figure | None:
    rows = results.select(experiment="source", condition="standard").drop_duplicates("network")
    colours = itertools.cycle(CYCLE)
    lines = [(row.network, next(colours), row.hash) for row in rows.itertuples()]
    return plots.learning_curves(results, lines)


def show(axes: Axes, picture: np.ndarray) -> None:
    """A picture without axes; labels may still be set."""
    axes.imshow(picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
