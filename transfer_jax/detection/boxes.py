"""Boxes (ymin, xmin, ymax, xmax) as fractions of an image's sides: overlaps, offsets, suppression.

Functions take NumPy or JAX arrays and give the same kind back. A box without an area stands for
none.
"""

from __future__ import annotations

import math

import numpy as np

SPREAD = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
"""What offsets are divided by, so that those of good proposals have about unit variance."""

_LARGEST = math.log(1000 / 16)  # by which a box may grow; Girshick's code has the same limit


def areas(boxes):
    """Areas (...,) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlaps(boxes, others):
    """Intersection over union (..., A, B) of boxes (..., A, 4) and (..., B, 4); 0 with none."""
    xp = boxes.__array_namespace__()
    one, other = boxes[..., :, None, :], others[..., None, :, :]
    sides = xp.minimum(one[..., 2:], other[..., 2:]) - xp.maximum(one[..., :2], other[..., :2])
    both = xp.prod(xp.maximum(sides, 0), axis=-1)
    return both / xp.maximum(areas(one) + areas(other) - both, 1e-12)


def mirrored(boxes):
    """Boxes as they lie in the image's mirror image, left and right swapped."""
    xp = boxes.__array_namespace__()
    ymin, xmin, ymax, xmax = (boxes[..., i] for i in range(4))
    return xp.stack([ymin, 1 - xmax, ymax, 1 - xmin], axis=-1)


def offsets(boxes, targets):
    """What takes boxes to targets, both (..., 4) and with an area: the shift of the centre in the
    box's sides and the logarithm of the growth, in y and x (Girshick et al. 2014, appendix C),
    divided by `SPREAD`."""
    xp = boxes.__array_namespace__()
    sides, wanted = (b[..., 2:] - b[..., :2] for b in (boxes, targets))
    shift = (targets[..., :2] + targets[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / (2 * sides)
    return xp.concat([shift, xp.log(wanted / sides)], axis=-1) / SPREAD


def moved(boxes, by):
    """Boxes (..., 4) moved by `offsets`, cut off at the image's border."""
    xp, by = boxes.__array_namespace__(), by * SPREAD
    sides = boxes[..., 2:] - boxes[..., :2]
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 + by[..., :2] * sides
    half = sides * xp.exp(xp.minimum(by[..., 2:], _LARGEST)) / 2
    return xp.clip(xp.concat([centre - half, centre + half], axis=-1), 0, 1)


def not_suppressed(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, overlap: float, most: int
) -> np.ndarray:
    """Places of the boxes (M, 4) that stay when, from the highest score down, each box strikes out
    those of its own label that overlap it by more; the first `most`, in that order."""
    # Boxes of different labels are laid where they cannot meet.
    apart = boxes + 2 * labels[:, None].astype(boxes.dtype)
    left, kept = np.argsort(-scores, kind="stable"), []
    while left.size and len(kept) < most:
        kept.append(left[0])
        rest = left[1:]
        left = rest[overlaps(apart[left[:1]], apart[rest])[0] <= overlap]
    return np.array(kept, np.int64)
