"""Figures 2 and 3 of Yosinski et al. 2014."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from transfer_jax.report import analysis, figures
from transfer_jax.report.figures import COLOURS
from transfer_jax.report.results import Row
from transfer_jax.report.statistics import Estimate

LOOKS: Mapping[str, tuple[str, str, float]] = {
    "base": (COLOURS["black"], "o", 0.0),
    "selffer_frozen": (COLOURS["blue"], "s", -0.21),
    "selffer_finetuned": (COLOURS["sky"], "^", -0.07),
    "transfer_frozen": (COLOURS["vermilion"], "D", 0.07),
    "transfer_finetuned": (COLOURS["orange"], "v", 0.21),
}
"""Treatment -> colour, marker, and how far its markers stand beside n."""

NAMES = {
    "base": "base, trained from scratch",
    "selffer_frozen": "BnB, own layers frozen",
    "selffer_finetuned": "BnB+, own layers fine-tuned",
    "transfer_frozen": "AnB, other task's layers frozen",
    "transfer_finetuned": "AnB+, other task's layers fine-tuned",
}
TASKS = {"A": "man-made (A)", "B": "natural (B)"}
LAYER = "layer n at which the network is chopped and retrained"


def figure2(
    rows: Sequence[Row],
    num_eval,
    num_classes,
    path: str | os.PathLike[str],
    experiment: str = "random_halves",
) -> Path:
    """Draws Figure 2: every network above, lines of means below with what each line shows.

    The lower panel shows mean base accuracy plus the mean difference to the base of the same
    split and target; shading is one standard error of that difference.

    Args:
      rows: all rows of results.csv.
      num_eval, num_classes: hash -> number of validation images, of classes, where known.
      path: PNG to write.
      experiment: whose networks.
    """
    cells = analysis.treated(analysis.grid(rows, experiment))
    with figures.style():
        figure = figures.new_figure(9.6, 9.0)
        above, below = figure.subplots(2, 1, sharex=True)
        above.set_title("Every network")
        below.set_title("Means, against the base of the same target")
        if not cells:
            text = f"{experiment.replace('_', ' ')}: not run"
            figures.not_run(above, text)
            figures.not_run(below, text)
            return figures.save(figure, path)
        for treatment, (colour, marker, shift) in LOOKS.items():
            networks = [r for unit in cells.values() for r in unit.values()]
            networks = [r for r in networks if r.treatment == treatment]
            if networks:
                above.scatter(
                    [r.n + shift for r in networks],
                    [100 * r.accuracy for r in networks],
                    s=34 if treatment == "base" else 24,
                    marker=marker,
                    facecolor="white" if treatment == "base" else colour,
                    edgecolor=colour,
                    linewidth=1.2 if treatment == "base" else 0.6,
                    alpha=0.9,
                    zorder=3,
                    label=NAMES[treatment],
                )
        above.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
        ends = _lines_of_means(below, cells, num_eval)
        layer_axis(below, [n for n in analysis.ns_of(cells)])
        for axes in (above, below):
            axes.set_ylabel("top-1 accuracy (%)")
            axes.margins(y=0.08)
        figures.label_ends(below, ends, gap=0.15)
        classes = [
            num_classes[r.hash] for u in cells.values() for r in u.values() if r.hash in num_classes
        ]
        for axes in (above, below):
            figures.chance_lines(axes, classes)
        return figures.save(figure, path)


def _lines_of_means(axes: Axes, cells, num_eval):
    """Draws the lower panel; returns where the lines end and what to write there."""
    base = analysis.means(cells).get(("base", 0))
    if base is None:
        figures.not_run(axes, "no base has finished: nothing to compare with")
        return []
    texts = analysis.interpretations(cells, num_eval)
    axes.axhline(100 * base, color="black", linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    axes.plot([0], [100 * base], "o", color="black", markerfacecolor="white", zorder=4)
    ends = [(7.3, 100 * base, texts["base"], COLOURS["black"])]
    for treatment, (colour, marker, _) in LOOKS.items():
        found = differences(cells, treatment, num_eval)
        if treatment == "base" or not found:
            continue
        line = {n: 100 * (base + difference.value) for n, difference in found.items()}
        axes.plot(
            [0, *line],
            [100 * base, *line.values()],
            color=colour,
            marker=marker,
            markersize=5,
            markevery=slice(1, None),
            zorder=3,
        )
        shade(axes, found, line, colour)
        last = max(line)
        ends.append((last, line[last], texts[treatment], colour))
    return ends


def figure3(rows: Sequence[Row], num_eval, num_classes, path: str | os.PathLike[str]) -> Path:
    """Draws Figure 3: man-made/natural, random weights, and all frozen layers against their base.

    Arguments as `figure2`.
    """
    distant = analysis.grid(rows, "man_natural")
    random = analysis.grid(rows, "random_weights")
    similar = analysis.grid(rows, "random_halves")
    with figures.style():
        upper = bool(analysis.treated(distant) or analysis.treated(random))
        figure = figures.new_figure(10.4, 8.4 if upper else 5.6)
        heights = [1, 1] if upper else [0.35, 1]
        axes = figure.subplot_mosaic(
            [["natman", "random"], ["all", "all"]], gridspec_kw={"height_ratios": heights}
        )
        panels = (
            ("natman", distant, "transfer_frozen", "Man-made / natural, AnB", "h", "green"),
            ("random", random, "random_frozen", "Random weights, RnB", "X", "purple"),
        )
        for name, cells, treatment, title, marker, colour in panels:
            axes[name].set_title(title)
            _accuracies(axes[name], cells, treatment, marker, COLOURS[colour], num_classes)
        axes["all"].set_title("Frozen layers against their own base")
        series = (
            ("random halves, AnB", similar, "transfer_frozen", "D", "vermilion"),
            ("man-made / natural, AnB", distant, "transfer_frozen", "h", "green"),
            ("random weights, RnB", random, "random_frozen", "X", "purple"),
        )
        _against_base(axes["all"], series, num_eval)
        return figures.save(figure, path)


def _accuracies(axes: Axes, cells, treatment, marker, colour, num_classes):
    """One line of accuracies by n per target, starting at the base."""
    cells = {u: c for u, c in cells.items() if any(name == treatment for name, _ in c)}
    if not cells:
        figures.not_run(axes)
        return
    ends, classes = [], []
    for (_, target), networks in cells.items():
        line = {n: r for (name, n), r in sorted(networks.items()) if name in (treatment, "base")}
        axes.plot(list(line), [100 * r.accuracy for r in line.values()], color=colour, zorder=2)
        for n, row in line.items():
            axes.plot(
                [n],
                [100 * row.accuracy],
                marker if n else "o",
                color=colour if n else "black",
                markerfacecolor=colour if n else "white",
                markersize=7 if n else 6,
                zorder=3,
            )
        classes += [num_classes[r.hash] for r in line.values() if r.hash in num_classes]
        name = TASKS.get(target, f"task {target}") if treatment == "transfer_frozen" else ""
        if name:
            last = max(line)
            ends.append((last, 100 * line[last].accuracy, f"towards\n{name}", colour))
    layer_axis(axes, analysis.ns_of(cells), label="layer n")
    axes.set_ylabel("top-1 accuracy (%)")
    axes.margins(y=0.1)
    figures.label_ends(axes, ends, gap=0.2)
    figures.chance_lines(axes, classes)


def _against_base(axes: Axes, series, num_eval):
    """Differences to the own base: faint markers for networks, a line for their mean."""
    ends = []
    for label, cells, treatment, marker, colour_name in series:
        colour = COLOURS[colour_name]
        found = differences(cells, treatment, num_eval)
        if not found:
            continue
        for networks in cells.values():
            base = networks.get(("base", 0))
            points = {n: r for (name, n), r in networks.items() if name == treatment and base}
            axes.plot(
                list(points),
                [100 * (r.accuracy - base.accuracy) for r in points.values()],
                marker,
                color=colour,
                alpha=0.35,
                markersize=6,
                markeredgewidth=0,
            )
        line = {n: 100 * difference.value for n, difference in found.items()}
        axes.plot([0, *line], [0, *line.values()], color=colour)
        shade(axes, found, line, colour)
        last = max(line)
        text = f"{label}\n{found[last]} at n = {last}"
        ends.append((last, line[last], text, colour))
    absent = [
        label for label, cells, treatment, *_ in series if not differences(cells, treatment, {})
    ]
    if not ends:
        figures.not_run(axes)
        return
    axes.axhline(0, color="black", linewidth=1, linestyle=(0, (1, 2)))
    layer_axis(axes, [7], label="layer n up to which the lower layers are frozen")
    axes.set_ylabel("top-1 against own base (points)")
    axes.margins(y=0.08)
    figures.label_ends(axes, ends, gap=0.14)
    if absent:
        text = "not run: " + "; ".join(absent)
        axes.text(0.015, 0.03, text, transform=axes.transAxes, color="#666666", fontsize=9)


def differences(cells, treatment: str, num_eval) -> dict[int, Estimate]:
    """n -> mean difference of a treatment to the base of the same split and target."""
    return {
        n: analysis.compare(cells, treatment, "base", [n], num_eval)
        for n in analysis.ns_of(cells, treatment, "base")
    }


def shade(axes: Axes, found: Mapping[int, Estimate], line: Mapping[int, float], colour) -> None:
    """Shades one standard error around a line given in percent."""
    errors = [100 * (found[n].error or 0.0) for n in line]
    low = [value - error for value, error in zip(line.values(), errors, strict=True)]
    high = [value + error for value, error in zip(line.values(), errors, strict=True)]
    if len(line) == 1:
        axes.errorbar(
            list(line),
            list(line.values()),
            errors,
            color=colour,
            fmt="none",
            elinewidth=1,
            capsize=3,
        )
    else:
        axes.fill_between(list(line), low, high, color=colour, alpha=0.16, linewidth=0)


def layer_axis(axes: Axes, ns: Sequence[int], *, label: str = LAYER) -> None:
    """Sets the axis of layers: base at 0, then 1 to 7 (or the largest n that was run)."""
    last = max([7, *ns])
    axes.set_xlim(-0.4, last + 0.4)
    axes.set_xticks(range(last + 1), ["base", *(str(n) for n in range(1, last + 1))])
    axes.set_xlabel(label)
