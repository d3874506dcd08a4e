"""Exact nearest neighbours, and what they say about features.

Huh et al. 2016 ask whether features learnt on coarse classes tell fine classes apart
(`neighbour_accuracy`) and, in reverse, whether classes of one parent come to lie side by side
(`sibling_share`).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

METRICS = ("euclidean", "cosine")

_SLACK = 8  # neighbours kept beyond k, from which exact distances choose
_HOST_BLOCK = 2**22  # numbers handled at once on the host


def nearest(
    queries: np.ndarray,
    references: np.ndarray,
    k: int,
    *,
    metric: str = "euclidean",
    query_block: int = 1024,
    reference_block: int = 8192,
) -> tuple[np.ndarray, np.ndarray]:
    """The k references nearest to each query: exact, by exhaustive search on the device.

    The device ranks in float32 and keeps a few more candidates than asked; their distances are
    then computed anew in float64 and ranked again. A query whose candidates lie so close together
    that float32 may have lost a neighbour is searched again in float64.

    Args:
      queries: (Q, D) finite numbers, an array or a memory map.
      references: (N, D) likewise.
      k: how many neighbours, in 1 .. N.
      metric: 'euclidean', or 'cosine' for 1 - cos of the angle (1 where a vector is zero).
      query_block: queries ranked at once.
      reference_block: references ranked at once; memory on the device does not grow with N or Q.

    Returns:
      `(indices, distances)`: int64 and float64 (Q, k), nearest first; of equally near references
      the one with the lower index comes first.

    Raises:
      ValueError: the shapes do not fit, a number is not finite, or an argument is out of range.

    Example:
      >>> nearest(np.array([[1.0]]), np.array([[5.0], [0.0], [2.0]]), 2)
      (array([[1, 2]]), array([[1., 1.]]))
    """
    _require_matrix(queries, "queries")
    _require_matrix(references, "references")
    if queries.shape[1] != references.shape[1]:
        raise ValueError(
            f"queries and references should have equally many columns, got {queries.shape[1]} "
            f"and {references.shape[1]}"
        )
    if not 1 <= k <= len(references):
        raise ValueError(f"k should lie in 1 .. {len(references)} (references), got {k}")
    if metric not in METRICS:
        raise ValueError(f"metric should be one of {METRICS}, got {metric!r}")
    if min(query_block, reference_block) < 1:
        raise ValueError(
            f"blocks should be at least 1, got {query_block} (query), {reference_block} (reference)"
        )
    centre, radius = _centre(references, metric, "references")
    get_queries = functools.partial(_prepared, queries, metric, side=1)
    get_references = functools.partial(_prepared, references, metric, side=0)
    kept = min(k + _SLACK, len(references))
    blocks = _slices(len(queries), query_block)
    states = []
    for rows in blocks:
        block = get_queries(rows) - centre
        if not np.isfinite(block).all():
            raise ValueError("queries should be finite, but hold NaN or infinite numbers")
        empty = np.full((query_block, kept), -np.inf, np.float32)
        state = empty, np.zeros((query_block, kept), np.int32)
        states.append((_padded(block, query_block), state))
    # References on the outside: each block is prepared and sent only once.
    for columns in _slices(len(references), reference_block):
        block = _padded(get_references(columns) - centre, reference_block)
        norms = np.full(reference_block, np.inf, np.float32)
        count = columns.stop - columns.start
        norms[:count] = np.sum(block[:count].astype(np.float64) ** 2, axis=1)
        block, norms = jax.device_put((block, norms))
        states = [
            (query, _merge(query, block, norms, columns.start, state)) for query, state in states
        ]
    indices = np.empty((len(queries), k), np.int64)
    squares = np.empty((len(queries), k))
    for rows, (_, state) in zip(blocks, states, strict=True):
        count = rows.stop - rows.start
        scores, candidates = (np.asarray(part)[:count] for part in state)
        indices[rows], squares[rows] = _chosen(
            get_queries(rows),
            get_references,
            candidates,
            scores,
            k,
            (centre, radius),
            len(references),
        )
    return indices, squares / 2 if metric == "cosine" else np.sqrt(squares)


def neighbour_accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    k: Sequence[int] = (1, 5),
    metric: str = "euclidean",
) -> dict[int, float]:
    """Nearest-neighbour readout: do images lie near images of their own class?

    Top-k is the share of test images whose class is among those of their k nearest training
    images. That is k images and not the k nearest distinct classes: it needs no choice of how a
    class is represented, and it is never higher than the other reading. To ask what coarse labels
    teach about fine ones (Huh et al. 2016), give features learnt on coarse classes and fine labels.

    Args:
      train_features: (N, D), the images among which neighbours are sought.
      train_labels: integers (N,), their fine classes.
      test_features: (M, D), the images that are classified.
      test_labels: integers (M,), their fine classes.
      k: which top-k to compute.
      metric: see `nearest`.

    Returns:
      For each k the accuracy in 0 .. 1.

    Raises:
      ValueError: as `nearest`; or labels that do not fit their features; or no test image.

    Example:
      >>> neighbour_accuracy(np.eye(3), np.arange(3), np.eye(3)[:2], np.array([0, 2]), k=(1, 3))
      {1: 0.5, 3: 1.0}
    """
    train_labels = _labels(train_labels, train_features, "train")
    test_labels = _labels(test_labels, test_features, "test")
    if not len(test_labels):
        raise ValueError("test_features should hold at least one image, got none")
    if not len(k) or min(k) < 1:
        raise ValueError(f"k should hold numbers of neighbours, each at least 1, got {tuple(k)}")
    indices, _ = nearest(test_features, train_features, max(k), metric=metric)
    hits = train_labels[indices] == test_labels[:, None]
    return {int(n): float(hits[:, :n].any(axis=1).mean()) for n in k}


@dataclasses.dataclass(frozen=True)
class SiblingShare:
    """How many of each class's nearest other classes are its siblings. From `sibling_share`.

    Attributes:
      share: mean over the classes that have siblings.
      chance: what `share` would be if neighbours were drawn at random.
      attainable: what `share` would be if siblings always came first (below 1 where classes have
        fewer than k siblings).
      by_class: float64 (C,), the share of each class; NaN where it has no sibling.
    """

    share: float
    chance: float
    attainable: float
    by_class: np.ndarray


def sibling_share(
    class_features: np.ndarray, parents: np.ndarray, k: int = 1, *, metric: str = "euclidean"
) -> SiblingShare:
    """Do classes that share a parent become neighbours (Huh et al. 2016)?

    Args:
      class_features: (C, D), one vector per class, such as `class_means` of its images.
      parents: (C,), the parent of each class at one level of the hierarchy; call again for others.
      k: how many nearest other classes of each class are looked at, in 1 .. C - 1.
      metric: see `nearest`.

    Returns:
      The share, beside chance and the best possible. Classes without a sibling have nothing to
      find and are left out of the means, which are NaN if there is no other.

    Raises:
      ValueError: as `nearest`; or `parents` does not fit; or k is out of its range.

    Example:
      >>> sibling_share(np.array([[0.0], [1.0], [5.0], [6.5]]), np.array([0, 0, 1, 1])).share
      1.0
    """
    _require_matrix(class_features, "class_features")
    count = len(class_features)
    parents = np.asarray(parents)
    if parents.shape != (count,):
        raise ValueError(f"parents should have shape ({count},), got {parents.shape}")
    if not 1 <= k < count:
        raise ValueError(f"k should lie in 1 .. {count - 1} (other classes), got {k}")
    indices, _ = nearest(class_features, class_features, k + 1, metric=metric)
    # A class that equals others need not be the first of its own neighbours, or be there at all.
    is_self = indices == np.arange(count)[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    others = indices[~is_self].reshape(count, k)
    by_class = (parents[others] == parents[:, None]).mean(axis=1)
    _, group, sizes = np.unique(parents, return_inverse=True, return_counts=True)
    siblings = sizes[group] - 1
    some = siblings > 0
    by_class[~some] = np.nan
    if not some.any():
        return SiblingShare(np.nan, np.nan, np.nan, by_class)
    return SiblingShare(
        share=float(by_class[some].mean()),
        chance=float((siblings[some] / (count - 1)).mean()),
        attainable=float((np.minimum(siblings[some], k) / k).mean()),
        by_class=by_class,
    )


def class_means(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean feature of each class.

    Args:
      features: (N, D).
      labels: integers (N,), 0 .. C - 1, each at least once.

    Returns:
      float64 (C, D).

    Raises:
      ValueError: a class has no image, or labels do not fit the features.
    """
    labels = _labels(labels, features, "class")
    counts = np.bincount(labels) if labels.size and labels.min() >= 0 else np.zeros(1)
    if not counts.all():
        raise ValueError(f"labels should hold every class from 0 to {len(counts) - 1}")
    sums = np.zeros((len(counts), features.shape[1]))
    for rows in _slices(len(labels), max(1, _HOST_BLOCK // features.shape[1])):
        np.add.at(sums, labels[rows], np.asarray(features[rows], np.float64))
    return sums / counts[:, None]


def _require_matrix(array, name: str):
    if getattr(array, "ndim", None) != 2 or array.shape[1] == 0:
        got = getattr(array, "shape", type(array).__name__)
        raise ValueError(f"{name} should be a matrix with a vector in each row, got {got}")


def _labels(labels, features, name: str) -> np.ndarray:
    _require_matrix(features, f"{name}_features" if name != "class" else "features")
    labels = np.asarray(labels)
    if labels.shape != (len(features),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"the {name} labels should be {len(features)} integers, one per row of features, got "
            f"shape {labels.shape} of {labels.dtype}"
        )
    return labels


def _slices(length: int, block: int) -> list[slice]:
    return [slice(start, min(start + block, length)) for start in range(0, length, block)]


def _prepared(array, metric: str, rows, *, side: int) -> np.ndarray:
    """Rows in float64, such that the metric is a matter of their squared euclidean distance."""
    block = np.asarray(array[rows], np.float64)
    if metric == "cosine":
        norms = np.linalg.norm(block, axis=-1, keepdims=True)
        zero = norms == 0
        # Zero vectors get an axis of their own, on either side: at right angles to everything.
        extra = np.zeros((*block.shape[:-1], 2))
        extra[..., side] = zero[..., 0]
        block = np.concatenate([block / np.where(zero, 1.0, norms), extra], axis=-1)
    return block


def _centre(references, metric: str, name: str) -> tuple[np.ndarray, float]:
    """The references' mean, and the greatest distance from it.

    Ranking by |r|^2 - 2 q.r loses the digits that q and r have in common; centred, they have few.
    """
    width = references.shape[1]
    blocks = _slices(len(references), max(1, _HOST_BLOCK // width))
    get = functools.partial(_prepared, references, metric, side=0)
    total = sum(get(rows).sum(axis=0) for rows in blocks)
    if not np.isfinite(total).all():
        raise ValueError(f"{name} should be finite, but hold NaN or infinite numbers")
    centre = total / len(references)
    square = max(float(((get(rows) - centre) ** 2).sum(axis=1).max()) for rows in blocks)
    return centre, float(np.sqrt(square))


def _padded(block: np.ndarray, length: int) -> np.ndarray:
    return np.pad(block, ((0, length - len(block)), (0, 0))).astype(np.float32)


@jax.jit
def _merge(queries, references, norms, first, state):
    """The best of a running list of candidates and a further block; scores are 2 q.r - |r|^2."""
    scores, indices = state
    product = jnp.matmul(queries, references.T, precision=jax.lax.Precision.HIGHEST)
    kept = min(scores.shape[1], references.shape[0])
    new, positions = jax.lax.top_k(2 * product - norms, kept)
    scores = jnp.concatenate([scores, new], axis=1)
    indices = jnp.concatenate([indices, positions + first], axis=1)
    scores, order = jax.lax.top_k(scores, state[0].shape[1])
    return scores, jnp.take_along_axis(indices, order, axis=1)


def _chosen(
    queries: np.ndarray,
    get_references: Callable[[np.ndarray | slice], np.ndarray],
    candidates: np.ndarray,
    scores: np.ndarray,
    k: int,
    ball: tuple[np.ndarray, float],
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Exact ranking of the candidates: indices and squared distances.

    Differences are taken before anything is subtracted or rounded, so that equal distances stay
    equal. `ball` is the centre and radius of the references.
    """
    squares = np.empty(candidates.shape)
    step = max(1, _HOST_BLOCK // (candidates.shape[1] * queries.shape[1]))
    for rows in _slices(len(queries), step):
        difference = get_references(candidates[rows]) - queries[rows, None]
        squares[rows] = np.einsum("qcd,qcd->qc", difference, difference)
    order = np.lexsort((candidates, squares))[:, :k]
    indices = np.take_along_axis(candidates, order, axis=1).astype(np.int64)
    squares = np.take_along_axis(squares, order, axis=1)
    if candidates.shape[1] == count:
        return indices, squares
    # Whatever the device left out scored no better than its last candidate; `error` bounds how far
    # rounding in a product of that length may be off, generously for sums that are not adversarial.
    centre, radius = ball
    norms = np.linalg.norm(queries - centre, axis=1)
    left_out = norms**2 - scores[:, -1].astype(np.float64)
    error = np.finfo(np.float32).eps * (2 * np.sqrt(queries.shape[1]) + 8) * (norms + radius) ** 2
    unsure = np.flatnonzero(~(squares[:, -1] < left_out - error))
    for rows in _slices(len(unsure), 64):
        rows = unsure[rows]
        indices[rows], squares[rows] = _exhaustive(queries[rows], get_references, k, ball, count)
    return indices, squares


def _exhaustive(queries, get_references, k: int, ball, count: int):
    """The same in float64 throughout, with exact distances of all that may be among the nearest."""
    centre, radius = ball
    centred = queries - centre
    norms = np.sum(centred**2, axis=1)
    approximate = np.empty((len(queries), count))
    for columns in _slices(count, max(1, _HOST_BLOCK // queries.shape[1])):
        block = get_references(columns) - centre
        approximate[:, columns] = np.sum(block**2, axis=1) - 2 * centred @ block.T + norms[:, None]
    limit = np.partition(approximate, k - 1, axis=1)[:, k - 1]
    limit += 1e-12 * (np.sqrt(norms) + radius) ** 2
    indices, squares = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
    for row, query in enumerate(queries):
        near = np.flatnonzero(approximate[row] <= limit[row])
        exact = np.sum((get_references(near) - query) ** 2, axis=1)
        order = np.lexsort((near, exact))[:k]
        indices[row], squares[row] = near[order], exact[order]
    return indices, squares
