"""The Network noun: an immutable tuple of named weight layers, and pure functions from it.

A weight layer is a convolution or a dense product with all that follows it up to the next one
(ReLU, pooling, normalisation, dropout). Yosinski et al. 2014 cut networks between those, so they
are the unit of parameters, splicing, freezing and activations.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from transfer_jax.networks.layers import (
    Conv,
    Dense,
    Dropout,
    Layer,
    Shape,
    conv_general_dilated,
    output_shape,
)

Params = Mapping[str, Mapping[str, jax.Array]]
Bound = int | str | None
SCHEMES = ("own", "he", "he_quiet_conv1")


@dataclasses.dataclass(frozen=True)
class Network:
    """An immutable description of a network, conv1 .. fc8, and pure functions from it.

    `input_size` is the RGB input's in pixels, one side of a square or (height, width); `layers` are
    any number of weight layers in order. Ablations are other tuples, not other code.

    Example:
      >>> net = alexnet_mini(num_classes=10)
      >>> params = net.init(jax.random.key(0))
      >>> net.apply(params, jnp.zeros((2, 32, 32, 3))).shape
      (2, 10)
    """

    name: str
    input_size: int | tuple[int, int]
    layers: tuple[Layer, ...]

    def __post_init__(self):
        if not self.layers or len(set(self.layer_names)) != len(self.layers):
            raise ValueError(f"network {self.name!r}: layers without unique names: {self.layers}")
        self.kernel_shapes  # noqa: B018  impossible geometry is said here, not in the first step

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of an image."""
        size = self.input_size
        return (size, size, 3) if isinstance(size, int) else (*size, 3)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the weight layers in order."""
        return tuple(layer.name for layer in self.layers)

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.layers[-1].features

    @functools.cached_property
    def output_shapes(self) -> dict[str, Shape]:
        """Shape of what leaves each layer for one image: (h, w, c) or (features,)."""
        shapes, shape = {}, self.input_shape
        for layer in self.layers:
            shapes[layer.name] = shape = output_shape(layer, shape)
        return shapes

    @functools.cached_property
    def input_shapes(self) -> dict[str, Shape]:
        """Shape of what enters each layer for one image."""
        entering = [self.input_shape, *self.output_shapes.values()][:-1]
        return dict(zip(self.layer_names, entering, strict=True))

    @functools.cached_property
    def kernel_shapes(self) -> dict[str, Shape]:
        """Shape of each layer's kernel: HWIO (I = inputs / groups) or (inputs, outputs)."""
        return {
            layer.name: layer.kernel_shape(self.input_shapes[layer.name]) for layer in self.layers
        }

    @functools.cached_property
    def multiply_adds(self) -> dict[str, int]:
        """Multiply-adds of each layer's product for one image, forward."""
        places = (one.product_shape(self.input_shapes[one.name])[:-1] for one in self.layers)
        return {
            name: math.prod(shape) * math.prod(at)
            for (name, shape), at in zip(self.kernel_shapes.items(), places, strict=True)
        }

    @property
    def num_params(self) -> int:
        """Number of weights and biases."""
        return sum(math.prod(shape) + shape[-1] for shape in self.kernel_shapes.values())

    def train_flops(self, num_frozen: int = 0) -> int:
        """Floating-point operations of a training step for one image, two per multiply-add.

        Layers above the `num_frozen` lowest add weight gradients, and all but the first of those
        input gradients.
        """
        counts = list(self.multiply_adds.values())
        trained = counts[num_frozen:]
        return 2 * (sum(counts) + sum(trained) + sum(trained[1:]))

    def init(self, key: jax.Array, scheme: str = "own") -> dict[str, dict[str, jax.Array]]:
        """Draws float32 parameters {'conv1': {'kernel', 'bias'}, ...} in network order.

        A layer's weights depend on the key, its name and its shape only. `scheme` is 'own', the
        architecture's Gaussians and biases; 'he', variance 2 / fan in and biases 0; or
        'he_quiet_conv1', as 'he' with a standard deviation of 0.01 in the first layer, so that its
        filters soon show what was learned and not what was drawn.
        """
        if scheme not in SCHEMES:
            raise ValueError(f"init={scheme!r}: expected one of {SCHEMES}")
        layers = self.layers
        if scheme != "own":
            layers = [dataclasses.replace(layer, weight_std=None, bias=0.0) for layer in layers]
        if scheme == "he_quiet_conv1":
            layers[0] = dataclasses.replace(layers[0], weight_std=0.01)
        image = jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)
        params = _Layers(tuple(layers)).lazy_init(key, image)["params"]
        return {name: params[name] for name in self.layer_names}

    def apply(
        self, params: Params, x: jax.Array, *, train: bool = False, rng: jax.Array | None = None
    ) -> jax.Array:
        """Logits (N, num_classes) of images x (N, H, W, 3), mean already subtracted.

        Each layer computes in what its input and params promote to. With `train` dropout applies:
        `rng` is a typed key of the batch, of which example i uses fold_in(rng, i), or (N,) keys.
        """
        return self.apply_range(params, x, None, None, train=train, rng=rng)

    def apply_range(
        self,
        params: Params,
        x: jax.Array,
        start: Bound,
        stop: Bound,
        *,
        train: bool = False,
        rng: jax.Array | None = None,
    ) -> jax.Array:
        """Runs layers start, ..., stop - 1, bounds as in a slice: positions, layer names or None.

        `x` is what enters layer `start`: images, or what left the layer before it; `params` need
        hold the layers that run. Applying the rest to what a lower range gives equals `apply`
        exactly, dropout included. Convolutions take images of any size; dense layers need maps of
        the network's own size.
        """
        return self._run(params, x, start, stop, train, rng)[0]

    def activations(self, params: Params, x: jax.Array) -> dict[str, jax.Array]:
        """What leaves each layer for images x in test mode: name -> (N, h, w, c) or (N, features).

        The last entry is the logits.
        """
        return self._run(params, x, None, None, False, None)[1]

    def position(self, bound: Bound, default: int) -> int:
        """Position in the layer tuple that an int, a layer name or None stands for."""
        if bound is None:
            return default
        if bound in self.layer_names:
            return self.layer_names.index(bound)
        if bound not in range(len(self.layers) + 1):
            raise ValueError(f"{bound!r} is no layer of {self.name}: {self.layer_names}")
        return int(bound)

    def _run(self, params, x, start, stop, train, rng):
        first, last = self.position(start, 0), self.position(stop, len(self.layers))
        shape = x.shape[1:]
        layers = self.layers[first:last]
        for layer in layers:
            own = self.input_shapes[layer.name]
            fits = layer.kernel_shape(shape) == self.kernel_shapes[layer.name]
            # Another map of as many units would be flattened in another order.
            if not fits or (isinstance(layer, Dense) and shape not in (own, (math.prod(own),))):
                raise ValueError(
                    f"{self.name}: {shape} enters layer {layer.name}, which takes {own}; x has "
                    f"shape {x.shape}"
                )
            shape = output_shape(layer, shape)
        keys = None
        if train and any(isinstance(a, Dropout) for one in layers for a in one.then):
            if rng is None:
                raise ValueError("apply(..., train=True) needs rng=<a key> for dropout")
            each = jax.vmap(lambda i: jax.random.fold_in(rng, i))
            keys = rng if rng.ndim else each(jnp.arange(len(x)))
        return _Layers(self.layers).apply({"params": params}, x, first, last, keys)


class _Layers(nn.Module):
    """Flax's layers in order: the last output, and all of them by name."""

    layers: tuple[Layer, ...]

    @nn.compact
    def __call__(self, x, first=0, last=None, keys=None):
        outputs = {}
        for position, layer in list(enumerate(self.layers))[first:last]:
            common = {
                "kernel_init": _normal_init(layer.weight_std),
                "bias_init": nn.initializers.constant(layer.bias),
                "name": layer.name,
            }
            if isinstance(layer, Conv):
                x = nn.Conv(
                    layer.features,
                    (layer.kernel,) * 2,
                    strides=layer.stride,
                    padding=[(layer.padding,) * 2] * 2,
                    feature_group_count=layer.groups,
                    conv_general_dilated=conv_general_dilated,
                    **common,
                )(x)
            else:
                x = nn.Dense(layer.features, **common)(x.reshape(len(x), -1))
            fold = functools.partial(jax.random.fold_in, data=position)
            layer_keys = None if keys is None else jax.vmap(fold)(keys)
            for after in layer.then:
                x = after(x, layer_keys)
            outputs[layer.name] = x
        return x, outputs


def _normal_init(std):
    def init(key, shape, dtype):
        # Draws of one size: one of each layer's own shape would be compiled for each.
        keys = [jax.random.fold_in(key, i) for i in range(-(-math.prod(shape) // _BLOCK))]
        scale = math.sqrt(2 / math.prod(shape[:-1])) if std is None else std
        return _assembled([_normal(key) for key in keys], scale, shape)

    return init


_BLOCK = 2**16
_normal = jax.jit(lambda key: jax.random.normal(key, (_BLOCK,), jnp.float32))


@functools.partial(jax.jit, static_argnums=2)
def _assembled(blocks, scale, shape):
    return scale * jnp.concatenate(blocks)[: math.prod(shape)].reshape(shape)
