"""Study: one paper, from a config to the networks that it wants and from results to its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from transfer_jax.grid.cell import Entry
from transfer_jax.grid.store import Store
from transfer_jax.report import Claim, Results, Section
from transfer_jax.studies.settings import Opener


@dataclasses.dataclass(frozen=True)
class Study:
    """One paper.

    Attributes:
      name: of the study and its config file.
      title: heading of the report.
      entries: from a config to the cells that it asks for, with the tags that become columns of the
        results: experiment, split, seed, condition ('long' for the control of bases trained twice
        as long) and what else the study needs.
      claims: of the paper, as tests of our own numbers.
      sections: the study's own part of the report; the folder is for files beside the page.
      measure: reads out of trained cells, by `Store.measure`, what the results need beside their
        accuracies; None where there is nothing.
    """

    name: str
    title: str
    entries: Callable[[ConfigDict, Opener], list[Entry]]
    claims: tuple[Claim, ...]
    sections: Callable[[Results, Path], list[Section]]
    measure: Callable[[ConfigDict, Opener, Sequence[Entry], Store], None] | None = None
