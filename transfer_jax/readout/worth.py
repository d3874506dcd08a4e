"""What readings of a frozen network are worth on a target, by accuracy or average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from transfer_jax.data.benchmarks import RetrievalTask
from transfer_jax.data.tasks import Task
from transfer_jax.networks import Network, Params
from transfer_jax.readout.features import View
from transfer_jax.readout.linear import layer_accuracy, multilabel_scores
from transfer_jax.readout.metrics import average_precisions, mean_per_class_accuracy
from transfer_jax.readout.reading import Reading, features, reduced
from transfer_jax.readout.retrieval import distances, mean_average_precision, ns_score

HALVES = {"validation": slice(0, None, 2), "test": slice(1, None, 2)}
"""Of a target's test images or queries: those that choose a reading, those that report it."""


def sides(task: Task | RetrievalTask) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a target's training and test images; of a retrieval, references and queries."""
    if isinstance(task, RetrievalTask):
        return task.references, task.queries
    return task.train[0], task.val[0]


def worth(
    network: Network,
    params: Params,
    task: Task | RetrievalTask,
    readings: Sequence[Reading],
    *,
    views: Mapping[int, View],
    metric: str = "",
) -> dict[Reading, tuple[dict[str, float], np.ndarray | None]]:
    """What several readings of a network are worth on a target, all from one pass over its images:
    performance in 0 .. 1 on either of HALVES, and which test images were right, bool (M,), where
    each has one label.

    Linear SVMs where images have labels; in a retrieval the nearest references. `metric` is one of
    `benchmarks.METRICS` of the target's protocol, '' the first; see `reading.features` for `views`.
    """
    train, test = (
        features(network, params, task.dataset.read, rows, readings, views=views, batch_size=128)
        for rows in sides(task)
    )
    return {r: _performance(task, metric, x, y) for r, x, y in reduced(train, test, readings)}


def share_right(right: np.ndarray, labels: np.ndarray, metric: str = "") -> float:
    """Accuracy, or its mean over classes where the metric is 'class_accuracy'."""
    by_class = metric == "class_accuracy"
    return float(mean_per_class_accuracy(right, labels) if by_class else right.mean())


def _performance(task, metric, train_x, test_x):
    right = None
    if isinstance(task, RetrievalTask):
        apart = distances(test_x, train_x)

        def value(half):
            if metric == "ns_score":
                return ns_score(apart[half], task.relevant[half]) / 4
            return mean_average_precision(apart[half], task.relevant[half], task.junk[half])

    elif task.train[1].ndim == 2:
        scores = multilabel_scores(train_x, task.train[1], test_x)

        def value(half):
            return _ranked(scores[half], task.val[1][half], metric)

    else:
        right = layer_accuracy(train_x, task.train[1], test_x, task.val[1])

        def value(half):
            return share_right(right[half], task.val[1][half], metric)

    return {name: float(value(half)) for name, half in HALVES.items()}, right


def _ranked(scores, labels, metric):
    if metric == "mean_auc":
        columns = zip(scores.T, labels.T, strict=True)
        return np.mean([roc_auc_score(of[of >= 0], own[of >= 0]) for own, of in columns])
    rule = "voc2007" if metric == "voc2007_ap" else "area"
    return np.nanmean(average_precisions(scores, labels, rule))
