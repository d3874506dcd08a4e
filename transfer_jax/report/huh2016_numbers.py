"""Differences between the conditions of Huh et al. 2016, paired by seed, with their noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from transfer_jax.report.claims import Verdict, decide
from transfer_jax.report.huh2016_files import ALL, MEASURES, SCRATCH, Analysis, Pretrained
from transfer_jax.report.statistics import Estimate

LITTLE = 0.05
"""A cost or a gain below this share of the accuracy is little."""

SLIGHT = 0.01
"""Likewise where a claim is about a slight gain."""

NOISE_RULE = (
    "A difference counts only where it exceeds 2 standard errors. Conditions are compared within "
    "one seed (for transfer: on the same draw of the target's images); differences are averaged "
    "over targets, then over seeds. The standard error is the larger of two: the standard "
    "deviation of the seeds' differences over the root of their number, and the one that the "
    "finite numbers of test images leave (binomial, each network counted as independent; as those "
    "of one seed are tested on the same images, this rather overstates it). "
    "A claim is not tested where its files or all seeds but one are missing. A difference within "
    "the noise counts as none where, 2 standard errors added to it, it stays below "
    f"{LITTLE:.0%} of the accuracy ({SLIGHT:.0%} where the claim is of a slight gain); otherwise "
    "the claim is not tested: too noisy to tell. Transfer means accuracy after fine-tuning, or "
    "with the linear SVM on frozen features where nothing was fine-tuned."
)


class Share(NamedTuple):
    """A share that was counted over `count` trials; None where their number is not known."""

    value: float
    count: int | None


Series = Mapping[int, Share]
"""Seed -> what was measured with it."""


def pretraining(analysis: Analysis, condition: str) -> dict[int, Share]:
    """Accuracy of a condition's networks on their own task."""
    return {
        line.seed: Share(line.pretrain_top1, analysis.num_eval.get(line.hash))
        for line in analysis.conditions
        if line.condition == condition and line.pretrain_top1 is not None
    }


def transfer(analysis: Analysis, condition: str, target: str, measure: str) -> dict[int, Share]:
    """Accuracy of a condition's networks on a target."""
    return {
        line.seed: Share(line.accuracy, line.num_test)
        for line in analysis.transfer
        if (line.condition, line.target, line.measure) == (condition, target, measure)
    }


def contrast(terms: Iterable[tuple[float, Series]]) -> Estimate | None:
    """A weighted sum of shares, averaged over the seeds that all of them have.

    Args:
      terms: (coefficient, shares by seed) pairs; those of a difference add up to 0.

    Returns:
      The mean with its standard error, see `NOISE_RULE`, seeds as its units; None where there is
      no such seed.

    Example:
      >>> a = {0: Share(0.60, None), 1: Share(0.62, None)}
      >>> b = {0: Share(0.50, None), 1: Share(0.54, None)}
      >>> str(contrast(((1, a), (-1, b))))
      '+9.0 ± 1.0'
    """
    terms = [(c, series) for c, series in terms if c]
    seeds = sorted(set.intersection(*(set(series) for _, series in terms))) if terms else []
    if not seeds:
        return None
    values = [sum(c * series[seed].value for c, series in terms) for seed in seeds]
    errors = []
    if len(seeds) > 1:
        errors.append(statistics.stdev(values) / math.sqrt(len(seeds)))
    used = [(c, series[seed]) for c, series in terms for seed in seeds]
    if all(share.count for _, share in used):
        variance = sum(c**2 * p * (1 - p) / count for c, (p, count) in used)
        errors.append(math.sqrt(variance) / len(seeds))
    mean = statistics.fmean(values)
    return Estimate(mean, max(errors, default=None), len(seeds), len(used))


def transfer_terms(
    analysis: Analysis,
    weights: Mapping[str, float],
    measure: str,
    targets: Sequence[str] | None = None,
) -> list[tuple[float, Series]]:
    """Terms for `contrast`: a weighted sum of conditions, averaged over targets.

    Args:
      analysis: holds the transfer.
      weights: condition -> coefficient.
      measure: a key of `MEASURES`.
      targets: those to average over; None for all. Targets on which one of the conditions is
        missing from every seed are passed over.
    """
    found = []
    for target in analysis.target_names() if targets is None else targets:
        series = {name: transfer(analysis, name, target, measure) for name in weights}
        if all(series.values()):
            found.append([(weights[name], series[name]) for name in weights])
    return [(c / len(found), series) for terms in found for c, series in terms]


def transfer_contrast(
    analysis: Analysis,
    weights: Mapping[str, float],
    measure: str | None = None,
    targets: Sequence[str] | None = None,
) -> Estimate | None:
    """A weighted sum of conditions' transfer; arguments as `transfer_terms`.

    `measure` None is the first of `MEASURES` that has it.
    """
    for name in MEASURES if measure is None else (measure,):
        found = contrast(transfer_terms(analysis, weights, name, targets))
        if found is not None:
            return found
    return None


def difference(
    analysis: Analysis,
    condition: str,
    reference: str,
    measure: str | None = None,
    targets: Sequence[str] | None = None,
) -> Estimate | None:
    """Transfer from one condition minus that from another; see `transfer_contrast`."""
    return transfer_contrast(analysis, {condition: 1.0, reference: -1.0}, measure, targets)


def pretraining_difference(analysis: Analysis, condition: str, reference: str) -> Estimate | None:
    """Accuracy on the own task: one condition's minus another's."""
    return contrast(((1, pretraining(analysis, condition)), (-1, pretraining(analysis, reference))))


def over_scratch(
    analysis: Analysis, target: str, measure: str, condition: str = ALL
) -> Estimate | None:
    """Transfer from all pretraining data, or another condition, minus the network trained on the
    target alone."""
    scratch = transfer(analysis, SCRATCH, target, "fine_tuned")
    return contrast(((1, transfer(analysis, condition, target, measure)), (-1, scratch)))


def halved(analysis: Analysis) -> tuple[Pretrained, Pretrained] | None:
    """Two conditions of question 1, the second with half the images of the first: the largest
    such pair, half meaning 45 to 55 %; None where there is none."""
    found = sorted(
        (line for line in analysis.question("images").values() if line.value),
        key=lambda line: -line.value,
    )
    for more in found:
        for less in found:
            if 0.45 <= less.value / more.value <= 0.55:
                return more, less
    return None


def fewer(sizes: Mapping[str, int], total: int) -> str | None:
    """The merged task that the claims are tested on: the fewest classes that are still an eighth
    of all (the paper's 127 of 1000), and at most half of them; None where there is none."""
    allowed = {name: n for name, n in sizes.items() if total / 8 <= n <= total / 2}
    return min(allowed, key=allowed.__getitem__, default=None)


def slope_weights(sizes: Mapping[str, float]) -> dict[str, float]:
    """Condition -> its weight in the slope of a least-squares line over log2 of its size.

    Example:
      >>> slope_weights({"few": 8, "many": 16})
      {'few': -1.0, 'many': 1.0}
    """
    logs = {name: math.log2(size) for name, size in sizes.items()}
    middle = statistics.fmean(logs.values())
    squares = sum((x - middle) ** 2 for x in logs.values())
    return {name: (x - middle) / squares for name, x in logs.items()} if squares else {}


def verdict_of_gain(gain: Estimate | None, accuracy: float, least: float = LITTLE) -> Verdict:
    """The verdict on a claimed gain, see `NOISE_RULE`.

    Args:
      gain: ours, with its noise; seeds are its units.
      accuracy: what the gain is a share of.
      least: share of the accuracy that a gain within the noise must surely stay below to be none.
    """
    if gain is None or gain.units < 2:
        return "not tested"
    if gain.is_gain or gain.is_drop:
        return decide(gain.is_gain)
    return "not tested" if gain.value + gain.threshold > least * accuracy else decide(False)


def verdict_of_no_gain(gain: Estimate | None, accuracy: float) -> Verdict:
    """The verdict on a claim that there is no gain: the opposite of `verdict_of_gain`."""
    opposite: dict[Verdict, Verdict] = {
        "reproduced": "not reproduced",
        "not reproduced": "reproduced",
        "not tested": "not tested",
    }
    return opposite[verdict_of_gain(gain, accuracy)]


def verdict_of_little(cost: Estimate | None, accuracy: float) -> Verdict:
    """The verdict on a claim that a cost stays below `LITTLE` of an accuracy, or above: either
    by more than 2 standard errors."""
    if cost is None or cost.units < 2 or abs(cost.value - LITTLE * accuracy) <= cost.threshold:
        return "not tested"
    return decide(cost.value < LITTLE * accuracy)
