"""Maxima over regions of a map (Girshick 2015, section 2.1)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.jit, static_argnums=2)
def roi_pool(x: jax.Array, boxes: jax.Array, size: int) -> jax.Array:
    """Pools every region of every map to `size` x `size` maxima.

    A box covers the cells between its edges, each rounded to the nearest border of cells, one cell
    at least. Its n rows are divided among windows i = 0 .. size - 1 as from floor(i n / size) to
    ceil((i + 1) n / size), excluded; columns likewise.

    A window's maximum is that of four overlapping rectangles of 2^k x 2^l cells, whose maxima a
    table holds, so that many regions cost little more than few. Equal maxima share the gradient.
    It is added up by a scatter, whose order is fixed on CPUs, and on GPUs only where XLA is told to
    be deterministic, as `training.parallel.set_up` does.

    Args:
      x: (N, H, W, C).
      boxes: (N, R, 4) as (ymin, xmin, ymax, xmax), fractions of the map's sides.
      size: windows along each side.

    Returns:
      (N, R, size, size, C).
    """
    return jax.vmap(partial(_pool, size=size))(x, boxes)


def _pool(x, boxes, size):
    sides = x.shape[:2]
    (top, low, tall), (left, right, wide) = (
        _windows(boxes[:, axis], boxes[:, axis + 2], size, sides[axis]) for axis in (0, 1)
    )
    for side in reversed(sides):
        x = _maxima(x, len(sides) - 1, min(side, -(-side // size) + 1))
    columns = lambda a: a[:, None, :]  # noqa: E731
    rows = lambda a: a[:, :, None]  # noqa: E731

    def at(row, column):
        where = rows(tall), columns(wide), rows(row), columns(column)
        return x.at[where].get(mode="clip")

    upper, lower = (jnp.maximum(at(row, left), at(row, right)) for row in (top, low))
    return jnp.maximum(upper, lower)


def _windows(low, high, size, cells):
    """Windows (R, size) along one side: where each begins, where its last 2^k cells do, and k."""
    low = jnp.clip(jnp.floor(low * cells + 0.5).astype(jnp.int32), 0, cells - 1)[:, None]
    high = jnp.floor(high * cells + 0.5).astype(jnp.int32)[:, None]
    length, i = jnp.clip(high, low + 1, cells) - low, jnp.arange(size)
    start, stop = low + i * length // size, low - (-(i + 1) * length // size)
    level = 31 - lax.clz(stop - start)
    return start, stop - 2**level, level


def _maxima(x, axis, longest):
    """Entry [k, ..., i, ...] is the maximum of x from i on along `axis` over 2^k cells, as many as
    there are; for all k that windows of up to `longest` cells need."""
    found = [x]
    for level in range(longest.bit_length() - 1):
        moved = [(0, 0, 0)] * x.ndim
        moved[axis] = (-(2**level), 2**level, 0)
        beyond = lax.pad(found[-1], jnp.array(-jnp.inf, x.dtype), moved)
        found.append(jnp.maximum(found[-1], beyond))
    return jnp.stack(found)
