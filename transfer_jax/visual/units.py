"""Single units of a layer's output: the strongest of a map, and the signal of one unit alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike


def unit_signal(
    activations: ArrayLike, maps: ArrayLike, positions: ArrayLike | None = None
) -> jax.Array:
    """A layer's output with everything zero but one unit of each example, which keeps its value.

    Args:
      activations: (N, h, w, c) or (N, features), for instance from `Network.activations`.
      maps: (N,) for each example the map (or dense unit), or one for all.
      positions: (N, 2) row and column, or one pair for all; None for the strongest unit of the
        map, the first in row-major order where several are equal.

    Returns:
      An array like `activations`.

    Raises:
      ValueError: for maps or positions that the activations do not have.
    """
    activations = jnp.asarray(activations)
    return keep_units(activations, *checked_units(activations.shape, maps, positions))


def strongest_unit(activations: ArrayLike, maps: ArrayLike) -> jax.Array:
    """(N, 2) row and column of the largest activation of one map of each example.

    Args:
      activations: (N, h, w, c), or (N, features), where the answer is (0, 0).
      maps: (N,) for each example the map, or one for all.

    Returns:
      int32; the first position in row-major order where several are equal.

    Raises:
      ValueError: for a map that the activations do not have.
    """
    activations = jnp.asarray(activations)
    return _strongest(_as_maps(activations), checked_units(activations.shape, maps, None)[0])


@jax.jit
def keep_units(activations, maps, positions):
    """`unit_signal` of what `checked_units` returned, for use within compiled programs."""
    grid = _as_maps(activations)
    if positions is None:
        positions = _strongest(grid, maps)
    unit = (jnp.arange(len(grid)), positions[:, 0], positions[:, 1], maps)
    return jnp.zeros_like(grid).at[unit].set(grid[unit]).reshape(activations.shape)


@jax.jit
def _strongest(grid, maps):
    chosen = grid[jnp.arange(len(grid)), :, :, maps]
    flat = lax.argmax(chosen.reshape(len(grid), -1), 1, jnp.int32)
    return jnp.stack(jnp.divmod(flat, grid.shape[2]), axis=1)


def _as_maps(activations):
    return activations if activations.ndim == 4 else activations[:, None, None, :]


def checked_units(
    shape: tuple[int, ...], maps: ArrayLike, positions: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """`maps` as (N,) and `positions` as (N, 2) or None, all within the layer's output shape."""
    if len(shape) not in (2, 4):
        raise ValueError(f"activations have shape {shape}, expected (N, h, w, c) or (N, features)")
    rows, columns = shape[1:3] if len(shape) == 4 else (1, 1)
    maps = _integers("maps", maps, (shape[0],))
    _check_range("maps", maps, shape[-1])
    if positions is not None:
        positions = _integers("positions", positions, (shape[0], 2))
        _check_range("positions (row)", positions[:, 0], rows)
        _check_range("positions (column)", positions[:, 1], columns)
    return maps, positions


def _integers(name: str, values, shape: tuple[int, ...]) -> np.ndarray:
    found = np.asarray(values)
    one_for_all = found.shape == shape[1:]
    if not np.issubdtype(found.dtype, np.integer) or not (one_for_all or found.shape == shape):
        raise ValueError(
            f"{name} are {found.dtype} of shape {found.shape}; expected integers of shape {shape}, "
            f"or {shape[1:]} for one that serves all"
        )
    return np.broadcast_to(found, shape).astype(np.int32)


def _check_range(name: str, values: np.ndarray, stop: int) -> None:
    outside = values[(values < 0) | (values >= stop)]
    if outside.size:
        raise ValueError(f"{name} hold {outside[0]}; the layer's output has 0..{stop - 1}")
