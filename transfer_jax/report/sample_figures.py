"""Accuracy against images per class, and pairs of near-duplicate images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from transfer_jax.report import figures
from transfer_jax.report.tiles import not_empty, picture

MARKERS = ("o", "s", "D", "^", "v", "P", "X")
ORDER = ("blue", "vermilion", "green", "orange", "purple", "sky", "black")


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of `draw_curve`.

    Attributes:
      label: written at its end.
      images: images per class of its n points, above 0; drawn in rising order.
      accuracy: (n,) shares, 0 to 1.
      error: (n,) half length of the error bars, as shares, or None.
      colour: or None for the next of the palette.
      dashed: for numbers that were not measured here, such as published ones.

    Raises:
      ValueError: when the lengths differ or a number of images is not above 0.
    """

    label: str
    images: Sequence[float]
    accuracy: Sequence[float]
    error: Sequence[float] | None = None
    colour: str | None = None
    dashed: bool = False

    def __post_init__(self):
        error = self.images if self.error is None else self.error
        lengths = {len(self.images), len(self.accuracy), len(error)}
        if len(lengths) != 1 or not len(self.images):
            raise ValueError(f"curve {self.label!r}: images, accuracy and error differ in length")
        if min(self.images) <= 0:
            raise ValueError(f"curve {self.label!r}: {min(self.images)} images on a log axis")


def draw_curve(
    path: str | os.PathLike[str],
    curves: Sequence[Curve],
    *,
    title: str = "",
    xlabel: str = "training images per class",
    ylabel: str = "accuracy (%)",
    num_classes: int | None = None,
    error_label: str = "",
) -> Path:
    """Draws accuracy against images per class on a logarithmic axis, labels at the lines' ends.

    Figure 7 of Zeiler & Fergus 2013.

    Args:
      path: PNG to write.
      curves: one line each.
      title, xlabel, ylabel: texts.
      num_classes: draws chance, 1 / num_classes, where it lies within the axes.
      error_label: what the error bars are, added to the label of the vertical axis: '± 1 standard
        deviation, 5 folds'.

    Raises:
      ValueError: when there is no curve.
    """
    not_empty("curves", curves)
    with figures.style():
        figure = figures.new_figure(7.6, 4.4)
        axes = figure.subplots()
        ends, ticks = [], set()
        for index, curve in enumerate(curves):
            colour = curve.colour or figures.COLOURS[ORDER[index % len(ORDER)]]
            order = np.argsort(curve.images)
            x, y = np.asarray(curve.images, float)[order], 100 * np.asarray(curve.accuracy)[order]
            error = None if curve.error is None else 100 * np.asarray(curve.error)[order]
            axes.errorbar(
                x,
                y,
                yerr=error,
                color=colour,
                linestyle=(0, (4, 2)) if curve.dashed else "-",
                marker=MARKERS[index % len(MARKERS)],
                markersize=5,
                markerfacecolor="white" if curve.dashed else colour,
                capsize=2.5,
                elinewidth=1.1,
            )
            ticks |= set(x.tolist())
            known = np.flatnonzero(np.isfinite(y))
            if len(known):
                ends.append((x[known[-1]], y[known[-1]], curve.label, colour))
        axes.set_xscale("log")
        # Counts closer than a quarter in ratio would print over each other.
        kept: list[float] = []
        for tick in sorted(ticks):
            if not kept or tick / kept[-1] >= 1.25:
                kept.append(tick)
        axes.xaxis.set_major_locator(FixedLocator(kept))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=xlabel, title=title)
        axes.set_ylabel(f"{ylabel}\n{error_label}" if error_label else ylabel)
        axes.margins(y=0.08)
        low, high = axes.get_ylim()
        if num_classes:
            low = min(low, 100 / num_classes - 0.04 * (high - low))
        axes.set_ylim(max(low, -0.02 * high), min(high, 104))
        figures.label_ends(axes, ends, gap=0.06)
        if num_classes:
            figures.chance_lines(axes, [num_classes], side="right")
        return figures.save(figure, path)


@dataclasses.dataclass(frozen=True)
class DuplicatePair:
    """Two images that may be one, and their normalised correlation.

    Attributes:
      left, right: (H, W, 3) uint8, or floats in 0..1; sizes may differ.
      correlation: -1 to 1.
      left_label, right_label: written below, for instance 'caltech101, 812'.
    """

    left: np.ndarray
    right: np.ndarray
    correlation: float
    left_label: str = ""
    right_label: str = ""


def draw_duplicates(
    path: str | os.PathLike[str], pairs: Sequence[DuplicatePair], *, columns: int = 4
) -> Path:
    """Draws pairs of near-duplicate images with their correlation above them.

    Args:
      path: PNG to write.
      pairs: in the order to draw, row by row.
      columns: pairs in a row.

    Raises:
      ValueError: when there is no pair, or an image is no picture.
    """
    not_empty("pairs", pairs)
    columns = min(columns, len(pairs))
    down = -(-len(pairs) // columns)
    with figures.style():
        figure = figures.new_figure(2.75 * columns, 1.75 * down + 0.1)
        for place, part in enumerate(
            np.ravel(figure.subfigures(down, columns, squeeze=False, wspace=0.04))
        ):
            if place >= len(pairs):
                continue
            pair = pairs[place]
            part.suptitle(f"correlation {pair.correlation:.3f}", fontsize=9)
            sides = ((pair.left, pair.left_label), (pair.right, pair.right_label))
            for axes, (image, label) in zip(part.subplots(1, 2), sides, strict=True):
                axes.imshow(picture(image), interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
                axes.spines[:].set_visible(False)
                axes.set_xlabel(label, fontsize=7.5, labelpad=2)
        return figures.save(figure, path)
