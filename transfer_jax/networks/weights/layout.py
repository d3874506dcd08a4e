"""Kernels in Caffe's and PyTorch's layout and in ours, and checks that they fit a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from transfer_jax.networks.description import Conv, Layer
from transfer_jax.networks.network import Network, Params
from transfer_jax.networks.weights.content import Content, Stored


def kernel_from_channels_first(
    layer: Layer, input_shape: tuple[int, ...], weight: np.ndarray
) -> np.ndarray:
    """OIHW as HWIO; (out, in) as (in, out), with an input map's (c, h, w) order as (h, w, c)."""
    if isinstance(layer, Conv):
        kernel = weight.transpose(2, 3, 1, 0)
    elif len(input_shape) == 3:
        height, width, channels = input_shape
        by_place = weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
        kernel = by_place.reshape(math.prod(input_shape), -1)
    else:
        kernel = weight.T
    return np.ascontiguousarray(kernel)


def kernel_to_channels_first(
    layer: Layer, input_shape: tuple[int, ...], kernel: np.ndarray
) -> np.ndarray:
    """The inverse of `kernel_from_channels_first`."""
    if isinstance(layer, Conv):
        weight = kernel.transpose(3, 2, 0, 1)
    elif len(input_shape) == 3:
        weight = kernel.reshape(*input_shape, -1).transpose(3, 2, 0, 1)
        weight = weight.reshape(-1, math.prod(input_shape))
    else:
        weight = kernel.T
    return np.ascontiguousarray(weight)


def to_params(content: Content, network: Network, path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The network's params from a file's content, float32 in our layout and conventions.

    Raises:
      ValueError: where a layer is missing, superfluous or of another shape, naming it, what was
        found and what was expected.
    """
    if content.network not in (None, network.name):
        raise ValueError(
            f"{path}: the file holds weights of the network {content.network!r}, "
            f"{network.name!r} was expected"
        )
    _check_layers(content, network, path)
    params = {}
    for layer in network.layers:
        stored = content.layers[layer.name]
        kernel, bias = (np.asarray(stored[kind].read(), np.float32) for kind in ("kernel", "bias"))
        if content.channels_first:
            kernel = kernel_from_channels_first(layer, network.input_shapes[layer.name], kernel)
        expected = network.kernel_shapes[layer.name]
        params[layer.name] = {"kernel": kernel.reshape(expected), "bias": bias.reshape(-1)}
    if content.bgr:
        params = _with_first_kernel(params, network, lambda by_channel: by_channel[:, ::-1])
    if content.std is not None:
        params = _with_first_kernel(params, network, lambda k: k / content.std[:, None])
    return params


def scaled_input(params: Params, network: Network, pixel_scale: float) -> dict[str, Any]:
    """Params for `(pixel - mean) * pixel_scale` that equal the given ones for `pixel - mean`.

    Args:
      params: of at least the network's first layer.
      network: the network that they are for.
      pixel_scale: a recipe's factor after mean subtraction, positive.

    Returns:
      The same params but for the first kernel, which is divided by the scale (exactly where the
      scale is a power of two, else rounded to float32).

    Raises:
      ValueError: for a scale that is not positive and finite.

    Example:
      >>> weights = load_weights('bvlc_reference_caffenet.caffemodel', caffenet())
      >>> params = scaled_input(weights.params, caffenet(), recipe.pixel_scale)
    """
    if not (math.isfinite(pixel_scale) and pixel_scale > 0):
        raise ValueError(f"pixel_scale is {pixel_scale}, expected a positive number")
    return _with_first_kernel(params, network, lambda by_channel: by_channel / pixel_scale)


def check_params(params: Params, network: Network) -> None:
    """Raises a ValueError unless params hold exactly the network's layers in their shapes."""
    arrays = {
        name: {kind: Stored(np.shape(array), lambda a=array: a) for kind, array in layer.items()}
        for name, layer in params.items()
    }
    _check_layers(Content(arrays, channels_first=False), network, "params")


def last_features(content: Content, network: Network, path: Path) -> int:
    """Number of biases that the file holds for the network's last layer."""
    name = network.layer_names[-1]
    return _stored(content, name, "bias", path).shape[-1]


def _with_first_kernel(params, network, change):
    """`change` sees the first kernel in float64 as (places, 3 channels, features)."""
    first = network.layers[0]
    if isinstance(first, Conv) and first.groups != 1:
        raise ValueError(f"layer {first.name}: the images' channels are split into groups")
    kernel = np.asarray(params[first.name]["kernel"], np.float64)
    changed = change(kernel.reshape(-1, 3, first.features)).reshape(kernel.shape)
    changed = np.ascontiguousarray(changed, np.float32)
    return {**params, first.name: {**params[first.name], "kernel": changed}}


def _check_layers(content: Content, network: Network, path: Path | str) -> None:
    last = network.layers[-1]
    for layer in network.layers:
        stored = {kind: _stored(content, layer.name, kind, path) for kind in ("kernel", "bias")}
        expected = network.kernel_shapes[layer.name]
        found = _in_our_layout(stored["kernel"].shape) if content.channels_first else None
        found = tuple(found or stored["kernel"].shape)
        if layer is last and found[:-1] == expected[:-1] and found != expected:
            raise ValueError(
                f"{path}: layer {layer.name}: the file holds {found[-1]} classes, the network has "
                f"{expected[-1]}"
            )
        if found != expected:
            raise ValueError(
                f"{path}: layer {layer.name}: a kernel of shape {expected} expected "
                f"({_axes(expected)}), found {found}"
            )
        if tuple(stored["bias"].shape) != expected[-1:]:
            raise ValueError(
                f"{path}: layer {layer.name}: a bias of shape {expected[-1:]} expected, "
                f"found {tuple(stored['bias'].shape)}"
            )
        if superfluous := set(content.layers[layer.name]) - {"kernel", "bias"}:
            raise ValueError(f"{path}: layer {layer.name}: nothing expects {sorted(superfluous)}")
    if superfluous := [name for name in content.layers if name not in network.layer_names]:
        raise ValueError(
            f"{path}: the network {network.name!r} has no layers {superfluous}; it has "
            f"{list(network.layer_names)}"
        )


def _stored(content: Content, name: str, kind: str, path: Path | str) -> Stored:
    called = f" ({content.file_names[name]!r})" if name in content.file_names else ""
    if name not in content.layers:
        held: Mapping[str, Any] = content.layers
        raise ValueError(
            f"{path}: layer {name} is missing; the weights are those of {list(held) or 'no layers'}"
        )
    if kind not in content.layers[name]:
        raise ValueError(f"{path}: layer {name}{called}: the {kind} is missing")
    return content.layers[name][kind]


def _in_our_layout(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 4:
        return (*shape[2:], shape[1], shape[0])
    return tuple(reversed(shape))


def _axes(shape: tuple[int, ...]) -> str:
    return "height, width, inputs in a group, outputs" if len(shape) == 4 else "inputs, outputs"
