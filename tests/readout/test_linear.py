import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from tests.readout.linear_problems import PROBLEMS, clouds, signs
from transfer_jax.readout import linear
from transfer_jax.readout.linear import (
    LinearModel,
    fit_sigmoid,
    fit_softmax,
    fit_svm,
    sigmoid_objective,
    softmax_objective,
    svm_objective,
    uniform_targets,
)
from transfer_jax.readout.solvers import Span

problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def plain_svm_objective(model, x, labels, c):
    total = 0.0
    for k in range(len(model.bias)):
        w, b = model.weights[:, k].astype(float), float(model.bias[k])
        total += (w @ w + b * b) / 2
        for features, label in zip(x.astype(float), labels, strict=True):
            total += c * max(0.0, 1 - (1 if label == k else -1) * (w @ features + b)) ** 2
    return total


def plain_softmax_objective(model, x, targets, l2):
    w, b = model.weights.astype(float), model.bias.astype(float)
    total = 0.0
    for features, target in zip(x.astype(float), targets, strict=True):
        scores = features @ w + b
        for k, share in enumerate(target):
            total -= share * np.log(np.exp(scores[k]) / np.exp(scores).sum()) / len(x)
    return total + l2 / 2 * ((w**2).sum() + (b**2).sum())


def plain_sigmoid_objective(model, x, targets, l2):
    w, b = model.weights.astype(float), model.bias.astype(float)
    total = 0.0
    for features, target in zip(x.astype(float), targets, strict=True):
        for k, t in enumerate(target):
            if t:
                total += np.log(1 + np.exp(-float(t) * (features @ w[:, k] + b[k]))) / len(x)
    return total + l2 / 2 * ((w**2).sum() + (b**2).sum())


def test_objectives_are_what_their_formulas_say():
    x, labels = PROBLEMS["overlapping"]
    rng = np.random.default_rng(1)
    model = LinearModel(rng.normal(size=(8, 4)), rng.normal(size=4))
    targets = signs(0, len(x), 4)
    assert svm_objective(model, x, labels, 0.7) == pytest.approx(
        plain_svm_objective(model, x, labels, 0.7)
    )
    soft = rng.dirichlet(np.ones(4), len(x))
    assert softmax_objective(model, x, soft, 0.1) == pytest.approx(
        plain_softmax_objective(model, x, soft, 0.1)
    )
    assert sigmoid_objective(model, x, targets, 0.1) == pytest.approx(
        plain_sigmoid_objective(model, x, targets, 0.1)
    )


@problems
@pytest.mark.parametrize("c", [0.1, 10.0])
def test_svm_solvers_reach_the_objective_of_scikit_learn_on_the_plain_features(problem, c):
    x, labels = problem
    classes = labels.max() + 1
    columns = [
        LinearSVC(C=c, dual=False, tol=1e-8, max_iter=5000).fit(x.astype(float), labels == k)
        for k in range(classes)
    ]
    reference = LinearModel(
        np.stack([column.coef_[0] for column in columns], axis=1),
        np.array([column.intercept_[0] for column in columns]),
    )
    best = svm_objective(reference, x, labels, c)
    for solver in ("sklearn", "scipy", "optax"):
        model = fit_svm(x, labels, c=c, solver=solver)
        assert svm_objective(model, x, labels, c) == pytest.approx(best, rel=1e-4), solver
        assert np.abs(model.scores(x) - reference.scores(x)).max() < 0.05, solver


@problems
@pytest.mark.parametrize("l2", [1e-1, 1e-4])
def test_softmax_reaches_the_objective_of_scikit_learn(problem, l2):
    x, labels = problem
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1, dtype=np.float64)
    reference = LogisticRegression(
        C=1 / (l2 * len(x)), fit_intercept=False, tol=1e-9, max_iter=5000
    ).fit(ones, labels)
    best = softmax_objective(
        LinearModel(reference.coef_[:, :-1].T, reference.coef_[:, -1]), x, labels, l2
    )
    # One compilation is enough to tell: test_solvers compares the two further.
    for solver in ("scipy", "optax") if problem is PROBLEMS["overlapping"] else ("scipy",):
        model = fit_softmax(x, labels, l2=l2, solver=solver)
        assert softmax_objective(model, x, labels, l2) == pytest.approx(best, rel=1e-4), solver


def test_softmax_on_distributions_equals_images_repeated_with_each_label():
    x, _ = PROBLEMS["overlapping"]
    both = uniform_targets(np.array([[1, 1, -1], [-1, 1, 0], [1, -1, -1], [0, -1, 1]] * 15))
    assert np.array_equal(both[0], [0.5, 0.5, 0]) and np.array_equal(both[1], [0, 1, 0])
    model = fit_softmax(x, both, l2=1e-2, tolerance=1e-7)
    # Images of one class twice, the others once with each of their two.
    repeats = [(i, k) for i in range(60) for k in range(3) for _ in range(int(2 * both[i, k]))]
    rows, labels = np.array(repeats).T
    ones = np.concatenate([x, np.ones((60, 1))], axis=1, dtype=np.float64)[rows]
    reference = LogisticRegression(
        C=1 / (1e-2 * len(rows)), fit_intercept=False, tol=1e-9, max_iter=5000
    ).fit(ones, labels)
    np.testing.assert_allclose(model.weights, reference.coef_[:, :-1].T, atol=2e-2)
    np.testing.assert_allclose(model.bias, reference.coef_[:, -1], atol=2e-2)


@pytest.mark.parametrize("solver", ["scipy", "optax"])
def test_sigmoid_is_a_logistic_regression_for_each_class_without_its_ignored_images(solver):
    x, _ = PROBLEMS["more features than images"]
    targets, l2 = signs(3, len(x), 4), 1e-2
    model = fit_sigmoid(x, targets, l2=l2, solver=solver, tolerance=1e-6)
    for k in range(4):
        used = targets[:, k] != 0
        ones = np.concatenate([x, np.ones((len(x), 1))], axis=1, dtype=np.float64)[used]
        reference = LogisticRegression(
            C=1 / (l2 * len(x)), fit_intercept=False, tol=1e-9, max_iter=5000
        ).fit(ones, targets[used, k])
        expected = ones @ reference.coef_[0]
        np.testing.assert_allclose(model.scores(x)[used, k], expected, atol=2e-2)


def test_svm_targets_of_zero_leave_an_image_out_of_that_class_only():
    x, _ = PROBLEMS["overlapping"]
    targets = signs(5, len(x), 2)
    for solver in ("sklearn", "scipy"):
        model = fit_svm(x, targets, solver=solver, tolerance=1e-7)
        for k in range(2):
            used = targets[:, k] != 0
            alone = fit_svm(x[used], targets[used, k : k + 1], solver=solver, tolerance=1e-7)
            np.testing.assert_allclose(model.weights[:, k], alone.weights[:, 0], atol=1e-3)
            np.testing.assert_allclose(model.bias[k], alone.bias[0], atol=1e-3)


def test_a_span_given_or_found_makes_the_same_model():
    x, labels = PROBLEMS["more features than images"]
    one, other = fit_svm(x, labels), fit_svm(Span.of(x), labels)
    assert np.array_equal(one.weights, other.weights)
    assert one.weights.dtype == np.float32 and one.weights.shape == (100, 4)


def test_separable_classes_are_told_apart_by_every_readout():
    x, labels = clouds(4, 15, 8, 12.0, seed=9)
    for model in (
        fit_svm(x, labels, c=10.0),
        fit_softmax(x, labels, l2=1e-5),
        fit_sigmoid(x, labels, l2=1e-5),
    ):
        assert np.array_equal(model.predict(x), labels)


def test_a_fit_that_stops_short_says_so(monkeypatch):
    x, labels = PROBLEMS["many classes"]
    monkeypatch.setattr("transfer_jax.readout.solvers._MAX_ITERATIONS", 2)
    with pytest.warns(RuntimeWarning, match="softmax fit by scipy stopped up to"):
        fit_softmax(x, labels, l2=1e-5, solver="scipy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_softmax(x, labels, l2=10.0, solver="scipy", tolerance=0.5)


def test_the_backend_decides_the_solver(monkeypatch):
    assert linear.default_solver("svm") == "sklearn"
    assert linear.default_solver("softmax") == "scipy"
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert {linear.default_solver(kind) for kind in ("svm", "softmax", "sigmoid")} == {"optax"}


X, Y = PROBLEMS["overlapping"]


@pytest.mark.parametrize(
    "message, call",
    [
        ("c=0: expected a positive", lambda: fit_svm(X, Y, c=0)),
        ("l2=nan", lambda: fit_softmax(X, Y, l2=float("nan"))),
        ("x holds 60 images and y 3", lambda: fit_svm(X, np.arange(3))),
        (r"labels 0 \.\. 3 are outside 0 \.\. 1", lambda: fit_svm(X, Y, num_classes=2)),
        ("class 4 needs at least", lambda: fit_svm(X, Y, num_classes=5)),
        ("class 1 needs at least one image to", lambda: fit_softmax(X, Y * 2)),
        ("class 0 needs at least one image that is", lambda: fit_svm(X, Y * 0)),
        ("expected integers", lambda: fit_svm(X, Y.astype(float))),
        ("summing to 1", lambda: fit_softmax(X, np.ones((60, 2)))),
        ("should be 1, -1 or 0", lambda: fit_sigmoid(X, np.full((60, 2), 2))),
        ("not finite", lambda: fit_svm(X * np.nan, Y)),
        ("floating-point", lambda: fit_svm(X.astype(int), Y)),
        ("solver='newton': expected", lambda: fit_svm(X, Y, solver="newton")),
        ("'sklearn' fits SVMs", lambda: fit_softmax(X, Y, solver="sklearn")),
        ("image 0 has no class", lambda: uniform_targets(np.array([[-1, 0]]))),
        (r"expected \(N, 8\)", lambda: fit_svm(X, Y).scores(X[:, :4])),
    ],
)
def test_bad_arguments_are_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
