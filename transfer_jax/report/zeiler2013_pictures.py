"""The figures of Zeiler & Fergus 2013, drawn from the arrays of the analysis."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from transfer_jax.report import figures
from transfer_jax.report import visual_figures as visual
from transfer_jax.report import zeiler2013_numbers as numbers
from transfer_jax.report.analysis_files import AnalysisError
from transfer_jax.report.page import Picture
from transfer_jax.report.zeiler2013_files import Analysis, depth
from transfer_jax.report.zeiler2013_tables import Lines

MOST_PAIRS = 16


def figure2(analysis: Analysis, folder: Path) -> list[Picture]:
    """One picture a layer: projections beside the patches of the images behind them."""
    arrays = analysis.arrays("projections")
    found = []
    for layer in map(str, arrays.get("layers", ())):
        maps, values, projections, patches = (
            _array(arrays, "projections", f"{layer}/{name}")
            for name in ("maps", "values", "projections", "patches")
        )
        # A map that fewer than nine images excite has empty places.
        shown = [
            [[tiles[place] if value > 0 else None for place, value in enumerate(row)]
             for row, tiles in zip(values, pictures, strict=True)]
            for pictures in (projections, patches)
        ]  # fmt: skip
        alive = [m for m, row in enumerate(values) if np.any(row > 0)]
        if not alive:
            continue
        side = patches.shape[2]
        grid = visual.ProjectionGrid(
            layer, side, maps[alive], *([part[m] for m in alive] for part in shown)
        )
        path = visual.draw_projections(folder / f"figure2_{_file(layer)}.png", [grid])
        caption = (
            f"Figure 2, {layer}. Each pair of blocks is one map: left the {values.shape[1]} "
            "strongest activations over the images, each projected to pixels alone through the "
            f"deconvnet, right the {side} x {side} pixels behind them, in the same order."
        )
        found.append(Picture(path, caption, f"Projections and image patches of {layer}"))
    return found


def rules(analysis: Analysis, folder: Path) -> list[Picture]:
    """One unit, sent down by each rule."""
    arrays = analysis.arrays("rules")
    if not arrays:
        return []
    names = ("deconvnet", "gradient", "guided")
    label = f"{_array(arrays, 'rules', 'layer')}, map {_array(arrays, 'rules', 'map')}"
    image = _array(arrays, "rules", "image")
    projections = {name: arrays[name] for name in names if name in arrays}
    example = visual.RuleExample(label, image, projections)
    path = visual.draw_rules(folder / "rules.png", [example])
    caption = (
        "The strongest activation of one map, sent down to pixels: by the deconvnet (ReLU on what "
        "comes down), by the plain gradient (only where the forward ReLU let through), and by both "
        "at once (guided backpropagation). Grey is zero, each stretched by itself."
    )
    return [Picture(path, caption, "One image and its projections by three rules")]


def figure4(analysis: Analysis, folder: Path) -> list[Picture]:
    """Projections of some maps of each layer along training."""
    arrays = analysis.arrays("evolution")
    if not arrays:
        return []
    epochs = [f"{epoch:g}" for epoch in _array(arrays, "evolution", "epochs")]
    layers = []
    for layer in map(str, _array(arrays, "evolution", "layers")):
        maps = _array(arrays, "evolution", f"{layer}/maps")
        projections = _array(arrays, "evolution", f"{layer}/projections")
        tiles = [[tile if np.any(tile) else None for tile in row] for row in projections]
        if len(maps):
            layers.append(visual.Evolution(layer, maps, epochs, tiles))
    if not layers:
        return []
    path = visual.draw_evolution(folder / "figure4.png", layers)
    caption = (
        "Figure 4. The strongest activation of a map over the training images at each snapshot, "
        "projected to pixels; rows are maps, columns snapshots. A sudden jump is a change of the "
        "image that excites the map most. Each is stretched by itself."
    )
    return [Picture(path, caption, "Projections of some maps at rising epochs, by layer")]


def figure5(analysis: Analysis, folder: Path) -> list[Picture]:
    """First-layer filters, their energy by rank, and second-layer projections, by network."""
    arrays = analysis.arrays("filters")
    of = {(n.network, depth(n.layer)): n for n in analysis.filters}
    known = [n.name for n in analysis.networks]
    names = list(dict.fromkeys(key.rpartition("/")[0] for key in arrays))
    names.sort(key=lambda name: known.index(name) if name in known else len(known))
    kernels, second = (
        {name: arrays[f"{name}/{what}"] for name in names if len(arrays.get(f"{name}/{what}", ()))}
        for what in ("conv1", "conv2_projections")
    )
    found = []
    if kernels:
        panels = [visual.FilterPanel(n, kernel=k, numbers=_shares(of.get((n, 1))))
                  for n, k in kernels.items()]  # fmt: skip
        path = visual.draw_filter_panels(folder / "figure5_layer1.png", panels)
        caption = (
            "Figure 5, first layer: every filter scaled by its own largest weight, grey is zero. "
            "Strongest: the strongest filter's share of the energy (squared weights)."
        )
        found.append(Picture(path, caption, "First-layer filters of the networks"))
        path = draw_energy(kernels, folder / "figure5_energy.png")
        caption = (
            "Share of the first layer's energy in each filter, strongest first, against the share "
            "that all would have were they alike (1): what scaling each filter by itself hides. A "
            "filter that dominates stands out at the left, dead ones fall off at the right."
        )
        found.append(Picture(path, caption, "Energy of first-layer filters by rank"))
    if second:
        panels = [visual.FilterPanel(n, projections=list(p)) for n, p in second.items()]
        path = visual.draw_filter_panels(folder / "figure5_layer2.png", panels)
        caption = (
            "Figure 5, second layer: the strongest activation of each map, projected to pixels and "
            "cropped to its receptive field. Aliasing of a large stride shows as a regular pattern."
        )
        found.append(Picture(path, caption, "Second-layer projections of the networks"))
    return found


def _shares(line) -> dict[str, float]:
    if line is None:
        return {}
    shares = {"dead": line.dead_share, "strongest": line.strongest_energy_share}
    return {name: share for name, share in shares.items() if share is not None}


def draw_energy(kernels: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draws each filter's energy against the layer's mean, by rank, one line a network.

    Args:
      kernels: network -> (height, width, channels, filters).
      path: PNG to write.
    """
    with figures.style():
        figure = figures.new_figure(7.6, 3.6)
        axes = figure.subplots()
        colours = [c for name, c in figures.COLOURS.items() if name != "grey"]
        for index, (name, kernel) in enumerate(kernels.items()):
            energy = np.sort(np.sum(kernel.astype(np.float64) ** 2, axis=(0, 1, 2)))[::-1]
            rank = (np.arange(len(energy)) + 0.5) / len(energy)
            line = {"color": colours[(index + 4) % len(colours)], "marker": ".", "label": name}
            axes.plot(100 * rank, np.maximum(energy / max(energy.mean(), 1e-30), 1e-6), **line)
        axes.axhline(1, color="black", linewidth=1, linestyle=(0, (1, 2)))
        axes.set_yscale("log")
        axes.set(xlabel="filters, strongest first (%)", ylabel="energy against the mean")
        figure.legend(loc="outside right center")
        return figures.save(figure, path)


def figure6(analysis: Analysis, folder: Path) -> list[Picture]:
    """Occlusion maps, one row an image."""
    arrays = analysis.arrays("occlusion")
    if not arrays:
        return []
    names = ("images", "activation", "probability", "predicted", "projections", "classes", "map")
    of = {name: _array(arrays, "occlusion", name) for name in names}
    square, rows, columns, class_names, layer = (
        _array(arrays, "occlusion", name)
        for name in ("square", "rows", "columns", "class_names", "layer")
    )
    names = {index: str(name) for index, name in enumerate(class_names)}
    examples = [
        visual.OcclusionExample(
            image=of["images"][i],
            square=int(square),
            rows=rows,
            columns=columns,
            activation=of["activation"][i],
            probability=of["probability"][i],
            predicted=of["predicted"][i],
            true_class=int(of["classes"][i]),
            class_names=names,
            projection=of["projections"][i],
            map_label=f"{layer}, map {of['map'][i]}",
        )
        for i in range(len(of["images"]))
    ]
    if not examples:
        return []
    path = visual.draw_occlusion(folder / "figure6.png", examples)
    caption = (
        f"Figure 6. A grey square of {int(square)} pixels slides over the image; each map shows, "
        "at the square's centre, the summed activation of the map that the whole image excites "
        "most, the probability of the true class, and the most probable class. Third column: that "
        "map's projection."
    )
    return [Picture(path, caption, "Images under a sliding grey square, five panels each")]


def figure7(analysis: Analysis, folder: Path, caltech256: Lines) -> list[Picture]:
    """Accuracy against images per class, one picture a target; the paper's Table 4 dashed."""
    lines, found = analysis.transfer, []
    for target in numbers.targets(lines):
        curves = []
        for readout, label, colour in (
            ("softmax", "pretrained", "blue"),
            ("scratch", "from scratch", "vermilion"),
        ):
            points = []
            for size in numbers.sizes(lines, target, readout):
                layer = numbers.last_hidden(lines, target) if readout == "softmax" else None
                folds = numbers.folds(lines, target, readout, layer, size).values()
                values = [n.accuracy for n in folds]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                points.append((size, statistics.fmean(values), spread))
            if points:
                x, y, error = zip(*points, strict=True)
                curves.append(visual.Curve(label, x, y, error, figures.COLOURS[colour]))
        if len(numbers.sizes(lines, target, "softmax")) < 2:
            continue
        for kind, label in (("pretrained", "paper, pretrained"), ("scratch", "paper, scratch")):
            theirs = [line for line in caltech256 if line["kind"] == kind]
            if theirs:
                x = [int(line["train_per_class"]) for line in theirs]
                y = [float(line["accuracy"]) / 100 for line in theirs]
                grey = figures.COLOURS["grey"]
                curves.append(visual.Curve(label, x, y, None, grey, dashed=True))
        some = next(n for n in lines if n.target == target)
        path = visual.draw_curve(
            folder / f"figure7_{_file(target)}.png",
            curves,
            title=target,
            num_classes=some.num_classes,
            error_label="± standard deviation over folds",
        )
        caption = (
            f"Figure 7, {target} ({some.num_classes} classes): accuracy against the number of "
            "training images of each class, a softmax on the last hidden layer of the source "
            "network, and the same network trained from scratch."
        )
        if caltech256:
            caption += " Dashed: the paper's Table 4, Caltech-256."
        found.append(Picture(path, caption, "Accuracy against training images per class"))
    return found


def duplicates(analysis: Analysis, folder: Path) -> list[Picture]:
    """The strongest pairs of near-duplicates."""
    arrays = analysis.arrays("duplicates")
    if not arrays:
        return []
    left, right, correlation = (
        _array(arrays, "duplicates", name)
        for name in ("source_images", "target_images", "correlation")
    )
    pairs = [
        visual.DuplicatePair(left[i], right[i], float(correlation[i]), "source", "target")
        for i in np.argsort(-correlation, kind="stable")[:MOST_PAIRS]
    ]
    if not pairs:
        return []
    path = visual.draw_duplicates(folder / "duplicates.png", pairs)
    return [Picture(path, "The pairs that correlate most.", "Pairs of near-identical images")]


def _array(arrays: Mapping[str, np.ndarray], file: str, key: str) -> np.ndarray:
    if key not in arrays:
        raise AnalysisError(f"{file}.npz has no array {key!r}; it has {', '.join(sorted(arrays))}")
    return arrays[key]


def _file(name: str) -> str:
    """A name that is safe in a path."""
    return re.sub(r"\W+", "_", name)
