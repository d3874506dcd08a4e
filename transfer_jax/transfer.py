"""Splicing, freezing and the treatment notation: pure functions over parameter trees.

Yosinski et al. 2014, sections 2 and 4: the first n layers of a network trained on task A become the
first n layers of a network for task B, and stand still (`A3B`) or learn on (`A3B+`), all of them or
all but the lowest (`A3B+1`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import optax

from transfer_jax.networks import Network, Params

RANDOM = "R"
_EXAMPLE = (
    "expected a base such as 'baseA', or a cell such as 'B3B', 'A3B', 'A3B+', 'A3B+1' or 'R3B'"
)


def lower_layers(network: Network, n: int) -> tuple[str, ...]:
    """Names of the n lowest weight layers, n less than there are: with all of them copied and
    frozen nothing would be left to train."""
    largest = len(network.layers) - 1
    if n not in range(largest + 1):
        raise ValueError(f"n={n!r} lower layers of {network.name}: expected one of 0..{largest}")
    return network.layer_names[:n]


def splice(source: Params, target: Params, layers: Iterable[str]) -> dict:
    """New params with `layers` from `source` and every other layer from `target`.

    Neither input changes and no array is copied; the order is that of `target`. ValueError where a
    layer is missing on either side, or differs in its entries, shapes or types.

    Example:
      >>> from transfer_jax.networks import alexnet_mini
      >>> net = alexnet_mini(num_classes=10)
      >>> a, b = net.init(jax.random.key(0)), net.init(jax.random.key(1))
      >>> mixed = splice(a, b, ('conv1', 'conv2'))
      >>> [mixed[name]['kernel'] is a[name]['kernel'] for name in ('conv1', 'conv2', 'fc8')]
      [True, True, False]
    """
    taken = set(layers)
    for name in sorted(taken):
        if name not in source or name not in target:
            side, params = ("source", source) if name not in source else ("target", target)
            raise ValueError(f"cannot splice layer {name!r}: {side} has the layers {tuple(params)}")
        there, here = (
            {entry: f"{a.dtype}{list(a.shape)}" for entry, a in sorted(params[name].items())}
            for params in (source, target)
        )
        if there != here:
            raise ValueError(
                f"cannot splice layer {name!r}: source has {there}, target {here}; build both "
                "networks with the same widths, input size and classes, or leave it out"
            )
    return {name: dict((source if name in taken else target)[name]) for name in target}


def freeze(
    tx: optax.GradientTransformation, frozen_layers: Iterable[str]
) -> optax.GradientTransformationExtraArgs:
    """An optimiser under which the named layers, keys of params, stand still, bit for bit.

    The others are handed to `tx` alone: frozen layers have no optimiser state, no momentum and no
    weight decay, and under jit their unused gradients are never computed. Their update is -0.0, the
    one number that leaves every float as it is under addition. A frozen layer that is not in params
    is a ValueError of its `init`.

    Example:
      >>> params = {'conv1': {'kernel': jnp.ones(3)}, 'fc8': {'kernel': jnp.ones(3)}}
      >>> tx = freeze(optax.sgd(0.1), ('conv1',))
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> moved = optax.apply_updates(params, updates)
      >>> float(moved['conv1']['kernel'][0]), round(float(moved['fc8']['kernel'][0]), 3)
      (1.0, 0.9)
    """
    frozen = set(frozen_layers)
    hold = optax.stateless(
        lambda updates, _: jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates)
    )

    def labels(params):
        if unknown := sorted(frozen - set(params)):
            raise ValueError(f"cannot freeze {unknown}: the layers of params are {tuple(params)}")
        return {
            name: jax.tree.map(lambda _, n=name: "hold" if n in frozen else "learn", layer)
            for name, layer in params.items()
        }

    return optax.partition({"learn": tx, "hold": hold}, labels)


@dataclasses.dataclass(frozen=True)
class Treatment:
    """Where the layers of one network come from, and which of them stand still.

    Attributes:
      target: letter of the task that the network is trained on.
      source: letter of the task whose base gives the lower layers, 'R' for random weights, or None
        for a base, all of whose layers are drawn and learn.
      n: how many lower layers are copied, or left at random.
      fine_tuned: copied layers learn as well, the paper's '+'.
      held: how many of the lowest fine-tuned layers stand still all the same; Girshick 2015
        (section 4.5) holds conv1.
    """

    target: str
    source: str | None = None
    n: int = 0
    fine_tuned: bool = False
    held: int = 0

    def __post_init__(self):
        if (self.source is None) != (self.n == 0) or self.n < 0:
            raise ValueError(f"treatment {self}: n={self.n} copied layers; {_EXAMPLE}")
        if self.fine_tuned and self.source in (None, RANDOM):
            raise ValueError(f"treatment {self}: nothing is copied that could learn; {_EXAMPLE}")
        if not 0 <= self.held < (self.n if self.fine_tuned else 1):
            raise ValueError(f"treatment {self}: {self.held} layers held; {_EXAMPLE}")

    @classmethod
    def parse(cls, text: str) -> Treatment:
        """Reads the paper's notation, which `str` gives back; for all else ValueError says it.

        Example:
          >>> Treatment.parse('A3B+')
          Treatment(target='B', source='A', n=3, fine_tuned=True, held=0)
        """
        if base := re.fullmatch(r"base([A-QS-Z])", str(text)):
            return cls(base[1])
        pattern = r"([A-Z])([1-9][0-9]*)([A-QS-Z])(?:(\+)([1-9][0-9]*)?)?"
        cell = re.fullmatch(pattern, str(text), re.ASCII)
        if not cell:
            raise ValueError(f"treatment {text!r}: {_EXAMPLE}")
        return cls(cell[3], cell[1], int(cell[2]), bool(cell[4]), int(cell[5] or 0))

    def __str__(self) -> str:
        if self.source is None:
            return f"base{self.target}"
        plus = "+" * self.fine_tuned + str(self.held or "")
        return f"{self.source}{self.n}{self.target}{plus}"

    @property
    def kind(self) -> str:
        """One of base, selffer_frozen, selffer_finetuned, transfer_frozen, transfer_finetuned,
        random_frozen: the column `treatment` of results.csv."""
        if self.source is None:
            return "base"
        origin = {self.target: "selffer", RANDOM: "random"}.get(self.source, "transfer")
        return f"{origin}_{'finetuned' if self.fine_tuned else 'frozen'}"

    @property
    def copies(self) -> bool:
        """Whether a trained base gives layers."""
        return self.source not in (None, RANDOM)

    def init_params(
        self, network: Network, key: jax.Array, base: Params | None = None, scheme: str = "own"
    ) -> dict:
        """Params before the first step: a fresh draw by `scheme` (see `Network.init`), its lower n
        layers from `base`. That are trained params, or for random weights another draw, so that
        networks of several n freeze the same one; a base network takes none."""
        fresh = network.init(key, scheme)
        if base is None:
            if self.copies:
                raise ValueError(
                    f"treatment {self} copies from a base of task {self.source}: base=None"
                )
            return fresh
        return splice(base, fresh, lower_layers(network, self.n))

    def frozen_layers(self, network: Network) -> tuple[str, ...]:
        """Names of the layers that stand still: the lower n, of '+' cells those that are held."""
        return lower_layers(network, self.held if self.fine_tuned else self.n)
