"""Claims of a paper, judged by our own numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from transfer_jax.report.effects import ALPHA, Effect, Verdict, paired
from transfer_jax.report.frame import Results

MARGIN = 0.01
"""What counts as an effect worth the name unless a claim says otherwise: one point of accuracy."""

OUTCOMES = ("holds", "fails", "undecided")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim: what it says, the test that decides it, and the paper's own figure for it (''
    where it has none), in points unless it says otherwise."""

    text: str
    test: Callable[[Results], Verdict]
    paper: str = ""


def judge(claims: Sequence[Claim], results: Results) -> pd.DataFrame:
    """Tests claims.

    Returns:
      a row for each claim: number (from 1), claim, paper, condition (the effect that decided),
      verdict, effect, low, high (fractions), rule, units, p, holm (p after Holm's correction over
      all claims that have one), note. The conditions of a claim that has several follow in rows
      without holm.
    """
    rows = []
    for number, claim in enumerate(claims, start=1):
        verdict, nothing = claim.test(results), {"number": number, "claim": "", "paper": ""}
        rows.append({**nothing, "claim": claim.text, "paper": claim.paper, **_row(verdict)})
        rows += [{**nothing, **_row(part)} for part in verdict.parts]
    frame = pd.DataFrame(rows)
    whole = frame["claim"] != ""
    frame.insert(frame.columns.get_loc("p") + 1, "holm", holm(frame["p"].where(whole)))
    return frame


def holm(p: pd.Series) -> pd.Series:
    """p-values so raised that all those below 0.05 may be believed at once (Holm 1979); NaN are no
    tests and stay."""
    ranked = p.dropna().sort_values()
    raised = ranked * np.arange(len(ranked), 0, -1)
    return raised.cummax().clip(upper=1.0).reindex(p.index)


def wrong_by_chance(judged: pd.DataFrame) -> float:
    """How many wrong verdicts to expect at most: each interval misses on either side of the truth
    with 2.5 %."""
    return ALPHA / 2 * int((judged["claim"].ne("") & judged["p"].notna()).sum())


def converged(results: Results) -> Verdict:
    """Whether bases have learned what there is to learn: those trained twice as long (rows whose
    `condition` is 'long') gain less than `MARGIN`."""
    bases = results.select(treatment="base")
    if "condition" not in bases:
        return Effect().below(MARGIN)
    long = bases["condition"] == "long"
    names = ("experiment", "split", "seed", "target", "task", "network")
    on = [name for name in names if name in bases and bases[name].notna().all()]
    cluster = [name for name in ("split", "seed") if name in on]
    return paired(results, bases[long], bases[~long], on, cluster).below(MARGIN)


def _row(verdict: Verdict) -> dict:
    effect, known = verdict.effect, verdict.effect.units > 1
    return {
        "condition": verdict.name,
        "verdict": verdict.outcome,
        "effect": effect.mean,
        "low": effect.low if known else math.nan,
        "high": effect.high if known else math.nan,
        "rule": verdict.rule,
        "units": effect.units,
        "p": verdict.p,
        "note": verdict.note,
    }
