"""Splicing: a new parameter tree that takes some layers from one network and the rest from another.

Yosinski et al. 2014, section 2: the first n layers of a network trained on task A become the first
n layers of a network for task B.
"""

from __future__ import annotations

from collections.abc import Iterable

from transfer_jax.networks import Network, Params


def lower_layers(network: Network, n: int) -> tuple[str, ...]:
    """Names of the n lowest weight layers of a network.

    Args:
      network: any Network.
      n: from 0 (none) to the number of layers less one: with every layer copied or frozen nothing
        would be left to train.

    Raises:
      ValueError: when n is outside that range.
    """
    largest = len(network.layers) - 1
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= largest:
        raise ValueError(f"n={n!r} lower layers of {network.name}: expected one of 0..{largest}")
    return network.layer_names[:n]


def splice(source: Params, target: Params, layers: Iterable[str]) -> dict:
    """New params that hold `layers` from `source` and every other layer from `target`.

    Neither input changes, and the result shares their leaves: no array is copied.

    Args:
      source: params that the named layers come from, `{'conv1': {'kernel', 'bias'}, ...}`.
      target: params that decide which layers there are, their order, shapes and types.
      layers: names of the layers to take from source, in any order.

    Returns:
      params with the layers of target, in target's order.

    Raises:
      TypeError: when layers is one string instead of several names.
      ValueError: when a layer is unknown, missing on either side, or differs in its entries, shapes
        or types; the message names the layer and both shapes.

    Example:
      >>> import jax
      >>> from transfer_jax.networks import alexnet_mini
      >>> net = alexnet_mini(num_classes=10)
      >>> a, b = net.init(jax.random.key(0)), net.init(jax.random.key(1))
      >>> mixed = splice(a, b, ('conv1', 'conv2'))
      >>> mixed['conv2']['kernel'] is a['conv2']['kernel'], mixed['fc8'] is b['fc8']
      (True, False)
      >>> mixed['fc8']['kernel'] is b['fc8']['kernel']
      True
    """
    if isinstance(layers, str):
        raise TypeError(f"layers={layers!r} is one string; expected names, such as ({layers!r},)")
    names = tuple(layers)
    for name in names:
        for side, params in (("source", source), ("target", target)):
            if name not in params:
                raise ValueError(
                    f"cannot splice layer {name!r}: {side} has no such layer; its layers are "
                    f"{tuple(params)}. Name layers that both networks have."
                )
        _check_layer(name, source[name], target[name])
    taken = set(names)
    return {name: dict((source if name in taken else target)[name]) for name in target}


def _check_layer(name: str, source, target) -> None:
    if set(source) != set(target):
        raise ValueError(
            f"cannot splice layer {name!r}: source holds {sorted(source)}, target {sorted(target)}"
        )
    # The kernel first: its shape says more than the bias.
    for entry in sorted(target, key=lambda entry: -target[entry].ndim):
        there, here = source[entry], target[entry]
        if there.shape != here.shape:
            raise ValueError(
                f"cannot splice layer {name!r}: {entry} has shape {tuple(there.shape)} in source "
                f"and {tuple(here.shape)} in target. Build both networks with the same widths, "
                f"input size and classes, or leave {name!r} out of `layers`."
            )
        if there.dtype != here.dtype:
            raise ValueError(
                f"cannot splice layer {name!r}: {entry} of shape {tuple(there.shape)} is "
                f"{there.dtype} in source and {here.dtype} in target (shape "
                f"{tuple(here.shape)}); convert one side with .astype first."
            )
