import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from tests.readout.linear_problems import clouds, signs
from transfer_jax.readout.linear import LinearModel, fit_svm, svm_objective
from transfer_jax.readout.objectives import KINDS, Objective, one_hot
from transfer_jax.readout.solvers import Span, solve


@given(st.integers(2, 12), st.integers(1, 30), st.integers(1, 4), st.integers(0, 99))
@hypothesis_settings(max_examples=25)
def test_a_span_keeps_inner_products_scores_and_lengths_of_weights(count, size, rank, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, rank)) @ rng.normal(size=(rank, size))
    span = Span.of(x)
    assert span.coordinates.shape == (count, min(count, size, rank))
    np.testing.assert_allclose(span.coordinates @ span.coordinates.T, x @ x.T, atol=1e-8)
    np.testing.assert_allclose((span.coordinates**2).sum(axis=0), span.energies, rtol=1e-5)
    v = rng.normal(size=(len(span.energies), 2))
    w = span.weights(v)
    np.testing.assert_allclose(x @ w, span.coordinates @ v, atol=1e-5)
    np.testing.assert_allclose(w.T @ w, v.T @ v, atol=1e-5)


def test_a_span_of_nothing_but_zeros_has_no_axes_and_leaves_the_bias():
    x = np.zeros((6, 3), np.float32)
    model = fit_svm(x, np.array([0, 0, 0, 0, 1, 1]), solver="scipy", tolerance=1e-9)
    assert not model.weights.any()
    # d/db of b^2 / 2 + 4 (1 - b)^2 + 2 (1 + b)^2 is 13 b - 4.
    np.testing.assert_allclose(model.bias, [4 / 13, -4 / 13], atol=1e-4)


def test_fitting_in_the_span_equals_fitting_all_features():
    x, labels = clouds(3, 8, 60, 2.0)
    span = Span.of(x)
    assert span.coordinates.shape[1] < 60
    axes, plain = np.eye(60), Objective.of("svm", 1.0, 24)
    targets = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    v = solve(plain, x @ axes, np.ones(60), targets, "scipy", 1e-9)
    whole = LinearModel(v[:-1], v[-1])
    model = fit_svm(span, labels, solver="scipy", tolerance=1e-9)
    np.testing.assert_allclose(model.scores(x), whole.scores(x), atol=1e-3)
    assert svm_objective(model, x, labels, 1.0) == pytest.approx(
        svm_objective(whole, x, labels, 1.0), rel=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(9, 4)), rng.normal(size=(4, 3))
    targets = one_hot(np.arange(9) % 3, 3) if kind == "softmax" else signs(1, 9, 3)
    objective = Objective.of(kind, 0.3, 9)
    numeric = approx_fprime(
        v.ravel(), lambda u: objective.value_and_gradient(u.reshape(4, 3), x, targets)[0], 1e-7
    )
    gradient = objective.value_and_gradient(v, x, targets)[1]
    np.testing.assert_allclose(gradient.ravel(), numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_proved_gap_is_no_smaller_than_the_true_one(kind):
    x, labels = clouds(3, 10, 5, 1.0)
    targets = one_hot(labels, 3) if kind == "softmax" else signs(2, 30, 3)
    objective, span = Objective.of(kind, 0.05, 30), Span.of(x)
    ones = np.concatenate([span.coordinates, np.ones((30, 1))], axis=1)
    arguments = (objective, span.coordinates, span.energies, targets)
    best = objective.value_and_gradient(solve(*arguments, "scipy", 1e-11), ones, targets)[0]
    for tolerance in (1e-1, 1e-3, 1e-5):
        for solver in ("scipy", "optax"):
            v = solve(*arguments, solver, tolerance)
            value, gradient = objective.value_and_gradient(v, ones, targets)
            gap = (value - best) / value
            assert -1e-9 < gap <= objective.relative_gap(value, gradient) + 1e-9
            assert gap <= 1.01 * tolerance


def test_a_good_start_ends_where_a_bad_one_does():
    x, labels = clouds(3, 10, 5, 1.0)
    targets, span = one_hot(labels, 3), Span.of(x)
    arguments = (Objective.of("softmax", 0.01, 30), span.coordinates, span.energies, targets)
    cold = solve(*arguments, "scipy", 1e-9)
    for solver in ("scipy", "optax"):
        warm = solve(*arguments, solver, 1e-6, cold + 1.0)
        np.testing.assert_allclose(warm, cold, atol=2e-2)
