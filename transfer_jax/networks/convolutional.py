"""A network with its dense layers turned into convolutions, which runs over images of any size."""

from __future__ import annotations

import dataclasses

import numpy as np

from transfer_jax.networks.layers import AdaptiveAvgPool, Conv, Dense, output_shape
from transfer_jax.networks.network import Network, Params


def fully_convolutional(
    network: Network, params: Params, *, stride: int = 1
) -> tuple[Network, dict[str, dict[str, np.ndarray]]]:
    """The same function at every place of an image: (dense network, its params).

    The first dense layer becomes a convolution over its whole map, the later ones 1 x 1; what
    follows them stays. For images (N, H, W, 3) of at least the network's input size the result
    gives (N, h, w, classes), and (N, 1, 1, classes) for that size itself. A unit looks at the
    square of the input's size that moves by the network's stride (`receptive_field` tells it) and,
    where layers pad, at what lies around it. With a `stride` of s only every s-th unit of a row and
    a column is computed, from the first dense layer on. Kernels are views of those given.

    Average pooling to a fixed number of windows is left out where it changes nothing at the input's
    own size; elsewhere it is a ValueError, as are maps that are not square.

    Example:
      >>> dense, dense_params = fully_convolutional(caffenet(), params)
      >>> dense.apply(dense_params, jnp.zeros((1, 227, 291, 3))).shape
      (1, 1, 3, 1000)
    """
    layers = []
    for layer in network.layers:
        shape = network.input_shapes[layer.name]
        if isinstance(layer, Dense):
            height, width = shape[:2] if len(shape) == 3 else (1, 1)
            if height != width:
                raise ValueError(
                    f"{network.name}: a map of {height} x {width} enters layer {layer.name}, "
                    "expected a square one"
                )
            fields = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
            first = len(shape) == 3
            layer = Conv(**fields, kernel=height, stride=stride if first else 1)
        layers.append(dataclasses.replace(layer, then=_kept(network.name, layer, shape)))
    dense = dataclasses.replace(network, layers=tuple(layers))
    reshaped = {
        name: {**params[name], "kernel": params[name]["kernel"].reshape(shape)}
        for name, shape in dense.kernel_shapes.items()
    }
    return dense, reshaped


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
