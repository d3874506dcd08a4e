"""Convolution, pooling and normalisation in the forms that XLA:CPU runs fastest.

Same values and gradients as the plain forms in `layers`, which alone calls these functions.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


def conv(x, kernel, stride, padding, groups):
    """`layers.conv_plain`, one group at a time and with four channels in place of three."""
    if x.shape[3] == 3:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))
    parts = [
        lax.conv_general_dilated(
            part, filters, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for part, filters in zip(
            jnp.split(x, groups, axis=3), jnp.split(kernel, groups, axis=3), strict=True
        )
    ]
    return parts[0] if groups == 1 else jnp.concatenate(parts, axis=3)


def max_pool(x, window, stride, padding):
    """`layers.max_pool_plain` as the maximum of strided slices."""
    low = jnp.array(-jnp.inf, x.dtype)
    x = lax.pad(x, low, ((0, 0, 0), *((a, b, 0) for a, b in padding), (0, 0, 0)))
    for axis in (1, 2):
        last = x.shape[axis] - window
        slices = [
            lax.slice_in_dim(x, i, last + i + 1, stride=stride, axis=axis) for i in range(window)
        ]
        x = slices[0]
        for other in slices[1:]:
            x = jnp.maximum(x, other)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def lrn(x, size, alpha, beta, k):
    """`layers.lrn_plain` as shifted sums over channels, with its gradient written out."""
    return x * _power(k + alpha / size * _window_sum(x * x, size), beta)


def _lrn_forward(x, size, alpha, beta, k):
    return lrn(x, size, alpha, beta, k), x


def _lrn_backward(size, alpha, beta, k, x, dy):
    scale = k + alpha / size * _window_sum(x * x, size)
    power = _power(scale, beta)
    shared = lax.optimization_barrier(dy * x * power / scale)
    return (dy * power - (2 * alpha * beta / size) * x * _window_sum(shared, size),)


lrn.defvjp(_lrn_forward, _lrn_backward)


def _window_sum(x, size):
    half = size // 2
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((half, half),))
    return sum(x[..., i : i + x.shape[-1] - 2 * half] for i in range(size))


def _power(scale, beta):
    if beta != 0.75:
        return scale**-beta
    root = lax.rsqrt(scale)
    return root * jnp.sqrt(root)
