"""Small pictures arranged as tiles of one large picture, for figures of many projections."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

Picture = np.ndarray
Tile = Picture | None

WHITE, EMPTY = 1.0, 0.93


def stretched(projection: np.ndarray) -> Picture:
    """A projection as a picture: grey is zero, the largest absolute value reaches black or white.

    Args:
      projection: (h, w, 3) or (h, w, 1) or (h, w), any units.

    Returns:
      (h, w, 3) floats in 0..1; plain grey where everything is zero.
    """
    values = _three_channels("projection", projection).astype(np.float64)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    return 0.5 + 0.5 * values / max(np.abs(values).max(), 1e-12)


def picture(image: np.ndarray) -> Picture:
    """A uint8 image, or floats in 0..1, as (h, w, 3) floats in 0..1.

    Raises:
      ValueError: for another shape, or floats outside 0..1.
    """
    values = _three_channels("image", image)
    if values.dtype == np.uint8:
        return values / 255.0
    if not np.issubdtype(values.dtype, np.floating) or values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"image of type {values.dtype} from {values.min()} to {values.max()}; expected uint8, "
            "or floats in 0..1"
        )
    return values.astype(np.float64)


def show(axes: Axes, content: np.ndarray) -> None:
    """Draws a picture without axes; a label beside it may still be set."""
    axes.imshow(content, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def not_empty(name: str, values: Sequence) -> None:
    """Raises ValueError when there is nothing to draw."""
    if not values:
        raise ValueError(f"no {name} to draw")


def _three_channels(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in (1, 3) or values.size == 0:
        raise ValueError(f"{name} of shape {values.shape}; expected (h, w, 3), (h, w, 1) or (h, w)")
    return np.broadcast_to(values, (*values.shape[:2], 3))


def mosaic(
    tiles: Sequence[Tile],
    columns: int,
    *,
    gap: int = 1,
    cell: tuple[int, int] | None = None,
    background: float = WHITE,
) -> Picture:
    """Arranges pictures row by row; smaller ones lie in the middle of their cell.

    Args:
      tiles: (h, w, 3) pictures in 0..1; None leaves a pale cell.
      columns: tiles in a row.
      gap: pixels between cells.
      cell: height and width of every cell; by default those of the largest tile.
      background: grey of the gaps, 0..1.

    Returns:
      (rows * (h + gap) - gap, columns * (w + gap) - gap, 3) floats.

    Raises:
      ValueError: when there is no tile or one is larger than the cell.
    """
    sizes = [tile.shape[:2] for tile in tiles if tile is not None]
    if not tiles or columns < 1 or (not sizes and cell is None):
        raise ValueError(f"{len(tiles)} tiles in {columns} columns: nothing to arrange")
    height, width = cell or np.max(sizes, axis=0)
    for size in sizes:
        if size[0] > height or size[1] > width:
            raise ValueError(f"a tile of {size} pixels does not fit a cell of {height}x{width}")
    rows = -(-len(tiles) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    large = np.full(shape, background)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        large[top : top + height, left : left + width] = EMPTY
        if tile is not None:
            top += (height - tile.shape[0]) // 2
            left += (width - tile.shape[1]) // 2
            large[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return large


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A mosaic and where its cells lie in it, for labels beside them.

    Attributes:
      picture: (H, W, 3) floats in 0..1.
      corners: (n, 2) row and column of each tile's top left pixel.
      cell: height and width of the tiles.
    """

    picture: Picture
    corners: np.ndarray
    cell: tuple[int, int]


def sheet(tiles: Sequence[Tile], columns: int, *, gap: tuple[int, int]) -> Sheet:
    """A mosaic with different gaps between rows and columns, on white, with its geometry.

    Args:
      tiles: pictures of one size; None leaves a white cell.
      columns: tiles in a row.
      gap: pixels between rows and between columns, as (rows, columns).
    """
    sizes = {tile.shape[:2] for tile in tiles if tile is not None}
    if len(sizes) != 1:
        raise ValueError(f"tiles of a sheet have {len(sizes)} sizes {sorted(sizes)}; expected one")
    height, width = sizes.pop()
    rows, columns = -(-len(tiles) // columns), min(columns, len(tiles))
    places = np.arange(len(tiles))
    corners = np.stack(
        [places // columns * (height + gap[0]), places % columns * (width + gap[1])], axis=1
    )
    shape = (rows * (height + gap[0]) - gap[0], columns * (width + gap[1]) - gap[1], 3)
    large = np.full(shape, WHITE)
    for (top, left), tile in zip(corners, tiles, strict=True):
        if tile is not None:
            large[top : top + height, left : left + width] = tile
    return Sheet(large, corners, (height, width))
