"""Every claim of Azizpour et al. 2014 turned: planted worlds and pure noise."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.report.fakes import fake
from transfer_jax.report import Results, judge
from transfer_jax.studies import azizpour2014_claims as study
from transfer_jax.studies.azizpour2014_claims import CLAIMS

GROUPS = ("image classification", "attributes", "fine-grained", "compositional", "retrieval")
TARGETS = [(f"{group} {i}", group, rank) for rank, group in enumerate(GROUPS, 1) for i in (1, 2)]
WORLD = {
    "untrained": -0.25,
    "stopped": -0.04,
    "deep": 0.06,
    "longer": -0.02,
    "classes": 0.05,
    "tuned": 0.06,
    "both": 0.05,
    "far": -0.2,
    "layer": 0.12,
    "width": 0.12,
    "dimensions": 0.12,
    "all": 0.2,
    "kin": 0.06,
    "own": 0.26,
    "friend": 0.0,
    "foe": 0.0,
    "liar": 0.0,
}
"""What the paper says, in accuracy. 'layer', 'width', 'dimensions': how much of their advantage the
later, wider and larger settings lose from the nearest group to the farthest. 'all': what the
candidate gains that is good for all targets; 'kin': what one gains beyond it that is good for a
group, half as much in the next groups and worse beyond; 'own': what one gains that is good for one
target alone; 'friend': what one gains on a target that ruins the other target of its group; 'foe':
what one gains on all targets but the one that it ruins; 'liar': what one gains on validation images
and loses on test images."""


def planted(rng, world, spread=0.004, seeds=5, **options):
    """Settings of five seeds on two targets of each of five groups."""
    rows = []
    offsets = {target: rng.normal(0, spread) for target, _, _ in TARGETS}

    def add(
        seed, factor, setting, place, target, effect=0.0, candidate=None, default=False, lie=0.0
    ):
        name, group, rank = target
        level = 0.6 + world["far"] * (rank - 3) / 4 + offsets[name] + effect
        tags = {"factor": factor, "setting": setting, "place": place, "seed": seed}
        tags |= {"target": name, "group": group, "rank": rank}
        tags |= {"candidate": candidate or f"{factor} {setting}", "default": default}
        for part in ("validation", "test"):
            said = level + (lie if part == "validation" else -lie)
            accuracy = np.clip(said + rng.normal(0, spread), 0.02, 0.98)
            images = f"{name} {part} {seed}"
            rows.append({**tags, "part": part, "accuracy": accuracy, "images": images})

    for seed, condition in itertools.product(range(seeds), ("standard", "long")):
        base = {"treatment": "base", "condition": condition, "seed": seed, "part": "top1"}
        accuracy = np.clip(0.6 + world["longer"] * (condition == "long"), 0.02, 0.98)
        rows.append({**base, "accuracy": accuracy, "images": f"source {seed}"})

    for seed, (place, target) in itertools.product(range(seeds), enumerate(TARGETS)):
        x = (target[2] - 3) / 4  # -0.5 at the nearest group, 0.5 at the farthest
        for step, effect in ((0, "untrained"), (150, None), (300, "stopped"), (600, None)):
            add(seed, "early stopping", f"{step}", step, target, world.get(effect, 0.0))
        for depth, effect in ((8, 0.0), (13, world["deep"])):
            add(seed, "depth", f"{depth} layers", depth, target, effect)
        for count, effect in ((13, 0.0), (26, world["classes"])):
            add(seed, "classes at one budget", f"{count} classes", count, target, effect)
        for name in (*study.ONE_KIND, study.BOTH_HALVED):
            effect = world["both"] * (name == study.BOTH_HALVED)
            add(seed, "source data", name, None, target, effect)
        if target[1] != "retrieval":
            add(seed, "fine-tuning", "frozen", None, target)
            add(seed, "fine-tuning", "fine-tuned", None, target, world["tuned"])
        for factor, settings in (("layer", 4), ("width", 3), ("dimensions", 5)):
            for i, p in enumerate(np.linspace(-0.5, 0.5, settings)):
                known = {"candidate": "default", "default": True} if i == 1 else {}
                # The mean of the upper half minus that of the lower one loses what is asked for.
                of = np.linspace(-0.5, 0.5, settings)
                halves = of[of > 0].mean() - of[of < 0].mean()
                effect = 0.0 if i == 1 else -world[factor] * x * (p - of[1]) / halves
                add(seed, factor, str(i), i, target, effect, **known)
        every = world["all"]
        add(seed, "combined", "all", None, target, every)
        for rank, group in enumerate(GROUPS, 1):
            effect = every + world["kin"] * (1, 0.5, -1)[min(abs(rank - target[2]), 2)]
            add(seed, "combined", group, None, target, effect)
        for other in range(len(TARGETS)):
            effect = world["own"] if other == place else -0.3 * bool(world["own"])
            add(seed, "combined", f"own {other}", None, target, effect)
            if world["friend"]:
                effect = {other: world["friend"], other ^ 1: -0.3}.get(place, every - 0.06)
                add(seed, "combined", f"friend {other}", None, target, effect)
            if world["foe"]:
                effect = world["foe"] * (-1 if other == place else 1)
                add(seed, "combined", f"foe {other}", None, target, effect)
        if world["liar"]:
            add(seed, "combined", "liar", None, target, lie=world["liar"])
    results = fake(rows, rng, **{"images": 600, "alike": 0.99, **options})
    results.frame["measure"] = results.frame["part"]
    return results


def verdicts(results):
    return {number: claim.test(results).outcome for number, claim in enumerate(CLAIMS, 1)}


def test_snapshots_stand_for_what_they_are_alone():
    """Neither for an untrained network nor for half of the training where they are not that."""
    results = planted(np.random.default_rng(0), WORLD)
    early = results.frame["factor"] == "early stopping"
    for lost, number in ((0, 1), (300, 2)):
        frame = results.frame[~early | (results.frame["place"] != lost)]
        found = CLAIMS[number - 1].test(type(results)(frame, {}, results.right))
        assert (found.outcome, found.effect.units) == ("undecided", 0)


def test_a_world_as_the_paper_says_holds():
    found = verdicts(planted(np.random.default_rng(0), WORLD))
    assert found == dict.fromkeys(range(1, 14), "holds")


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (1, {"untrained": 0.1}),
        (2, {"stopped": 0.04}),
        (3, {"deep": -0.06}),
        (4, {"classes": -0.05}),
        (5, {"tuned": -0.06}),
        (6, {"both": -0.05}),
        (7, {"layer": -0.12}),
        (8, {"width": -0.12}),
        (9, {"dimensions": -0.12}),
        (10, {"liar": 0.3}),
        (11, {"foe": 0.3}),
        (12, {"all": 0.04, "kin": 0.0}),
        (13, {"kin": 0.0, "friend": 0.4}),
    ],
)
def test_a_world_that_violates_a_claim_makes_it_fail(number, change):
    found = verdicts(planted(np.random.default_rng(1), WORLD | change))
    assert found.pop(number) == "fails"
    assert sum(verdict == "holds" for verdict in found.values()) >= 9, found


def test_networks_that_still_learn_leave_open_whether_deeper_ones_do_better():
    for change in ({}, {"deep": -0.06}):
        found = verdicts(planted(np.random.default_rng(0), WORLD | {"longer": 0.05} | change))
        assert [number for number, verdict in found.items() if verdict != "holds"] == [3]
        assert found[3] == "undecided"


def test_one_seed_decides_nothing():
    found = judge(CLAIMS, planted(np.random.default_rng(0), WORLD, seeds=1))
    assert set(found.loc[found["claim"] != "", "verdict"]) == {"undecided"}


def test_without_networks_nothing_is_claimed():
    results = planted(np.random.default_rng(0), WORLD, seeds=2)
    frame = results.frame
    of_any_run = frame[["seed", "target", "measure", "value", "right"]]
    for left in (frame[:0], frame[frame["factor"] == "source data"], of_any_run[:0]):
        found = judge(CLAIMS, Results(left, {}, results.right))
        found = found[found["number"] != 6]
        assert set(found["verdict"]) == {"undecided"} and set(found["units"]) == {0}


def test_pure_noise_is_undecided_nearly_always():
    # What is chosen is no better than the default, and half of nothing is nothing.
    nothing = dict.fromkeys(WORLD, 0.0)
    undecided = dict.fromkeys(range(1, 14), 0)
    for seed in range(25):
        results = planted(np.random.default_rng(seed), nothing, 0.02, images=50, alike=0.5)
        for number, verdict in verdicts(results).items():
            undecided[number] += verdict == "undecided"
    assert min(undecided.values()) >= 21, undecided


# Readings of the results.


def frame(rows, **columns):
    """Results with no bits, of rows (seed, target, rank, setting, place, value)."""
    names = ("seed", "target", "rank", "setting", "place", "value")
    table = pd.DataFrame(rows, columns=names).assign(group="g", factor="layer", **columns)
    both = [table.assign(measure=measure) for measure in ("validation", "test")]
    return Results(pd.concat(both, ignore_index=True))


def test_an_advantage_is_that_of_the_upper_half_of_the_settings():
    settings = {"a": (1, 0.1), "b": (2, 0.3), "c": (5, 0.9), "d": (9, 0.4), "e": (20, 0.6)}
    rows = [(0, "t", 1, s, place, value) for s, (place, value) in settings.items()]
    found = study.advantage(frame(rows), "layer")
    assert found["value"].tolist() == pytest.approx([(0.4 + 0.6) / 2 - (0.1 + 0.3) / 2])
    # A target that lacks the largest settings is divided at its own middle.
    rows += [(0, "u", 2, s, *settings[s]) for s in "abc"]
    found = study.advantage(frame(rows), "layer").set_index("target")["value"]
    assert found["u"] == pytest.approx(0.9 - 0.1)


def test_a_shift_is_the_rise_of_a_straight_line_from_nearest_to_farthest():
    rng = np.random.default_rng(0)
    rows = [(seed, f"{rank}{i}", rank, 0.3 - 0.02 * rank + rng.normal(0, 0.01))
            for seed in range(4) for rank in range(1, 6) for i in range(2)]  # fmt: skip
    values = pd.DataFrame(rows, columns=["seed", "target", "rank", "value"])
    seeds, tasks = study.shift(values)
    each = [4 * stats.linregress(v["rank"], v["value"]).slope for _, v in values.groupby("seed")]
    assert seeds.mean == pytest.approx(np.mean(each)) and seeds.units == 4
    assert seeds.se == pytest.approx(stats.sem(each)) and seeds.df == 3
    means = values.groupby("target")[["rank", "value"]].mean()
    line = stats.linregress(means["rank"], means["value"])
    assert tasks.mean == pytest.approx(4 * line.slope) == pytest.approx(seeds.mean)
    assert tasks.se == pytest.approx(4 * line.stderr) and (tasks.units, tasks.df) == (10, 8)


def test_the_best_setting_is_that_of_the_mean_over_seeds_on_validation_images():
    rows = [(0, "t", 1, "a", 1, 0.5), (1, "t", 1, "a", 1, 0.5), (0, "t", 1, "b", 2, 0.9),
            (1, "t", 1, "b", 2, 0.0)]  # fmt: skip
    results = frame(rows)
    of_test = results.frame["measure"] == "test"
    results.frame.loc[of_test, "value"] = 1 - results.frame.loc[of_test, "value"]
    assert study.best_settings(results, "layer")["setting"].tolist() == ["a"]


def test_rank_correlation_is_spearmans_with_all_permutations():
    one, other = [3, 1, 2, 5, 4], [1, 2, 3, 4, 4]
    rho, p = study.rank_correlation(one, other)
    assert rho == pytest.approx(stats.spearmanr(one, other).statistic)
    every = [stats.spearmanr(x, other).statistic for x in itertools.permutations(one)]
    # SciPy's two-sided p-value is twice the smaller tail.
    tail = min(np.mean(np.array(every) >= rho - 1e-9), np.mean(np.array(every) <= rho + 1e-9))
    assert p == pytest.approx(2 * tail)
    assert np.isnan(study.rank_correlation([1, 1, 1, 1], [1, 2, 3, 4])).all()


def test_a_choice_for_a_target_never_looks_at_it():
    """On the others 'x' is best, on the target itself 'y', on its test images 'z'."""
    rows = []
    for rank, target in enumerate(("t", "u", "v"), 1):
        here = target == "t"
        validation = {
            "default": 0.5,
            "x": 0.4 if here else 0.8,
            "y": 0.7 if here else 0.6,
            "z": 0.1,
        }
        tested = {"default": 0.5, "x": 0.6, "y": 0.55, "z": 0.9}
        for measure, values in (("validation", validation), ("test", tested)):
            rows += [{"seed": 0, "target": target, "group": target, "rank": rank, "value": value,
                      "measure": measure, "candidate": name, "default": name == "default"}
                     for name, value in values.items()]  # fmt: skip
    found = study.recommendations(Results(pd.DataFrame(rows).assign(right=None)))
    found = found[found["target"] == "t"].set_index("way")
    assert found["candidate"].to_dict() == dict(zip(study.WAYS, "zyxx", strict=True))
    saved = {"z": 1 - 0.1 / 0.5, "y": 1 - 0.45 / 0.5, "x": 1 - 0.4 / 0.5}
    assert found["value"].tolist() == pytest.approx([saved[name] for name in "zyxx"])


def test_nearer_targets_count_more():
    """A quarter of the order away halves a target's weight."""
    rows = []
    gains = {"near": (0.0, 0.3, 0.0, 0.0), "far": (0.0, 0.0, 0.35, 0.35)}
    for rank, target in zip((1, 2, 4, 5), "abcd", strict=True):
        for measure in ("validation", "test"):
            add = {"default": 0.0, **{name: of["abcd".index(target)] for name, of in gains.items()}}
            rows += [{"seed": 0, "target": target, "group": "g", "rank": rank, "measure": measure,
                      "value": 0.4 + gain, "candidate": name, "default": name == "default"}
                     for name, gain in add.items()]  # fmt: skip
    found = study.recommendations(Results(pd.DataFrame(rows).assign(right=None))).set_index(
        ["target", "way"]
    )
    # 0.3 * 1/2 against 0.35 * (1/8 + 1/16), and against 0.35 * 2 where all count alike.
    assert found.loc[("a", "nearer targets"), "candidate"] == "near"
    assert found.loc[("a", "all other targets"), "candidate"] == "far"


def test_what_choosing_saves_has_the_noise_of_the_images_of_both_errors():
    """Against derivatives by the weights of images, of two targets in three seeds."""
    rng = np.random.default_rng(0)
    images = {"s": 40, "t": 60}
    chances = {"default": 0.4, "x": 0.8}
    bits = {
        (seed, target, name): rng.random(count) < chances[name]
        for seed in range(3) for target, count in images.items() for name in chances
    }  # fmt: skip
    rows = [
        {"seed": seed, "target": target, "group": "g", "rank": 1, "measure": measure,
         "value": right.mean(), "candidate": name, "default": name == "default",
         "right": f"{seed} {target} {name}"}
        for (seed, target, name), right in bits.items() for measure in ("validation", "test")
    ]  # fmt: skip
    known = {f"{s} {t} {n}": (t, right) for (s, t, n), right in bits.items()}
    way = "own validation images"
    found = study.saved(Results(pd.DataFrame(rows), right=known.get), way)

    def saved(weights):
        error = {k: 1 - np.average(right, weights=weights[k[1]]) for k, right in bits.items()}
        return np.mean([1 - error[(s, t, "x")] / error[(s, t, "default")]
                        for s in range(3) for t in images])  # fmt: skip

    even = {target: np.ones(count) for target, count in images.items()}
    assert found.mean == pytest.approx(saved(even))
    slopes = [
        (saved(even | {t: even[t] + 1e-5 * np.eye(n)[i]}) - found.mean) / 1e-5
        for t, n in images.items() for i in range(n)
    ]  # fmt: skip
    assert found.image_se == pytest.approx(np.linalg.norm(slopes), rel=1e-3)
