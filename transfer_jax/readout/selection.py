"""How much to regularise, decided by cross-validation on the training images alone."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from scipy.special import log_softmax

from transfer_jax.readout.linear import Features, as_span, as_targets, uniform_targets
from transfer_jax.readout.metrics import mean_average_precision, mean_per_class_accuracy
from transfer_jax.readout.objectives import Objective, check_kind
from transfer_jax.readout.solvers import solve

GRIDS = {
    "svm": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "softmax": (1e-2, 3e-3, 1e-3, 3e-4, 1e-4),
    "sigmoid": (1e-2, 3e-3, 1e-3, 3e-4, 1e-4),
}
"""c of SVMs and l2 of the others to choose from, the strongest regularisation first; made for
features of mean squared length 1 (`Standardisation`)."""

DEFAULTS = {"svm": 1.0, "softmax": 1e-3, "sigmoid": 1e-3}
"""What is used where there are too few images to choose by."""

_TOLERANCE = 1e-2


def choose(
    x: Features,
    y: np.ndarray,
    *,
    kind: str,
    grid: Sequence[float] | None = None,
    folds: int = 3,
    seed: int = 0,
) -> float:
    """Chooses a readout's regularisation by cross-validation.

    Each image is scored by a readout that was fitted without its fold. With labels the criterion
    is the mean per-class accuracy of those scores, with targets of several classes an image the
    mean over classes of the average precision. Of equal values the strongest regularisation wins.

    Args:
      x: (N, D) training features, standardised, or their `Span`. (Fits without a fold still use
        the span of all: that changes neither objective nor scores.)
      y: (N,) labels, or (N, K) targets in {1, 0, -1}.
      kind: 'svm', 'softmax' or 'sigmoid'.
      grid: values of c ('svm') or l2, the strongest regularisation first; by default `GRIDS`.
      folds: number of parts; an image counts to the rarest of its classes, and each class is
        dealt out evenly.
      seed: of the deal.

    Returns:
      One of the grid's values.

    Raises:
      ValueError: fewer than two folds, a class with fewer than two images, or, for 'softmax', an
        image without a class.
    """
    check_kind(kind)
    grid = GRIDS[kind] if grid is None else tuple(grid)
    y = np.asarray(y)
    span = as_span(x, len(y))
    signs = as_targets("svm", y)
    counts = (signs > 0).sum(axis=0)
    if folds < 2 or not grid:
        raise ValueError(f"folds={folds} and {len(grid)} values: expected at least 2 and 1")
    if counts.min() < 2:
        raise ValueError(
            f"class {int(np.argmin(counts))} has {counts.min()} training images; "
            "cross-validation needs two"
        )
    parts = _deal(signs, counts, folds, seed)
    targets = uniform_targets(signs) if kind == "softmax" else signs
    solver = "scipy" if jax.default_backend() == "cpu" else "optax"
    scores = np.empty((len(grid), *signs.shape))
    for part in range(folds):
        fitted, held = parts != part, parts == part
        images, energies = span.coordinates[fitted], span.energies * fitted.mean()
        v = None
        for place, regularisation in enumerate(grid):
            objective = Objective.of(kind, regularisation, len(images))
            v = solve(objective, images, energies, targets[fitted], solver, _TOLERANCE, v)
            scores[place, held] = span.coordinates[held] @ v[:-1] + v[-1]
    if kind == "softmax":
        scores = log_softmax(scores, axis=2)
    if y.ndim == 1:
        values = [mean_per_class_accuracy(each, y) for each in scores]
    else:
        values = [mean_average_precision(each, signs) for each in scores]
    return float(grid[int(np.argmax(values))])


def _deal(signs: np.ndarray, counts: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold (N,) of each image."""
    rarity = np.where(signs > 0, counts, np.inf)
    group = np.where((signs > 0).any(axis=1), rarity.argmin(axis=1), len(counts))
    shuffled = np.random.default_rng(seed).permutation(len(signs))
    dealt = shuffled[np.argsort(group[shuffled], kind="stable")]
    parts = np.empty(len(signs), np.int64)
    parts[dealt] = np.arange(len(signs)) % folds
    return parts
