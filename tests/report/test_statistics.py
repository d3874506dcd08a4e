import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from transfer_jax.report.results import Row
from transfer_jax.report.statistics import (
    MINUS,
    UNKNOWN_NOISE,
    Contrast,
    Estimate,
    binomial_error,
    estimate,
    layers,
    mean_and_spread,
    percent,
    points,
)


def network(name, accuracy, hash=""):
    return Row("e", "0", name, "B", 0, "base", None, accuracy, hash=hash)


def pair(index, a, b, hash=("", "")):
    terms = ((1.0, network(f"a{index}", a, hash[0])), (-1.0, network(f"b{index}", b, hash[1])))
    return Contrast(terms)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_equal_weights_give_the_textbook_standard_error(pairs):
    found = estimate([pair(i, a, b) for i, (a, b) in enumerate(pairs)], {})
    values = [a - b for a, b in pairs]
    assert found.value == pytest.approx(np.mean(values), abs=1e-12)
    assert found.error == pytest.approx(stats.sem(values), abs=1e-12)
    assert (found.units, found.networks) == (len(pairs), 2 * len(pairs))


def test_the_error_from_images_agrees_with_drawing_them():
    num_eval, p, q = 400, 0.7, 0.6
    found = estimate([pair(0, p, q, ("p", "q"))], {"p": num_eval, "q": num_eval})
    rng = np.random.default_rng(0)
    draws = rng.binomial(num_eval, [p, q], size=(20000, 2)) / num_eval
    assert found.error == pytest.approx(np.std(draws[:, 0] - draws[:, 1]), rel=0.03)


def test_a_shared_base_is_counted_once_with_its_whole_weight():
    base = network("base", 0.5, "base")
    cells = [network(f"c{i}", 0.5, f"c{i}") for i in range(4)]
    terms = tuple(t for c in cells for t in ((0.25, c), (-0.25, base)))
    found = estimate([Contrast(terms)], dict.fromkeys(["base", "c0", "c1", "c2", "c3"], 100))
    assert found.error == pytest.approx(np.sqrt((1 + 1 / 4) * 0.25 / 100))
    assert found.networks == 5


def test_the_larger_error_wins_and_partial_knowledge_counts_for_nothing():
    contrasts = [pair(i, 0.6, 0.5, (f"a{i}", f"b{i}")) for i in range(2)]
    known = dict.fromkeys(["a0", "b0", "a1", "b1"], 100)
    assert estimate(contrasts, known).error > 0.03
    assert estimate(contrasts, {"a0": 100}).error == pytest.approx(0.0, abs=1e-12)
    assert estimate(contrasts[:1], {"a0": 100}).error is None
    assert estimate([], known) is None


def test_weights_average_cells_rather_than_units():
    contrasts = [
        dataclasses.replace(pair(0, 0.9, 0.5), weight=3.0),
        dataclasses.replace(pair(1, 0.5, 0.5), weight=1.0),
    ]
    assert estimate(contrasts, {}).value == pytest.approx(0.3)


def test_only_what_exceeds_two_errors_counts():
    assert Estimate(0.021, 0.01, 1, 2).is_gain and not Estimate(0.019, 0.01, 1, 2).is_gain
    assert (-Estimate(0.021, 0.01, 1, 2)).is_drop and not Estimate(-0.019, 0.01, 1, 2).is_drop
    assert Estimate(UNKNOWN_NOISE * 1.1, None, 1, 2).is_gain
    assert not Estimate(UNKNOWN_NOISE * 0.9, None, 1, 2).is_gain
    difference = Estimate(0.5, 0.03, 1, 2) - Estimate(0.2, 0.04, 2, 4)
    assert (difference.value, difference.error) == (pytest.approx(0.3), pytest.approx(0.05))
    assert (Estimate(0.5, 0.03, 1, 2) - Estimate(0.2, None, 2, 4)).error is None


def test_numbers_in_words():
    assert str(Estimate(-0.0123, 0.0042, 2, 4)) == f"{MINUS}1.2 ± 0.4"
    assert (points(0.0123), percent(0.62514, 2), percent(None)) == ("+1.2", "62.51", "")
    assert layers([7, 1, 2, 3, 5]) == "n = 1 to 3, 5, 7"
    assert layers([6, 7]) == "n = 6, 7"


def test_a_binomial_error_is_the_deviation_of_a_share():
    for share, count in ((0.3, 50), (0.99, 7), (1.0, 12)):
        expected = stats.binom(count, share).std() / count
        assert binomial_error(share, count) == pytest.approx(expected)


def test_mean_and_spread_are_in_percent():
    values = [0.739, 0.742, 0.745]
    assert mean_and_spread(values) == "74.2 ± 0.3"
    assert mean_and_spread(iter(values), digits=2) == f"74.20 ± {100 * np.std(values, ddof=1):.2f}"
    assert mean_and_spread([0.6251]) == "62.5" and mean_and_spread([]) == ""
