"""Sends activations of any layer back down to pixels: deconvnet, gradient, guided backpropagation.

The way down is the network's vector-Jacobian product, in which two operations follow a rule. For a
signal s that comes down to a ReLU with output y, or to a local response normalisation:

| rule | ReLU | local response normalisation |
|---|---|---|
| 'deconvnet' (Zeiler & Fergus 2013, section 2.1) | max(s, 0) | passed through |
| 'gradient' (Simonyan et al. 2014) | s where y > 0 | its derivative |
| 'guided' (Springenberg et al. 2015) | max(s, 0) where y > 0 | its derivative |

Everything else goes down by its transpose in all rules: convolutions with the same filters, pooling
through its switches, dense layers by their transposed matrices. Where pooling windows share a
maximum their signals add up. The logits have no ReLU, so nothing rectifies them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from transfer_jax.networks import LocalResponseNorm, Network, Params, Relu

RULES = ("deconvnet", "gradient", "guided")


@partial(jax.jit, static_argnames=("network", "layer", "rule"))
def project_units(
    network: Network,
    params: Params,
    images: ArrayLike,
    layer: str,
    maps: ArrayLike,
    positions: ArrayLike | None = None,
    rule: str = "deconvnet",
) -> jax.Array:
    """Projects one unit of each image down to pixels, (N, H, W, 3) float32, each image through its
    own switches: sends down the layer's `unit_signal`.

    `images` (N, H, W, 3) are floats, mean subtracted. `maps` (N,), or one for all, are the units'
    maps (or dense units); `positions` (N, 2), or one pair for all, their rows and columns, None for
    the strongest. A unit whose activation is zero projects to zeros.
    """
    signal = partial(unit_signal, maps=maps, positions=positions)
    return send_down(network, params, images, layer, signal, rule)


def unit_signal(
    activations: ArrayLike, maps: ArrayLike, positions: ArrayLike | None = None
) -> jax.Array:
    """A layer's output (N, h, w, c) or (N, features) of which one unit of each example is kept.

    `maps` and `positions` are those of `project_units`; the strongest unit is the first in
    row-major order where several are equal.
    """
    activations = jnp.asarray(activations)
    n, channels = activations.shape[0], activations.shape[-1]
    grid = activations if activations.ndim == 4 else activations[:, None, None]
    maps = jnp.broadcast_to(jnp.asarray(maps), n)
    if positions is None:
        chosen = grid[jnp.arange(n), :, :, maps].reshape(n, -1)
        places = jnp.argmax(chosen, axis=1)
    else:
        rows, columns = jnp.broadcast_to(jnp.asarray(positions), (n, 2)).T
        places = rows * grid.shape[2] + columns
    kept = jnp.arange(activations[0].size) == (places * channels + maps)[:, None]
    return jnp.where(kept.reshape(activations.shape), activations, 0)


def send_down(
    network: Network,
    params: Params,
    x: ArrayLike,
    layer: str,
    signal_of: Callable[[jax.Array], ArrayLike],
    rule: str,
) -> jax.Array:
    """Sends what `signal_of` makes of a layer's output, after ReLU, pooling and normalisation, down
    to pixels (N, H, W, 3); their scale has a meaning for 'gradient' alone: the gradient of
    sum(signal * output) by the pixels."""
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is unknown; expected one of {RULES}")
    layers = tuple(
        dataclasses.replace(one, then=tuple(_ruled(after, rule) for after in one.then))
        for one in network.layers
    )
    ruled = dataclasses.replace(network, layers=layers)
    stop = network.position(layer, 0) + 1
    with jax.default_matmul_precision("highest"):
        output, transposed = jax.vjp(lambda x: ruled.apply_range(params, x, None, stop), x)
        return transposed(signal_of(output).astype(output.dtype))[0].astype(jnp.float32)


def _ruled(after, rule):
    if isinstance(after, Relu):
        return _RuledRelu(rule)
    if isinstance(after, LocalResponseNorm) and rule == "deconvnet":
        return _PassedThrough(**dataclasses.asdict(after))
    return after


@dataclasses.dataclass(frozen=True)
class _RuledRelu(Relu):
    rule: str

    def __call__(self, x, keys=None):
        return _relu(x, self.rule)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _relu(x, rule):
    return jax.nn.relu(x)


def _relu_backward(rule, y, signal):
    if rule != "gradient":
        signal = jnp.maximum(signal, 0)
    return (signal if rule == "deconvnet" else jnp.where(y > 0, signal, 0),)


_relu.defvjp(lambda x, rule: (jax.nn.relu(x),) * 2, _relu_backward)


@dataclasses.dataclass(frozen=True)
class _PassedThrough(LocalResponseNorm):
    def __call__(self, x, keys=None):
        return lax.stop_gradient(super().__call__(x)) + (x - lax.stop_gradient(x))
