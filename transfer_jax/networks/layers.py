"""Layers: their descriptions, shapes and operations. Images are NHWC, convolution kernels HWIO."""

from __future__ import annotations

import dataclasses
import functools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from transfer_jax.networks.roi_pool import roi_pool


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(x, 0), with a gradient of 0 at 0."""

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        return jax.nn.relu(x)


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Maxima over square windows; of equal entries the first in row-major order gets the gradient.

    With `round_up` the last window may hang over the border, as in Caffe; PyTorch rounds down.
    """

    window: int = 3
    stride: int = 2
    padding: int = 0
    round_up: bool = True

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        pads = tuple(
            (self.padding, (self.windows(n) - 1) * self.stride + self.window - n - self.padding)
            for n in x.shape[1:3]
        )
        return _max_pool(x, self.window, self.stride, pads)

    def windows(self, size: int) -> int:
        free = size + 2 * self.padding - self.window
        if not self.round_up:
            return free // self.stride + 1
        windows = -(-max(free, 0) // self.stride) + 1
        # Caffe leaves out a window that would begin beyond the pixels.
        return windows - ((windows - 1) * self.stride >= size + self.padding)


@dataclasses.dataclass(frozen=True)
class AdaptiveAvgPool:
    """Means over `size` x `size` windows that cover a map of any size, as PyTorch's."""

    size: int

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        if x.shape[1:3] == (self.size, self.size):
            return x
        for axis in (1, 2):
            spans = self.spans(x.shape[axis])
            means = [lax.slice_in_dim(x, *span, axis=axis).mean(axis) for span in spans]
            x = jnp.stack(means, axis)
        return x

    def spans(self, size: int) -> list[tuple[int, int]]:
        """Window i of n pixels: from floor(i n / size) to ceil((i + 1) n / size), excluded."""
        steps = range(self.size)
        return [(i * size // self.size, -(-(i + 1) * size // self.size)) for i in steps]


@dataclasses.dataclass(frozen=True)
class RoiPool:
    """Maxima over `size` x `size` windows that cover a region of the map, whatever its size.

    As an operation of a layer it takes the whole map as the region. A detector pools regions of
    what enters it, see `networks.roi_pool`, so that the layers above find the map that they know.
    """

    size: int

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        whole = jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), (len(x), 1, 4))
        return roi_pool(x, whole, self.size)[:, 0]


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """x / (k + alpha / size * sum of squares over `size`, odd, channels around it) ** beta.

    Krizhevsky 2012, section 3.3, with Caffe's division of alpha by size.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        return _lrn(x, self.size, self.alpha, self.beta, self.k)


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Zeroes units with probability `rate` and divides the others by 1 - rate.

    Example i draws from keys[i] alone, in any batch; without keys nothing happens.
    """

    rate: float = 0.5

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        if keys is None or self.rate == 0:
            return x
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - self.rate), jnp.zeros((), x.dtype))


After = Relu | MaxPool | AdaptiveAvgPool | RoiPool | LocalResponseNorm | Dropout
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution and what follows it up to the next weight layer.

    Initial weights are Gaussian, of He et al.'s sqrt(2 / fan in) where `weight_std` is None.
    """

    name: str
    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    weight_std: float | None = None
    bias: float = 0.0
    then: tuple[After, ...] = ()

    def kernel_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise ValueError(f"layer {self.name}: a convolution of {shape}, not of (h, w, c)")
        if shape[2] % self.groups or self.features % self.groups:
            raise ValueError(
                f"layer {self.name}: {shape[2]} input and {self.features} output maps cannot be "
                f"split into {self.groups} groups"
            )
        return (self.kernel, self.kernel, shape[2] // self.groups, self.features)

    def product_shape(self, shape: Shape) -> Shape:
        sides = [(side + 2 * self.padding - self.kernel) // self.stride + 1 for side in shape[:2]]
        return (*sides, self.features)


@dataclasses.dataclass(frozen=True)
class Dense:
    """A dense layer and what follows it; a map (N, h, w, c) is flattened row by row first."""

    name: str
    features: int
    weight_std: float | None = None
    bias: float = 0.0
    then: tuple[After, ...] = ()

    def kernel_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape), self.features)

    def product_shape(self, shape: Shape) -> Shape:
        return (self.features,)


Layer = Conv | Dense


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """What leaves the layer for one image, after its pooling, when `shape` enters it."""
    *sides, features = layer.product_shape(shape)
    for after in (None, *layer.then):
        if isinstance(after, MaxPool):
            sides = [after.windows(side) for side in sides]
        elif isinstance(after, AdaptiveAvgPool | RoiPool):
            sides = [after.size] * 2
        if min(sides, default=1) < 1:
            raise ValueError(f"layer {layer.name}: nothing is left of an input of {shape}")
    return (*sides, features)


def conv_general_dilated(x, kernel, strides, padding, *, feature_group_count=1, **options):
    """`lax.conv_general_dilated` for `nn.Conv`, in the form that the backend runs fastest."""
    plain = partial(_conv, strides=tuple(strides), padding=tuple(padding), **options)
    if jax.default_backend() != "cpu":
        return plain(x, kernel, feature_group_count=feature_group_count)
    if feature_group_count > 1:
        # XLA:CPU takes a slow path through the gradients of feature groups.
        parts = zip(*(jnp.split(a, feature_group_count, 3) for a in (x, kernel)), strict=True)
        return jnp.concatenate([plain(*part) for part in parts], 3)
    if x.shape[3] == 3 and tuple(strides) == (1, 1):
        return _conv_rgb(x, kernel, tuple(padding))
    if kernel.size >= 2**18 and not any(map(any, padding)):
        return _conv_large(x, kernel, tuple(strides))
    return plain(x, kernel)


_NHWC = ("NHWC", "HWIO", "NHWC")


def _conv(x, kernel, strides, padding, dimension_numbers=_NHWC, **options):
    options["dimension_numbers"] = dimension_numbers
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_rgb(x, kernel, padding):
    # XLA:CPU convolves four channels ten times faster than three, but differentiates three faster.
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
    kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return _conv(x, kernel, (1, 1), padding)


_conv_rgb.defvjp(
    lambda x, kernel, padding: (_conv_rgb(x, kernel, padding), (x, kernel)),
    lambda padding, inputs, dy: jax.vjp(lambda *i: _conv(*i, (1, 1), padding), *inputs)[1](dy),
)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_large(x, kernel, strides):
    # XLA:CPU convolves with large kernels, as those of dense layers over a whole image, at a third
    # of the speed of a product with gathered patches.
    rows, columns = (
        np.arange(0, side - window + 1, stride)[:, None] + np.arange(window)
        for side, window, stride in zip(x.shape[1:3], kernel.shape, strides, strict=False)
    )
    patches = x[:, rows[:, None, :, None], columns[None, :, None, :]]
    flat = patches.reshape(*patches.shape[:3], -1)
    return flat @ kernel.reshape(-1, kernel.shape[3])


_conv_large.defvjp(
    lambda x, kernel, strides: (_conv_large(x, kernel, strides), (x, kernel)),
    lambda strides, inputs, dy: jax.vjp(lambda *i: _conv(*i, strides, "VALID"), *inputs)[1](dy),
)


# Maxima of strided slices: reduce-window's gradient is slow on CPUs and not deterministic on GPUs.
@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, stride, pads):
    rows = _max_along(_bordered(x, pads), 2, window, stride)
    return _max_along(rows, 1, window, stride)


def _max_pool_backward(window, stride, pads, x, dy):
    bordered = _bordered(x, pads)
    rows = _max_along(bordered, 2, window, stride)
    y = _max_along(rows, 1, window, stride)
    # The first row that reaches the maximum and in it the first column: row-major order.
    drows = _max_along_gradient(rows, y, dy, 1, window, stride)
    dx = _max_along_gradient(bordered, rows, drows, 2, window, stride)
    back = ((0, 0, 0), *((-before, -after, 0) for before, after in pads), (0, 0, 0))
    return (lax.pad(dx, jnp.zeros((), x.dtype), back),)


_max_pool.defvjp(lambda x, *geometry: (_max_pool(x, *geometry), x), _max_pool_backward)


def _bordered(x, pads):
    edges = ((0, 0, 0), *((before, after, 0) for before, after in pads), (0, 0, 0))
    return lax.pad(x, jnp.array(-jnp.inf, x.dtype), edges)


def _window_slices(x, axis, window, stride):
    last = x.shape[axis] - window
    return [lax.slice_in_dim(x, i, last + i + 1, stride, axis) for i in range(window)]


def _max_along(x, axis, window, stride):
    return functools.reduce(jnp.maximum, _window_slices(x, axis, window, stride))


def _max_along_gradient(x, y, dy, axis, window, stride):
    """Sends dy to the first entry of each window of x along `axis` that equals the maximum y."""
    zero = jnp.zeros((), dy.dtype)
    size, windows = x.shape[axis], y.shape[axis]
    # Entries i, i + stride, ... meet windows at one phase; phases interleave at the end.
    steps = -(-size // stride)
    phases = [zero] * stride
    left = dy
    for i, entry in enumerate(_window_slices(x, axis, window, stride)):
        won = jnp.where(entry == y, left, zero)
        left = jnp.where(entry == y, zero, left)
        shift, phase = divmod(i, stride)
        edges = [(0, 0, 0)] * x.ndim
        edges[axis] = (shift, steps - windows - shift, 0)
        phases[phase] = phases[phase] + lax.pad(won, zero, edges)
    shape = (*x.shape[:axis], steps, *x.shape[axis + 1 :])
    dx = jnp.stack([jnp.broadcast_to(phase, shape) for phase in phases], axis + 1)
    dx = dx.reshape(*x.shape[:axis], steps * stride, *x.shape[axis + 1 :])
    return lax.slice_in_dim(dx, 0, size, axis=axis)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _lrn(x, size, alpha, beta, k):
    return x * _power(k + alpha / size * _window_sum(x * x, size), beta)


def _lrn_backward(size, alpha, beta, k, x, dy):
    scale = k + alpha / size * _window_sum(x * x, size)
    power = _power(scale, beta)
    # Fused into the window sum this term would be computed once for each of its summands.
    shared = lax.optimization_barrier(dy * x * power / scale)
    return (dy * power - (2 * alpha * beta / size) * x * _window_sum(shared, size),)


_lrn.defvjp(lambda x, *constants: (_lrn(x, *constants), x), _lrn_backward)


def _window_sum(x, size):
    channels = x.shape[-1]
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((size // 2, size // 2),))
    return sum(x[..., i : i + channels] for i in range(size))


def _power(scale, beta):
    if beta != 0.75:
        return scale**-beta
    root = lax.rsqrt(scale)  # much cheaper than a power
    return root * jnp.sqrt(root)
