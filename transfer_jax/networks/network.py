"""The Network noun: an immutable tuple of named weight layers, and pure functions from it.

A weight layer is a convolution or a dense product together with all that follows it up to the next
weight layer (ReLU, pooling, normalisation, dropout). That is the unit Yosinski et al. 2014 cut
between, so it is the unit of everything here: parameters, splicing, freezing, activations.

Flax (linen) modules built from the same description hold the parameters; the functions of `Network`
are the thin, pure face over them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from transfer_jax.networks import layers as ops
from transfer_jax.networks.adaptive_pool import adaptive_avg_pool
from transfer_jax.networks.description import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    Dropout,
    Layer,
    LocalResponseNorm,
    MaxPool,
    Relu,
    flattened,
    kernel_shape,
    layer_shapes,
)

Params = Mapping[str, Mapping[str, jax.Array]]


Bound = int | str | None


class _WeightLayer(nn.Module):
    """One weight layer with its parameters `kernel` and `bias`."""

    layer: Layer

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        layer = self.layer
        if isinstance(layer, Dense):
            x = x.reshape(x.shape[0], -1)
        shape = kernel_shape(layer, x.shape[1:])
        # `Network.init` draws the values; here the shapes are checked.
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        if isinstance(layer, Conv):
            x = ops.conv(
                x, kernel, bias, stride=layer.stride, padding=layer.padding, groups=layer.groups
            )
        else:
            x = x @ kernel + bias
        for after in layer.then:
            match after:
                case Relu():
                    x = jnp.maximum(x, 0)
                case MaxPool():
                    x = ops.max_pool(x, **dataclasses.asdict(after))
                case AdaptiveAvgPool(size):
                    x = adaptive_avg_pool(x, size)
                case LocalResponseNorm(size, alpha, beta, k):
                    x = ops.lrn(x, size=size, alpha=alpha, beta=beta, k=k)
                case Dropout(rate):
                    if keys is not None and rate > 0:
                        x = ops.dropout(x, rate, keys)
        return x


class _NetworkModule(nn.Module):
    """The layers in order; a part of them when `start` and `stop` say so."""

    layers: tuple[Layer, ...]

    @nn.compact
    def __call__(self, x, start, stop, keys, captured=None):
        for position in range(start, stop):
            layer = self.layers[position]
            layer_keys = None
            if keys is not None:
                layer_keys = jax.vmap(lambda key, p=position: jax.random.fold_in(key, p))(keys)
            x = _WeightLayer(layer, name=layer.name)(x, layer_keys)
            if captured is not None:
                captured[layer.name] = x
        return x


@dataclasses.dataclass(frozen=True)
class Network:
    """An immutable description of a network, conv1 .. fc8, and pure functions from it.

    Attributes:
      name: the architecture's name.
      input_size: height and width in pixels of the square RGB input.
      layers: the weight layers in order. Ablations are other tuples, not other code.

    Example:
      >>> import jax
      >>> from transfer_jax.networks import alexnet_mini
      >>> net = alexnet_mini(num_classes=10)
      >>> params = net.init(jax.random.key(0))
      >>> net.apply(params, jax.numpy.zeros((2, 32, 32, 3))).shape
      (2, 10)
    """

    name: str
    input_size: int
    layers: tuple[Layer, ...]

    def __post_init__(self):
        names = [layer.name for layer in self.layers]
        if not names:
            raise ValueError(f"network {self.name!r} has no layers")
        if len(set(names)) != len(names):
            raise ValueError(f"network {self.name!r} has two layers of one name: {names}")
        self.kernel_shapes  # noqa: B018  geometry errors surface here, not in the first step

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the weight layers in order, ('conv1', ..., 'fc8') in the full networks."""
        return tuple(layer.name for layer in self.layers)

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.layers[-1].features

    @functools.cached_property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of what leaves each layer for one image: (h, w, c) or (features,)."""
        shapes, shape = {}, (self.input_size, self.input_size, 3)
        for layer in self.layers:
            shape = layer_shapes(layer, shape)[1]
            shapes[layer.name] = shape
        return shapes

    @functools.cached_property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of what enters each layer for one image: (h, w, c) or (features,)."""
        image = (self.input_size, self.input_size, 3)
        incoming = [image, *self.output_shapes.values()][:-1]
        return dict(zip(self.layer_names, incoming, strict=True))

    @functools.cached_property
    def kernel_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each layer's kernel: HWIO for convolutions (I = in / groups), (in, out) else."""
        return {
            layer.name: kernel_shape(layer, flattened(layer, self.input_shapes[layer.name]))
            for layer in self.layers
        }

    @functools.cached_property
    def multiply_adds(self) -> dict[str, int]:
        """Multiply-adds of each layer's product for one image, forward."""
        counts = {}
        for layer in self.layers:
            places = math.prod(layer_shapes(layer, self.input_shapes[layer.name])[0][:-1])
            counts[layer.name] = places * math.prod(self.kernel_shapes[layer.name])
        return counts

    @property
    def num_params(self) -> int:
        """Number of weights and biases."""
        return sum(math.prod(shape) + shape[-1] for shape in self.kernel_shapes.values())

    def train_flops(self, num_frozen: int = 0) -> int:
        """Floating-point operations of one training step for one image (two per multiply-add).

        The forward pass runs whole; a trained layer adds its weight gradient, and its input
        gradient unless it is the first trained layer.

        Args:
          num_frozen: how many of the lowest layers are frozen.
        """
        counts = list(self.multiply_adds.values())
        trained = counts[num_frozen:]
        return 2 * (sum(counts) + sum(trained) + sum(trained[1:]))

    def init(self, key: jax.Array) -> dict[str, dict[str, jax.Array]]:
        """Draws initial parameters.

        Args:
          key: a JAX PRNG key. A layer's weights depend on the key, its name and its shape only.

        Returns:
          `{'conv1': {'kernel', 'bias'}, ..., 'fc8': {...}}` in network order, float32.
        """
        params = {}
        for layer in self.layers:
            shape = self.kernel_shapes[layer.name]
            std = layer.weight_std
            if std is None:
                std = math.sqrt(2.0 / math.prod(shape[:-1]))
            of_layer = jax.random.fold_in(key, zlib.crc32(layer.name.encode()))
            kernel = std * _normal(of_layer, math.prod(shape)).reshape(shape)
            bias = jnp.full(shape[-1:], layer.bias, jnp.float32)
            params[layer.name] = {"kernel": kernel, "bias": bias}
        return params

    def apply(
        self, params: Params, x: jax.Array, *, train: bool = False, rng: jax.Array | None = None
    ) -> jax.Array:
        """Logits (N, num_classes) of images x (N, H, W, 3), mean already subtracted.

        Args:
          params: parameters as `init` gives them.
          x: float32 or bfloat16; the computation runs in the type of x and params.
          train: True applies dropout.
          rng: for dropout: one key for the batch, or (N,) keys, one for each image. Example i of
            one key's batch uses fold_in(rng, i).

        Raises:
          ValueError: when x does not fit the network, or train needs an rng and has none.
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
        """Runs the layers start, ..., stop - 1, as a Python slice of the layer tuple.

        `apply_range(params, apply_range(params, x, 0, k), k, None)` equals `apply(params, x)`
        exactly, dropout included when both get the same rng.

        Args:
          params: parameters of at least the layers that run.
          x: what enters layer `start`: (N, H, W, 3) images, or what left the layer before it.
          start: a position, a layer name, or None for the first layer.
          stop: a position or a layer name, excluded; None runs to the end.
          train: True applies dropout.
          rng: as in `apply`.
        """
        first, last = self._bounds(start, stop)
        keys = self._dropout_keys(first, last, x.shape[0], train, rng)
        self._check(params, x, first, last)
        return _NetworkModule(self.layers).apply({"params": params}, x, first, last, keys)

    def activations(self, params: Params, x: jax.Array) -> dict[str, jax.Array]:
        """What leaves each layer, after its ReLU, pooling and normalisation, in test mode.

        Args:
          params: parameters as `init` gives them.
          x: images (N, H, W, 3).

        Returns:
          layer name -> (N, h, w, c) or (N, features); the last entry is the logits.
        """
        self._check(params, x, 0, len(self.layers))
        captured: dict[str, jax.Array] = {}
        module = _NetworkModule(self.layers)
        module.apply({"params": params}, x, 0, len(self.layers), None, captured)
        return captured

    def position(self, bound: Bound, default: int) -> int:
        """Position in the layer tuple that an int, a layer name or None stands for."""
        if bound is None:
            return default
        if isinstance(bound, str):
            if bound not in self.layer_names:
                raise ValueError(f"{bound!r} is not a layer of {self.name}: {self.layer_names}")
            return self.layer_names.index(bound)
        if not 0 <= bound <= len(self.layers):
            raise ValueError(f"layer position {bound} is outside 0..{len(self.layers)}")
        return int(bound)

    def _bounds(self, start: Bound, stop: Bound) -> tuple[int, int]:
        first, last = self.position(start, 0), self.position(stop, len(self.layers))
        if first > last:
            raise ValueError(f"start {start!r} lies behind stop {stop!r} in {self.layer_names}")
        return first, last

    def _dropout_keys(self, first, last, batch, train, rng):
        afters = [after for layer in self.layers[first:last] for after in layer.then]
        rates = [after.rate for after in afters if isinstance(after, Dropout)]
        if not train or not any(rates):
            return None
        if rng is None:
            raise ValueError(f"{self.name} has dropout: apply(..., train=True) needs rng=<a key>")
        if rng.ndim == (0 if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key) else 1):
            return jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(batch))
        if rng.shape[0] != batch:
            raise ValueError(f"rng holds {rng.shape[0]} keys for a batch of {batch} images")
        return rng

    def _check(self, params: Params, x: jax.Array, first: int, last: int) -> None:
        expected = (self.input_size, self.input_size, 3)
        if first > 0:
            expected = self.output_shapes[self.layer_names[first - 1]]
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"{self.name} expects x of shape (N, {', '.join(map(str, expected))}) before layer "
                f"{self.layer_names[min(first, len(self.layers) - 1)]}, found {tuple(x.shape)}"
            )
        for name in self.layer_names[first:last]:
            if name not in params:
                raise ValueError(f"params hold no layer {name!r}; they hold {tuple(params)}")


def _normal(key: jax.Array, count: int) -> jax.Array:
    """`count` independent standard normal numbers.

    They are drawn in blocks of one size: a draw of every layer's own shape would be compiled for
    each, which takes a new network seconds.
    """
    blocks = [
        _normal_block(jax.random.fold_in(key, number)) for number in range(-(-count // _BLOCK))
    ]
    return jnp.concatenate(blocks)[:count]


_BLOCK = 2**16
_normal_block = jax.jit(lambda key: jax.random.normal(key, (_BLOCK,), jnp.float32))
