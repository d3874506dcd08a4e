"""What a network is made of: immutable descriptions of layers, and arithmetic of their shapes."""

from __future__ import annotations

import dataclasses
import math

from transfer_jax.networks import layers as ops


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Max pooling; the last window may hang over the border, as in Caffe, where sizes round up."""

    window: int = 3
    stride: int = 2
    padding: int = 0
    round_up: bool = True


@dataclasses.dataclass(frozen=True)
class AdaptiveAvgPool:
    """Means over windows that share a map of any size out among `size` x `size` places."""

    size: int


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """x / (k + alpha / size * sum of squares over `size` neighbouring channels) ** beta."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Inverted dropout: kept units are divided by 1 - rate while training, nothing at test time."""

    rate: float = 0.5


After = Relu | MaxPool | AdaptiveAvgPool | LocalResponseNorm | Dropout


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution layer over NHWC maps, and what follows it.

    `weight_std` is the standard deviation of the Gaussian initial weights, or None for He et al.'s
    sqrt(2 / fan in); `bias` the initial bias.
    """

    name: str
    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    weight_std: float | None = 0.01
    bias: float = 0.0
    then: tuple[After, ...] = ()


@dataclasses.dataclass(frozen=True)
class Dense:
    """A dense layer, and what follows it; a map (N, h, w, c) is flattened row by row first."""

    name: str
    features: int
    weight_std: float | None = 0.01
    bias: float = 0.0
    then: tuple[After, ...] = ()


Layer = Conv | Dense


def flattened(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in which one image's input enters the layer's product."""
    return (math.prod(shape),) if isinstance(layer, Dense) else shape


def kernel_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Kernel of a layer whose input for one image has this (flattened, if dense) shape."""
    channels = shape[-1]
    if isinstance(layer, Dense):
        return (channels, layer.features)
    if channels % layer.groups or layer.features % layer.groups:
        raise ValueError(
            f"layer {layer.name}: {channels} input and {layer.features} output maps cannot be "
            f"split into {layer.groups} groups"
        )
    return (layer.kernel, layer.kernel, channels // layer.groups, layer.features)


def layer_shapes(layer: Layer, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes (after the product, after everything) of a layer for one image's input shape."""
    if isinstance(layer, Dense):
        return (layer.features,), (layer.features,)
    if len(shape) != 3:
        raise ValueError(f"layer {layer.name}: a convolution cannot follow a dense layer")
    side = ops.conv_output_size(shape[0], layer.kernel, layer.stride, layer.padding)
    product = (side, side, layer.features)
    for after in layer.then:
        if isinstance(after, MaxPool) and side >= 1:
            side = ops.pool_output_size(side, **dataclasses.asdict(after))
        elif isinstance(after, AdaptiveAvgPool) and side >= 1:
            side = after.size
    if side < 1:
        raise ValueError(f"layer {layer.name}: nothing is left of an input of shape {shape}")
    return product, (side, side, layer.features)
