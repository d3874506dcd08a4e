"""Instance retrieval: images of one object found among many others (Azizpour et al. 2014, after
Razavian et al. 2014).

An image is read as patches at several scales. Its distance to another is the mean, over its
patches, of the distance to the other's nearest patch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from transfer_jax.readout.features import View
from transfer_jax.readout.metrics import average_precision


def sub_patches(levels: int) -> np.ndarray:
    """Patches at `levels` scales as fractions of an image's sides, (P, 4): ymin, xmin, ymax, xmax.

    Level h = 1 .. levels has h x h squares with sides of 2 / (h + 1), each half over the next one:
    the whole image, then 4, 9, ...
    """
    return np.array(
        [
            (y / (h + 1), x / (h + 1), (y + 2) / (h + 1), (x + 2) / (h + 1))
            for h in range(1, levels + 1)
            for y in range(h)
            for x in range(h)
        ]
    )


def patch_view(view: View, levels: int) -> View:
    """A view of all `sub_patches` of an image: (n, h, w, 3) to (n, P, ...).

    Patches are cut out, at the nearest whole pixels, and enlarged to the size of the image, on the
    device; `view` makes the network's input of them.
    """

    def patches(images):
        whole = _patches(jnp.asarray(images), levels)
        views = view(whole.reshape(-1, *whole.shape[2:]))
        return views.reshape(*whole.shape[:2], *views.shape[1:])

    return patches


@functools.partial(jax.jit, static_argnums=1)
def _patches(images, levels):
    images, found = images.astype(jnp.float32), []
    for box in sub_patches(levels) * np.tile(images.shape[1:3], 2):
        top, left, bottom, right = np.rint(box).astype(int)
        patch = images[:, top:bottom, left:right]
        found.append(jax.image.resize(patch, images.shape, "linear"))
    return jnp.stack(found, axis=1)


def distances(queries: np.ndarray, references: np.ndarray, *, block: int = 2048) -> np.ndarray:
    """Distances (Q, R), float32, of images by their patches (Q, P, D) and (R, P', D).

    The distance of a query to a reference is the mean over its patches of the Euclidean distance to
    the reference's nearest patch. All pairs are compared, as many images of either set at once as
    have about `block` patches: 10,000 images with 10,000, of 30 patches of 128 numbers each, in 1.3
    GB. In float32, from the references' centre: what is less than 5e-4 of the vectors' length is
    rounding.
    """
    centre = references.mean(axis=(0, 1), dtype=np.float64)

    def parts(images):
        size = max(1, block // images.shape[1])
        for start in range(0, len(images), size):
            those = (images[start : start + size] - centre).astype(np.float32)
            yield slice(start, start + size), jnp.asarray(those)

    found = np.empty((len(queries), len(references)), np.float32)
    right = list(parts(references))
    for rows, some in parts(queries):
        for columns, others in right:
            found[rows, columns] = _distances(some, others)
    return found


@jax.jit
def _distances(queries, references):
    flat, others = (x.reshape(-1, x.shape[-1]) for x in (queries, references))
    # One product, and minima over short runs of its rows: what XLA:CPU does fastest.
    product = jnp.matmul(flat, others.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(others**2, axis=1) - 2 * product
    nearest = squares.reshape(len(flat), *references.shape[:2]).min(axis=2)
    found = jnp.sqrt(jnp.maximum(nearest + jnp.sum(flat**2, axis=1)[:, None], 0))
    return found.reshape(*queries.shape[:2], -1).mean(axis=1)


def average_precisions_of_queries(
    distances: np.ndarray, relevant: Sequence[np.ndarray], junk: Sequence[np.ndarray]
) -> np.ndarray:
    """`metrics.average_precision` (Q,) of each query by the rule 'trapezoid', which the programs
    that come with Oxford5k and with Holidays share.

    From distances (Q, R) to the references: `relevant` are for each query the positions of those
    that show its object, `junk` of those that are left out of its ranking (Oxford's 'junk',
    Holidays' query itself).
    """
    found = []
    for row, good, left_out in zip(distances, relevant, junk, strict=True):
        labels = np.zeros(len(row), np.int8)
        labels[good], labels[left_out] = 1, -1
        found.append(average_precision(-row, labels, "trapezoid"))
    return np.array(found)


def ns_scores(distances: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """UKBench's score of Nister and Stewenius: how many of each query's first four references show
    its object, 0 .. 4, (Q,).

    Four do, the query among them (`relevant` holds all four). Of equally near references those that
    do not come first.
    """
    found = []
    for row, good in zip(distances, relevant, strict=True):
        shown = np.isin(np.arange(len(row)), good)
        found.append(shown[np.lexsort((shown, row))[:4]].sum())
    return np.array(found)
