"""Differences between networks, with what is known of their noise."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from transfer_jax.report.results import Row

MINUS = "\u2212"
EN_DASH = "\u2013"
UNKNOWN_NOISE = 0.01
"""Least difference that counts where no standard error is known: one percentage point."""

NOISE_RULE = (
    "A difference counts as a drop or a gain only where it exceeds 2 standard errors. "
    "The standard error is the larger of two: the one between the splits and targets that "
    "were averaged (where there are at least two), and the one that the finite number of "
    "validation images leaves (binomial, each network counted as independent; as all are tested "
    "on the same images, this rather overstates it). Where neither is known, a difference must "
    "exceed 1 percentage point."
)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean difference of accuracies, as a fraction.

    Attributes:
      value: the difference.
      error: its standard error (see `NOISE_RULE`); None where nothing is known of it.
      units: number of (split, target) pairs that were averaged.
      networks: number of distinct networks that take part.
    """

    value: float
    error: float | None
    units: int
    networks: int

    @property
    def threshold(self) -> float:
        """How large a difference must be to count: two standard errors."""
        return UNKNOWN_NOISE if self.error is None else 2 * self.error

    @property
    def is_gain(self) -> bool:
        """Above zero by more than the noise."""
        return self.value > self.threshold

    @property
    def is_drop(self) -> bool:
        """Below zero by more than the noise."""
        return -self.value > self.threshold

    def __neg__(self) -> Estimate:
        return dataclasses.replace(self, value=-self.value)

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference of two estimates that share no network."""
        known = self.error is not None and other.error is not None
        return Estimate(
            self.value - other.value,
            math.hypot(self.error, other.error) if known else None,
            self.units + other.units,
            self.networks + other.networks,
        )

    def __str__(self) -> str:
        """In percentage points, such as '+1.2 ± 0.3'."""
        spread = "" if self.error is None else f" ± {100 * self.error:.1f}"
        return points(self.value) + spread


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A weighted sum of accuracies within one (split, target): weights of a difference add to 0.

    Attributes:
      terms: (coefficient, network) pairs.
      weight: how much this unit counts against others, such as the number of cells averaged.
    """

    terms: tuple[tuple[float, Row], ...]
    weight: float = 1.0


def estimate(contrasts: Sequence[Contrast], num_eval: Mapping[str, int]) -> Estimate | None:
    """Averages contrasts over units and estimates the standard error of the average.

    With weights w (summing to 1) and unit values v around their mean m, the error between U
    units is sqrt(U/(U-1) * sum(w^2 (v-m)^2)), which is std/sqrt(U) for equal weights. The error
    from the validation images is sqrt(sum(c^2 p(1-p)/N)) over distinct networks, c being a
    network's total coefficient. The larger one is reported.

    Args:
      contrasts: one per unit; networks must be finished.
      num_eval: hash -> number of validation images; networks may be absent.

    Returns:
      The estimate, or None where there is no contrast.
    """
    if not contrasts:
        return None
    total = sum(contrast.weight for contrast in contrasts)
    weights = [contrast.weight / total for contrast in contrasts]
    values = [sum(c * row.accuracy for c, row in contrast.terms) for contrast in contrasts]
    mean = sum(w * v for w, v in zip(weights, values, strict=True))
    errors = []
    units = len(contrasts)
    if units > 1:
        spread = sum((w * (v - mean)) ** 2 for w, v in zip(weights, values, strict=True))
        errors.append(math.sqrt(spread * units / (units - 1)))
    coefficients: dict[Row, float] = {}
    for w, contrast in zip(weights, contrasts, strict=True):
        for c, row in contrast.terms:
            coefficients[row] = coefficients.get(row, 0.0) + w * c
    if all(row.hash in num_eval for row in coefficients):
        errors.append(
            math.sqrt(
                sum(
                    c**2 * row.accuracy * (1 - row.accuracy) / num_eval[row.hash]
                    for row, c in coefficients.items()
                )
            )
        )
    return Estimate(mean, max(errors, default=None), units, len(coefficients))


def binomial_error(share: float, count: float) -> float:
    """Standard error of a share that was counted over `count` independent trials."""
    return math.sqrt(share * (1 - share) / count)


def mean(values: Iterable[float]) -> float | None:
    """The plain mean; None of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else None


def points(value: float, digits: int = 1) -> str:
    """A fraction as signed percentage points: 0.0123 -> '+1.2'."""
    text = f"{100 * value:+.{digits}f}"
    return text.replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as percent without the sign: 0.6251 -> '62.5'; None -> ''."""
    return "" if value is None else f"{100 * value:.{digits}f}".replace("-", MINUS)


def mean_and_spread(values: Iterable[float], digits: int = 1) -> str:
    """Fractions as percent, such as '65.7 ± 0.2' (standard deviation), '65.7' for one; else ''."""
    values = list(values)
    if not values:
        return ""
    text = percent(statistics.fmean(values), digits)
    return f"{text} ± {percent(statistics.stdev(values), digits)}" if len(values) > 1 else text


def layers(ns: Iterable[int]) -> str:
    """Layer numbers in words: [1, 2, 3, 5] -> 'n = 1 to 3, 5'."""
    ns = sorted(set(ns))
    runs: list[list[int]] = []
    for n in ns:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    parts = []
    for run in runs:
        parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(n) for n in run]
    return "n = " + ", ".join(parts)
