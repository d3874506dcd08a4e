"""Treatments: the paper's notation for where each layer's weights come from and which stand still.

`baseA` trains every layer on task A. `A3B` copies the three lowest layers of baseA, freezes them
and trains the rest on task B; `A3B+` lets them learn too. `B3B` and `B3B+` copy from the base of
the same task (selffer). `R3B` freezes three layers at their random initial values. (Yosinski et al.
2014, sections 2 and 4.)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

import jax

from transfer_jax.networks import Network, Params
from transfer_jax.transfer.splice import lower_layers, splice

TASKS = ("A", "B", "W")
"""Task letters: the two halves, and W for the whole dataset."""

RANDOM = "R"
LARGEST_N = 7
_EXAMPLE = "expected a base such as 'baseA', or a cell such as 'B3B', 'A3B', 'A3B+' or 'R3B'"


@dataclasses.dataclass(frozen=True)
class Treatment:
    """Where the layers of one network come from, and which of them are frozen.

    Attributes:
      target: letter of the task that the network is trained on.
      source: letter of the task whose base gives the lower layers, 'R' for random weights, or None
        for a base.
      n: how many lower layers are copied (or left at random); 0 for a base.
      fine_tuned: True when copied layers learn as well, the paper's '+'.
    """

    target: str
    source: str | None = None
    n: int = 0
    fine_tuned: bool = False

    def __post_init__(self):
        base = self.source is None
        if base and (self.n != 0 or self.fine_tuned):
            raise ValueError(f"a base copies nothing, found n={self.n}; {_EXAMPLE}")
        if not base and (isinstance(self.n, bool) or self.n not in range(1, LARGEST_N + 1)):
            raise ValueError(
                f"n={self.n!r} in treatment {self}: n is the number of lower layers, 1..{LARGEST_N}"
                f"; with 8 nothing would be left to train; {_EXAMPLE}"
            )
        if self.source == RANDOM and self.fine_tuned:
            raise ValueError(
                f"treatment {self}: random weights that learn are a base; write 'base{self.target}'"
            )

    @classmethod
    def parse(cls, text: str, tasks: Collection[str] = TASKS) -> Treatment:
        """Reads the paper's notation; `str` of the result gives the same text back.

        Args:
          text: 'baseA', 'B3B', 'A3B', 'A3B+', 'R3B', ...
          tasks: legal task letters.

        Raises:
          ValueError: for a malformed text, an unknown task or n outside 1..7, with an example of
            what is legal.

        Example:
          >>> Treatment.parse('A3B+')
          Treatment(target='B', source='A', n=3, fine_tuned=True)
          >>> str(Treatment.parse('A3B+'))
          'A3B+'
        """
        if not isinstance(text, str):
            raise ValueError(f"treatment {text!r} is not a string; {_EXAMPLE}")
        if base := re.fullmatch(r"base([A-Z])", text):
            source, n, target, plus = None, "0", base[1], ""
        elif cell := re.fullmatch(r"([A-Z])(0|[1-9][0-9]*)([A-Z])(\+?)", text, re.ASCII):
            source, n, target, plus = cell.groups()
        else:
            raise ValueError(f"treatment {text!r} is malformed; {_EXAMPLE}")
        for letter in {target, source} - {None, RANDOM}:
            if letter not in tasks:
                raise ValueError(
                    f"treatment {text!r}: unknown task {letter!r}, known are {tuple(tasks)}; "
                    f"{_EXAMPLE}"
                )
        if target == RANDOM:
            raise ValueError(
                f"treatment {text!r}: 'R' stands for random weights, not a task to train on; "
                f"{_EXAMPLE}"
            )
        return cls(target, source, int(n), bool(plus))

    def __str__(self) -> str:
        if self.source is None:
            return f"base{self.target}"
        return f"{self.source}{self.n}{self.target}{'+' if self.fine_tuned else ''}"

    @property
    def kind(self) -> str:
        """One of base, selffer_frozen, selffer_finetuned, transfer_frozen, transfer_finetuned,
        random_frozen: the column `treatment` of results.csv."""
        if self.source is None:
            return "base"
        origin = {self.target: "selffer", RANDOM: "random"}.get(self.source, "transfer")
        return f"{origin}_{'finetuned' if self.fine_tuned else 'frozen'}"

    @property
    def base(self) -> Treatment | None:
        """The base whose weights are copied, or None for bases and random weights."""
        return None if self.source in (None, RANDOM) else Treatment(self.source)

    def initial_params(
        self, network: Network, key: jax.Array, base_params: Params | None = None
    ) -> dict:
        """Parameters before the first step: a fresh draw, its lower n layers from the base.

        Args:
          network: the network to train.
          key: JAX PRNG key of the fresh draw.
          base_params: trained params of `self.base`; a base needs none. For random weights:
            another draw that the frozen layers come from, so that networks of several n freeze the
            same ones, or None.

        Raises:
          ValueError: when base_params are needed and missing, or do not fit (see `splice`).
        """
        fresh = network.init(key)
        if self.source is None or (self.source == RANDOM and base_params is None):
            return fresh
        if base_params is None:
            raise ValueError(f"treatment {self} copies from {self.base}: base_params is missing")
        return splice(base_params, fresh, lower_layers(network, self.n))

    def frozen_layers(self, network: Network) -> tuple[str, ...]:
        """Names of the layers that stand still: the lower n, or none for bases and '+' cells."""
        return () if self.fine_tuned else lower_layers(network, self.n)
