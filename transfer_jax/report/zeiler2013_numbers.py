"""Differences between the numbers of Zeiler & Fergus 2013's study, with what their noise is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from transfer_jax.report.claims import Verdict, decide
from transfer_jax.report.statistics import Estimate, binomial_error
from transfer_jax.report.zeiler2013_files import Analysis, by_depth
from transfer_jax.report.zeiler2013_lines import (
    EnsembleErrors,
    NetworkErrors,
    Occluded,
    Transferred,
)

NOISE_RULE = (
    "A difference counts only where it exceeds 2 standard errors. Between networks tested on the "
    "same validation images, the standard error is binomial, each network counted as independent "
    "(which rather overstates it), and never less than what the spread between seeds gives, "
    "where a base was trained from several. Between readouts on folds it is the larger of two: "
    "the standard deviation of the folds' differences over the root of their number, and the "
    "binomial one of the test images. A difference within the noise leaves a claim not tested "
    "where 2 standard errors exceed the effect that the paper itself reports (or where it "
    "reports none), and not reproduced where they do not."
)

Folds = Mapping[int, Transferred]
"""Fold -> its line of transfer.csv, for one target, readout, layer and size."""


def seed_spread(analysis: Analysis) -> float | None:
    """Standard deviation of the top-1 error between seeds, pooled over architectures; None where
    no base was trained from two seeds."""
    groups = [[n.val_top1_error for n in analysis.seeds(a)] for a in ("zfnet", "alexnet")]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return None
    squares = sum((len(group) - 1) * statistics.variance(group) for group in groups)
    return math.sqrt(squares / sum(len(group) - 1 for group in groups))


def error_contrast(
    terms: Iterable[tuple[float, NetworkErrors | EnsembleErrors]], spread: float | None = None
) -> Estimate:
    """A weighted sum of top-1 errors with its standard error, see `NOISE_RULE`.

    Args:
      terms: (coefficient, network) pairs, each network once.
      spread: standard deviation between seeds of one network, where known.
    """
    terms = list(terms)
    value = sum(c * n.val_top1_error for c, n in terms)
    noise = math.hypot(*(c * binomial_error(n.val_top1_error, n.num_val) for c, n in terms))
    if spread is not None:
        noise = max(noise, spread * math.hypot(*(c for c, _ in terms)))
    return Estimate(value, noise, 1, len(terms))


def ensemble_gain(analysis: Analysis, ensemble: EnsembleErrors) -> Estimate | None:
    """Mean top-1 error of the single networks (`zfnet` from all seeds) minus an ensemble's.

    The single networks see the same images, so that their mean is as noisy as one of them.
    """
    singles = analysis.seeds(ensemble.name.split(" ")[0])
    if not singles:
        return None
    single = statistics.fmean(n.val_top1_error for n in singles)
    noise = math.hypot(
        binomial_error(single, singles[0].num_val),
        binomial_error(ensemble.val_top1_error, ensemble.num_val),
    )
    return Estimate(single - ensemble.val_top1_error, noise, 1, len(singles) + 1)


def folds(
    lines: Iterable[Transferred],
    target: str,
    readout: str,
    layer: str | None = None,
    train_per_class: int | None = None,
) -> dict[int, Transferred]:
    """The folds of one readout; of any layer or size where those are None."""
    return {
        line.fold: line
        for line in lines
        if line.target == target and line.readout == readout
        if layer is None or line.layer == layer
        if train_per_class is None or line.train_per_class == train_per_class
    }


def targets(lines: Iterable[Transferred]) -> list[str]:
    """Targets in file order."""
    return list(dict.fromkeys(line.target for line in lines))


def last_hidden(lines: Iterable[Transferred], target: str) -> str | None:
    """The highest layer with a softmax on top: where the whole network but fc8 is transferred."""
    found = [n.layer for n in lines if n.target == target and n.readout == "softmax"]
    return by_depth(found)[-1] if found else None


def sizes(lines: Iterable[Transferred], target: str, readout: str) -> list[int]:
    """Training images per class that a readout was run with, on the last hidden layer."""
    lines = tuple(lines)
    layer = last_hidden(lines, target) if readout == "softmax" else None
    found = (n for n in lines if n.target == target and n.readout == readout)
    return sorted({n.train_per_class for n in found if layer is None or n.layer == layer})


def pretrained(lines: Iterable[Transferred], target: str, train_per_class: int) -> Folds:
    """Softmax on the last hidden layer."""
    lines = tuple(lines)
    return folds(lines, target, "softmax", last_hidden(lines, target), train_per_class)


def fold_difference(plus: Folds, minus: Folds) -> Estimate | None:
    """Mean difference over the folds that both have; see `NOISE_RULE`. None where there is none."""
    shared = sorted(set(plus) & set(minus))
    if not shared:
        return None
    differences = [plus[f].accuracy - minus[f].accuracy for f in shared]
    errors = [
        math.hypot(
            *(binomial_error(n.accuracy, n.num_test) for f in shared for n in (plus[f], minus[f]))
        )
        / len(shared)
    ]
    if len(shared) > 1:
        errors.append(statistics.stdev(differences) / math.sqrt(len(shared)))
    return Estimate(statistics.fmean(differences), max(errors), len(shared), 2 * len(shared))


def average(estimates: Sequence[Estimate], *, shared: bool = False) -> Estimate:
    """Mean of estimates: of independent ones, or of ones that share what makes their noise."""
    count = len(estimates)
    errors = [e.error for e in estimates]
    return Estimate(
        statistics.fmean(e.value for e in estimates),
        (sum(errors) if shared else math.hypot(*errors)) / count,
        sum(e.units for e in estimates),
        sum(e.networks for e in estimates),
    )


def verdict_of_gain(gain: Estimate, effect: float | None) -> Verdict:
    """The verdict on a claimed gain.

    Args:
      gain: ours, with its noise.
      effect: the paper's own gain as a fraction; None where it prints none.
    """
    if gain.is_gain:
        return "reproduced"
    within = not gain.is_drop
    return "not tested" if within and (effect is None or gain.threshold > effect) else decide(False)


def verdict_of_excess(excess: Estimate) -> Verdict:
    """The verdict on a claim that something is larger, of which the paper gives no size: not
    reproduced where it is not larger, not tested where it is within the noise."""
    within = 0 < excess.value <= excess.threshold
    return "not tested" if within else decide(excess.is_gain)


def verdict_of_bound(cost: Estimate, bound: float) -> Verdict:
    """The verdict on a claim that a cost stays below a bound: both sides by 2 standard errors."""
    if abs(cost.value - bound) <= cost.threshold:
        return "not tested"
    return decide(cost.value < bound)


def inside_box(lines: Iterable[Occluded]) -> tuple[float, float, float, int] | None:
    """How often the worst place of the square lies in the object's box.

    Returns:
      (share, chance, standard error, images): chance is the mean share of places in the box; the
      error is binomial, the larger of the one at the share and the one at chance. None where no
      image has a box.
    """
    lines = [n for n in lines if n.inside is not None and n.box_share is not None]
    if not lines:
        return None
    count = len(lines)
    share = sum(n.inside for n in lines) / count
    chance = statistics.fmean(n.box_share for n in lines)
    by_chance = math.sqrt(sum(n.box_share * (1 - n.box_share) for n in lines)) / count
    return share, chance, max(binomial_error(share, count), by_chance), count
