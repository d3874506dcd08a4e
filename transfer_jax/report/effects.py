"""Effects: paired differences between trainings, their intervals, and what these decide.

The one rule of every study. An effect is a mean over independent trainings (units), each paired
with its own reference. Its 95 % interval joins two kinds of noise in quadrature: between units
(Student's t), and that of the validation images which several units share (normal, from the stored
right/wrong bits), which the spread between units cannot show. An interval that lies wholly on one
side of a margin decides; any other leaves the matter undecided.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize, special

from transfer_jax.report.frame import Results

ALPHA = 0.05
MOST_UNITS = 1000
MINUS = "\N{MINUS SIGN}"

Noise = tuple[tuple[np.ndarray, np.ndarray], ...]
"""For each unit the images' ids, and what each contributes to the effect beyond their mean."""


@dataclasses.dataclass(frozen=True, eq=False)
class Effect:
    """A mean difference, in the units of its measure.

    Attributes:
      mean: the effect.
      se: its standard error between units; NaN with less than two.
      df: degrees of freedom of that.
      units: how many independent trainings; the smaller number in a difference of two effects.
      noise: see `Noise`; None where some network's right and wrong images are not known.
    """

    mean: float = math.nan
    se: float = math.nan
    df: float = math.nan
    units: int = 0
    noise: Noise | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def image_se(self) -> float:
        """Standard error from the images that at least two units share; 0 where none are."""
        if not self.noise:
            return 0.0
        ids, parts = (np.concatenate(arrays) for arrays in zip(*self.noise, strict=True))
        _, where, units = np.unique(ids, return_inverse=True, return_counts=True)
        return float(np.linalg.norm(np.bincount(where, parts)[units > 1]))

    def half_width(self, alpha: float = ALPHA) -> float:
        """Half of the interval that misses the truth with probability alpha."""
        t, z = special.stdtrit(self.df, alpha / 2), special.ndtri(alpha / 2)
        return math.hypot(t * self.se, z * self.image_se)

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.mean - self.half_width()

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.mean + self.half_width()

    def above(self, margin: float, name: str = "") -> Verdict:
        """Whether the effect exceeds a margin."""
        return self._inside(margin, math.inf, name, f"> {points(margin)}")

    def below(self, margin: float, name: str = "") -> Verdict:
        """Whether the effect stays under a margin."""
        return self._inside(-math.inf, margin, name, f"< {points(margin)}")

    def within(self, margin: float, name: str = "") -> Verdict:
        """Whether the effect is smaller than a margin on both sides."""
        return self._inside(-margin, margin, name, f"within ±{points(margin)[1:]}")

    def p(self, distance: float) -> float:
        """Two-sided p-value of a truth this far off: the level at which the interval gets there."""
        if self.units < 2 or not distance > 0:
            return math.nan if self.units < 2 else 1.0
        least = 1e-12
        if self.half_width(least) <= distance:
            return least
        return optimize.brentq(lambda a: self.half_width(a) - distance, least, 1)

    def needed(self, distance: float) -> tuple[float, float]:
        """What would decide at this distance from a margin, if mean and spread stay.

        Returns:
          (units, times as many images); units is infinite beyond `MOST_UNITS`. More images only
          where those that units share leave no room for any number of units.
        """
        images, z = 1.0, special.ndtri(ALPHA / 2)
        if distance < 1e-6:
            return math.inf, images
        if (room := distance**2 - (z * self.image_se) ** 2) <= 0:
            images, room = 2 * (z * self.image_se / distance) ** 2, distance**2 / 2
        units = np.arange(2, MOST_UNITS + 1)
        errors = special.stdtrit(units - 1, ALPHA / 2) * self.se * np.sqrt(self.units / units)
        enough = units[errors**2 <= room]
        return (float(enough[0]) if enough.size else math.inf), images

    def __sub__(self, other: Effect) -> Effect:
        """The difference of two effects whose units are independent (Welch, Satterthwaite)."""
        errors = np.array([self.se, other.se]) ** 2
        parts = (errors**2 / [self.df, other.df]).sum()
        noise = None
        if self.noise is not None and other.noise is not None:
            noise = (*self.noise, *((ids, -part) for ids, part in other.noise))
        return Effect(
            self.mean - other.mean,
            math.sqrt(errors.sum()),
            errors.sum() ** 2 / parts if parts else self.df + other.df,
            min(self.units, other.units),
            noise,
        )

    def __str__(self) -> str:
        if self.units < 2:
            return "" if self.units == 0 else points(self.mean)
        return f"{points(self.mean)} [{points(self.low)}, {points(self.high)}]"

    def _inside(self, low: float, high: float, name: str, rule: str) -> Verdict:
        distance = min(abs(self.mean - low), abs(self.mean - high))
        if self.units < 2:
            count = "1 unit" if self.units else "no networks"
            return Verdict("undecided", name, rule, self, math.nan, count)
        outcome, note = "undecided", "" if self.noise is not None else "image noise not known"
        if low < self.low and self.high < high:
            outcome = "holds"
        elif self.high < low or self.low > high:
            outcome = "fails"
        else:
            units, images = self.needed(distance)
            note = f"needs {units:.0f} units" if units < math.inf else f"over {MOST_UNITS} units"
            note += f" and {images:.1f} times the test images" if images > 1 else ""
        return Verdict(outcome, name, rule, self, self.p(distance), note)


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What an effect says to a claim.

    Attributes:
      outcome: 'holds', 'fails' or 'undecided'.
      name: of the effect that was judged.
      rule: the side of the margin on which the claim lies, in points.
      effect: that decided; of several conditions the one that holds the verdict up.
      p: two-sided p-value against the margin; NaN without an interval.
      note: why it is undecided, or what it would take.
      parts: verdicts of the conditions, where there are several.
    """

    outcome: str
    name: str
    rule: str
    effect: Effect
    p: float
    note: str = ""
    parts: tuple[Verdict, ...] = ()

    def supposing(self, condition: Verdict, otherwise: str) -> Verdict:
        """The verdict where a condition holds; else undecided."""
        if condition.outcome == "holds" or self.outcome == "undecided":
            return self
        return dataclasses.replace(self, outcome="undecided", note=otherwise)


def all_of(*parts: Verdict) -> Verdict:
    """The verdict on several conditions at once, an intersection-union test.

    It holds if every condition holds, at no price: each must pass its own test. It fails if one
    fails with p <= 0.05 / number of conditions (Bonferroni), so that many conditions are no more
    likely to be struck down by chance than one. The p-value is that of the verdict.
    """
    worst = min(parts, key=lambda v: math.inf if v.outcome != "fails" else v.p)
    if worst.outcome == "fails" and worst.p * len(parts) <= ALPHA:
        return dataclasses.replace(worst, p=worst.p * len(parts), parts=parts)
    weakest = max(parts, key=lambda v: (v.outcome != "holds", math.isnan(v.p), v.p))
    outcome = "holds" if weakest.outcome == "holds" else "undecided"
    return dataclasses.replace(weakest, outcome=outcome, parts=parts)


def paired(
    results: Results,
    treated: pd.DataFrame,
    reference: pd.DataFrame,
    on: Sequence[str] = ("seed",),
    cluster: Sequence[str] = ("seed",),
) -> Effect:
    """The mean of treated minus reference over independent trainings.

    Rows are compared where they agree in the columns `on`: the mean of the treated minus the mean
    of the reference. These differences are averaged within each unit, units count equally. A unit
    that lacks rows which others have is left out, so that all units measure the same.

    Args:
      results: that the rows come from; knows which images each network got right.
      treated, reference: rows of `results.frame`, of one measure.
      on: columns, those of `cluster` among them.
      cluster: columns that name a unit. Networks that share a base belong to one unit.
    """
    if treated.empty or reference.empty:
        return Effect()
    rows = pd.concat([treated, reference], ignore_index=True)
    side = np.repeat([0, 1], [len(treated), len(reference)])
    key, unit = (rows.groupby(list(names)).ngroup().to_numpy() for names in (on, cluster))
    networks = _table(key, side)
    kept = (networks[key] > 0).all(axis=1)
    in_unit = _table(unit[kept], side[kept], len(np.unique(unit)))
    kept &= (in_unit == in_unit.max(axis=0)).all(axis=1)[unit]
    if not kept.any():
        return Effect()
    rows, side, key = rows[kept], side[kept], key[kept]
    _, unit = np.unique(unit[kept], return_inverse=True)
    weight = 1 / networks[key, side]
    weight *= np.array([1, -1])[side] / _table(unit, side, weights=weight)[unit, side]
    values = np.bincount(unit, weight * rows["value"].to_numpy())
    count = len(values)
    se = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    noise = image_noise(results, rows["right"], unit, weight / count)
    return Effect(float(values.mean()), se, count - 1, count, noise)


def over_units(values: pd.Series) -> Effect:
    """The mean of independent numbers."""
    return Effect(values.mean(), values.sem(), len(values) - 1, len(values))


def level(rows: pd.DataFrame) -> Effect:
    """Mean of rows of one measure, with its interval between seeds."""
    return over_units(rows.groupby("seed")["value"].mean())


def spread(values: pd.Series) -> str:
    """Mean of values of one measure and, of several, their standard deviation, in points."""
    more = f" ± {100 * values.std():.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{more}"


def _table(rows: np.ndarray, side: np.ndarray, length: int = 0, weights=None) -> np.ndarray:
    """(rows, 2) counts, or sums of weights."""
    length = max(length, rows.max(initial=-1) + 1)
    return np.bincount(2 * rows + side, weights, 2 * length).reshape(-1, 2)


def image_noise(
    results: Results, keys: pd.Series, unit: np.ndarray, weight: np.ndarray
) -> Noise | None:
    """The noise of an effect to which each row's value adds so many times (`weight`), in the unit
    (0, 1, ...) and by the images that are its own; `keys` are the rows' `right`."""
    known = [results.right(key) if isinstance(key, str) else None for key in keys]
    if None in known:
        return None
    found = []
    for number in range(unit.max() + 1):
        parts: dict[str, np.ndarray] = {}
        for place in np.flatnonzero(unit == number):
            images, right = known[place]
            part = weight[place] * (right - right.mean()) / right.size
            parts[images] = parts.get(images, 0.0) + part
        ids = np.concatenate([results.image_ids(name, part.size) for name, part in parts.items()])
        ids, where = np.unique(ids, return_inverse=True)
        found.append((ids, np.bincount(where, np.concatenate(list(parts.values())))))
    return tuple(found)


def points(value: float) -> str:
    """A fraction with its sign in points, as in '+1.5'."""
    # Adding zero turns -0.0 into 0.0.
    return f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", MINUS)
