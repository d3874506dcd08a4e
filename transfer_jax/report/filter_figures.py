"""Figures of filters with numbers, and of units projected by several rules."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from transfer_jax.report import figures
from transfer_jax.report.tiles import not_empty, picture, show, stretched

WIDTH = 11.0


@dataclasses.dataclass(frozen=True)
class FilterPanel:
    """One layer's filters, or projections of its maps, and numbers to write above them.

    Attributes:
      title: of the panel, for instance 'AlexNet, conv1'.
      kernel: (height, width, channels, filters). With 3 channels or 1 the filters are drawn in
        their colours; with more, as grey tiles, each filter's weights to the input map that it
        weighs most (largest sum of squares).
      projections: drawn instead of a kernel: arrays (h, w, 3) of one size, one a map.
      numbers: name -> share, 0 to 1, written in percent: {'dead': 0.03}. NaN is left out.

    Raises:
      ValueError: unless exactly one of kernel and projections is given.
    """

    title: str
    kernel: np.ndarray | None = None
    projections: Sequence[np.ndarray] | None = None
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if (self.kernel is None) == (self.projections is None):
            raise ValueError(f"panel {self.title!r}: give a kernel or projections, one of the two")
        if self.kernel is not None and np.ndim(self.kernel) != 4:
            raise ValueError(
                f"panel {self.title!r}: kernel of shape {np.shape(self.kernel)}; expected (height, "
                "width, channels, filters)"
            )


def draw_filter_panels(
    path: str | os.PathLike[str], panels: Sequence[FilterPanel], *, columns: int = 2
) -> Path:
    """Draws Figure 5: filters of several networks or layers, with numbers above each panel.

    Every filter is scaled by its own largest weight, grey is zero.

    Args:
      path: PNG to write.
      panels: drawn row by row.
      columns: panels in a row.
    """
    not_empty("panels", panels)
    columns = min(columns, len(panels))
    down = -(-len(panels) // columns)
    pictures = [figures.filter_tiles(_kernel_to_draw(panel)) for panel in panels]
    with figures.style():
        width = min(WIDTH / columns, 5.0)
        rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
        heights = [max(p.shape[0] / p.shape[1] for p in row) * (width - 0.2) + 0.6 for row in rows]
        figure = figures.new_figure(max(width * columns, 3.4), sum(heights))
        grid = figure.add_gridspec(down, columns, height_ratios=heights)
        for index, (panel, tiles) in enumerate(zip(panels, pictures, strict=True)):
            axes = figure.add_subplot(grid[index // columns, index % columns])
            axes.imshow(tiles, interpolation="nearest")
            axes.axis("off")
            numbers = [f"{name} {_percent(v)}" for name, v in panel.numbers.items() if v == v]
            axes.set_title(panel.title, fontsize=10, pad=17 if numbers else 5)
            axes.set_anchor("NW")
            axes.annotate(
                ", ".join(numbers),
                (0, 1),
                xycoords="axes fraction",
                xytext=(0, 4),
                textcoords="offset points",
                fontsize=8,
                color="#444444",
            )
        return figures.save(figure, path)


def _kernel_to_draw(panel: FilterPanel) -> np.ndarray:
    if panel.projections is not None:
        return np.stack([2 * stretched(p) - 1 for p in panel.projections], axis=-1)
    kernel = np.asarray(panel.kernel)
    if kernel.shape[2] in (1, 3):
        return kernel
    strongest = np.argmax(np.sum(kernel.astype(np.float64) ** 2, axis=(0, 1)), axis=0)
    return np.take_along_axis(kernel, strongest[None, None, None, :], axis=2)


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.1f}%"


@dataclasses.dataclass(frozen=True)
class RuleExample:
    """One unit's projections by several rules beside the image.

    Attributes:
      label: written at the left, for instance 'conv5, map 17'.
      image: (H, W, 3) uint8, or floats in 0..1.
      projections: rule -> (H, W, 3).
    """

    label: str
    image: np.ndarray
    projections: Mapping[str, np.ndarray]


def draw_rules(path: str | os.PathLike[str], examples: Sequence[RuleExample]) -> Path:
    """Draws units projected to pixels by several rules side by side, one row a unit.

    Args:
      path: PNG to write.
      examples: all with the same rules in the same order.

    Raises:
      ValueError: when there is no example or they differ in their rules.
    """
    not_empty("examples", examples)
    rules = tuple(examples[0].projections)
    for example in examples:
        if tuple(example.projections) != rules:
            raise ValueError(
                f"{example.label!r} has rules {tuple(example.projections)}; expected {rules}"
            )
    with figures.style():
        figure = figures.new_figure(2.1 * (len(rules) + 1), 2.0 * len(examples) + 0.3)
        grid = figure.subplots(len(examples), len(rules) + 1, squeeze=False)
        for place, (row, example) in enumerate(zip(grid, examples, strict=True)):
            pictures = [picture(example.image), *map(stretched, example.projections.values())]
            for axes, title, content in zip(row, ("image", *rules), pictures, strict=True):
                show(axes, content)
                if place == 0:
                    axes.set_title(title)
            row[0].set_ylabel(example.label)
        return figures.save(figure, path)
