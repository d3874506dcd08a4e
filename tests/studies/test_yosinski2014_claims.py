"""Every claim turned: planted worlds, pure noise, the authors' own networks."""

import numpy as np
import pytest

from tests.report.fakes import fake
from transfer_jax.report import converged, judge
from transfer_jax.report.effects import points
from transfer_jax.studies.yosinski2014_claims import CLAIMS, gains, published

WORLD = {
    "long": [0.0],
    "selffer_frozen": [0, 0, -0.03, -0.04, -0.04, -0.03, 0],
    "transfer_frozen": [0, 0, -0.03, -0.05, -0.06, -0.08, -0.12],
    "selffer_finetuned": [0.003] * 7,
    "transfer_finetuned": [0.04] * 7,
    "distant": [0, -0.01, -0.06, -0.1, -0.15, -0.2, -0.25],
    "random": [-0.05, -0.1, -0.2, -0.3, -0.35, -0.4, -0.4],
}
"""What the paper says, against the base by n."""


def planted(rng, world, spread=0.001, **options):
    """Five splits of random halves and five seeds of man-made / natural, towards B."""
    rows = []
    for unit in range(5):
        halves = {"experiment": "random_halves", "split": str(unit), "seed": 0}
        natman = {"experiment": "man_natural", "split": "natman", "seed": unit}
        for kind, values in ({"base": [0.0]} | world).items():
            tags = halves if kind not in ("distant", "random") else natman
            treatment = {"distant": "transfer_frozen", "random": "random_frozen", "long": "base"}
            condition = "long" if kind == "long" else "standard"
            tags = tags | {"treatment": treatment.get(kind, kind), "condition": condition}
            for n, value in enumerate(values, start=len(values) > 1):
                accuracy = np.clip(0.62 + value + rng.normal(0, spread), 0.02, 0.98)
                rows.append(tags | {"target": "B", "n": n, "accuracy": accuracy})
    rows = [row | {"images": options.get("images_of", row["split"])} for row in rows]
    return fake(rows, rng, options.get("images", 4000), options.get("alike", 0.99))


def verdicts(results):
    judged = judge(CLAIMS, results)
    return judged[judged["claim"] != ""].set_index("number")["verdict"].to_dict()


@pytest.fixture(scope="module")
def agreeing():
    return planted(np.random.default_rng(0), WORLD)


def test_a_world_as_the_paper_says_holds(agreeing):
    assert verdicts(agreeing) == dict.fromkeys(range(1, 8), "holds")


def at(kind, value, *ns):
    """The world, with one treatment moved to a value at some n."""
    return {kind: [value if n in ns else v for n, v in enumerate(WORLD[kind], start=1)]}


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (1, at("transfer_frozen", -0.05, 1, 2)),
        (1, at("transfer_frozen", 0.05, 1, 2)),
        (1, {k: at(k, -0.05, 1, 2)[k] for k in ("transfer_frozen", "selffer_frozen")}),
        (2, at("selffer_frozen", 0.0, 3, 4, 5, 6)),
        (2, at("selffer_frozen", -0.08, 7)),
        (2, at("selffer_frozen", -0.09, 1, 2)),
        (3, {"selffer_finetuned": [-0.04] * 7}),
        (4, {"selffer_frozen": WORLD["transfer_frozen"]}),
        (5, {"transfer_finetuned": [0.003] * 7}),
        (5, {"selffer_finetuned": [0.04] * 7}),
        (5, {"long": [0.04]}),
        (6, {"distant": [v - 0.05 for v in WORLD["transfer_frozen"]]}),
        (7, {"random": WORLD["distant"]}),
    ],
)
def test_a_world_that_violates_a_claim_makes_it_fail(number, change):
    assert verdicts(planted(np.random.default_rng(1), WORLD | change))[number] == "fails"


def test_bases_that_still_learn_leave_open_what_supposes_that_they_do_not():
    results = planted(np.random.default_rng(0), WORLD | {"long": [0.05]})
    assert converged(results).outcome == "fails"
    found = verdicts(results)
    assert (found[1], found[3], found[5]) == ("undecided", "fails", "fails")
    assert [found[number] for number in (2, 4, 6, 7)] == ["holds"] * 4


def test_similar_and_dissimilar_tasks_are_compared_at_the_same_n(agreeing):
    results = planted(np.random.default_rng(0), WORLD | at("transfer_frozen", -0.2, 1))
    frame = results.frame
    fewer = frame[(frame["experiment"] == "random_halves") | (frame["n"] != 1)]
    judged = judge(CLAIMS, type(results)(fewer, {}, results.right)).set_index("number")
    # From n = 2: distant falls by 21.5 points, random halves by 10.
    assert judged.loc[6, "effect"] == pytest.approx(-0.115, abs=0.01)


def test_one_split_and_one_seed_decide_nothing(agreeing):
    frame = agreeing.frame
    one = frame[frame["split"].isin(["0", "natman"]) & (frame["seed"] == 0)]
    found = judge(CLAIMS, type(agreeing)(one, {}, agreeing.right))
    assert set(found["verdict"]) == {"undecided"} and set(found["note"]) == {"1 unit"}


def test_pure_noise_is_undecided_nearly_always():
    nothing = {kind: [0.0] * len(values) for kind, values in WORLD.items()}
    open_ = dict.fromkeys(range(1, 8), 0)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        options = {"images": 200, "images_of": "same", "alike": 0.5}
        for number, verdict in verdicts(planted(rng, nothing, 0.005, **options)).items():
            open_[number] += verdict == "undecided"
    assert min(open_.values()) >= 95, open_


def test_the_authors_networks_say_what_their_numbers_say():
    every = judge(CLAIMS, published()).set_index("number")
    for number, effect in every["effect"].dropna().items():
        assert points(effect) in CLAIMS[number - 1].paper
    found = every[every["claim"] != ""]
    assert found["verdict"].to_dict() == {
        **{2: "holds", 4: "holds"},
        **dict.fromkeys((1, 3, 5, 6, 7), "undecided"),
    }
    assert found["units"].to_dict() == {1: 4, 2: 4, 3: 0, 4: 4, 5: 0, 6: 1, 7: 0}
    assert found.loc[4, "effect"] == pytest.approx(-0.0607, abs=1e-4)
    assert found.loc[6, "effect"] == pytest.approx(-0.140, abs=1e-3)
    assert converged(published()).effect.units == 0


def test_paired_with_their_own_half_the_authors_bnb_plus_gain_as_much_as_anb_plus():
    for kind, against_mean in (("transfer_finetuned", 1.598), ("selffer_finetuned", 0.215)):
        found = 100 * gains(published(), kind)
        assert len(found) == 10
        assert found["own base"].mean() == pytest.approx(0.973, abs=5e-4)
        assert found["mean base"].mean() == pytest.approx(against_mean, abs=5e-4)
