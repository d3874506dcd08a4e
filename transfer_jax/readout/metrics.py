"""Accuracies and average precisions.

Nothing depends on the order of the images or classes. Equal scores are never resolved in a
classifier's favour: a class that scores as high as the true one ranks above it, and images of one
score are retrieved together.
"""

from __future__ import annotations

import numpy as np

AVERAGE_PRECISIONS = ("voc2007", "area", "sum")
"""See `average_precision`."""


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of the images whose class is among the k highest scores.

    Args:
      scores: (N, K), higher is likelier. A class that ties with the true one, or has no number for
        a score, counts as higher.
      labels: (N,) in 0 .. K - 1.
      k: how many guesses there are; 5 in ILSVRC.

    Raises:
      ValueError: shapes or labels that do not fit, or no images.
    """
    if k < 1:
        raise ValueError(f"k={k}: expected at least 1")
    return float(np.mean(_hits(scores, labels, k)))


def per_class_accuracy(
    predictions: np.ndarray, labels: np.ndarray, num_classes: int | None = None
) -> np.ndarray:
    """Share (K,) of each class's images that are given their class.

    Args:
      predictions: (N, K) scores, as in `top_k_accuracy`, or (N,) predicted classes.
      labels: (N,) in 0 .. K - 1.
      num_classes: K, which predicted classes need and scores imply.

    Raises:
      ValueError: shapes or labels that do not fit, or a class without images: its accuracy is
        not known, and leaving it out would change the task.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.ndim == 2:
        hits = _hits(predictions, labels, 1)
        if num_classes not in (None, predictions.shape[1]):
            raise ValueError(f"{num_classes=}, but there are scores of {predictions.shape[1]}")
        num_classes = predictions.shape[1]
    else:
        if num_classes is None:
            raise ValueError("predicted classes need num_classes")
        _check_labels(predictions, labels, num_classes)
        hits = predictions == labels
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise ValueError(
            f"class {int(np.argmin(counts))} of {num_classes} has no test image, so there is no "
            "mean over classes"
        )
    return np.bincount(labels, weights=hits, minlength=num_classes) / counts


def mean_per_class_accuracy(
    predictions: np.ndarray, labels: np.ndarray, num_classes: int | None = None
) -> float:
    """Mean over classes of their accuracy: the number that Caltech-101 and 256 are compared by.

    Arguments and errors as in `per_class_accuracy`. Classes of many test images count no more than
    those of few (Zeiler & Fergus 2013, Tables 3 and 4).
    """
    return float(per_class_accuracy(predictions, labels, num_classes).mean())


def average_precision(scores: np.ndarray, targets: np.ndarray, method: str = "area") -> float:
    """Average precision of one class.

    Images are retrieved from the highest score down, those of one score together. Each distinct
    score gives a precision (share of the retrieved that are of the class) and a recall (share of
    the class that is retrieved).

    Args:
      scores: (N,), finite.
      targets: (N,) 1 for images of the class, -1 for others, 0 for images that are left out (VOC's
        difficult objects).
      method: 'voc2007', the mean over recalls 0, 0.1, ..., 1 of the highest precision at that
        recall or more (VOC 2007 to 2009); 'area', the area under that interpolated curve (VOC 2010
        on); or 'sum', the area under the steps of the curve as it is, scikit-learn's
        `average_precision_score`.

    Returns:
      The average precision in 0 .. 1.

    Raises:
      ValueError: an unknown method, shapes that differ, scores that are not finite, other targets,
        or no image of the class.

    Example:
      >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([1, -1, 1]))
      0.8333333333333333
    """
    if method not in AVERAGE_PRECISIONS:
        raise ValueError(f"method={method!r}: expected one of {', '.join(AVERAGE_PRECISIONS)}")
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 1 or scores.shape != targets.shape:
        raise ValueError(f"scores {scores.shape} and targets {targets.shape} should both be (N,)")
    if not np.isin(targets, (-1, 0, 1)).all():
        raise ValueError("targets should be 1, -1 or 0 (left out)")
    scores, positive = scores[targets != 0], targets[targets != 0] > 0
    if not np.isfinite(scores).all():
        raise ValueError("scores hold values that are not finite")
    total = int(positive.sum())
    if not total:
        raise ValueError("no image is of the class, so it has no average precision")
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = np.cumsum(positive[order])[last_of_score]
    precision = found / (last_of_score + 1)
    if method != "sum":
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    if method == "voc2007":
        # In integers, as 3 / 10 and 0.1 * 3 differ in floating point.
        places = [np.searchsorted(10 * found, tenth * total) for tenth in range(11)]
        return float(np.mean(precision[places]))
    return float(np.sum(np.diff(found, prepend=0) * precision) / total)


def average_precisions(scores: np.ndarray, targets: np.ndarray, method: str = "area") -> np.ndarray:
    """Average precision (K,) of each class, from scores and targets (N, K).

    Raises:
      ValueError: as `average_precision`; the message names the class.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 2 or scores.shape != targets.shape:
        raise ValueError(f"scores {scores.shape} and targets {targets.shape} should both be (N, K)")
    values = []
    for index, (score, target) in enumerate(zip(scores.T, targets.T, strict=True)):
        try:
            values.append(average_precision(score, target, method))
        except ValueError as error:
            raise ValueError(f"class {index}: {error}") from error
    return np.array(values)


def mean_average_precision(scores: np.ndarray, targets: np.ndarray, method: str = "area") -> float:
    """Mean over classes of the average precision; arguments as in `average_precisions`."""
    return float(average_precisions(scores, targets, method).mean())


def _hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {scores.shape}; expected (N, K)")
    _check_labels(scores, labels, scores.shape[1])
    true = np.take_along_axis(scores, labels[:, None], axis=1)
    return np.sum(~(scores < true), axis=1) <= k


def _check_labels(predictions: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels have shape {labels.shape} of {labels.dtype}; expected (N,) ints")
    if len(predictions) != len(labels) or not len(labels):
        raise ValueError(f"{len(predictions)} predictions were given with {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels {labels.min()} .. {labels.max()} are outside 0 .. {num_classes - 1}"
        )
