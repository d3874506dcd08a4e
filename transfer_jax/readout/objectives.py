"""What the linear readouts minimise: one family of objectives, in float64 with its gradient.

With x' = [x, 1] a feature vector and a constant feature, V = [W; b] its weights, and scores
s = x' V, every readout minimises

    J(V) = penalty / 2 * ||V||^2 + factor * sum over images of loss(s, target)

| kind | loss | penalty | factor |
|---|---|---|---|
| svm | sum over classes of max(0, 1 - t s)^2, t in {1, 0, -1} | 1 | c |
| sigmoid | sum over classes of |t| log(1 + exp(-t s)) | l2 | 1 / N |
| softmax | cross-entropy of softmax(s) to a distribution t | l2 | 1 / N |

A target of 0 leaves the image out of that class. The bias is penalised as one more weight, which is
LIBLINEAR's objective (intercept_scaling 1): J is then strongly convex, its minimum unique, and how
far a V is from it is known without knowing the minimum: J(V) - min J <= ||gradient||^2 / (2
penalty).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import expit, logsumexp

KINDS = ("svm", "softmax", "sigmoid")
"""The linear readouts. 'svm' and 'sigmoid' learn each class against the rest."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective of the family above.

    Attributes:
      kind: one of `KINDS`.
      penalty: factor of half the squared norm of the weights and biases.
      factor: factor of the summed losses.
    """

    kind: str
    penalty: float
    factor: float

    @classmethod
    def of(cls, kind: str, regularisation: float, num_images: int) -> Objective:
        """The objective of a readout: `regularisation` is c of an SVM and l2 of the others.

        Raises:
          ValueError: an unknown kind, or a regularisation that is not a positive number.
        """
        check_kind(kind)
        name = "c" if kind == "svm" else "l2"
        if not (np.isfinite(regularisation) and regularisation > 0):
            raise ValueError(f"{name}={regularisation!r}: expected a positive number")
        if kind == "svm":
            return cls(kind, 1.0, float(regularisation))
        return cls(kind, float(regularisation), 1.0 / num_images)

    def value_and_gradient(
        self, v: np.ndarray, x: np.ndarray, targets: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """J and its gradient in the precision of its arguments.

        Args:
          v: (D + 1, K) weights and, in the last row, biases.
          x: (N, D + 1) features and, in the last column, ones.
          targets: (N, K), as the kind has them.
        """
        losses, slopes = _LOSSES[self.kind](x @ v, targets)
        value = self.penalty / 2 * np.vdot(v, v) + self.factor * losses
        return float(value), self.penalty * v + self.factor * (x.T @ slopes)

    def relative_gap(self, value: float, gradient: np.ndarray) -> float:
        """Upper bound of (J - min J) / J at a point where J and its gradient are given."""
        return float(np.vdot(gradient, gradient)) / (2 * self.penalty * value) if value else 0.0

    def curvature(self, num_classes: int) -> float:
        """About the second derivative of an image's loss in a score, where training begins."""
        return {"svm": 2.0, "sigmoid": 0.25, "softmax": 1.0 / num_classes}[self.kind]


def check_kind(kind: str) -> None:
    """Raises ValueError for a kind that is not one of `KINDS`."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(KINDS)}")


def one_vs_rest(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels (N,) as targets (N, num_classes): 1 for an image's class and -1 for the others."""
    return np.where(labels[:, None] == np.arange(num_classes), 1.0, -1.0)


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels (N,) as distributions (N, num_classes)."""
    return (labels[:, None] == np.arange(num_classes)).astype(np.float64)


def _squared_hinge(scores, targets):
    margins = np.maximum(0, np.abs(targets) - targets * scores)
    return np.vdot(margins, margins), -2 * targets * margins


def _logistic(scores, targets):
    signed = targets * scores
    return np.sum(np.abs(targets) * np.logaddexp(0, -signed)), -targets * expit(-signed)


def _cross_entropy(scores, targets):
    log_probabilities = scores - logsumexp(scores, axis=1, keepdims=True)
    return -np.vdot(targets, log_probabilities), np.exp(log_probabilities) - targets


_LOSSES = {"svm": _squared_hinge, "sigmoid": _logistic, "softmax": _cross_entropy}
