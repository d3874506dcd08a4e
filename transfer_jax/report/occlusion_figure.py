"""Figure 6 of Zeiler & Fergus 2013: what a grey square changes as it slides over images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from transfer_jax.report import figures
from transfer_jax.report.figures import COLOURS
from transfer_jax.report.tiles import not_empty, picture, stretched

CLASS_COLOURS = tuple(
    COLOURS[name] for name in ("sky", "orange", "purple", "green", "vermilion", "blue")
)
OTHER = "#D5D5D5"
BAR = 0.06
"""Width of a colour bar beside panels of width 1."""


@dataclasses.dataclass(frozen=True)
class OcclusionExample:
    """One image's occlusion maps, r rows and c columns of places of the square.

    Attributes:
      image: (H, W, 3) uint8, or floats in 0..1.
      square: the square's side in pixels.
      rows, columns: (r,) and (c,) pixels of the square's top and left edge, rising.
      activation: (r, c) summed activation of the watched map.
      probability: (r, c) probability of the true class.
      predicted: (r, c) most probable class.
      true_class: index of the true class.
      class_names: class index -> name, of the true class and of all in `predicted`.
      projection: (H, W, 3) projection of the watched map, or None.
      map_label: what is watched, for instance 'conv5, map 17'.
      unoccluded_activation, unoccluded_probability: without the square; marked on the colour bars.
      box: (ymin, xmin, ymax, xmax) of the object as shares of the sides, or None.

    Raises:
      ValueError: when a map does not have one value for each place, or a name is missing.
    """

    image: np.ndarray
    square: int
    rows: np.ndarray
    columns: np.ndarray
    activation: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray
    true_class: int
    class_names: Mapping[int, str]
    projection: np.ndarray | None = None
    map_label: str = "strongest map"
    unoccluded_activation: float | None = None
    unoccluded_probability: float | None = None
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self):
        places = (len(self.rows), len(self.columns))
        for name in ("activation", "probability", "predicted"):
            if np.shape(getattr(self, name)) != places:
                raise ValueError(
                    f"{name} of shape {np.shape(getattr(self, name))}; expected {places}, one "
                    "value for each place of the square"
                )
        for index in (self.true_class, *np.unique(self.predicted).tolist()):
            if index not in self.class_names:
                raise ValueError(f"class {index} has no name in class_names")


def draw_occlusion(path: str | os.PathLike[str], examples: Sequence[OcclusionExample]) -> Path:
    """Draws Figure 6, one row an image: image, activation, projection, probability, class.

    A value of a map is drawn where the square's centre lies, in the image's coordinates, so maps
    and image can be compared place by place; the border that no centre reaches stays pale. The
    image carries the square in its top left corner for scale and, if given, the object's box, which
    is drawn in all panels. A black line on a colour bar is the value without the square. Of the
    most probable classes the true one and the five most frequent others have colours.

    Args:
      path: PNG to write.
      examples: one row each.

    Raises:
      ValueError: when there is no example.
    """
    not_empty("examples", examples)
    with figures.style():
        figure = figures.new_figure(14.2, 2.6 * len(examples) + 0.35)
        figure.get_layout_engine().set(wspace=0.03)
        # Colour bars have columns of their own, so that all panels keep one size.
        grid = figure.subplots(
            len(examples), 7, squeeze=False, width_ratios=(1, 1, BAR, 1, 1, BAR, 1)
        )
        for row, example in zip(grid, examples, strict=True):
            _draw_row(figure, list(row), example)
        for axes, title in zip(
            grid[0],
            (
                "Image and square",
                "Summed activation",
                "",
                "Projection",
                "Probability of true class",
                "",
                "Most probable class",
            ),
            strict=True,
        ):
            axes.set_title(title, fontsize=10)
        return figures.save(figure, path)


def _draw_row(figure: Figure, row: Sequence[Axes], example: OcclusionExample) -> None:
    bars = [row.pop(5), row.pop(2)]
    image_axes, activation_axes, projection_axes, probability_axes, class_axes = row
    content = picture(example.image)
    height, width = content.shape[:2]
    for axes in row:
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
        axes.grid(False)
        axes.set_facecolor("#F3F3F3")
        axes.spines[:].set_visible(False)
    extent = (0, width, height, 0)
    image_axes.imshow(content, extent=extent, interpolation="nearest")
    image_axes.add_patch(
        Rectangle(
            (0, 0),
            example.square,
            example.square,
            facecolor="#808080",
            edgecolor="white",
            linewidth=1,
        )
    )
    image_axes.set_ylabel(example.class_names[example.true_class])

    y, x = (_edges(np.asarray(p) + example.square / 2) for p in (example.rows, example.columns))
    for axes, values, level, low, name in (
        (activation_axes, example.activation, example.unoccluded_activation, None, "sum"),
        (probability_axes, example.probability, example.unoccluded_probability, 0.0, "probability"),
    ):
        known = np.append(np.ravel(values), [] if level is None else level)
        low = np.nanmin(known) if low is None else low
        high = max(np.nanmax(known), low + 1e-9)
        mesh = axes.pcolormesh(x, y, values, cmap="viridis", vmin=low, vmax=high)
        bar = figure.colorbar(mesh, cax=bars.pop())
        bar.ax.set_box_aspect(1 / BAR)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7.5, length=2)
        bar.ax.grid(False)
        bar.set_label(name, fontsize=8)
        if level is not None:
            bar.ax.plot([-0.15, 1.15], [level, level], color="black", linewidth=2, clip_on=False)
    activation_axes.set_xlabel(example.map_label, fontsize=9)
    if example.projection is None:
        figures.not_run(projection_axes, "no projection")
    else:
        projection_axes.imshow(
            stretched(example.projection), extent=extent, interpolation="nearest"
        )
        projection_axes.set_xlabel(example.map_label, fontsize=9)
    _draw_classes(class_axes, x, y, example)
    if example.box is not None:
        ymin, xmin, ymax, xmax = np.multiply(example.box, (height, width, height, width))
        for axes in row if example.projection is not None else (*row[:2], *row[3:]):
            for colour, line in (("black", 2.4), ("white", 1.2)):
                axes.add_patch(
                    Rectangle(
                        (xmin, ymin),
                        xmax - xmin,
                        ymax - ymin,
                        fill=False,
                        edgecolor=colour,
                        linewidth=line,
                        clip_on=False,
                    )
                )


def _draw_classes(axes: Axes, x: np.ndarray, y: np.ndarray, example: OcclusionExample) -> None:
    found, counts = np.unique(example.predicted, return_counts=True)
    others = [c for c in found[np.argsort(-counts, kind="stable")] if c != example.true_class]
    named = [example.true_class, *others[: len(CLASS_COLOURS) - 1]]
    codes = np.full(np.shape(example.predicted), len(named))
    for code, index in enumerate(named):
        codes[np.asarray(example.predicted) == index] = code
    colours = [*CLASS_COLOURS[: len(named)], OTHER]
    norm = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    axes.pcolormesh(x, y, codes, cmap=ListedColormap(colours), norm=norm)
    labels = [_short(example.class_names[int(index)]) for index in named]
    labels[0] += " (true)"
    shares = [np.mean(codes == code) for code in range(len(colours))]
    entries = [
        Patch(color=colour, label=f"{label}  {100 * share:.0f}%")
        for colour, label, share in zip(colours, [*labels, "others"], shares, strict=True)
        if label != "others" or share > 0
    ]
    axes.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0,
        fontsize=8,
        handlelength=1.0,
        handleheight=1.0,
    )


def _short(name: str, length: int = 16) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _edges(centres: np.ndarray) -> np.ndarray:
    """Borders between the cells of rising centres; the outer cells reach as far out as in."""
    centres = np.asarray(centres, float)
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
