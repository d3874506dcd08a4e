"""The figures of Huh et al. 2016: pretraining and transfer side by side, question by question."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from transfer_jax.report import figures
from transfer_jax.report import huh2016_numbers as numbers
from transfer_jax.report.figures import COLOURS
from transfer_jax.report.huh2016_files import ALL, MEASURES, SCRATCH, Analysis
from transfer_jax.report.huh2016_numbers import Series

LOOKS = {
    "pretraining": (COLOURS["black"], "D"),
    "fine_tuned": (COLOURS["blue"], "o"),
    "svm": (COLOURS["vermilion"], "s"),
}
"""What is measured -> colour, marker."""

AXES = {
    "images": "training images of each class",
    "classes": "classes pretrained on",
    "budget": "classes pretrained on, one budget of images",
}
"""Questions whose conditions have a place on an axis -> its label."""


@dataclasses.dataclass(frozen=True)
class Line:
    """What one line of a panel shows.

    Attributes:
      label: written beside its right end; empty for none.
      look: key of `LOOKS`.
      points: (x, mean, standard deviation) in percent, by x.
      second: of two kinds of conditions, whether these are the second: hollow and dashed.
    """

    label: str
    look: str
    points: tuple[tuple[float, float, float], ...]
    second: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """One measure of pretraining, or all measures of one target; scratch in percent."""

    title: str
    lines: tuple[Line, ...]
    scratch: float | None = None

    @property
    def extent(self) -> tuple[float, float]:
        """Least and greatest of everything drawn."""
        ends = [y + s * sd for line in self.lines for _, y, sd in line.points for s in (-1, 1)]
        ends += [] if self.scratch is None else [self.scratch]
        return min(ends), max(ends)


def draw_question(analysis: Analysis, question: str, path: Path) -> Path | None:
    """Draws a question: pretraining accuracy, then one panel per target; all of one scale.

    Questions with an axis give lines over a logarithmic one, the others one row per condition.

    Args:
      analysis: holds the accuracies.
      question: of conditions.csv.
      path: PNG to write.

    Returns:
      The path, or None where nothing of the question has been measured.
    """
    lines = analysis.question(question)
    if question in AXES:
        places = {name: line.value for name, line in lines.items() if line.value}
    else:
        places = dict(zip(lines, range(len(lines)), strict=True))
    panels = _panels(analysis, places)
    if not panels:
        return None
    with figures.style():
        if question not in AXES:
            return _rows(panels, places, path)
        figure, grid = _grid(panels)
        everything = places.get(ALL)
        for axes, panel in zip(grid, panels, strict=True):
            _curves(axes, panel)
            log_axis(axes, places.values(), everything)
            axes.set_xlabel(AXES[question])
        _one_scale(grid, panels, "y")
        for axes, panel in zip(grid, panels, strict=True):
            _label(axes, panel)
        if any(line.second for panel in panels for line in panel.lines):
            kinds_legend(figure)
        return figures.save(figure, path)


def _panels(analysis: Analysis, places) -> list[Panel]:
    """Pretraining and each target, as far as they were measured."""
    second = {name for name in places if name.endswith("top-down")}
    first = [name for name in places if name not in second]
    kinds = [(first, False)] if not second else [(first, False), ([*second, ALL], True)]
    kinds = [kind for kind in kinds if kind[0] != [ALL] or len(kinds) == 1]

    def lines(look: str, series_of, label: str) -> list[Line]:
        found = []
        for names, hollow in kinds:
            points = [
                (places[name], *percents(series_of(name)))
                for name in names
                if name in places and series_of(name)
            ]
            if points:
                found.append(Line("" if found else label, look, tuple(sorted(points)), hollow))
        return found

    own = lines("pretraining", lambda name: numbers.pretraining(analysis, name), "")
    panels = [Panel("Pretraining, own task", tuple(own))] if own else []
    for target in analysis.target_names():
        found = []
        for measure in analysis.measures(target):
            found += lines(
                measure,
                lambda name, t=target, m=measure: numbers.transfer(analysis, name, t, m),
                MEASURES[measure],
            )
        scratch = numbers.transfer(analysis, SCRATCH, target, "fine_tuned")
        # A target that other questions ask for shows nothing here but the condition they share.
        alone = {x for line in found for x, _, _ in line.points} == {places.get(ALL)}
        if found and not (alone and len(places) > 1):
            level = percents(scratch)[0] if scratch else None
            panels.append(Panel(f"Transfer to {target}", tuple(found), level))
    return panels


def percents(series: Series) -> tuple[float, float]:
    """Mean and standard deviation over seeds (0 for one), in percent."""
    values = [100 * share.value for share in series.values()]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _grid(panels: Sequence[Panel]) -> tuple[Figure, list[Axes]]:
    across = _across(panels)
    down = -(-len(panels) // across)
    figure = figures.new_figure(3.9 * across + 0.6, 3.5 * down + 0.3)
    grid = [figure.add_subplot(down, across, i + 1) for i in range(len(panels))]
    return figure, grid


def _across(panels: Sequence[Panel]) -> int:
    """Columns: at most three, and as few as fill no more rows."""
    return -(-len(panels) // -(-len(panels) // 3))


def marks(line: Line) -> dict:
    """Arguments of `errorbar` that give a line its colour and markers."""
    colour, marker = LOOKS[line.look]
    return {
        "color": colour,
        "marker": marker,
        "markersize": 5.5,
        "markerfacecolor": "white" if line.second else colour,
        "capsize": 3,
        "elinewidth": 1.1,
        "zorder": 2 if line.second else 3,
    }


def _curves(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_ylabel("accuracy (%)")
    for line in panel.lines:
        x, y, spread = zip(*line.points, strict=True)
        dashes = (0, (4, 2)) if line.second else "-"
        axes.errorbar(x, y, spread, linestyle=dashes, **marks(line))
    if panel.scratch is not None:
        axes.axhline(panel.scratch, color=COLOURS["grey"], linewidth=1.4, linestyle=(0, (1, 1.5)))


def log_axis(axes: Axes, values, everything: float | None) -> None:
    """A logarithmic axis with a tick at each value that has room; 'all' is always named."""
    values = sorted(set(values), reverse=True)
    low, high = math.log(values[-1]), math.log(values[0])
    margin = 0.06 * (high - low) or 0.2
    axes.set_xscale("log")
    axes.set_xlim(math.exp(low - margin), math.exp(high + margin))
    ticks: list[float] = []
    for value in values:
        if not ticks or math.log(ticks[-1] / value) >= 0.15 * (high - low):
            ticks.append(value)
    labels = [f"{t:,.0f}\n(all)" if t == everything else f"{t:,.0f}" for t in ticks]
    axes.set_xticks(ticks, labels)
    axes.xaxis.set_minor_locator(NullLocator())


def _one_scale(grid: Sequence[Axes], panels: Sequence[Panel], axis: str) -> None:
    """As many points to the inch in all panels, so that slopes compare; each where its data lie."""
    span = 1.16 * max(max(high - low for low, high in (p.extent for p in panels)), 4.0)
    for axes, panel in zip(grid, panels, strict=True):
        middle = sum(panel.extent) / 2
        low = max(min(middle - span / 2, 102 - span), -2.0)
        getattr(axes, f"set_{axis}lim")(low, low + span)
        getattr(axes, f"{axis}axis").set_major_locator(MaxNLocator(5, min_n_ticks=3))


def _label(axes: Axes, panel: Panel) -> None:
    """Names lines at their right ends, and the level of scratch."""
    ends = [(*line.points[-1][:2], line.label, LOOKS[line.look][0])
            for line in panel.lines if line.label]  # fmt: skip
    if panel.scratch is not None:
        ends.append((axes.get_xlim()[1], panel.scratch, "from scratch", COLOURS["grey"]))
    figures.label_ends(axes, ends, gap=0.08)


def kinds_legend(figure: Figure) -> None:
    """Explains full and hollow markers."""
    grey = COLOURS["grey"]
    handles = [
        Line2D([], [], color=grey, marker="o", label="merged bottom-up"),
        Line2D([], [], color=grey, marker="o", markerfacecolor="white", linestyle=(0, (4, 2)),
               label="merged top-down"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _rows(panels: Sequence[Panel], places, path: Path) -> Path:
    """One row per condition, one column of panels per measure of pretraining and target."""
    across = _across(panels)
    down = -(-len(panels) // across)
    figure = figures.new_figure(3.0 * across + 1.8, (0.42 * len(places) + 1.3) * down + 0.3)
    grid = [figure.add_subplot(down, across, i + 1) for i in range(len(panels))]
    drawn = list(dict.fromkeys(line.look for panel in panels for line in panel.lines))
    for index, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        axes.set_title(panel.title)
        looks = list(dict.fromkeys(line.look for line in panel.lines))
        for line in panel.lines:
            shift = 0.24 * (looks.index(line.look) - (len(looks) - 1) / 2)
            x, y, spread = zip(*line.points, strict=True)
            beside = [place + shift for place in x]
            axes.errorbar(y, beside, xerr=spread, linestyle="none", **marks(line))
        if panel.scratch is not None:
            axes.axvline(panel.scratch, color=COLOURS["grey"], linewidth=1.4,
                         linestyle=(0, (1, 1.5)))  # fmt: skip
        names = list(places) if index % across == 0 else [""] * len(places)
        axes.set_yticks(list(places.values()), names)
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_xlabel("accuracy (%)")
    _one_scale(grid, panels, "x")
    handles = [
        Line2D([], [], color=LOOKS[look][0], marker=LOOKS[look][1], linestyle="none",
               label=MEASURES.get(look, "pretraining"))
        for look in drawn
    ]  # fmt: skip
    if any(panel.scratch is not None for panel in panels):
        handles.append(Line2D([], [], color=COLOURS["grey"], linestyle=(0, (1, 1.5)),
                              label="from scratch"))  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figures.save(figure, path)
