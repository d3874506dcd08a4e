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


# What each image adds. An accuracy is the mean of right and wrong images, whose spread is the noise
# of the images. Other measures are no plain means; of them an image adds the measure plus N times
# the derivative by its weight (the infinitesimal jackknife), which has that mean and that spread.


def class_accuracy_by_image(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each of N images adds to `mean_per_class_accuracy`: (N,)."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    each = (np.bincount(classes, weights=right) / counts)[classes]
    weight = len(labels) / (len(counts) * counts[classes])
    return mean_per_class_accuracy(right, labels) + weight * (right - each)


def average_precision_by_image(
    scores: np.ndarray, labels: np.ndarray, rule: str = "area"
) -> np.ndarray:
    """What each of N images adds to the mean of `average_precisions`, from scores and labels
    (N, K): (N,). The spread is that of the area for all rules."""
    derivatives = []
    for score, label in zip(scores.T, labels.T, strict=True):
        order = np.argsort(-score, kind="stable")
        order = order[label[order] >= 0]
        if (positives := np.flatnonzero(label == 1)).size:
            of = label[order] == 1, order, positives, len(label)
            derivatives.append(area_derivative(*of))
    mean = np.nanmean(average_precisions(scores, labels, rule))
    return mean + len(labels) * np.mean(derivatives, axis=0)


def area_derivative(
    hit: np.ndarray, image: np.ndarray, positives: np.ndarray, images: int
) -> np.ndarray:
    """The derivative of one class's average precision, by the area, by each image's weight.

    Args:
      hit: (n,) bool, whether what was retrieved is of the class, from the highest score down.
      image: (n,) the image that each stands in.
      positives: (P,) the image of all that there is to be retrieved.
      images: how many there are.
    """
    hits, count = np.cumsum(hit), np.arange(1, len(hit) + 1)
    # From each place on the highest precision, and where it is.
    precision = hits / count
    best = len(hit) - 1 - _last_maxima(precision[::-1])[::-1]
    gain = hit / positives.size  # of recall
    # Precision hits / count changes by what stands before it.
    at = np.bincount(best, gain, len(hit)) / np.maximum(count, 1) ** 2
    up, down = (np.cumsum((at * n)[::-1])[::-1] for n in (count - hits, hits))
    each = gain * precision[best] + np.where(hit, up, -down)
    derivative = np.bincount(image, each, images)
    mean = gain @ precision[best]
    return derivative - np.bincount(positives, minlength=images) * mean / positives.size


def _last_maxima(values: np.ndarray) -> np.ndarray:
    """Place of the maximum of values[: i + 1], for each i; of equal ones the last."""
    highest = np.maximum.accumulate(values)
    return np.maximum.accumulate(np.where(values == highest, np.arange(len(values)), 0))


def auc_by_image(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each of N images adds to the mean over classes of the area under the ROC curve, from
    scores and labels (N, K): (N,). An image of equal score is half above, half below."""
    added = []
    for score, label in zip(scores.T, labels.T, strict=True):
        positive, negative = label == 1, label == 0
        if positive.any() and negative.any():
            below, above = _share_below(score, negative), 1 - _share_below(score, positive)
            area = below[positive].mean()
            each = positive / positive.mean() * (below - area)
            added.append(area + each + negative / negative.mean() * (above - area))
    return np.mean(added, axis=0)


def _share_below(scores: np.ndarray, those: np.ndarray) -> np.ndarray:
    """The share of `those` whose score is below each."""
    ordered = np.sort(scores[those])
    found = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return sum(found) / (2 * len(ordered))
