"""Our differences beside those that Yosinski et al. published, and accuracy by images per class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from transfer_jax.report import analysis, figures
from transfer_jax.report.figures import COLOURS
from transfer_jax.report.results import Row
from transfer_jax.report.yosinski2014_figures import LOOKS, NAMES, differences, layer_axis, shade

PAPER = {"color": COLOURS["grey"], "linestyle": (0, (4, 2.5)), "linewidth": 1.4, "zorder": 4}


def figure2_published(rows, published: Sequence[Row], num_eval, path) -> Path | None:
    """Draws each treatment's difference to base, ours beside the paper's means.

    The paper's line is its mean over all networks minus the mean of its eight bases.

    Returns:
      The path, or None where we have no difference to show.
    """
    ours = analysis.grid(rows, "random_halves")
    theirs = analysis.means(analysis.grid(published, "random_halves"))
    columns = [
        [t for t in LOOKS if t.endswith(suffix) and differences(ours, t, num_eval)]
        for suffix in ("_frozen", "_finetuned")
    ]
    columns = [column for column in columns if column]
    if not columns:
        return None
    down = max(len(column) for column in columns)
    with figures.style():
        figure = figures.new_figure(5.2 * len(columns), 3.3 * down)
        grid = figure.subplots(down, len(columns), squeeze=False, sharey="col")
        for across, column in enumerate(columns):
            for axes in grid[len(column) :, across]:
                axes.set_visible(False)
            for axes, treatment in zip(grid[:, across], column, strict=False):
                colour, marker, _ = LOOKS[treatment]
                axes.set_title(NAMES[treatment])
                found = differences(ours, treatment, num_eval)
                _beside(axes, found, _paper_line(theirs, treatment), colour, marker)
        return _finish(figure, grid, path)


def figure3_published(rows, published: Sequence[Row], num_eval, path) -> Path | None:
    """Draws each kind of frozen layers against their base, ours beside the paper's means."""
    kinds = (
        ("random_halves", "transfer_frozen", "Random halves, AnB", "D", "vermilion"),
        ("man_natural", "transfer_frozen", "Man-made / natural, AnB", "h", "green"),
        ("random_weights", "random_frozen", "Random weights, RnB", "X", "purple"),
    )
    panels = [k for k in kinds if differences(analysis.grid(rows, k[0]), k[1], num_eval)]
    if not panels:
        return None
    with figures.style():
        figure = figures.new_figure(max(4.0 * len(panels), 6.0), 3.9)
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)
        for axes, (experiment, treatment, title, marker, colour) in zip(
            grid.flat, panels, strict=True
        ):
            theirs = analysis.means(analysis.grid(published, experiment))
            axes.set_title(title)
            found = differences(analysis.grid(rows, experiment), treatment, num_eval)
            _beside(axes, found, _paper_line(theirs, treatment), COLOURS[colour], marker)
        return _finish(figure, grid, path)


def _beside(axes: Axes, found, theirs: Mapping[int, float], colour, marker):
    """Our differences with shading, the paper's as a grey dashed line."""
    line = {n: 100 * difference.value for n, difference in found.items()}
    axes.axhline(0, color="black", linewidth=1, linestyle=(0, (1, 2)))
    axes.plot([0, *theirs], [0, *theirs.values()], **PAPER)
    axes.plot(
        [0, *line],
        [0, *line.values()],
        color=colour,
        marker=marker,
        markersize=5,
        markevery=slice(1, None),
        zorder=3,
    )
    shade(axes, found, line, colour)


def _finish(figure, grid, path):
    for axes in grid.flat:
        layer_axis(axes, [7], label="layer n")
        axes.yaxis.set_tick_params(labelleft=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("against base (points)")
    handles = [
        (Line2D([], [], color="#333333"), Patch(color="#333333", alpha=0.16, linewidth=0)),
        Line2D([], [], **PAPER),
    ]
    labels = ["ours, ± one standard error", "paper (ImageNet)"]
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figures.save(figure, path)


def _paper_line(theirs: Mapping[tuple[str, int], float], treatment: str) -> dict[int, float]:
    """n -> the paper's mean of a treatment minus the mean of its bases, in points."""
    base = theirs["base", 0]
    return {n: 100 * (value - base) for (name, n), value in theirs.items() if name == treatment}


def images_per_class(rows: Iterable[Row], published: Sequence[Row], num_classes, path):
    """Draws accuracy against the number of training images kept per class.

    Args:
      rows: ours. published: the paper's rows, or none. num_classes: hash -> classes.
      path: PNG to write.

    Returns:
      The path, or None where that experiment has no finished network.
    """

    def points(rows):
        found = [r for r in rows if r.experiment == "images_per_class" and r.finished]
        return sorted((int(r.split), 100 * r.accuracy, r.hash) for r in found)

    ours = points(rows)
    if not ours:
        return None
    with figures.style():
        figure = figures.new_figure(7.6, 4.2)
        axes = figure.subplots()
        theirs = points(published)
        if theirs:
            axes.plot(*zip(*[p[:2] for p in theirs], strict=True), label="paper, ImageNet", **PAPER)
        line = dict(color=COLOURS["blue"], marker="o", markersize=5, label="ours", zorder=3)
        axes.plot(*zip(*[p[:2] for p in ours], strict=True), **line)
        axes.set_xscale("log")
        ticks = [n for n in (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000) if n <= 1.2 * ours[-1][0]]
        if theirs:
            ticks = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000]
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="training images per class", ylabel="top-1 accuracy (%)")
        axes.legend(loc="upper left")
        classes = [num_classes[hash] for _, _, hash in ours if hash in num_classes]
        figures.chance_lines(axes, classes, side="right")
        return figures.save(figure, path)
