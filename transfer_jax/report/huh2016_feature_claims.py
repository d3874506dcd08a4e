"""Question 3 of Huh et al. 2016: what coarse labels teach of fine classes, and the reverse."""

from __future__ import annotations

import dataclasses
import math
import statistics

from transfer_jax.report import huh2016_numbers as numbers
from transfer_jax.report.claims import ABSENT, Claim
from transfer_jax.report.huh2016_files import ALL, Analysis, Neighbours
from transfer_jax.report.huh2016_numbers import Share
from transfer_jax.report.statistics import Estimate, binomial_error, percent

NOISY = " Too noisy to tell, or one seed only."


def neighbour_lines(analysis: Analysis) -> dict[str, list[Neighbours]]:
    """Condition -> its lines of neighbours.csv, from the finest to the coarsest task."""
    found: dict[str, list[Neighbours]] = {}
    for line in sorted(analysis.neighbours, key=lambda n: -n.num_classes):
        found.setdefault(line.condition, []).append(line)
    return found


def coarse_tell_fine_apart(analysis: Analysis, number: int) -> Claim:
    """Nearest neighbours over the fine classes on features that learned coarse ones."""
    claim = (
        "Networks trained on coarse classes tell the fine ones apart: coarse labels induce them."
    )
    rule = (
        "Whoever knows only which of k coarse classes an image belongs to, and guesses within it, "
        "is right k times out of as many as there are fine classes. Reproduced if the top-1 of "
        "nearest neighbours exceeds that by more than 2 standard errors. Tested where the fewest "
        "classes are left that are still an eighth of all, and at most half. All seeds are "
        "measured on the same queries, so the binomial error does not shrink with their number."
    )
    lines = neighbour_lines(analysis)
    sizes = {name: found[0].num_classes for name, found in lines.items()}
    fine_classes = analysis.neighbours[0].fine_classes if analysis.neighbours else 0
    chosen = numbers.fewer(sizes, fine_classes)
    if chosen is None:
        return Claim(number, claim, ABSENT, rule, "not tested")
    top1 = _over_same_queries(lines[chosen])
    guess = sizes[chosen] / fine_classes
    excess = dataclasses.replace(top1, value=top1.value - guess)
    verdict = numbers.verdict_of_gain(excess, top1.value)
    finding = (
        f"{chosen}: top-1 {percent(top1.value)} %, against {percent(guess)} % by such guessing "
        f"({excess} points) and {percent(1 / fine_classes)} % by chance; top-5 "
        f"{percent(statistics.fmean(n.top5 for n in lines[chosen]))} % (chance "
        f"{percent(min(1.0, 5 / fine_classes))} %)."
    )
    fine = lines.get(ALL, [])
    if fine:
        finding += (
            f" Trained on all {fine_classes} classes: top-1 "
            f"{percent(statistics.fmean(n.top1 for n in fine))} %, top-5 "
            f"{percent(statistics.fmean(n.top5 for n in fine))} %."
        )
    return Claim(number, claim, finding + NOISY * (verdict == "not tested"), rule, verdict)


def _over_same_queries(lines: list[Neighbours]) -> Estimate:
    found = numbers.contrast([(1, {n.seed: Share(n.top1, None) for n in lines})])
    noise = binomial_error(found.value, lines[0].queries)
    return dataclasses.replace(found, error=max(noise, found.error or 0.0))


def siblings_together(analysis: Analysis, number: int) -> Claim:
    """Whether siblings are neighbours in features that learned the fine classes."""
    claim = "The reverse: in features trained on the fine classes, siblings become neighbours."
    rule = (
        "The share of classes whose nearest other class has the same parent, less what chance "
        "gives, by level of the hierarchy. Reproduced if it is a gain beyond 2 standard errors "
        "averaged over levels, and at no level a drop. The error is the larger of two: between "
        "seeds, and binomial, each class that surely has a sibling one trial (C classes under k "
        "parents: at least C - k + 1), whatever the number of seeds and levels."
    )
    found = sibling_excess(analysis)
    if not found:
        return Claim(number, claim, ABSENT, rule, "not tested")
    errors = [estimate.error for estimate in found.values() if estimate.error is not None]
    overall = numbers.contrast([(1 / len(found), series) for series in _excesses(analysis)])
    if overall is None:
        return Claim(number, claim, ABSENT, rule, "not tested")
    # Levels look at the same classes: their mean is no less noisy than one of them.
    if errors:
        noise = max(statistics.fmean(errors), overall.error or 0.0)
        overall = dataclasses.replace(overall, error=noise)
    lines = [n for n in analysis.siblings if n.condition == ALL and n.share is not None]
    verdict = numbers.verdict_of_gain(overall, statistics.fmean(n.share for n in lines))
    if verdict == "reproduced" and any(estimate.is_drop for estimate in found.values()):
        verdict = "not reproduced"
    levels = ", ".join(f"{level} {estimate}" for level, estimate in found.items())
    finding = f"Above chance by {overall} points on average; by level: {levels}."
    return Claim(number, claim, finding + NOISY * (verdict == "not tested"), rule, verdict)


def sibling_excess(analysis: Analysis, condition: str = ALL) -> dict[str, Estimate]:
    """Level -> how far the share of siblings exceeds chance, in a condition's features."""
    fine = max((n.fine_classes for n in analysis.neighbours), default=0)
    parents = {n.level: n.level_classes for n in analysis.siblings}
    found = {}
    for level, series in _by_level(analysis, condition).items():
        excess = numbers.contrast([(1, {s: Share(a - b, None) for s, (a, b) in series.items()})])
        share, chance = (statistics.fmean(pair[i] for pair in series.values()) for i in (0, 1))
        classes = fine - parents[level] + 1
        if classes > 1:
            # At a share of 0 or 1 the binomial error vanishes; that at chance does not.
            noise = max(binomial_error(p, classes) for p in (share, chance))
            excess = dataclasses.replace(excess, error=max(noise, excess.error or 0.0))
        found[level] = excess
    return found


def _by_level(analysis: Analysis, condition: str) -> dict[str, dict[int, tuple[float, float]]]:
    """Level -> seed -> (share, chance)."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for n in analysis.siblings:
        if n.condition == condition and n.share is not None and n.chance is not None:
            if math.isfinite(n.share) and n.chance < 1:
                found.setdefault(n.level, {})[n.seed] = (n.share, n.chance)
    return found


def _excesses(analysis: Analysis) -> list[dict[int, Share]]:
    levels = _by_level(analysis, ALL).values()
    return [{seed: Share(a - b, None) for seed, (a, b) in series.items()} for series in levels]
