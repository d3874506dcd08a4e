"""Convolution, pooling and normalisation in the forms that XLA:CPU runs fastest.

Same values and gradients as the plain forms in `layers`, which alone calls these functions.
"""

import ctypes
import sys
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jax import lax

_NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, stride, padding, groups):
    """`layers.conv_plain`, one group at a time and with four channels in place of three."""
    if groups > 1:
        # The gradients of a convolution with feature groups take a slow path, those of separate
        # convolutions do not, and separate convolutions run on separate cores.
        pairs = zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True)
        return jnp.concatenate([conv(*pair, stride, padding, 1) for pair in pairs], 3)
    if x.shape[3] == 3 and stride == 1:
        return _conv_rgb(x, kernel, padding)
    return _conv(x, kernel, stride, padding)


def _conv(x, kernel, stride, padding):
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=_NHWC)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_rgb(x, kernel, padding):
    # Forward, three channels are slower than four; in the kernel's gradient they are faster.
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
    return _conv(x, jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0))), 1, padding)


def _conv_rgb_forward(x, kernel, padding):
    return _conv_rgb(x, kernel, padding), (x, kernel)


def _conv_rgb_backward(padding, operands, dy):
    return jax.vjp(partial(_conv, stride=1, padding=padding), *operands)[1](dy)


_conv_rgb.defvjp(_conv_rgb_forward, _conv_rgb_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x, window, stride, padding):
    """`layers.max_pool_plain` as maxima of strided slices, along width and then along height."""
    rows = _max_along(_bordered(x, padding), 2, window, stride)
    return _max_along(rows, 1, window, stride)


def _max_pool_forward(x, window, stride, padding):
    return max_pool(x, window, stride, padding), x


def _max_pool_backward(window, stride, padding, x, dy):
    bordered = _bordered(x, padding)
    rows = _max_along(bordered, 2, window, stride)
    y = _max_along(rows, 1, window, stride)
    # The first row that reaches the maximum, and in it the first column: the first in row-major
    # order, which is where the plain form sends the gradient too.
    drows = _max_along_gradient(rows, y, dy, 1, window, stride)
    dx = _max_along_gradient(bordered, rows, drows, 2, window, stride)
    zero = jnp.zeros((), x.dtype)
    return (lax.pad(dx, zero, ((0, 0, 0), *((-a, -b, 0) for a, b in padding), (0, 0, 0))),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _bordered(x, padding):
    low = jnp.array(-jnp.inf, x.dtype)
    return lax.pad(x, low, ((0, 0, 0), *((a, b, 0) for a, b in padding), (0, 0, 0)))


def _window_slices(x, axis, window, stride):
    last = x.shape[axis] - window
    return [lax.slice_in_dim(x, i, last + i + 1, stride, axis) for i in range(window)]


def _max_along(x, axis, window, stride):
    first, *others = _window_slices(x, axis, window, stride)
    for other in others:
        first = jnp.maximum(first, other)
    return first


def _max_along_gradient(x, y, dy, axis, window, stride):
    """Sends dy to the first entry of each window of x along `axis` that equals the maximum y."""
    zero = jnp.zeros((), dy.dtype)
    size, windows = x.shape[axis], y.shape[axis]
    # Entries i, i + stride, ... of x meet the windows at the same phase: one sum for each phase,
    # interleaved at the end, writes every entry once.
    steps = -(-size // stride)
    phases = [jnp.zeros((), dy.dtype)] * stride
    left = dy
    for i, entry in enumerate(_window_slices(x, axis, window, stride)):
        won = jnp.where(entry == y, left, zero)
        left = jnp.where(entry == y, zero, left)
        shift, phase = divmod(i, stride)
        config = [(0, 0, 0)] * x.ndim
        config[axis] = (shift, steps - windows - shift, 0)
        phases[phase] = phases[phase] + lax.pad(won, zero, config)
    shape = (*x.shape[:axis], steps, *x.shape[axis + 1 :])
    dx = jnp.stack([jnp.broadcast_to(phase, shape) for phase in phases], axis + 1)
    dx = dx.reshape(*x.shape[:axis], steps * stride, *x.shape[axis + 1 :])
    return lax.slice_in_dim(dx, 0, size, axis=axis)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def lrn(x, size, alpha, beta, k):
    """`layers.lrn_plain` as shifted sums over channels, with its gradient written out."""
    return x * _power(k + alpha / size * _window_sum(x * x, size), beta)


def _lrn_forward(x, size, alpha, beta, k):
    return lrn(x, size, alpha, beta, k), x


def _lrn_backward(size, alpha, beta, k, x, dy):
    scale = k + alpha / size * _window_sum(x * x, size)
    power = _power(scale, beta)
    # Fused into the window sum, this term would be computed once for each of its `size` summands.
    shared = lax.optimization_barrier(dy * x * power / scale)
    return (dy * power - (2 * alpha * beta / size) * x * _window_sum(shared, size),)


lrn.defvjp(_lrn_forward, _lrn_backward)


def _window_sum(x, size):
    half = size // 2
    channels = x.shape[-1]
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((half, half),))
    return sum(x[..., i : i + channels] for i in range(size))


def _power(scale, beta):
    if beta != 0.75:
        return scale**-beta
    root = lax.rsqrt(scale)
    return root * jnp.sqrt(root)


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for the next step, and returns whether it agreed.

    XLA:CPU allocates a step's temporaries anew in every call. The GNU C library takes blocks of
    that size from the kernel and gives them back when they are freed, so that each step pays for
    the page faults of all its memory: 14,000 of them, a third of all processor time, in the train
    step of a small AlexNet at batch 64. With this setting the process keeps at its peak size
    instead. It holds for the whole process, so programs call it once, before the first step;
    elsewhere than on Linux with the GNU C library it does nothing and returns False.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 256 * 2**20))
    return all([mallopt(name, value) == 1 for name, value in settings])
