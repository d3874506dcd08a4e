"""Freezing: an optax transformation in which whole layers stand still.

A frozen layer of Yosinski et al. 2014 has learning rate 0 *and* weight decay 0. `freeze` hands the
other layers to the given optimiser alone, so that momentum, weight decay and optimiser state do not
exist for the frozen ones; under jit their unused gradients are dead code that is never computed.
"""

from __future__ import annotations

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import optax


def freeze(tx: optax.GradientTransformation, frozen_layers: Iterable[str]):
    """Wraps an optimiser so that the named layers never change.

    A frozen leaf's update is -0.0, the one number that leaves every float as it is under addition
    (0.0 would turn a weight of -0.0 into 0.0), so after `optax.apply_updates` frozen leaves are
    bit-identical after any number of steps. (XLA:CPU flushes subnormal numbers, below 1.2e-38, to
    zero in every addition; the trainer leaves frozen leaves out of all arithmetic.)

    Args:
      tx: the optimiser of the layers that learn. A transformation that looks at all gradients at
        once (a global norm) sees only those of the layers that learn.
      frozen_layers: names of layers, keys of the params tree.

    Returns:
      an optax.GradientTransformation over params `{layer: {'kernel', 'bias'}}`. Its state holds
      arrays for the layers that learn only.

    Raises:
      TypeError: when frozen_layers is one string.
      ValueError: by its `init`, when a frozen layer is not in params.

    Example:
      >>> import jax, optax
      >>> params = {'conv1': {'kernel': jax.numpy.ones(3)}, 'fc8': {'kernel': jax.numpy.ones(3)}}
      >>> tx = freeze(optax.sgd(0.1), ('conv1',))
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> moved = optax.apply_updates(params, updates)
      >>> float(moved['conv1']['kernel'][0]), round(float(moved['fc8']['kernel'][0]), 3)
      (1.0, 0.9)
    """
    if isinstance(frozen_layers, str):
        raise TypeError(f"frozen_layers={frozen_layers!r} is one string; expected several names")
    frozen = frozenset(frozen_layers)

    def labels(params):
        unknown = sorted(frozen - set(params))
        if unknown:
            raise ValueError(f"cannot freeze {unknown}: the layers of params are {tuple(params)}")
        return {
            name: jax.tree.map(lambda _, n=name: "hold" if n in frozen else "learn", layer)
            for name, layer in params.items()
        }

    return optax.partition({"learn": tx, "hold": _hold()}, labels)


def _hold() -> optax.GradientTransformation:
    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
