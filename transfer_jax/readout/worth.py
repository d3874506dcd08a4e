"""What readings of a frozen network are worth on a target, by accuracy or average precision."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from transfer_jax.data.benchmarks import RetrievalTask
from transfer_jax.data.tasks import Task
from transfer_jax.networks import Network, Params
from transfer_jax.readout.features import View
from transfer_jax.readout.linear import layer_accuracy, multilabel_scores
from transfer_jax.readout.metrics import (
    auc_by_image,
    average_precision_by_image,
    class_accuracy_by_image,
)
from transfer_jax.readout.reading import Reading, features, reduced
from transfer_jax.readout.retrieval import average_precisions_of_queries, distances, ns_scores

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
) -> dict[Reading, dict[str, np.ndarray]]:
    """What several readings of a network are worth on a target, all from one pass over its images:
    half -> what each test image (or query) of either of HALVES adds to the performance on it, which
    is their mean, in 0 .. 1 (see `readout.metrics`).

    Linear SVMs where images have labels; in a retrieval the nearest references. `metric` is one of
    `benchmarks.METRICS` of the target's protocol, '' the first; see `reading.features` for `views`.
    """
    train, test = (
        features(network, params, task.dataset.read, rows, readings, views=views, batch_size=128)
        for rows in sides(task)
    )
    return {r: _by_image(task, metric, x, y) for r, x, y in reduced(train, test, readings)}


def rightness(right: np.ndarray, labels: np.ndarray, metric: str = "") -> dict[str, np.ndarray]:
    """Half -> what each of its images adds to the accuracy, or, where the metric is
    'class_accuracy', to its mean over classes."""
    by_class = metric == "class_accuracy"
    return {
        name: class_accuracy_by_image(right[half], labels[half]) if by_class else right[half]
        for name, half in HALVES.items()
    }


def _by_image(task, metric, train_x, test_x):
    if isinstance(task, RetrievalTask):
        apart = distances(test_x, train_x)
        if metric == "ns_score":
            each = ns_scores(apart, task.relevant) / 4
        else:
            each = average_precisions_of_queries(apart, task.relevant, task.junk)
        return {name: each[half] for name, half in HALVES.items()}
    labels = task.val[1]
    if labels.ndim == 1:
        right = layer_accuracy(train_x, task.train[1], test_x, labels)
        return rightness(right, labels, metric)
    scores = multilabel_scores(train_x, task.train[1], test_x)
    if metric == "mean_auc":
        by_image = auc_by_image
    else:
        rule = "voc2007" if metric == "voc2007_ap" else "area"
        by_image = functools.partial(average_precision_by_image, rule=rule)
    return {name: by_image(scores[half], labels[half]) for name, half in HALVES.items()}
