"""What every report's figures share: style, saving, label placement, filters, learning curves."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS: Mapping[str, str] = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#8A8A8A",
}
"""The palette of Okabe and Ito, whose colours stay apart for colour-blind readers, and a grey."""

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of the reports, for a `with` block; the caller's stay as they are."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches that needs no display and no pyplot state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(hspace=0.05, wspace=0.04)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 160) -> Path:
    """Writes a figure as PNG and returns its path."""
    path = Path(path)
    figure.savefig(path, dpi=dpi, bbox_inches="tight", pad_inches=0.12)
    return path


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves labels apart: the nearest places (least squares) that keep `gap` between neighbours.

    Args:
      positions: wanted places, in any order.
      gap: least distance between two labels; shrunk if they do not fit between low and high.
      low, high: limits of all places.

    Returns:
      The places, in the order of `positions`.

    Example:
      >>> spread([0.5, 0.5], 0.2, 0.0, 1.0)
      [0.4, 0.6]
    """
    if not positions:
        return []
    if len(positions) > 1:
        gap = min(gap, (high - low) / (len(positions) - 1))
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    blocks: list[list[float]] = []
    for rank, index in enumerate(order):
        blocks.append([positions[index] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, count = blocks.pop()
            below, below_count = blocks.pop()
            total = count + below_count
            blocks.append([(value * count + below * below_count) / total, total])
    top = high - (len(positions) - 1) * gap
    shifted = [min(max(value, low), top) for value, count in blocks for _ in range(count)]
    places = [0.0] * len(positions)
    for rank, index in enumerate(order):
        places[index] = round(shifted[rank] + rank * gap, 12)
    return places


def label_ends(
    axes: Axes,
    ends: Sequence[tuple[float, float, str, str]],
    *,
    gap: float = 0.09,
    size: float = 9.0,
) -> None:
    """Writes labels to the right of an axes, each tied by a thin line to the end of its curve.

    Args:
      axes: must have its final limits.
      ends: (x, y, text, colour) of each curve's last point, x and y in data units.
      gap: least vertical distance between labels, as a share of the axes' height.
      size: font size.
    """
    low, high = axes.get_ylim()
    wanted = [(y - low) / (high - low) for _, y, _, _ in ends]
    for (x, y, text, colour), place in zip(ends, spread(wanted, gap, 0.03, 0.97), strict=True):
        axes.annotate(
            "",
            xy=(x, y),
            xycoords="data",
            xytext=(1.025, place),
            textcoords="axes fraction",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.9,
                "alpha": 0.7,
                "shrinkA": 0,
                "shrinkB": 5,
            },
            annotation_clip=False,
        )
        axes.text(
            1.03,
            place,
            text,
            transform=axes.transAxes,
            ha="left",
            va="center",
            fontsize=size,
            color=darken(colour),
        )


def darken(colour: str, share: float = 0.65) -> str:
    """A darker shade for text, which needs more contrast than a marker."""
    return mpl.colors.to_hex(share * np.asarray(mpl.colors.to_rgb(colour)))


def not_run(axes: Axes, text: str = "not run") -> None:
    """Marks a panel whose networks are missing."""
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#F6F6F6")
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#666666")


def chance_lines(
    axes: Axes, num_classes: Iterable[int], side: Literal["left", "right"] = "left"
) -> None:
    """Draws chance, 100 / number of classes in percent, where it lies within the axes."""
    low, high = axes.get_ylim()
    for count in sorted(set(num_classes)):
        level = 100 / count
        if low <= level <= high:
            axes.axhline(level, color=COLOURS["grey"], linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate(
                f"chance, 1 in {count}",
                xy=(0.0 if side == "left" else 1.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(4 if side == "left" else -4, 2),
                textcoords="offset points",
                ha=side,
                va="bottom",
                fontsize=8,
                color="#555555",
            )


def filter_tiles(kernel: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Arranges first-layer filters as tiles of one picture.

    Each filter is scaled by its own largest absolute weight, so that grey is zero and every
    filter uses the full range; filters keep their order.

    Args:
      kernel: (height, width, channels, filters); 1 or 3 channels.
      columns: tiles in a row; by default about the square root of their number or more, so
        that the last row is filled as far as possible.

    Returns:
      (rows, columns, 3) float picture in 0..1, tiles parted by one white pixel.
    """
    height, width, channels, count = kernel.shape
    if channels not in (1, 3):
        raise ValueError(f"first-layer filters over {channels} channels; expected 1 or 3 to draw")
    side = int(np.ceil(np.sqrt(count)))
    columns = columns or min(range(side, min(2 * side, count) + 1), key=lambda c: (-count % c, c))
    rows = -(-count // columns)
    picture = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3))
    for index in range(count):
        weights = np.nan_to_num(kernel[..., index].astype(np.float64))
        tile = 0.5 + 0.5 * weights / max(np.abs(weights).max(), 1e-12)
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        picture[top : top + height, left : left + width] = tile
    return picture


def draw_filters(kernels: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> Path:
    """Draws the first-layer filters of some networks side by side.

    Args:
      kernels: title -> (height, width, channels, filters).
      path: PNG to write.
    """
    with style():
        across = min(len(kernels), 4)
        down = -(-len(kernels) // across)
        figure = new_figure(max(2.9 * across, 3.4), 2.3 * down)
        figure.get_layout_engine().set(wspace=0.06, hspace=0.06)
        for index, (title, kernel) in enumerate(kernels.items()):
            axes = figure.add_subplot(down, across, index + 1)
            axes.imshow(filter_tiles(kernel), interpolation="nearest")
            axes.set_title(title, fontsize=10)
            axes.axis("off")
        return save(figure, path)


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Running mean over `window` neighbours, narrower at the ends; NaN stays out of it."""
    values = np.asarray(values, dtype=float)
    finite = np.isfinite(values)
    kernel = np.ones(max(1, min(window, len(values))))
    total = np.convolve(np.where(finite, values, 0.0), kernel, mode="same")
    count = np.convolve(finite.astype(float), kernel, mode="same")
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def draw_learning_curves(
    curves: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]],
    path: str | os.PathLike[str],
) -> Path:
    """Draws training loss and validation accuracy by step.

    Args:
      curves: (label, colour, records of metrics.jsonl) for each network; those that share a
        colour are told apart by solid, dashed and dotted lines, in that order.
      path: PNG to write.
    """
    with style():
        figure = new_figure(10.5, 3.9)
        loss_axes, top1_axes = figure.subplots(1, 2)
        drawn: Counter[str] = Counter()
        for label, colour, records in curves:
            dashes = ("-", (0, (4, 2)), (0, (1, 1.5)))[drawn[colour] % 3]
            line = {"color": colour, "linestyle": dashes, "linewidth": 1.6}
            drawn[colour] += 1
            losses = [(r["step"], r["loss"]) for r in records if r.get("loss") is not None]
            if losses:
                steps, values = zip(*losses, strict=True)
                _plot(loss_axes, steps, smooth(values, len(values) // 40), label, line)
            top1 = [(r["step"], r["top1"]) for r in records if r.get("top1") is not None]
            if top1:
                steps, values = zip(*top1, strict=True)
                _plot(top1_axes, steps, [100 * value for value in values], label, line)
        loss_axes.set(xlabel="training step", ylabel="training loss (nats)", title="Loss")
        top1_axes.set(xlabel="training step", ylabel="top-1 accuracy (%)", title="Validation")
        for axes in (loss_axes, top1_axes):
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(6))
        handles = {}
        for axes in (loss_axes, top1_axes):
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(handles.values(), handles.keys(), loc="outside right center")
        return save(figure, path)


def _plot(axes: Axes, steps, values, label: str, line: Mapping[str, Any]) -> None:
    """A curve; one of a single point, which a line does not show, as a dot."""
    axes.plot(steps, values, label=label, marker="o" if len(steps) == 1 else None, **line)
