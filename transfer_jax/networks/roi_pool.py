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
    count, height, width, channels = x.shape
    top, low, tall = _windows(boxes[..., 0], boxes[..., 2], size, height)
    left, right, wide = _windows(boxes[..., 1], boxes[..., 3], size, width)
    table = _maxima(_maxima(x, 2, size), 2, size)
    cells = table.reshape(-1, channels)  # gathers along several axes have slow gradients on CPUs

    def at(row, column):
        level = tall[..., :, None] * table.shape[1] + wide[..., None, :]
        return (level * count * height + row[..., :, None]) * width + column[..., None, :]

    corners = jnp.stack([at(row, column) for row in (top, low) for column in (left, right)])
    # What is added to the stack makes XLA:CPU compute it once, and not anew for every channel.
    corners += (jnp.arange(count) * height * width)[:, None, None, None]
    one, two, three, four = (jnp.take(cells, corner, axis=0, mode="clip") for corner in corners)
    return jnp.maximum(jnp.maximum(one, two), jnp.maximum(three, four))


def _windows(low, high, size, cells):
    """Windows (..., size) along one side: where each begins, where its last 2^k cells do, and k."""
    low = jnp.clip(jnp.floor(low * cells + 0.5).astype(jnp.int32), 0, cells - 1)[..., None]
    high = jnp.floor(high * cells + 0.5).astype(jnp.int32)[..., None]
    length, i = jnp.clip(high, low + 1, cells) - low, jnp.arange(size)
    start, stop = low + i * length // size, low - (-(i + 1) * length // size)
    level = 31 - lax.clz(stop - start)
    return start, stop - 2**level, level


def _maxima(x, axis, size):
    """Entry [k, ..., i, ...] is the maximum of x from i on along `axis` over 2^k cells, as many as
    there are; for all k that windows of a `size`-th of the cells need."""
    found, cells = [x], x.shape[axis]
    longest = min(cells, -(-cells // size) + 1)
    for level in range(longest.bit_length() - 1):
        moved = [(0, 0, 0)] * x.ndim
        moved[axis] = (-(2**level), 2**level, 0)
        beyond = lax.pad(found[-1], jnp.array(-jnp.inf, x.dtype), moved)
        found.append(jnp.maximum(found[-1], beyond))
    return jnp.stack(found)
