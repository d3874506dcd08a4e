import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from tests.report.fakes import fake
from transfer_jax.report.effects import Effect, Verdict, all_of, paired

ON, UNIT = ("split", "n"), ("split",)


def networks(effects, base=0.6, **more):
    """A base and treated networks in each split; `effects` is (splits, n)."""
    rows = []
    for split, values in enumerate(np.asarray(effects)):
        for n, value in enumerate((0.0, *values)):
            rows.append({"split": split, "n": n, "accuracy": base + value, "images": "same"} | more)
    return rows


def against_base(results):
    frame = results.frame
    return paired(results, frame[frame.n > 0], frame[frame.n == 0], UNIT, UNIT)


def without_images(values):
    """An effect over plain numbers, one a unit."""
    results = fake(networks(np.zeros((len(values), 1))), np.random.default_rng(0))
    results.frame["value"] = np.stack([np.zeros(len(values)), values], axis=1).ravel()
    results.frame["right"] = None
    return against_base(results)


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=8).filter(lambda v: np.ptp(v) > 1e-6))
def test_units_alone_give_the_paired_t_test(values):
    effect = without_images(values)
    known = stats.ttest_rel(values, np.zeros(len(values)))
    low, high = known.confidence_interval(0.95)
    np.testing.assert_allclose([effect.low, effect.high], [low, high], atol=1e-9)
    verdict = effect.above(0.0)
    assert verdict.p == pytest.approx(known.pvalue, rel=1e-6, abs=2e-12)
    assert (verdict.outcome != "undecided") == (known.pvalue < 0.05)


def test_noise_of_shared_images_is_the_variance_of_the_mean_image():
    results = fake(networks(np.full((3, 2), 0.05)), np.random.default_rng(0), images=60)
    right = np.array([results.right(h)[1] for h in results.frame.hash], float).reshape(3, 3, 60)
    image_means = (right[:, 1:].mean(axis=1) - right[:, 0]).mean(axis=0)
    effect = against_base(results)
    assert effect.mean == pytest.approx(image_means.mean())
    assert effect.image_se == pytest.approx(image_means.std() / math.sqrt(60))
    t, z = stats.t.ppf(0.975, 2), stats.norm.ppf(0.975)
    assert effect.half_width() == pytest.approx(math.hypot(t * effect.se, z * effect.image_se))


def test_images_of_one_unit_alone_are_not_counted_twice():
    rng = np.random.default_rng(0)
    rows = [row | {"images": f"own{row['split']}"} for row in networks(np.zeros((4, 2)))]
    assert against_base(fake(rows, rng)).image_se == 0.0


def test_images_that_sets_have_in_common_are_found_by_their_rows():
    rows = [row | {"images": str(row["split"])} for row in networks(np.zeros((2, 1)))]
    results = fake(rows, np.random.default_rng(0), images=100)
    places = {"0": np.arange(100), "1": np.arange(50, 150)}
    results = dataclasses.replace(results, rows_of=lambda digest: ("data", places[digest]))
    change = []
    for _, unit in results.frame.groupby("split"):
        base, treated = (results.right(h)[1].astype(float) for h in unit.hash)
        change.append((treated - base) - (treated - base).mean())
    common = (change[0][50:] + change[1][:50]) / 200
    assert against_base(results).image_se == pytest.approx(math.sqrt((common**2).sum()))


@pytest.mark.parametrize("shared", [True, False])
def test_intervals_cover_the_truth(shared):
    rng, hits, tries = np.random.default_rng(0), 0, 200
    for _ in range(tries):
        rows = networks(0.05 + rng.normal(0, 0.02, (5, 1)))
        rows = [row | {"images": "same" if shared else str(row["split"])} for row in rows]
        effect = against_base(fake(rows, rng, images=150, alike=0.8))
        hits += effect.low < 0.05 < effect.high
    assert 0.925 <= hits / tries <= 0.995


def test_a_base_of_both_directions_makes_one_unit():
    rng = np.random.default_rng(0)
    rows = [r | {"target": t, "images": t} for t in "AB" for r in networks(np.zeros((3, 2)))]
    results = fake(rows, rng)
    frame = results.frame
    effect = paired(results, frame[frame.n > 0], frame[frame.n == 0], ("split", "target"), UNIT)
    table = frame.pivot_table(index="split", columns=["target", "n"], values="value")
    both = [table[t][[1, 2]].mean(axis=1) - table[t][0] for t in "AB"]
    assert effect.units == 3
    assert effect.mean == pytest.approx(np.mean(both))
    assert effect.se == pytest.approx(stats.sem(np.mean(both, axis=0)))


def test_a_unit_that_lacks_a_network_is_left_out():
    results = fake(networks(np.zeros((3, 2))), np.random.default_rng(0))
    lost = results.frame[(results.frame.split == 1) & (results.frame.n == 2)].index
    results = dataclasses.replace(results, frame=results.frame.drop(lost))
    whole = results.frame[results.frame.split != 1]
    assert against_base(results).units == 2
    assert (
        against_base(results).mean == against_base(dataclasses.replace(results, frame=whole)).mean
    )


def test_a_difference_of_independent_effects_is_welchs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.1, 0.05, 4), rng.normal(0.0, 0.01, 6)
    difference = without_images(a) - without_images(b)
    known = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose([difference.low, difference.high], known)


@pytest.mark.parametrize(
    ("mean", "above", "below", "within"),
    [
        (0.05, "holds", "fails", "fails"),
        (-0.05, "fails", "holds", "fails"),
        (0.0, "fails", "holds", "holds"),
        (0.01, "undecided", "undecided", "undecided"),
    ],
)
def test_an_interval_on_one_side_of_the_margin_decides(mean, above, below, within):
    effect = Effect(mean, 0.001, 4, 5)
    found = effect.above(0.01), effect.below(0.01), effect.within(0.01)
    assert tuple(verdict.outcome for verdict in found) == (above, below, within)


def test_one_unit_decides_nothing():
    verdict = without_images([0.3]).above(0.0)
    assert (verdict.outcome, verdict.note, verdict.effect.mean) == ("undecided", "1 unit", 0.3)
    assert Effect().within(0.01).outcome == "undecided"


@given(st.floats(0.001, 0.1), st.floats(0.005, 0.1))
def test_as_many_units_as_are_needed_decide(se, distance):
    effect = Effect(distance, se, 4, 5)
    units, _ = effect.needed(distance)
    for count, decides in ((units, True), (units - 1, False)):
        if 2 <= count < math.inf:
            more = Effect(distance, se * math.sqrt(5 / count), count - 1, int(count))
            assert (more.half_width() <= distance) == decides


def test_where_images_are_too_few_more_units_do_not_help():
    few = fake(networks(np.zeros((6, 1))), np.random.default_rng(0), images=20, alike=0.3)
    units, images = against_base(few).needed(0.01)
    assert images > 10 and units >= 2


def verdict(outcome, p):
    return Verdict(outcome, "", "", Effect(0.1, 0.01, 4, 5), p)


def test_several_conditions_hold_together_and_fail_alone():
    holds, fails, open_ = verdict("holds", 0.01), verdict("fails", 0.001), verdict("undecided", 0.3)
    assert all_of(holds, verdict("holds", 0.04)).p == 0.04
    assert all_of(holds, verdict("holds", 0.04)).outcome == "holds"
    assert all_of(holds, open_).outcome == "undecided"
    assert (all_of(holds, open_, fails).outcome, all_of(holds, fails).p) == ("fails", 0.002)
    assert all_of(holds, verdict("fails", 0.04)).outcome == "undecided"
