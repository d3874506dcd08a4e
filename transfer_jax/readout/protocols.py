"""How features are compared: fitted on some images of a dataset, tested on others.

Caltech-101 and 256 are compared by the mean per-class accuracy over folds (Zeiler & Fergus 2013,
Tables 3, 4 and 6, Figure 7), PASCAL VOC by each class's average precision (Table 5).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.special import log_softmax

from transfer_jax.readout.linear import (
    LinearModel,
    as_span,
    fit_sigmoid,
    fit_softmax,
    fit_svm,
    uniform_targets,
)
from transfer_jax.readout.metrics import average_precisions, mean_per_class_accuracy
from transfer_jax.readout.objectives import check_kind
from transfer_jax.readout.preprocessing import Standardisation
from transfer_jax.readout.selection import DEFAULTS, choose


@dataclasses.dataclass(frozen=True)
class Summary:
    """A figure over folds, such as the rows of Table 6.

    Attributes:
      mean: over folds.
      std: standard deviation between folds (of the sample, n - 1); None of one fold.
      count: number of folds.
    """

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Summarises one value for each fold.

        Raises:
          ValueError: no values, or one that is not finite.
        """
        values = [float(value) for value in values]
        if not values or not all(map(math.isfinite, values)):
            raise ValueError(f"expected at least one value, all of them finite, got {values}")
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(float(np.mean(values)), std, len(values))

    def __str__(self) -> str:
        """Fractions in percent: '86.2 ± 0.8'."""
        spread = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


@dataclasses.dataclass(frozen=True, eq=False)
class FoldFeatures:
    """Features of one fold's images.

    Attributes:
      train: layer -> (N, D) features of the training images.
      train_labels: (N,) classes in 0 .. K - 1.
      test: layer -> (M, D) features of the test images.
      test_labels: (M,) classes.
    """

    train: Mapping[str, np.ndarray]
    train_labels: np.ndarray
    test: Mapping[str, np.ndarray]
    test_labels: np.ndarray


def fit_readout(
    x: np.ndarray,
    y: np.ndarray,
    kind: str = "svm",
    *,
    regularisation: float | None = None,
    standardisation: str = "common",
    solver: str = "auto",
    seed: int = 0,
) -> LinearModel:
    """Standardises training features, chooses the regularisation, and fits a readout.

    Args:
      x: (N, D) training features.
      y: (N,) labels, or (N, K) targets in {1, 0, -1}. A softmax then learns uniform distributions
        over each image's classes, and passes over images without any.
      kind: 'svm', 'softmax' or 'sigmoid'.
      regularisation: c of an SVM or l2 of the others; None chooses one by three-fold
        cross-validation on the training images (`choose`), or takes `selection.DEFAULTS` where a
        class has fewer than two images.
      standardisation: how features are centred and scaled, see `Standardisation.of`.
      solver: as in `fit_svm`.
      seed: of the cross-validation.

    Returns:
      A model of features as they come; the standardisation is folded into it.

    Raises:
      ValueError: as `fit_svm`, `fit_softmax`, `fit_sigmoid`.
    """
    return _fit_kinds(x, y, (kind,), regularisation, standardisation, solver, seed)[kind]


def layer_accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    kind: str = "svm",
    *,
    regularisation: float | None = None,
    standardisation: str = "common",
    solver: str = "auto",
    seed: int = 0,
) -> float:
    """Mean per-class accuracy on test images of a readout fitted to training images.

    Args:
      train_features, train_labels: (N, D) and (N,).
      test_features, test_labels: (M, D) and (M,).
      kind, regularisation, standardisation, solver, seed: as in `fit_readout`.

    Raises:
      ValueError: as `fit_readout`, and for a class without test images.
    """
    model = fit_readout(
        train_features,
        train_labels,
        kind,
        regularisation=regularisation,
        standardisation=standardisation,
        solver=solver,
        seed=seed,
    )
    return mean_per_class_accuracy(model.scores(test_features), test_labels)


def layer_table(
    folds: Iterable[FoldFeatures],
    kinds: Sequence[str] = ("svm", "softmax"),
    *,
    standardisation: str = "common",
    solver: str = "auto",
    seed: int = 0,
) -> dict[tuple[str, str], Summary]:
    """Mean per-class accuracy of each readout on each layer, over folds: Table 6.

    Args:
      folds: features of each fold, one at a time if they come from a generator; all of the same
        layers.
      kinds: the readouts. Each chooses its regularisation anew on each fold's training images.
      standardisation, solver, seed: as in `fit_readout`.

    Returns:
      (kind, layer) -> Summary.

    Raises:
      ValueError: as `layer_accuracy`; folds of different layers, or none.
    """
    values: dict[tuple[str, str], list[float]] = {}
    count = 0
    for count, fold in enumerate(folds, start=1):  # noqa: B007
        for layer, x in fold.train.items():
            models = _fit_kinds(x, fold.train_labels, kinds, None, standardisation, solver, seed)
            for kind, model in models.items():
                scores = model.scores(fold.test[layer])
                accuracy = mean_per_class_accuracy(scores, fold.test_labels)
                values.setdefault((kind, layer), []).append(accuracy)
    if not values or any(len(accuracies) != count for accuracies in values.values()):
        raise ValueError(f"expected at least one fold, and the same layers in all {count}")
    return {key: Summary.of(accuracies) for key, accuracies in values.items()}


def layer_average_precisions(
    train_features: np.ndarray,
    train_targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    kind: str = "softmax",
    *,
    method: str = "area",
    regularisation: float | None = None,
    standardisation: str = "common",
    solver: str = "auto",
    seed: int = 0,
) -> np.ndarray:
    """Average precision (K,) of each class on test images that may be of several: Table 5.

    Images are ranked by the class's probability ('softmax'), log-odds ('sigmoid') or margin
    ('svm').

    Args:
      train_features, train_targets: (N, D) and (N, K) in {1, 0 left out, -1}.
      test_features, test_targets: (M, D) and (M, K).
      kind: 'softmax' is what the paper does, 'sigmoid' what its discussion asks for.
      method: 'area' (VOC 2010 on) or 'voc2007', see `average_precision`.
      regularisation, standardisation, solver, seed: as in `fit_readout`.
    """
    model = fit_readout(
        train_features,
        train_targets,
        kind,
        regularisation=regularisation,
        standardisation=standardisation,
        solver=solver,
        seed=seed,
    )
    scores = model.scores(test_features)
    if kind == "softmax":
        # A logit says how likely a class is only beside the image's other logits.
        scores = log_softmax(scores, axis=1)
    return average_precisions(scores, test_targets, method)


def nested_subsets(
    labels: np.ndarray, counts: Sequence[int], seed: int = 0
) -> dict[int, np.ndarray]:
    """Subsets of training images with a few of each class, the smaller ones inside the larger.

    Args:
      labels: (N,) in 0 .. K - 1.
      counts: images of each class, in any order.
      seed: of the order in which a class's images are taken.

    Returns:
      count -> (count * K,) positions in `labels`, ascending.

    Raises:
      ValueError: a count below 1, or above what a class has.
    """
    labels = np.asarray(labels)
    available = np.bincount(labels)
    for count in counts:
        if not 1 <= count <= available.min():
            raise ValueError(
                f"{count} images a class were asked for; class {int(available.argmin())} has "
                f"{available.min()}"
            )
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.cumsum(available) - available
    rank = np.empty(len(labels), np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(starts, available)
    return {count: np.flatnonzero(rank < count) for count in counts}


def accuracy_curve(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    counts: Sequence[int],
    kind: str = "softmax",
    *,
    seed: int = 0,
    **options,
) -> dict[int, float]:
    """Mean per-class accuracy by the number of training images a class: Figure 7.

    Everything is fitted to the subset alone, the standardisation and regularisation included.

    Args:
      train_features, train_labels, test_features, test_labels, kind: as in `layer_accuracy`.
      counts: images a class, as `nested_subsets` takes them.
      seed: of the subsets and of the cross-validation.
      **options: others of `layer_accuracy`.

    Returns:
      count -> accuracy.
    """
    train_labels = np.asarray(train_labels)
    return {
        count: layer_accuracy(
            train_features[chosen],
            train_labels[chosen],
            test_features,
            test_labels,
            kind,
            seed=seed,
            **options,
        )
        for count, chosen in nested_subsets(train_labels, counts, seed).items()
    }


def _fit_kinds(x, y, kinds, regularisation, how, solver, seed) -> dict[str, LinearModel]:
    """Models of several kinds, which share the standardisation and the span."""
    for kind in kinds:
        check_kind(kind)
    y = np.asarray(y)
    labelled = np.ones(len(y), bool) if y.ndim == 1 else (y > 0).any(axis=1)
    standardisation = Standardisation.of(x, how)
    standardised = standardisation(x)
    span = as_span(standardised, len(y))
    models = {}
    for kind in kinds:
        images, targets = span, y
        if kind == "softmax" and not labelled.all():
            images, targets = as_span(standardised[labelled], labelled.sum()), y[labelled]
        chosen = regularisation
        if chosen is None:
            smallest = (
                np.bincount(targets).min() if y.ndim == 1 else (targets > 0).sum(axis=0).min()
            )
            enough = smallest >= 2
            chosen = choose(images, targets, kind=kind, seed=seed) if enough else DEFAULTS[kind]
        if kind == "svm":
            model = fit_svm(images, targets, c=chosen, solver=solver)
        elif kind == "sigmoid":
            model = fit_sigmoid(images, targets, l2=chosen, solver=solver)
        else:
            if y.ndim == 2:
                targets = uniform_targets(targets)
            model = fit_softmax(images, targets, l2=chosen, solver=solver)
        models[kind] = standardisation.unfolded(model)
    return models
