"""Figures of what layers see (Zeiler & Fergus 2013), drawn from plain arrays.

Projections and their evolution are here; the other figures live in modules of their own and are
offered here as well.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transfer_jax.report import figures
from transfer_jax.report.filter_figures import (
    FilterPanel,
    RuleExample,
    draw_filter_panels,
    draw_rules,
)
from transfer_jax.report.occlusion_figure import OcclusionExample, draw_occlusion
from transfer_jax.report.sample_figures import Curve, DuplicatePair, draw_curve, draw_duplicates
from transfer_jax.report.tiles import Sheet, mosaic, not_empty, picture, sheet, show, stretched

__all__ = [
    "Curve",
    "DuplicatePair",
    "Evolution",
    "FilterPanel",
    "OcclusionExample",
    "ProjectionGrid",
    "RuleExample",
    "draw_curve",
    "draw_duplicates",
    "draw_evolution",
    "draw_filter_panels",
    "draw_occlusion",
    "draw_projections",
    "draw_rules",
]

WIDTH = 11.0
LABEL = 7.0


@dataclasses.dataclass(frozen=True)
class ProjectionGrid:
    """The strongest projections of some maps of one layer and the image patches behind them.

    Attributes:
      layer: the layer's name.
      patch_size: side in pixels of the receptive field, for the title.
      maps: index of each of the M maps.
      projections: M sequences of up to 9 (or another number) arrays (h, w, 3), cropped to the
        receptive field; None where there is no such image. Sizes may differ, since receptive fields
        end at the image's border.
      patches: the same for the image patches, uint8 or floats in 0..1.

    Raises:
      ValueError: when the lengths do not agree.
    """

    layer: str
    patch_size: int
    maps: Sequence[int]
    projections: Sequence[Sequence[np.ndarray | None]]
    patches: Sequence[Sequence[np.ndarray | None]]

    def __post_init__(self):
        if not len(self.maps) == len(self.projections) == len(self.patches) > 0:
            raise ValueError(
                f"layer {self.layer}: {len(self.maps)} maps, {len(self.projections)} projections, "
                f"{len(self.patches)} patches; expected one list of each for every map"
            )
        for index, one, other in zip(self.maps, self.projections, self.patches, strict=True):
            if not len(one) == len(other) > 0:
                raise ValueError(
                    f"layer {self.layer}, map {index}: {len(one)} projections and {len(other)} "
                    "patches; expected equally many"
                )


def draw_projections(
    path: str | os.PathLike[str], layers: Sequence[ProjectionGrid], *, columns: int = 5
) -> Path:
    """Draws Figure 2: for each map the projections of its strongest activations and their patches.

    Every projection is stretched by itself, grey is zero. Each pair of blocks is one map: left its
    projections, right the patches of the images that caused them, in the same order, strongest
    first.

    Args:
      path: PNG to write.
      layers: one block of the figure each.
      columns: maps beside each other.

    Raises:
      ValueError: when there is no layer, or an array is no picture.
    """
    not_empty("layers", layers)
    blocks = []
    for grid in layers:
        drawn = [[[_tile(stretched, t) for t in row] for row in grid.projections]]
        drawn += [[[_tile(picture, t) for t in row] for row in grid.patches]]
        sizes = [t.shape[:2] for side in drawn for row in side for t in row if t is not None]
        if not sizes:
            raise ValueError(f"layer {grid.layer}: no map has a projection to draw")
        cell = tuple(int(size) for size in np.max(sizes, axis=0))
        gap = max(1, round(cell[0] / 14))
        pairs = []
        for projections, patches in zip(*drawn, strict=True):
            across = math.ceil(math.sqrt(len(projections)))
            one, other = (
                mosaic(tiles, across, gap=gap, cell=cell) for tiles in (projections, patches)
            )
            pairs.append(np.concatenate([one, np.ones((one.shape[0], 2 * gap, 3)), other], axis=1))
        room = round(0.22 * pairs[0].shape[0])
        laid = sheet(pairs, columns, gap=(room, round(0.6 * room)))
        labels = [f"map {index}" for index in grid.maps]
        title = f"{grid.layer}: patches of {grid.patch_size} x {grid.patch_size} pixels"
        blocks.append((title, laid, labels))
    return _draw_sheets(path, blocks, columns)


@dataclasses.dataclass(frozen=True)
class Evolution:
    """One layer's projections along training.

    Attributes:
      layer: the layer's name.
      maps: index of each of the M maps.
      epochs: label of each of the E snapshots, in order.
      projections: M sequences of E arrays (h, w, 3); None where a map was silent.

    Raises:
      ValueError: when the lengths do not agree.
    """

    layer: str
    maps: Sequence[int]
    epochs: Sequence[int | str]
    projections: Sequence[Sequence[np.ndarray | None]]

    def __post_init__(self):
        lengths = [len(row) for row in self.projections]
        if len(lengths) != len(self.maps) or set(lengths) != {len(self.epochs)} or not self.epochs:
            raise ValueError(
                f"layer {self.layer}: {len(self.maps)} maps and {len(self.epochs)} snapshots, but "
                f"rows of {lengths} projections; expected one row a map, one entry a snapshot"
            )


def draw_evolution(
    path: str | os.PathLike[str],
    layers: Sequence[Evolution],
    *,
    unit: str = "epoch",
) -> Path:
    """Draws Figure 4: how the projections of some maps develop during training.

    Rows are maps, columns are snapshots, one block a layer. Every projection is stretched by
    itself.

    Args:
      path: PNG to write.
      layers: one block of the figure each.
      unit: what the snapshots' labels count, 'epoch' or 'step'.
    """
    not_empty("layers", layers)
    across = max(1, min(len(layers), int(WIDTH / (0.5 * max(len(e.epochs) for e in layers) + 0.6))))
    down = -(-len(layers) // across)
    with figures.style():
        tallest = max(len(evolution.maps) for evolution in layers)
        widest = max(len(evolution.epochs) for evolution in layers)
        size = min(0.75, WIDTH / across / (widest + 1))
        figure = figures.new_figure(
            max(across * (size * widest + 0.6), 3.0), down * (size * tallest + 0.75)
        )
        for index, evolution in enumerate(layers):
            axes = figure.add_subplot(down, across, index + 1)
            tiles = [_tile(stretched, t) for row in evolution.projections for t in row]
            if all(tile is None for tile in tiles):
                figures.not_run(axes, "no map was active")
                continue
            height = max(tile.shape[0] for tile in tiles if tile is not None)
            gap = max(1, round(height / 12))
            large = mosaic(tiles, len(evolution.epochs), gap=gap)
            step = (np.array(large.shape[:2]) + gap) / (len(evolution.maps), len(evolution.epochs))
            axes.imshow(large, interpolation="nearest")
            axes.grid(False)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0, labelsize=8, pad=2)
            axes.set_xticks((np.arange(len(evolution.epochs)) + 0.5) * step[1] - gap / 2 - 0.5)
            axes.set_xticklabels([str(epoch) for epoch in evolution.epochs])
            axes.set_yticks((np.arange(len(evolution.maps)) + 0.5) * step[0] - gap / 2 - 0.5)
            axes.set_yticklabels([str(m) for m in evolution.maps])
            axes.set_xlabel(unit, fontsize=9, labelpad=2)
            axes.set_ylabel("map", fontsize=9, labelpad=2)
            axes.set_title(evolution.layer)
        return figures.save(figure, path, dpi=200)


def _tile(draw, tile: np.ndarray | None) -> np.ndarray | None:
    return None if tile is None else draw(tile)


def _draw_sheets(
    path: str | os.PathLike[str],
    blocks: Sequence[tuple[str, Sheet, Sequence[str]]],
    columns: int,
) -> Path:
    """Draws sheets below each other, tiles of all of them equally wide, labels above tiles."""
    with figures.style():
        shares = [min(len(labels), columns) / columns for _, _, labels in blocks]
        heights = [
            share * WIDTH * laid.picture.shape[0] / laid.picture.shape[1] + 0.55
            for share, (_, laid, _) in zip(shares, blocks, strict=True)
        ]
        figure = figures.new_figure(WIDTH, sum(heights))
        grid = figure.add_gridspec(len(blocks), 1, height_ratios=heights)
        for index, (title, laid, labels) in enumerate(blocks):
            axes = figure.add_subplot(grid[index])
            show(axes, laid.picture)
            axes.set_anchor("W")
            axes.set_xlim(-0.5, laid.picture.shape[1] / shares[index] - 0.5)
            axes.set_title(title, pad=16)
            for (top, left), label in zip(laid.corners, labels, strict=True):
                axes.annotate(
                    label,
                    (left - 0.5, top - 0.5),
                    xytext=(0, 2),
                    textcoords="offset points",
                    fontsize=LABEL,
                    color="#444444",
                    va="bottom",
                    annotation_clip=False,
                )
        return figures.save(figure, path, dpi=200)
