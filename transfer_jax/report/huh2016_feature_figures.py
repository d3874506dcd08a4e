"""Question 3 of Huh et al. 2016 in figures: neighbours over the fine classes, and siblings."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib.lines import Line2D

from transfer_jax.report import figures
from transfer_jax.report.figures import COLOURS
from transfer_jax.report.huh2016_feature_claims import neighbour_lines
from transfer_jax.report.huh2016_figures import (
    LOOKS,
    Line,
    kinds_legend,
    log_axis,
    marks,
    percents,
)
from transfer_jax.report.huh2016_files import ALL, Analysis
from transfer_jax.report.huh2016_numbers import Share


def draw_neighbours(analysis: Analysis, path: Path) -> Path | None:
    """Draws top-1 and top-5 over the fine classes by the number of classes trained on.

    Returns:
      The path, or None without neighbours.csv.
    """
    conditions = neighbour_lines(analysis)
    if not conditions:
        return None
    fine = analysis.neighbours[0].fine_classes
    sizes = {name: lines[0].num_classes for name, lines in conditions.items()}
    second = [name for name in sizes if name.endswith("top-down")]
    first = [name for name in sizes if name not in second]
    with figures.style():
        figure = figures.new_figure(7.0, 4.3)
        axes = figure.add_subplot()
        ends = []
        for field, look, label in (("top5", "svm", "top-5"), ("top1", "fine_tuned", "top-1")):
            for names, hollow in ((first, False), ([*second, ALL] if second else [], True)):
                points = sorted(
                    (sizes[name], *_percent_of(conditions[name], field))
                    for name in names
                    if name in sizes
                )
                if points:
                    x, y, spread = zip(*points, strict=True)
                    line = Line("", look, tuple(points), hollow)
                    dashes = (0, (4, 2)) if hollow else "-"
                    axes.errorbar(x, y, spread, linestyle=dashes, **marks(line))
                    if not hollow or not first:
                        ends.append((x[-1], y[-1], label, LOOKS[look][0]))
        # Beyond the best features the guess is no measure of anything: the line leaves the panel.
        highest = max(n.top5 for lines in conditions.values() for n in lines)
        top = min(103.0, 118 * highest)
        axes.set_ylim(-0.03 * top, top)
        ks = sorted(set(sizes.values()))
        grey = COLOURS["grey"]
        if len(ks) > 1:
            dense = [ks[0] * (ks[-1] / ks[0]) ** (i / 40) for i in range(41)]
            axes.plot(dense, [100 * k / fine for k in dense], color=grey, linestyle=(0, (4, 2)))
            leaves = min(ks[-1], top * fine / 100)
            ends.append((leaves, 100 * leaves / fine, "guessing\nwithin the class", grey))
        log_axis(axes, ks, sizes.get(ALL))
        axes.set(xlabel="classes pretrained on", ylabel=f"accuracy over {fine:,} classes (%)")
        axes.set_title("Nearest neighbours over the fine classes")
        figures.label_ends(axes, ends, gap=0.11)
        figures.chance_lines(axes, [fine], "right")
        if second:
            kinds_legend(figure)
        return figures.save(figure, path)


def _percent_of(lines, field: str) -> tuple[float, float]:
    return percents({n.seed: Share(getattr(n, field), None) for n in lines})


def draw_siblings(analysis: Analysis, path: Path) -> Path | None:
    """Draws the share of siblings by level in features of the fine classes, and chance.

    Returns:
      The path, or None where siblings.csv has no network trained on the fine classes.
    """
    lines = [n for n in analysis.siblings
             if n.condition == ALL and n.share is not None and n.chance is not None]  # fmt: skip
    levels = sorted({(-n.level_classes, n.level) for n in lines})
    if not levels:
        return None
    with figures.style():
        figure = figures.new_figure(7.0, 0.3 * len(levels) + 1.7)
        axes = figure.add_subplot()
        for row, (_, level) in enumerate(levels):
            mine = [n for n in lines if n.level == level]
            mean, spread = _percent_of(mine, "share")
            chance = 100 * statistics.fmean(n.chance for n in mine)
            axes.plot([chance, mean], [row, row], color=COLOURS["grey"], linewidth=1.2, zorder=1)
            axes.errorbar([mean], [row], xerr=[spread], **marks(Line("", "fine_tuned", ())))
            axes.plot([chance], [row], "o", markerfacecolor="white", color=COLOURS["grey"])
        axes.set_yticks(range(len(levels)), [f"{level}" for _, level in levels])
        axes.set_ylim(len(levels) - 0.5, -0.5)
        axes.set_xlim(-3, 103)
        axes.set(
            xlabel="nearest other class has the same parent (%)",
            ylabel="level and number of parents",
        )
        axes.set_title("Siblings among nearest classes")
        handles = [
            Line2D([], [], color=LOOKS["fine_tuned"][0], marker="o", linestyle="none",
                   label="trained on all classes"),
            Line2D([], [], color=COLOURS["grey"], marker="o", markerfacecolor="white",
                   linestyle="none", label="chance"),
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
        return figures.save(figure, path)
