"""Sends activations of any layer back down to pixels: deconvnet, gradient, guided backpropagation.

The way down undoes the network's own operations in reverse order. Three rules share it and differ
in two places only, where what comes down, s, meets a forward ReLU with output y or a normalisation:

| rule | ReLU | local response normalisation |
|---|---|---|
| 'deconvnet' (Zeiler & Fergus 2013, section 2.1) | max(s, 0) | passed through |
| 'gradient' (Simonyan et al. 2014) | s where y > 0 | its derivative |
| 'guided' (Springenberg et al. 2015) | max(s, 0) where y > 0 | its derivative |

Everything else is linear once the maxima are known, and goes down by its transpose in all rules: a
convolution by the transposed convolution with the same filters and without a bias, max pooling by
`unpool`, average pooling by spreading each mean over its window, a dense layer by its transposed
matrix; dropout is absent at test time.

The deconvnet's ReLU stands where the network's stands: in a layer convolution -> ReLU -> pooling ->
normalisation the way down is normalisation passed through -> unpool -> ReLU -> transposed
convolution. Nothing rectifies the pixels, and layers without a ReLU (the logits) rectify nothing.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from transfer_jax.networks import (
    AdaptiveAvgPool,
    Conv,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Network,
    Params,
    Relu,
)
from transfer_jax.networks import layers as ops
from transfer_jax.networks.adaptive_pool import adaptive_avg_pool
from transfer_jax.networks.description import Layer
from transfer_jax.visual.units import checked_units, keep_units

RULES = ("deconvnet", "gradient", "guided")


def project(
    network: Network,
    params: Params,
    x: ArrayLike,
    layer: str,
    signal: ArrayLike,
    rule: str = "deconvnet",
) -> jax.Array:
    """Sends a signal at a layer's output down to pixels, each image through its own switches.

    The images run up to the layer, which fixes the pooling switches (and the masks of the ReLUs);
    the signal comes down the same path. Compiled once for each network, layer, rule and batch size.

    Args:
      network: any Network, ablated or of other widths.
      params: its parameters; those of the layers up to `layer` suffice.
      x: (N, H, W, 3) float images, mean subtracted, as `Network.apply` takes them.
      layer: name of the layer where the signal starts. Its output is what leaves it after its ReLU,
        pooling and normalisation, as `Network.activations` gives it.
      signal: of that output's shape, (N, h, w, c) or (N, features); `unit_signal` makes one for
        single units. Repeat an image to project several signals through it.
      rule: one of RULES, see the table at the top of this module. 'gradient' is the gradient of
        sum(signal * output) by the pixels, as JAX differentiates the network (half the signal
        passes a ReLU whose input is exactly 0).

    Returns:
      (N, H, W, 3) float32, in the units of the signal per unit of pixel for 'gradient'; the scale
      of the other rules has no meaning beyond comparing pixels.

    Raises:
      ValueError: for an unknown layer or rule, missing parameters, images that do not fit the
        network or are not floats, or a signal that is not shaped like the layer's output.

    Example:
      >>> signal = unit_signal(net.activations(params, images)['conv3'], maps=7)
      >>> pixels = project(net, params, images, 'conv3', signal)
    """
    lower = _lower(network, params, layer, rule)
    return _project(network, layer, rule, lower, jnp.asarray(x), jnp.asarray(signal))


def project_units(
    network: Network,
    params: Params,
    images: ArrayLike,
    layer: str,
    maps: ArrayLike,
    positions: ArrayLike | None = None,
    rule: str = "deconvnet",
) -> jax.Array:
    """Projects one unit of each image down to pixels, from images to pictures in one program.

    The same as `project` of `unit_signal`: the unit keeps its own activation, all others are zero.

    Args:
      network: any Network.
      params: its parameters.
      images: (N, H, W, 3) float images, mean subtracted.
      layer: name of the layer whose units are projected.
      maps: (N,) for each image the map (or dense unit), or one for all images.
      positions: (N, 2) row and column of the unit in its map, or one pair for all images; None for
        the strongest unit of the map. Units of dense layers stand at (0, 0).
      rule: one of RULES.

    Returns:
      (N, H, W, 3) float32. A unit whose activation is zero projects to zeros.

    Raises:
      ValueError: as `project`, and for maps or positions that the layer does not have.

    Example:
      Sixteen maps of conv5, each through the same nine images:

      >>> pictures = project_units(
      ...     net, params, np.repeat(images, 16, axis=0), 'conv5', np.tile(np.arange(16), 9)
      ... )
    """
    lower, images = _lower(network, params, layer, rule), jnp.asarray(images)
    output = (len(images), *network.output_shapes[layer])
    maps, positions = checked_units(output, maps, positions)
    return _project_units(network, layer, rule, lower, images, maps, positions)


def unpool(
    values: ArrayLike, below: ArrayLike, *, window: int, stride: int, padding: int = 0
) -> jax.Array:
    """Puts each value where its pooling window found the maximum; the rest of the map is zero.

    The switches are the places of the maxima in `below`, the first in row-major order where
    several are equal. Where windows overlap and one place is the maximum of several, it receives
    the sum of their values: unpooling is then the transpose of pooling with these switches, hence
    its gradient, for any values. (Writing in place of adding would have to choose among windows
    whose values differ, as they do below the layer that a projection starts from.) So pooling with
    the same switches gives back `values` times the number of windows that share the maximum, which
    is `values` itself wherever windows do not overlap.

    Args:
      values: (N, h, w, C), one for each window.
      below: (N, H, W, C), the maps that were pooled.
      window: height and width of a window.
      stride: distance between windows.
      padding: border of the pooling, as in `MaxPool`.

    Returns:
      An array like `below`.

    Raises:
      ValueError: when `values` are not shaped like the pooled maps, or the geometry is impossible.
    """
    return _unpool(jnp.asarray(values), jnp.asarray(below), window, stride, padding)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _unpool(values, below, window, stride, padding):
    pool = partial(ops.max_pool, window=window, stride=stride, padding=padding)
    pooled, transposed = jax.vjp(pool, below)
    if values.shape != pooled.shape:
        raise ValueError(
            f"unpool: values have shape {values.shape}, expected {pooled.shape} for maps of "
            f"shape {below.shape} pooled with window {window}, stride {stride}, padding {padding}"
        )
    return transposed(values.astype(pooled.dtype))[0]


def _lower(network: Network, params: Params, layer: str, rule: str) -> dict:
    """The parameters up to `layer`, once layer and rule are known to exist."""
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is unknown; expected one of {RULES}")
    if layer not in network.layer_names:
        raise ValueError(f"{layer!r} is not a layer of {network.name}: {network.layer_names}")
    names = network.layer_names[: network.layer_names.index(layer) + 1]
    return {name: params[name] for name in names if name in params}


@partial(jax.jit, static_argnums=(0, 1, 2))
def _project(network, layer, rule, params, x, signal):
    output, way_down = _up(network, layer, params, x)
    if signal.shape != output.shape:
        raise ValueError(
            f"signal has shape {signal.shape}; expected {output.shape}, the output of layer "
            f"{layer} of {network.name} for x of shape {x.shape}"
        )
    return _down(rule, way_down, signal.astype(output.dtype))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _project_units(network, layer, rule, params, x, maps, positions):
    output, way_down = _up(network, layer, params, x)
    return _down(rule, way_down, keep_units(output, maps, positions))


def _up(network, layer, params, x):
    """The layer's output, and (operation, its output, its transposed derivative) for each step."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x is {x.dtype}; expected float images with the mean subtracted")
    stop = network.layer_names.index(layer) + 1
    # The network itself says what is wrong with images or parameters that do not fit.
    jax.eval_shape(lambda p, x: network.apply_range(p, x, None, stop), params, x)
    way_down = []
    for one in network.layers[:stop]:
        for operation, function in _operations(one, **params[one.name]):
            x, transposed = jax.vjp(function, x)
            way_down.append((operation, x, transposed))
    return x, way_down


def _operations(layer: Layer, kernel, bias) -> Iterator[tuple[object, typing.Callable]]:
    """The layer's operations in order, each with its description."""
    if isinstance(layer, Conv):
        geometry = dict(stride=layer.stride, padding=layer.padding, groups=layer.groups)
        yield layer, lambda x: ops.conv(x, kernel, bias, **geometry)
    else:
        yield layer, lambda x: x.reshape(x.shape[0], -1) @ kernel + bias
    for after in layer.then:
        match after:
            case Relu():
                yield after, lambda x: jnp.maximum(x, 0)
            case MaxPool():
                yield after, partial(ops.max_pool, **dataclasses.asdict(after))
            case AdaptiveAvgPool(size):
                yield after, partial(adaptive_avg_pool, size=size)
            case LocalResponseNorm():
                yield after, partial(ops.lrn, **dataclasses.asdict(after))
            case Dropout():
                pass
            case _:
                typing.assert_never(after)


def _down(rule, way_down, signal):
    for operation, output, transposed in reversed(way_down):
        if rule == "deconvnet" and isinstance(operation, LocalResponseNorm):
            continue
        if rule == "gradient" or not isinstance(operation, Relu):
            (signal,) = transposed(signal)
        else:
            signal = jnp.maximum(signal, 0)
            if rule == "guided":
                signal = jnp.where(output > 0, signal, 0)
    return signal.astype(jnp.float32)
