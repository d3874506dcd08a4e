"""What a paper claims, and what our own numbers say to it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Literal

from transfer_jax.report import tables

Verdict = Literal["reproduced", "not reproduced", "not tested"]

ABSENT = "The networks that this needs are not in the store."
"""The finding of a claim that cannot be tested for want of networks."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of a paper, tested.

    Attributes:
      number: its place in the list.
      claim: what the paper says, in a few words.
      finding: our figures, in a sentence.
      rule: what decides, in words.
      verdict: 'reproduced', 'not reproduced', or 'not tested' where networks are missing or
        the noise is too large to tell.
    """

    number: int
    claim: str
    finding: str
    rule: str
    verdict: Verdict

    def __post_init__(self):
        if self.verdict not in ("reproduced", "not reproduced", "not tested"):
            raise ValueError(f"unknown verdict {self.verdict!r} of claim {self.number}")


def decide(holds: bool) -> Verdict:
    """The verdict of a rule that could be applied."""
    return "reproduced" if holds else "not reproduced"


def decide_all(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on what must hold everywhere, from those on each part, of which there is one
    or more: not reproduced if one is not, else not tested if one is not, else reproduced."""
    order = ("not reproduced", "not tested", "reproduced")
    return min(verdicts, key=order.index)


def write_claims(path: str | os.PathLike[str], claims: Iterable[Claim]) -> None:
    """Writes claims.csv: number, claim, finding, rule, verdict."""
    header = [field.name for field in dataclasses.fields(Claim)]
    tables.write_csv(path, header, [dataclasses.astuple(claim) for claim in claims])
