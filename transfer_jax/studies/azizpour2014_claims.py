"""What Azizpour et al. 2014 claim of factors of transferability, decided by our own networks.

Performance of a setting on a target is its accuracy or mean average precision. Seeds are the units:
each draws weights, order, classes and the targets' images anew. Whatever says how a factor moves
with distance must hold twice, over seeds for these targets and over targets as units.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from transfer_jax.report import (
    MINUS,
    Claim,
    Effect,
    Results,
    Verdict,
    all_of,
    converged,
    image_noise,
    over_units,
    paired,
)

LEAST_ERROR = 0.005
"""Errors below half a point count as that where they are divided by."""

TASK = ["target", "group", "rank"]
BOTH_HALVED, ONE_KIND = "both, half the images", ("man-made", "natural")
"""Settings of the factor 'source data', besides 'both'."""


def measured(results: Results, factor: str, measure: str = "test") -> pd.DataFrame:
    """Rows of a factor's settings that have a place on its axis, by place."""
    rows = results.select(measure, factor=factor)
    return rows.dropna(subset="place").sort_values("place", kind="stable") if len(rows) else rows


Settings = str | tuple[str, ...]


def gain(results: Results, factor: str, treated: Settings, reference: Settings, **tags) -> Effect:
    """One setting of a factor, or the mean of some, minus others, of the same seed and target."""
    sides = (results.select("test", factor=factor, setting=s, **tags) for s in (treated, reference))
    return paired(results, *sides, on=("seed", "target"))


# How settings move with distance


def advantage(results: Results, factor: str) -> pd.DataFrame:
    """By seed and target: performance of the upper half of a factor's settings minus the lower half
    (of an odd number the middle one is left out); columns seed, target, group, rank, value."""
    rows = measured(results, factor)
    if rows.empty or rows["place"].nunique() < 2:
        return pd.DataFrame(columns=["seed", *TASK, "value"])
    # Some targets lack some settings: halves are those of each target's own.
    order = rows.groupby(["seed", "target"])["place"].rank(method="dense")
    most = order.groupby([rows["seed"], rows["target"]]).transform("max")
    side = np.sign(order - (most + 1) / 2)
    means = rows["value"].groupby([side, *(rows[name] for name in ("seed", *TASK))]).mean()
    return (means.loc[1.0] - means.loc[-1.0]).rename("value").reset_index()


def shift(values: pd.DataFrame) -> tuple[Effect, Effect]:
    """How much `value` changes from the nearest target to the farthest, along a straight line.

    Returns:
      the effect with seeds as units, and the same with targets as units (least squares over their
      means), which asks whether other targets would show it too.
    """
    if values.empty or values["rank"].nunique() < 2:
        return Effect(), Effect()
    whole = values.groupby("seed")["target"].transform("nunique") == values["target"].nunique()
    values = values[whole]
    low, high = values["rank"].min(), values["rank"].max()
    values = values.assign(place=(values["rank"] - low) / (high - low))
    by_seed = values.groupby("seed")[["place", "value"]]
    slopes = by_seed.apply(lambda of: np.polyfit(of["place"], of["value"], 1)[0])
    means = values.groupby("target")[["place", "value"]].mean()
    line = stats.linregress(means["place"], means["value"])
    tasks = Effect(float(line.slope), float(line.stderr), len(means) - 2, len(means))
    return over_units(slopes), tasks if len(means) > 2 else Effect(float(line.slope), units=1)


def best_settings(results: Results, factor: str) -> pd.DataFrame:
    """Each target's best setting of a factor, on validation images, mean over seeds: columns
    target, group, rank, setting, place."""
    rows = measured(results, factor, "validation")
    if rows.empty:
        return pd.DataFrame(columns=[*TASK, "setting", "place"])
    means = rows.groupby([*TASK, "place", "setting"], as_index=False)["value"].mean()
    best = means.loc[means.groupby("target")["value"].idxmax()]
    return best.sort_values("rank", kind="stable")[[*TASK, "setting", "place"]]


def rank_correlation(one, other) -> tuple[float, float]:
    """Spearman's rho over targets, and the two-sided p-value of a permutation test over them; NaN
    where one of the two is constant or there are fewer than four targets."""
    one, other = (stats.rankdata(values) for values in (one, other))
    if len(one) < 4 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan, math.nan
    permuted = stats.PermutationMethod(n_resamples=9999, random_state=0)
    found = stats.pearsonr(one, other, method=permuted)
    return float(found.statistic), float(found.pvalue)


# The recommendation

WAYS = {
    "best on test images": "after the fact, on the images that it is reported on (optimistic)",
    "own validation images": "on the target's own validation images",
    "nearer targets": "on the other targets, a quarter of the order away half as much",
    "all other targets": "on all other targets alike",
}
"""How a setting is chosen for a target; the last two never see the target itself."""


def candidates(results: Results, measure: str) -> pd.DataFrame:
    """Rows of one measure and each seed, target and candidate, a source network and a reading of
    it: with its error and `right`, and those of the default setting, `_default`."""
    rows = results.select(measure)
    if "candidate" not in rows or not rows["default"].eq(True).any():
        columns = ["error", "right", "error_default", "right_default"]
        return pd.DataFrame(columns=["seed", *TASK, "candidate", *columns])
    rows = rows[rows["candidate"].notna()].drop_duplicates(["seed", "target", "candidate"])
    rows = rows.assign(error=(1 - rows["value"]).clip(lower=LEAST_ERROR))
    name = rows.loc[rows["default"].eq(True), "candidate"].iloc[0]
    default = rows[rows["candidate"] == name].set_index(["seed", "target"])[["error", "right"]]
    return rows.join(default.add_suffix("_default"), on=["seed", "target"])


def errors(results: Results, measure: str) -> pd.DataFrame:
    """Errors relative to the default setting's: rows (seed, target, group, rank), a column for each
    candidate."""
    rows = candidates(results, measure)
    rows = rows.assign(relative=rows["error"] / rows["error_default"])
    return rows.pivot(index=["seed", *TASK], columns="candidate", values="relative")


@functools.lru_cache(maxsize=2)
def recommendations(results: Results) -> pd.DataFrame:
    """What each way to choose gives each target: columns seed, target, group, rank, way, candidate,
    value, the relative error that is saved on test images against the default setting, and what
    `candidates` says of the two on these.

    Choices are made anew for each seed, on that seed's networks alone: of what was measured on all
    targets in question the candidate of the lowest mean relative error on validation images.
    """
    validated, tested, found = errors(results, "validation"), errors(results, "test"), []
    ranks = tested.index.get_level_values("rank").astype(float)
    quarter = max(np.ptp(ranks), 1) / 4 if len(tested) else 1
    for seed, own in tested.groupby(level="seed"):
        told, seen = own.to_numpy(), validated.reindex_like(own).to_numpy()
        ranks = own.index.get_level_values("rank").to_numpy(float)
        for i, (_, *target) in enumerate(own.index):
            others = np.arange(len(told)) != i
            near = others * 0.5 ** (np.abs(ranks - ranks[i]) / quarter)
            of = ((told, ~others), (seen, ~others), (seen, near), (seen, others))
            for way, (table, weights) in zip(WAYS, of, strict=True):
                used = weights > 0
                known = ~np.isnan(np.vstack([table[used], told[i]])).any(axis=0)
                if used.any() and known.any():
                    means = weights[used] @ np.nan_to_num(table[used])
                    choice = np.where(known, means, np.inf).argmin()
                    row = [seed, *target, way, own.columns[choice], 1 - told[i, choice]]
                    found.append(row)
    found = pd.DataFrame(found, columns=["seed", *TASK, "way", "candidate", "value"])
    keys, more = ["seed", "target", "candidate"], ["right", "error_default", "right_default"]
    return found.merge(candidates(results, "test")[[*keys, *more]], on=keys)


def saved(results: Results, way: str, **weights: float) -> Effect:
    """Relative error that a way to choose saves, mean over targets; less a multiple of what another
    saves where that is asked for: saved(results, way, **{other: 0.5}). The noise of test images is
    that of the two errors, to first order, whatever was chosen."""
    chosen, sign = recommendations(results), {way: 1.0} | {w: -v for w, v in weights.items()}
    chosen = chosen.assign(sign=chosen["way"].map(sign)).dropna(subset="sign")
    chosen = chosen[chosen.groupby("seed")["way"].transform("nunique") == len(sign)]
    if chosen.empty:
        return Effect()
    targets = chosen.groupby(["seed", "way"])["value"].transform("size")
    share = chosen["sign"] / targets
    values = (share * chosen["value"]).groupby(chosen["seed"]).sum()
    # 1 - e / d changes by -1 / d with the error e of what was chosen, by e / d^2 with d.
    weight = share / len(values) / chosen["error_default"]
    noise = image_noise(
        results,
        pd.concat([chosen["right"], chosen["right_default"]]),
        np.tile(chosen.groupby("seed").ngroup(), 2),
        np.concatenate([weight, -weight * (1 - chosen["value"])]),
    )
    return dataclasses.replace(over_units(values), noise=noise)


# The claims


def _ends(results: Results, factor: str) -> tuple[str, str] | None:
    """The settings with the highest and the lowest place."""
    rows = measured(results, factor)
    if rows.empty or rows["place"].nunique() < 2:
        return None
    return rows["setting"].iloc[-1], rows["setting"].iloc[0]


def _stopped(results: Results, low: float, high: float) -> tuple[str, str] | None:
    """The whole training, and the last snapshot between two shares of its steps."""
    if (rows := measured(results, "early stopping")).empty:
        return None
    stopped = rows[(rows["place"] / rows["place"].max()).between(low, high)]
    return (rows["setting"].iloc[-1], stopped["setting"].iloc[-1]) if len(stopped) else None


def _better(factor: str, choose: Callable[[Results], tuple[Settings, Settings] | None]):
    def test(results: Results) -> Verdict:
        if (pair := choose(results)) is None:
            return Effect().above(0.0)
        names = (s if isinstance(s, str) else " and ".join(s) for s in pair)
        return gain(results, factor, *pair).above(0.0, f" {MINUS} ".join(names))

    return test


def _deeper(results: Results) -> Verdict:
    verdict = _better("depth", lambda results: _ends(results, "depth"))(results)
    return verdict.supposing(converged(results), "networks are still learning, or may be")


def _moves(factor: str, upper: str, lower: str) -> Callable[[Results], Verdict]:
    """The upper settings' advantage falls with distance, for these targets and for others."""

    def test(results: Results) -> Verdict:
        name = f"{upper} {MINUS} {lower}, farthest {MINUS} nearest"
        seeds, tasks = shift(advantage(results, factor))
        return all_of(
            seeds.below(0.0, f"{name}, over seeds"), tasks.below(0.0, f"{name}, over targets")
        )

    return test


def _saves(way: str, **weights: float) -> Callable[[Results], Verdict]:
    def test(results: Results) -> Verdict:
        less = "".join(f" {MINUS} {weight:g} {other}" for other, weight in weights.items())
        return saved(results, way, **weights).above(0.0, f"{way}{less}")

    return test


CLAIMS = (
    Claim(
        "Features of a trained network do better than those of the same network untrained.",
        _better("early stopping", lambda results: _stopped(results, 0, 0)),
    ),
    Claim(
        "Stopping early does not pay: the whole training does better than a snapshot of it at half "
        "its steps.",
        _better("early stopping", lambda results: _stopped(results, 0.4, 0.5)),
    ),
    Claim("Deeper does better. Supposes that learning is over.", _deeper),
    Claim(
        "Under one budget of images, more classes do better than more images of each.",
        _better("classes at one budget", lambda results: _ends(results, "classes at one budget")),
    ),
    Claim(
        "Fine-tuning on the target does better than an SVM on frozen features.",
        _better("fine-tuning", lambda results: ("fine-tuned", "frozen")),
    ),
    Claim(
        "Two kinds of source data do better than the mean of each alone, with as many images in "
        "all (and so with half as many of each of twice the classes).",
        _better("source data", lambda results: (BOTH_HALVED, ONE_KIND)),
    ),
    Claim(
        "The farther the target, the earlier the layer that serves it.",
        _moves("layer", "later layers", "earlier"),
    ),
    Claim(
        "The farther the target, the narrower the network that serves it.",
        _moves("width", "wide", "narrow"),
    ),
    Claim(
        "The farther the target, the fewer the dimensions that serve it.",
        _moves("dimensions", "many dimensions", "few"),
    ),
    Claim(
        "Choosing settings for each target, on its validation images, saves error.",
        _saves("own validation images"),
        "up to 50 % of it (best target)",
    ),
    Claim(
        "Choosing them on the other targets saves error too.",
        _saves("all other targets"),
    ),
    Claim(
        "Of what choosing for each target saves, choosing on the others keeps at least half.",
        _saves("all other targets", **{"own validation images": 0.5}),
    ),
    Claim(
        "Since settings move with distance, nearer targets choose better than all alike.",
        _saves("nearer targets", **{"all other targets": 1.0}),
    ),
)
