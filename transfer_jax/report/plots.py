"""What all figures share: one style, one palette, lines with intervals, curves, filters."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
import PIL.ImageOps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from transfer_jax.report.effects import Effect
from transfer_jax.report.frame import Results

COLOURS: Mapping[str, str] = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#7F7F7F",
}
"""Okabe and Ito's, which colour-blind readers can tell apart, and a grey; yellow is left out, being
too pale for lines on white."""

DASHED, DOTTED = (0, (4, 2.5)), (0, (1, 2))
DPI, CSS_DPI = 130, 96
STRIP = 500  # CSS pixels
LARGE = 2**17  # bytes
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def new_figure(width: float, height: float, **subplots) -> tuple[Figure, np.ndarray]:
    """A figure in inches, without a display, and its axes (rows, columns); `subplots` are those of
    `Figure.subplots`. A page's figures are drawn in STYLE."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(squeeze=False, **subplots)


def panels(figure: Figure) -> list[tuple[str, int, int]]:
    """A figure as (data URL, width, height in CSS pixels) of the strips that a page sets side by
    side, and below each other where it is narrow. It is cut between columns of axes, into strips of
    at most `STRIP` pixels where that can be done."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    items = [*figure.axes, *figure.legends, *figure.texts]
    boxes = [box for item in items if (box := item.get_tightbbox(canvas.get_renderer()))]
    cuts, scale = _cuts([(box.x0, box.x1) for box in boxes], drawn.width), CSS_DPI / DPI
    places = [axes.bbox.x0 for axes in figure.axes]
    parts = []
    for left, right in cuts:
        part = drawn.crop((left, 0, right, drawn.height))
        if not any(left <= place < right for place in places):  # a legend, without its margins
            _, top, _, bottom = PIL.ImageOps.invert(part).getbbox() or part.getbbox()
            part = part.crop((0, top, part.width, bottom))
        parts.append((_data_url(part), round(part.width * scale), round(part.height * scale)))
    return parts


def _cuts(spans: Sequence[tuple[float, float]], width: int) -> list[tuple[int, int]]:
    """(left, right) of strips that divide no span and are as wide as may be."""
    gaps, end = [], 0.0
    for start, stop in sorted(spans):
        if 0 < end < start:
            gaps.append(round((start + end) / 2))
        end = max(end, stop)
    cuts = [0]
    for gap, following in itertools.pairwise([*gaps, width]):
        if (following - cuts[-1]) * CSS_DPI / DPI > STRIP:
            cuts.append(gap)
    return list(itertools.pairwise([*cuts, width]))


def _data_url(drawn: PIL.Image.Image) -> str:
    """PNG of at most 256 colours, or WebP where that is large."""
    with io.BytesIO() as small:
        drawn.quantize(256).save(small, "png", optimize=True)
        kind = "png"
        if small.tell() > LARGE:
            small.seek(0)
            small.truncate()
            drawn.save(small, kind := "webp", quality=80)
        return f"data:image/{kind};base64,{base64.b64encode(small.getvalue()).decode()}"


def band(axes: Axes, effects: Mapping[float, Effect], colour: str, marker: str, label: str) -> None:
    """A line of effects by x, in points, with the 95 % interval shaded where there is one."""
    x = np.array(sorted(effects))
    if not x.size:
        return
    mean, half = _points([effects[place] for place in x])
    axes.plot(x, mean, color=colour, marker=marker, label=label, zorder=3)
    axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)


def dots(axes: Axes, effects: Mapping[float, Effect], **looks) -> None:
    """Effects by x, in points, with bars for the 95 % interval where there is one."""
    known = {x: effect for x, effect in effects.items() if effect.units}
    if known:
        mean, half = _points(list(known.values()))
        axes.errorbar(list(known), mean, yerr=half, **{"capsize": 3, **looks})


def _points(effects: Sequence[Effect]) -> np.ndarray:
    """Means of effects, and half their 95 % intervals (0 of one unit), in points: (2, count)."""
    return 100 * np.array([(e.mean, e.half_width() if e.units > 1 else 0.0) for e in effects]).T


def layer_axis(axes: Axes) -> None:
    """The x axis of Yosinski's figures: 'base' at 0, then layers 1 to 7."""
    axes.set_xlim(-0.4, 7.4)
    axes.set_xticks(range(8), ["base", *map(str, range(1, 8))])
    axes.set_xlabel("layer n at which the network is cut and retrained")


def chance_line(axes: Axes, num_classes: float) -> None:
    """Accuracy of guessing, in percent."""
    axes.axhline(100 / num_classes, color=COLOURS["grey"], linewidth=1, linestyle=DOTTED)
    axes.annotate(f"chance, 1 in {num_classes:.0f}", (0.01, 100 / num_classes), va="bottom",
                  xycoords=("axes fraction", "data"), fontsize=8, color="#555555")  # fmt: skip


def learning_curves(results: Results, cells: Sequence[tuple[str, str, str]]) -> Figure | None:
    """Training loss and validation accuracy by step.

    Args:
      results: whose workdir holds metrics.jsonl of the cells.
      cells: (label, colour, hash); of one colour, lines are solid, dashed, dotted in turn.

    Returns:
      the figure, None where no cell has told anything.
    """
    curves = [(label, colour, results.metrics(hash)) for label, colour, hash in cells]
    curves = [(label, colour, lines) for label, colour, lines in curves if len(lines)]
    if not curves:
        return None
    figure, ((losses, accuracies),) = new_figure(10, 3.6, ncols=2)
    drawn: list[str] = []
    for label, colour, lines in curves:
        style = ("-", DASHED, DOTTED)[drawn.count(colour) % 3]
        drawn.append(colour)
        for axes, name, scale in ((losses, "loss", 1), (accuracies, "top1", 100)):
            if name in lines:
                points = lines.dropna(subset=name)
                values = points[name].rolling(1 + len(points) // 40, center=True).mean()
                shown = {"color": colour, "linestyle": style, "linewidth": 1.5}
                shown["marker"] = "o" if len(points) < 4 else None  # one evaluation is a dot
                axes.plot(points["step"], scale * values, label=label, **shown)
    losses.set(xlabel="step", ylabel="training loss (nats)")
    accuracies.set(xlabel="step", ylabel="validation top-1 (%)")
    for axes in (losses, accuracies):
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    figure.legend(*losses.get_legend_handles_labels(), loc="outside right center")
    return figure


def first_layer_filters(results: Results, cells: Mapping[str, str]) -> Figure | None:
    """The first-layer filters of some networks side by side; `cells` is title -> hash."""
    kernels = {title: results.conv1(hash) for title, hash in cells.items()}
    kernels = {title: kernel for title, kernel in kernels.items() if kernel is not None}
    if not kernels:
        return None
    across = min(len(kernels), 4)
    down = -(-len(kernels) // across)
    figure, grid = new_figure(2.5 * across, 2.2 * down, nrows=down, ncols=across)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (title, kernel) in zip(grid.flat, kernels.items(), strict=False):
        axes.imshow(filter_tiles(kernel), interpolation="nearest")
        axes.set_title(title, fontsize=9)
    return figure


def filter_tiles(kernel: np.ndarray) -> np.ndarray:
    """Filters (height, width, 3, count) as a mosaic, each scaled by itself: grey is zero."""
    tiles = stretched(np.moveaxis(kernel, -1, 0))
    return mosaic(tiles, int(np.ceil(np.sqrt(len(tiles)))), 1)


def stretched(pictures: np.ndarray) -> np.ndarray:
    """Signed pictures (..., h, w, 3) as uint8: grey is zero, the largest absolute value of each
    reaches black or white."""
    largest = np.maximum(np.abs(pictures).max(axis=(-3, -2, -1), keepdims=True), 1e-12)
    return np.round(127.5 + 127.5 * pictures / largest).astype(np.uint8)


def mosaic(tiles: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Pictures (n, h, w, 3) uint8 row by row on white."""
    tiles = np.pad(
        tiles, ((0, -len(tiles) % columns), (0, gap), (0, gap), (0, 0)), constant_values=255
    )
    height, width = tiles.shape[1:3]
    tiles = tiles.reshape(-1, columns, height, width, 3).swapaxes(1, 2)
    return tiles.reshape(-1, columns * width, 3)
