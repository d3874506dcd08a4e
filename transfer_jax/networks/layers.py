"""The operations every network is made of, as pure functions with Caffe's semantics.

Images are NHWC, convolution kernels HWIO (a grouped kernel has I = input channels / groups). All
functions compute in the dtype of `x`, float32 or bfloat16.

Convolution, pooling and normalisation exist in two forms with equal values and gradients: the
plain one says what is meant in one or two `jax.lax` operations and suits GPUs and TPUs; the other,
in `cpu_layers`, is shaped for XLA:CPU. `implementation` names the form in use;
`use_implementation` overrides the choice.
"""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from transfer_jax.networks import cpu_layers

Padding = int | tuple[tuple[int, int], tuple[int, int]]

_IMPLEMENTATIONS = ("plain", "cpu", "auto")
# A user context is part of jit's cache key: a function traced under one form is traced again, not
# reused, under the other.
_requested = jax.make_user_context(default_value="auto")


def implementation() -> str:
    """Names the form of the layers used by code that is traced now: 'plain' or 'cpu'.

    Without an override it is 'cpu' where `jax.default_backend()` is the CPU, else 'plain'.
    """
    requested = _requested.value
    if requested != "auto":
        return requested
    return "cpu" if jax.default_backend() == "cpu" else "plain"


@contextlib.contextmanager
def use_implementation(name: str) -> Iterator[None]:
    """Makes every layer traced inside the block use the named form.

    Jitted functions notice the change and are traced again.

    Args:
      name: 'plain', 'cpu', or 'auto' for the choice by backend.

    Raises:
      ValueError: `name` is none of these.

    Example:
      >>> with use_implementation('plain'):
      ...     expected = conv(x, kernel)
    """
    if name not in _IMPLEMENTATIONS:
        raise ValueError(f"implementation {name!r} is unknown: expected one of {_IMPLEMENTATIONS}")
    with _requested(name):
        yield


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int = 1,
    padding: Padding = 0,
    groups: int = 1,
) -> jax.Array:
    """Convolves images with a bank of filters (cross-correlation, as all these papers have it).

    Args:
      x: (N, H, W, C) images or feature maps.
      kernel: (h, w, C / groups, O) filters; cast to the dtype of `x`.
      bias: (O,) added to every position, or None.
      stride: distance between windows, in both directions.
      padding: zeros around the map: one number for all sides, or ((top, bottom), (left, right)).
      groups: channels and filters are cut into this many equal parts that do not see each other
        (2 in AlexNet's conv2, conv4 and conv5).

    Returns:
      (N, H', W', O) with the sizes that `conv_output_size` gives, in the dtype of `x`.

    Raises:
      ValueError: shapes, groups or stride do not fit together.
    """
    _check_conv(x, kernel, bias, stride, groups)
    (top, bottom), (left, right) = pads = _both_sides(padding)
    conv_output_size(x.shape[1], kernel.shape[0], stride, (top, bottom))
    conv_output_size(x.shape[2], kernel.shape[1], stride, (left, right))
    form = cpu_layers.conv if implementation() == "cpu" else conv_plain
    y = form(x, kernel.astype(x.dtype), stride, pads, groups)
    return y if bias is None else y + bias.astype(x.dtype)


def conv_plain(x, kernel, stride, padding, groups):
    """The convolution of `conv` as one `lax.conv_general_dilated`; padding as pairs, no bias."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def conv_output_size(size: int, window: int, stride: int, padding: int | tuple[int, int]) -> int:
    """Returns how many windows a convolution fits into `size` pixels (rounded down).

    Args:
      size: height or width of the map.
      window: height or width of the kernel.
      stride: distance between windows.
      padding: zeros on each side, or (before, after).

    Raises:
      ValueError: not even one window fits.
    """
    before, after = (padding, padding) if isinstance(padding, int) else padding
    if size + before + after < window:
        raise ValueError(
            f"a convolution window of {window} does not fit into {size} pixels "
            f"padded by {before} and {after}"
        )
    return (size + before + after - window) // stride + 1


def max_pool(
    x: jax.Array, *, window: int, stride: int, padding: int = 0, round_up: bool = True
) -> jax.Array:
    """Takes the maximum over square windows; the last window may hang over the border, as in Caffe.

    Padding counts as minus infinity. Where several entries of a window are equal and largest, the
    first in row-major order receives the gradient, as in Caffe.

    Args:
      x: (N, H, W, C) feature maps.
      window: height and width of a window.
      stride: distance between windows.
      padding: width of the border added to all four sides, smaller than `window`.
      round_up: False leaves out windows that would hang over the border, as PyTorch does.

    Returns:
      (N, H', W', C) with the sizes that `pool_output_size` gives.

    Raises:
      ValueError: `x` is not a batch of maps, or the geometry is impossible.
    """
    if x.ndim != 4:
        raise ValueError(f"max_pool: x has shape {x.shape}, expected (N, H, W, C)")
    pads = tuple(
        (padding, _pool_padding_after(size, window, stride, padding, round_up))
        for size in x.shape[1:3]
    )
    form = cpu_layers.max_pool if implementation() == "cpu" else max_pool_plain
    return form(x, window, stride, pads)


def max_pool_plain(x, window, stride, padding):
    """The pooling of `max_pool` as one `lax.reduce_window`; padding in pairs, perhaps negative."""
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, window, window, 1),
        (1, stride, stride, 1),
        ((0, 0), *padding, (0, 0)),
    )


def pool_output_size(
    size: int, window: int, stride: int, padding: int = 0, round_up: bool = True
) -> int:
    """Returns how many windows `size` pixels are pooled into: rounded up in Caffe, down in PyTorch.

    Up, ceil((size + 2 padding - window) / stride) + 1, less one where the last window would start
    beyond the input and the padding before it.

    Args:
      size: height or width of the map.
      window: height or width of the pooling window.
      stride: distance between windows.
      padding: border on each side, smaller than `window`.
      round_up: False counts only windows that lie within the padded input.

    Raises:
      ValueError: the geometry is impossible.

    Example:
      >>> pool_output_size(55, window=3, stride=2), pool_output_size(32, window=3, stride=2)
      (27, 16)
    """
    if window < 1 or stride < 1 or not 0 <= padding < window:
        raise ValueError(
            f"pooling with window {window}, stride {stride}, padding {padding}: expected "
            "window >= 1, stride >= 1 and 0 <= padding < window"
        )
    if size < 1:
        raise ValueError(f"pooling {size} pixels: expected at least 1")
    if not round_up and size + 2 * padding < window:
        raise ValueError(
            f"a window of {window} does not fit into {size} pixels and {padding} around"
        )
    if not round_up:
        return (size + 2 * padding - window) // stride + 1
    windows = -(-max(size + 2 * padding - window, 0) // stride) + 1
    return windows - ((windows - 1) * stride >= size + padding)


def lrn(
    x: jax.Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """Normalises each unit by its neighbours in channel (local response normalisation).

    x / (k + alpha / size * sum of squares over the `size` channels centred on it) ** beta, with
    zeros beyond the first and last channel (Krizhevsky et al. 2012, section 3.3, with Caffe's
    division of alpha by size).

    Args:
      x: (..., C) feature maps.
      size: channels in the window, odd.
      alpha: strength of the normalisation.
      beta: its exponent.
      k: what keeps the denominator away from zero.

    Returns:
      An array like `x`.

    Raises:
      ValueError: `size` is not a positive odd number.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"lrn: size is {size}, expected a positive odd number of channels")
    form = cpu_layers.lrn if implementation() == "cpu" else lrn_plain
    return form(x, size, alpha, beta, k)


def lrn_plain(x, size, alpha, beta, k):
    """The normalisation of `lrn`: a window sum and a power."""
    channels = x.ndim - 1
    total = lax.reduce_window(
        x * x,
        np.zeros((), x.dtype),
        lax.add,
        (1,) * channels + (size,),
        (1,) * x.ndim,
        ((0, 0),) * channels + ((size // 2, size // 2),),
    )
    return x * (k + alpha / size * total) ** -beta


def dropout(x: jax.Array, rate: float, keys: jax.Array) -> jax.Array:
    """Zeroes each unit with probability `rate` and divides the others by 1 - rate.

    Each example has a key of its own, so its mask does not depend on which device, or which part of
    a batch, it is computed in.

    Args:
      x: (N, ...) activations.
      rate: the probability of losing a unit, 0 <= rate < 1.
      keys: (N,) typed PRNG keys (`jax.random.split(jax.random.key(0), N)`).

    Returns:
      An array like `x`.

    Raises:
      ValueError: `rate` is out of range or `keys` is not one typed key per example.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout: rate is {rate}, expected 0 <= rate < 1")
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.shape != x.shape[:1]:
        raise ValueError(
            f"dropout: keys are {keys.dtype}{keys.shape}, expected typed PRNG keys of shape "
            f"{x.shape[:1]}, one per example"
        )
    if rate == 0.0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype))


def _both_sides(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    (top, bottom), (left, right) = padding
    return ((top, bottom), (left, right))


def _pool_padding_after(size, window, stride, padding, round_up) -> int:
    windows = pool_output_size(size, window, stride, padding, round_up)
    return (windows - 1) * stride + window - size - padding


def _check_conv(x, kernel, bias, stride, groups):
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(
            f"conv: x has shape {x.shape} and kernel {kernel.shape}, expected (N, H, W, C) and "
            "(h, w, C / groups, O)"
        )
    if groups < 1 or stride < 1:
        raise ValueError(f"conv: groups={groups}, stride={stride}, expected both at least 1")
    if x.shape[3] != kernel.shape[2] * groups:
        raise ValueError(
            f"conv: x has {x.shape[3]} channels but a kernel of shape {kernel.shape} in {groups} "
            f"group(s) expects {kernel.shape[2]} x {groups} = {kernel.shape[2] * groups}"
        )
    if kernel.shape[3] % groups:
        raise ValueError(f"conv: {kernel.shape[3]} filters do not divide into {groups} groups")
    if bias is not None and bias.shape != kernel.shape[3:]:
        raise ValueError(
            f"conv: bias has shape {bias.shape}, expected {kernel.shape[3:]}: one per filter"
        )
