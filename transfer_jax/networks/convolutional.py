"""A network with its dense layers turned into convolutions, which runs over images of any size."""

from __future__ import annotations

import dataclasses

import numpy as np

from transfer_jax.networks.layers import AdaptiveAvgPool, Conv, Dense, output_shape
from transfer_jax.networks.network import Network, Params


def fully_convolutional(
    network: Network, params: Params, *, stride: int = 1
) -> tuple[Network, dict[str, dict[str, np.ndarray]]]:
    """The same function at every place of an image: (`as_convolutions(network)`, its params).

    For images (N, H, W, 3) of at least the network's input size it gives (N, h, w, classes), and
    (N, 1, 1, classes) for that size itself. A unit looks at the square of the input's size that
    moves by the network's stride (`receptive_field` tells it) and, where layers pad, at what lies
    around it. Kernels are views of those given.

    Example:
      >>> dense, dense_params = fully_convolutional(caffenet(), params)
      >>> dense.apply(dense_params, jnp.zeros((1, 227, 291, 3))).shape
      (1, 1, 3, 1000)
    """
    dense = as_convolutions(network, stride=stride)
    reshaped = {
        name: {**params[name], "kernel": params[name]["kernel"].reshape(shape)}
        for name, shape in dense.kernel_shapes.items()
    }
    return dense, reshaped


def as_convolutions(network: Network, *, stride: int = 1) -> Network:
    """The network with its first dense layer as a convolution over its whole map, which moves by
    `stride`, and the later ones 1 x 1; what follows them stays.

    Average pooling to a fixed number of windows is left out where it changes nothing at the input's
    own size; elsewhere it is a ValueError, as are maps that are not square.
    """
    layers = []
    for layer in network.layers:
        shape = network.input_shapes[layer.name]
        if isinstance(layer, Dense):
            first = len(shape) == 3
            height, width = shape[:2] if first else (1, 1)
            if height != width:
                raise ValueError(
                    f"{network.name}: a map of {height} x {width} enters layer {layer.name}, "
                    "expected a square one"
                )
            fields = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
            layer = Conv(**fields, kernel=height, stride=stride if first else 1)
        layers.append(dataclasses.replace(layer, then=_kept(network.name, layer, shape)))
    return dataclasses.replace(network, layers=tuple(layers))


def _kept(name, layer, shape):
    kept = []
    for after in layer.then:
        before = dataclasses.replace(layer, then=tuple(kept))
        if not isinstance(after, AdaptiveAvgPool):
            kept.append(after)
        elif (sides := output_shape(before, shape)[:2]) != (after.size,) * 2:
            raise ValueError(
                f"{name}: layer {layer.name} averages {sides[0]} x {sides[1]} to {after.size} x "
                f"{after.size} windows, expected an input size at which it has nothing to average"
            )
    return tuple(kept)
