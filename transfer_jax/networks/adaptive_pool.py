"""Average pooling to a fixed size, whatever the size of the map."""

import jax
import jax.numpy as jnp
from jax import lax


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Means over a grid of windows that covers any map, as PyTorch's AdaptiveAvgPool2d.

    Window i of n pixels reaches from floor(i n / size) to ceil((i + 1) n / size), excluded: windows
    overlap where n is no multiple of `size`, and nothing changes where n is `size`.

    Args:
      x: (N, H, W, C) feature maps.
      size: height and width of the result, at least 1; may exceed the map's.

    Returns:
      (N, size, size, C), in the dtype of `x`.

    Raises:
      ValueError: `x` is not a batch of maps, or `size` is not positive.
    """
    if x.ndim != 4 or size < 1:
        raise ValueError(
            f"adaptive_avg_pool: x has shape {x.shape} and size is {size}, expected (N, H, W, C) "
            "and at least 1"
        )
    if x.shape[1:3] == (size, size):
        return x
    for axis in (1, 2):
        parts = [
            lax.slice_in_dim(x, first, last, axis=axis).mean(axis)
            for first, last in adaptive_windows(x.shape[axis], size)
        ]
        x = jnp.stack(parts, axis)
    return x


def adaptive_windows(length: int, size: int) -> list[tuple[int, int]]:
    """First pixel and end (excluded) of each of the `size` windows of `adaptive_avg_pool`."""
    return [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
