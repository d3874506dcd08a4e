"""Near-duplicates between two sets of images, found by normalised correlation.

Zeiler & Fergus 2013 (section 5.2) remove from ImageNet the training images that also occur in the
target set before features are compared there; this is that search. All pairs are compared, by
products of unit descriptors.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

THRESHOLD = 0.97
"""The least correlation of a duplicate. Of 10^9 pairs of photographs of 32x32 no look-alike reaches
it: the best has 0.960, with slight crops of either tried as well. They are not tried here, and a
copy that lacks more than a thirty-second at a side may escape."""

_CELLS = 16  # side of a descriptor
_BLURS = (1.25 / 32, 3.0 / 32)  # the band between them is compared; in parts of the image's side
_LUMINANCE = (0.299, 0.587, 0.114)
_LEAST_CONTRAST = 0.5  # root mean square of the band in grey levels; less is a constant image
_product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def describe(images: np.ndarray) -> jax.Array:
    """Images (N, h, w, 3), uint8 of any size, as unit vectors (N, 256), float32, whose dot product
    is the normalised correlation; zeros for an image without contrast.

    What is compared is the luminance between two blurs (a difference of Gaussians), so changes of
    brightness, contrast and colour cast, JPEG artefacts and a change of size hardly matter, and
    smooth images are not all alike.
    """
    grey = _product("nhwc,c->nhw", images.astype(jnp.float32), jnp.array(_LUMINANCE))
    rows, columns = map(_samplers, grey.shape[1:])
    blurred = _product("bih,nhw,bjw->bnij", rows, grey, columns)
    band = (blurred[0] - blurred[1]).reshape(len(images), -1)
    band -= band.mean(axis=1, keepdims=True)
    norm = jnp.linalg.norm(band, axis=1, keepdims=True)
    return jnp.where(norm < _LEAST_CONTRAST * _CELLS, 0.0, band / norm)


def _samplers(pixels: int) -> np.ndarray:
    """(2, cells, pixels): weights of both blurs at the cells' centres, along one axis."""
    centres = (np.arange(_CELLS) + 0.5) / _CELLS
    distance = (np.arange(pixels) + 0.5) / pixels - centres[:, None]
    weights = np.exp(-0.5 * (distance / np.array(_BLURS)[:, None, None]) ** 2)
    return (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)


def find_duplicates(
    source: np.ndarray, target: np.ndarray, threshold: float = THRESHOLD, *, block: int = 4096
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of descriptors, source (N, 256) and target (M, 256), that correlate enough:
    positions in the source and in the target (P,), sorted by source and then by target, and
    correlations (P,). `block` of either set are compared at once.

    Example:
      >>> sources, _, _ = find_duplicates(describe(imagenet_images), describe(caltech_images))
      >>> task = without(task, rows[np.unique(sources)])
    """
    found = [np.empty((2, 0), np.int64)]
    for start in range(0, len(source), block):
        for first in range(0, len(target), block):
            mask = np.asarray(
                _correlated(source[start : start + block], target[first : first + block], threshold)
            )
            # Many times faster than np.nonzero on a matrix.
            rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
            found.append(np.stack([rows + start, columns + first]))
    rows, columns = np.concatenate(found, axis=1)
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    one, other = np.asarray(source)[rows], np.asarray(target)[columns]
    return rows, columns, np.einsum("pd,pd->p", one, other)


@jax.jit
def _correlated(source, target, threshold):
    return _product("nd,md->nm", source, target) >= threshold
