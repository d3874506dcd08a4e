"""Linear readouts of frozen features: SVMs, softmax and sigmoid regression.

Zeiler & Fergus 2013, section 5.2 and Table 6, train linear SVMs and softmax classifiers on each
layer's features; their discussion of PASCAL VOC asks for a loss that allows several objects in an
image, which is `fit_sigmoid`. `transfer_jax.readout.objectives` says exactly what is minimised; all
solvers minimise the same.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from transfer_jax.readout.objectives import Objective, one_hot, one_vs_rest
from transfer_jax.readout.solvers import Span, default_solver, solve

Features = np.ndarray | Span


@dataclasses.dataclass(frozen=True, eq=False)
class LinearModel:
    """Scores that are linear in the features.

    Attributes:
      weights: (D, K) float32.
      bias: (K,) float32.
    """

    weights: np.ndarray
    bias: np.ndarray

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores (N, K) of features x (N, D): margins of SVMs, logits of the others.

        Raises:
          ValueError: x is not of D features.
        """
        if x.ndim != 2 or x.shape[1] != len(self.weights):
            raise ValueError(
                f"x has shape {x.shape}; expected (N, {len(self.weights)}), the features that the "
                "model was fitted to"
            )
        return x @ self.weights + self.bias

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The class (N,) of the highest score, int32; of equal ones the first."""
        return np.argmax(self.scores(x), axis=1).astype(np.int32)


def fit_svm(
    x: Features,
    y: np.ndarray,
    *,
    c: float = 1.0,
    num_classes: int | None = None,
    solver: str = "auto",
    tolerance: float = 1e-5,
) -> LinearModel:
    """Linear SVMs, one class against the rest, with squared hinge loss.

    Minimises `svm_objective`. The squared hinge is LIBLINEAR's default; unlike the plain hinge it
    has a gradient everywhere, so that a solver on an accelerator reaches the same minimum.

    Args:
      x: (N, D) features, or their `Span`.
      y: (N,) labels, or (N, K) targets in {1, 0, -1}, where 0 leaves an image out of a class.
      c: weight of an image's loss against half the squared norm of a class's weights.
      num_classes: K; by default the highest label and one.
      solver: 'sklearn' (LIBLINEAR), 'scipy', 'optax', or 'auto': 'sklearn' on CPUs and 'optax' on
        accelerators.
      tolerance: iterations end when the objective is proved to be within this share of its
        minimum; a RuntimeWarning says where that failed.

    Returns:
      The model; its scores are positive where a class is predicted.

    Raises:
      ValueError: x, y and c that are not as above, or a class without images on either side.

    Example:
      >>> model = fit_svm(train_features, train_labels, c=10.0)
      >>> predicted = model.predict(test_features)
    """
    targets = _targets("svm", y, num_classes)
    return _fit("svm", x, targets, c, solver, tolerance)


def fit_softmax(
    x: Features,
    y: np.ndarray,
    *,
    l2: float = 1e-3,
    num_classes: int | None = None,
    solver: str = "auto",
    tolerance: float = 1e-5,
) -> LinearModel:
    """Multinomial logistic regression: the classifier that Zeiler & Fergus put on layer 7.

    Minimises `softmax_objective`.

    Args:
      x: (N, D) features, or their `Span`.
      y: (N,) labels, or (N, K) distributions over the classes: `uniform_targets` makes those of
        images of several classes.
      l2: factor of half the squared norm of all weights, against the mean loss. scikit-learn's C is
        1 / (N l2).
      num_classes: K; by default the highest label and one.
      solver: 'scipy', 'optax', or 'auto': 'scipy' on CPUs and 'optax' on accelerators.
      tolerance: as in `fit_svm`.

    Returns:
      The model; its scores are logits.

    Raises:
      ValueError: x, y and l2 that are not as above, or a class without images.
    """
    targets = _targets("softmax", y, num_classes)
    return _fit("softmax", x, targets, l2, solver, tolerance)


def fit_sigmoid(
    x: Features,
    targets: np.ndarray,
    *,
    l2: float = 1e-3,
    num_classes: int | None = None,
    solver: str = "auto",
    tolerance: float = 1e-5,
) -> LinearModel:
    """Independent logistic regressions, one a class, for images of several classes.

    Minimises `sigmoid_objective`.

    Args:
      x: (N, D) features, or their `Span`.
      targets: (N, K) in {1, 0, -1}, where 0 leaves an image out of a class (VOC's difficult
        objects); or (N,) labels.
      l2: factor of half the squared norm of all weights, against the mean over images of the loss
        summed over classes.
      num_classes, solver, tolerance: as in `fit_softmax`.

    Returns:
      The model; its scores are log-odds of each class.

    Raises:
      ValueError: as `fit_svm`.
    """
    targets = _targets("sigmoid", targets, num_classes)
    return _fit("sigmoid", x, targets, l2, solver, tolerance)


def uniform_targets(targets: np.ndarray) -> np.ndarray:
    """Targets in {1, 0, -1} (N, K) as distributions, uniform over an image's classes.

    Training a softmax on an image drawn once with each of its labels amounts to this.

    Raises:
      ValueError: an image without any class.
    """
    positive = (np.asarray(targets) > 0).astype(np.float64)
    counts = positive.sum(axis=1, keepdims=True)
    if not counts.all():
        raise ValueError(f"image {int(np.argmin(counts))} has no class; leave such images out")
    return positive / counts


def svm_objective(model: LinearModel, x: np.ndarray, y: np.ndarray, c: float) -> float:
    """Sum over classes of (||w||^2 + b^2) / 2 + c * sum over images of max(0, 1 - t s)^2.

    Computed in float64. Arguments as in `fit_svm`.
    """
    return _value("svm", model, x, y, c)


def softmax_objective(model: LinearModel, x: np.ndarray, y: np.ndarray, l2: float) -> float:
    """Mean cross-entropy in nats + l2 / 2 * (||W||^2 + ||b||^2), in float64; see `fit_softmax`."""
    return _value("softmax", model, x, y, l2)


def sigmoid_objective(model: LinearModel, x: np.ndarray, targets: np.ndarray, l2: float) -> float:
    """Mean over images of the sum over classes of log(1 + exp(-t s)), where t is not 0,
    + l2 / 2 * (||W||^2 + ||b||^2), in float64; see `fit_sigmoid`."""
    return _value("sigmoid", model, x, targets, l2)


def _fit(kind, x, targets, regularisation, solver, tolerance) -> LinearModel:
    span = as_span(x, len(targets))
    objective = Objective.of(kind, regularisation, len(targets))
    solver = default_solver(kind) if solver == "auto" else solver
    v = solve(objective, span.coordinates, span.energies, targets, solver, tolerance)
    weights = span.weights(v[:-1])
    return LinearModel(weights.astype(np.float32), v[-1].astype(np.float32))


def _value(kind, model, x, y, regularisation) -> float:
    targets = _targets(kind, y, len(model.bias))
    v = np.concatenate([model.weights, model.bias[None]]).astype(np.float64)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1, dtype=np.float64)
    return Objective.of(kind, regularisation, len(x)).value_and_gradient(v, x, targets)[0]


def as_span(x: Features, count: int) -> Span:
    """The span of checked features, of which there should be `count`."""
    features = x.features if isinstance(x, Span) else x
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise ValueError(
            f"x has shape {features.shape} of {features.dtype}; expected (N, D) floating-point "
            "features"
        )
    if len(features) != count:
        raise ValueError(f"x holds {len(features)} images and y {count}")
    if isinstance(x, Span):
        return x
    if not np.isfinite(features).all():
        raise ValueError("x holds values that are not finite")
    return Span.of(features)


def _targets(kind, y, num_classes) -> np.ndarray:
    """Labels, distributions or signs as the targets that a kind's loss takes; every class used."""
    targets = as_targets(kind, y, num_classes)
    used = (targets > 0).any(axis=0)
    if kind != "softmax":
        used &= (targets < 0).any(axis=0)
    if not used.all():
        wanted = "one image" if kind == "softmax" else "one image that is of it and one that is not"
        raise ValueError(f"class {int(np.argmin(used))} needs at least {wanted} to learn from")
    return targets


def as_targets(kind: str, y: np.ndarray, num_classes: int | None = None) -> np.ndarray:
    """The (N, K) float64 targets of a kind of readout.

    Args:
      kind: one of `KINDS`.
      y: (N,) labels, or (N, K): distributions for 'softmax', {1, 0, -1} for the others.
      num_classes: K; by default the highest label and one.

    Raises:
      ValueError: labels or targets that are not such.
    """
    y = np.asarray(y)
    if y.ndim not in (1, 2) or not len(y):
        raise ValueError(f"y has shape {y.shape}; expected (N,) labels or (N, K) targets")
    if y.ndim == 1:
        if not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"labels are of {y.dtype}; expected integers")
        num_classes = int(y.max()) + 1 if num_classes is None else num_classes
        if y.min() < 0 or y.max() >= num_classes:
            raise ValueError(f"labels {y.min()} .. {y.max()} are outside 0 .. {num_classes - 1}")
        return one_hot(y, num_classes) if kind == "softmax" else one_vs_rest(y, num_classes)
    if num_classes not in (None, y.shape[1]):
        raise ValueError(f"targets of {y.shape[1]} classes were given with {num_classes=}")
    y = y.astype(np.float64)
    if kind == "softmax":
        if not ((y >= 0).all() and np.allclose(y.sum(axis=1), 1)):
            raise ValueError("softmax targets should be distributions: not negative, summing to 1")
    elif not np.isin(y, (-1, 0, 1)).all():
        raise ValueError(f"targets of a {kind} should be 1, -1 or 0 (left out)")
    return y
