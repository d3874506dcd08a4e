"""Nearest neighbours, and what they say about features.

Huh et al. 2016 ask whether features learnt on coarse classes tell fine classes apart
(`neighbours_right`) and, in reverse, whether classes of one parent come to lie side by side
(`sibling_share`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist


def nearest(
    queries: np.ndarray, references: np.ndarray, k: int, *, block: int = 4096
) -> np.ndarray:
    """The k references (N, D) nearest to each query (Q, D), by exhaustive search on the device.

    Distances are Euclidean, in float32 from the references' centre; neighbours are the exact ones
    but for distances that this cannot tell apart. `block` queries are compared with `block`
    references at once, so that memory grows with neither product.

    Returns:
      Positions int32 (Q, k), nearest first; of equally near references the lower one first.
    """
    centre = np.mean(references, axis=0, dtype=np.float64)

    def centred(rows):
        return jnp.asarray((rows - centre).astype(np.float32))

    starts = range(0, len(queries), block)
    blocks = [centred(queries[start : start + block]) for start in starts]
    empty = -np.inf * np.ones(k, np.float32), np.zeros(k, np.int32)
    best = [tuple(np.tile(part, (len(rows), 1)) for part in empty) for rows in blocks]
    # References on the outside: each block travels to the device only once.
    for start in range(0, len(references), block):
        those = centred(references[start : start + block])
        best = [_merged(*kept, rows, those, start) for kept, rows in zip(best, blocks, strict=True)]
    return np.concatenate([positions for _, positions in best])


@jax.jit
def _merged(scores, positions, queries, references, start):
    product = jnp.matmul(queries, references.T, precision=jax.lax.Precision.HIGHEST)
    new = 2 * product - jnp.sum(references**2, axis=1)
    places = jnp.broadcast_to(start + jnp.arange(len(references), dtype=jnp.int32), new.shape)
    # What is already kept stands first, so that `top_k` prefers it among equals.
    scores, order = jax.lax.top_k(jnp.concatenate([scores, new], axis=1), scores.shape[1])
    places = jnp.concatenate([positions, places], axis=1)
    return scores, jnp.take_along_axis(places, order, axis=1)


def neighbours_right(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    ks: Sequence[int] = (1, 5),
) -> dict[int, np.ndarray]:
    """Nearest-neighbour readout: do images lie near images of their own class?

    For each k, whether a test image's class is among those of its k nearest training images: bool
    (M,). Those are k images and not the k nearest distinct classes. Where features say nothing of C
    classes of equally many images, the share of right ones is 1 - (1 - 1/C)^k; features that sort
    the images by something else make the k neighbours alike, and then find fewer.
    """
    hits = train_y[nearest(test_x, train_x, max(ks))] == test_y[:, None]
    return {k: hits[:, :k].any(axis=1) for k in ks}


@dataclasses.dataclass(frozen=True, eq=False)
class SiblingShare:
    """How many classes have a sibling for their nearest other class. From `sibling_share`.

    Attributes:
      share: of the classes that have siblings; NaN if there is none.
      chance: what `share` would be if neighbours were drawn at random.
      by_class: float (C,), 1 or 0 for each class; NaN where it has no sibling.
    """

    share: float
    chance: float
    by_class: np.ndarray


def sibling_share(class_features: np.ndarray, parents: np.ndarray) -> SiblingShare:
    """Do classes that share a parent become neighbours (Huh et al. 2016)?

    Args:
      class_features: (C, D), one vector a class, such as `class_means` of its images.
      parents: (C,), the parent of each class at one level of the hierarchy.

    Example:
      >>> sibling_share(np.array([[0.0], [1.0], [5.0], [6.5]]), np.array([0, 0, 1, 1])).share
      1.0
    """
    parents = np.asarray(parents)
    distances = cdist(class_features, class_features)
    np.fill_diagonal(distances, np.inf)
    siblings = (parents == parents[:, None]).sum(axis=1) - 1
    by_class = (parents[distances.argmin(axis=1)] == parents).astype(float)
    by_class[siblings == 0] = np.nan
    some = siblings > 0
    if not some.any():
        return SiblingShare(np.nan, np.nan, by_class)
    chance = (siblings[some] / (len(parents) - 1)).mean()
    return SiblingShare(float(by_class[some].mean()), float(chance), by_class)


def class_means(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean feature of each class, float64 (C, D), from x (N, D) and labels 0 .. C - 1 (N,)."""
    classes = range(int(np.max(y)) + 1)
    return np.stack([np.mean(x[y == label], axis=0, dtype=np.float64) for label in classes])
