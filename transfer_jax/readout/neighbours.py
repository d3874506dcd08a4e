"""Nearest neighbours, and what they say about features.

Huh et al. 2016 ask whether features learnt on coarse classes tell fine classes apart
(`neighbours_right`) and, in reverse, whether classes of one parent come to lie side by side
(`sibling_share`).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors


def nearest(queries: np.ndarray, references: np.ndarray, k: int) -> np.ndarray:
    """Positions (Q, k) of the k references (N, D) nearest to each query (Q, D), nearest first, by
    exhaustive search; distances are Euclidean."""
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(references)
    return search.kneighbors(queries, return_distance=False)


def neighbours_right(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> dict[int, np.ndarray]:
    """Nearest-neighbour readout: do images lie near images of their own class?

    For k of 1 and 5, whether a test image's class is among those of its k nearest training images:
    bool (M,). Those are k images and not the k nearest distinct classes. Where features say nothing
    of C classes of equally many images, the share of right ones is 1 - (1 - 1/C)^k; features that
    sort the images by something else make the k neighbours alike, and then find fewer.
    """
    hits = train_y[nearest(test_x, train_x, 5)] == test_y[:, None]
    return {k: hits[:, :k].any(axis=1) for k in (1, 5)}


def sibling_share(class_features: np.ndarray, parents: np.ndarray) -> tuple[np.ndarray, float]:
    """Do classes that share a parent become neighbours (Huh et al. 2016)?

    From one vector a class (C, D), such as `class_means` of its images, and its parent (C,) at one
    level of the hierarchy: whether its nearest other class is a sibling, 1 or 0, NaN where it has
    none, (C,); and what the mean of these would be if neighbours were drawn at random.

    Example:
      >>> sibling_share(np.array([[0.0], [1.0], [5.0], [6.5]]), np.array([0, 0, 1, 1]))[0]
      array([1., 1., 1., 1.])
    """
    parents = np.asarray(parents)
    distances = cdist(class_features, class_features)
    np.fill_diagonal(distances, np.inf)
    siblings = (parents == parents[:, None]).sum(axis=1) - 1
    by_class = (parents[distances.argmin(axis=1)] == parents).astype(float)
    by_class[siblings == 0] = np.nan
    some = siblings > 0
    chance = (siblings[some] / (len(parents) - 1)).mean() if some.any() else np.nan
    return by_class, float(chance)


def class_means(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean feature of each class, float64 (C, D), from x (N, D) and labels 0 .. C - 1 (N,)."""
    classes = range(int(np.max(y)) + 1)
    return np.stack([np.mean(x[y == label], axis=0, dtype=np.float64) for label in classes])
