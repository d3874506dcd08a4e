"""Accuracies and average precisions.

Equal scores are never resolved in a classifier's favour: a class that scores as high as the true
one ranks above it, and images of one score are retrieved together.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import precision_recall_curve


def right_bits(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether each image's class is among the k highest of its scores (N, K): bool (N,).

    A class that ties with the true one `labels` (N,), or has NaN for a score, counts as higher.
    """
    true = np.take_along_axis(np.asarray(scores), np.asarray(labels)[:, None], axis=1)
    return np.sum(~(scores < true), axis=1) <= k


def mean_per_class_accuracy(right: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the share of their images that are right: bool (N,) and labels (N,).

    Classes of many test images count no more than those of few, as Caltech-101 and 256 are
    compared (Zeiler & Fergus 2013, Tables 3 and 4).
    """
    _, classes = np.unique(labels, return_inverse=True)
    return float((np.bincount(classes, weights=right) / np.bincount(classes)).mean())


def average_precision(
    scores: np.ndarray, labels: np.ndarray, rule: str = "area", positives: int | None = None
) -> float:
    """Average precision of one class, its images retrieved from the highest score down.

    The precision at a recall is the highest that any recall at least as high has. Rule 'voc2007'
    takes its mean at the recalls 0, 0.1, ..., 1 (VOC 2007 to 2009), rule 'area' the area under it
    (VOC 2010 on). Rule 'trapezoid' takes precisions as they are: before the first image 1, and
    between one image and the next on a straight line (the programs of Oxford5k and of Holidays);
    of equal scores, those of other classes come first.

    Labels are 1 for images of the class, 0 for others, -1 for difficult ones, left out; `positives`
    is how many there are, where not all were retrieved. NaN where there are none.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    retrieved = int((labels == 1).sum())
    positives = retrieved if positives is None else positives
    if not retrieved:
        return 0.0 if positives else float("nan")
    known = labels >= 0
    if rule == "trapezoid":
        right = labels[known][np.lexsort((labels[known], -scores[known]))] == 1
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        return float((precision + np.append(1.0, precision[:-1]))[right].mean() / 2)
    precision, recall, _ = precision_recall_curve(labels[known], scores[known])
    # From recall 1 down; the last point (recall 0, precision 1) is scikit-learn's own addition.
    envelope = np.maximum.accumulate(precision[:-1])
    recall *= retrieved / positives
    if rule == "area":
        return float(-np.diff(recall) @ envelope)
    tenths = np.arange(11) / 10 - 1e-9  # a recall of 3 / 10 reaches 0.3
    return float(np.mean([envelope[recall[:-1] >= tenth].max(initial=0) for tenth in tenths]))


def average_precisions(scores: np.ndarray, labels: np.ndarray, rule: str = "area") -> np.ndarray:
    """`average_precision` (K,) of each class, from scores and labels (N, K)."""
    columns = zip(scores.T, labels.T, strict=True)
    return np.array([average_precision(*column, rule) for column in columns])
