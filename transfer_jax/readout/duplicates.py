"""Near-duplicates between two sets of images, found by normalised correlation.

Zeiler & Fergus 2013 (section 5.2) remove from ImageNet the training images that also occur in the
target set before features are compared there; this is that search. Three steps keep it fast:

1. every image becomes a small grey thumbnail, whatever its size;
2. all pairs are screened by matrix products of unit descriptors, under three alignments;
3. the few pairs that pass are compared under every alignment that a slight crop could have caused.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

THUMBNAIL = 32
"""Side of the thumbnails in pixels."""

_CELLS = 16  # side of a descriptor
_FINE, _COARSE = 1.25 / 32, 3.0 / 32  # the band that is compared: two blurs, in parts of the side
_LUMINANCE = (0.299, 0.587, 0.114)
_LEAST_CONTRAST = 0.5  # root mean square of the band, in grey levels; less is a constant image
_PAIRS = 128  # compared at once in the third step
_EXACT = jax.lax.Precision.HIGHEST  # GPUs would otherwise round the factors to 10 bits


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Pairs of images that show the same picture, sorted by source and then by target.

    Attributes:
      source: int64 (P,), positions in the source set.
      target: int64 (P,), positions in the target set.
      correlation: float32 (P,), normalised correlation of each pair under its best alignment.
      mirrored: bool (P,), whether the pair matches (best) with one of the two mirrored.
    """

    source: np.ndarray
    target: np.ndarray
    correlation: np.ndarray
    mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.source)


def find_duplicates(
    source_images: np.ndarray | Iterable[np.ndarray],
    target_images: np.ndarray | Iterable[np.ndarray],
    *,
    threshold: float = 0.97,
    crop: float = 1 / 16,
    mirrored: bool = False,
    screen: float = 0.6,
    block: int = 1024,
) -> Duplicates:
    """Finds the pairs of a source and a target image that are near-duplicates.

    What is correlated is the luminance between two blurs (a difference of Gaussians), so changes of
    brightness, contrast and colour cast, JPEG artefacts and a change of size hardly matter, and
    smooth images are not all alike. A pair's correlation is the highest over the alignments in
    which one of the two is cropped.

    Memory stays constant but for 4 KiB per target image (6 with `mirrored`): source images pass by
    in blocks.

    Args:
      source_images: uint8 (N, h, w, 3), an array or a memory map; or an iterable of such blocks,
        which may differ in h and w. Images of other shapes are squashed to squares.
      target_images: the same for the target set; its images may be of another size.
      threshold: the least correlation of a duplicate, in (0, 1]. Of 10^9 pairs of photographs of
        32x32 the default finds the seven copies and no look-alike; the best look-alike has 0.960.
      crop: the most that may have been cut off at each side of either image, as a fraction of the
        side; tried in steps of a half of it. 0 compares the images only as they are.
      mirrored: whether mirrored copies are searched too, at twice the cost.
      screen: pairs below this correlation under the three alignments none, source cropped and
        target cropped (evenly, by half of `crop`) are not looked at further. No part of it where
        `crop` is 0, and never above `threshold`.
      block: images of either set that are compared at once.

    Returns:
      The pairs at or above the threshold. Images without contrast match nothing. For a search
      within one set pass it twice and ignore the pairs with source equal to target.

    Raises:
      ValueError: images are not uint8 (N, h, w, 3), or an argument is out of its range.

    Example:
      >>> images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
      >>> find_duplicates(images, images[3:4] // 2 + 60).source
      array([3])
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold should lie in (0, 1], got {threshold}")
    if not 0 <= crop < 0.25:
        raise ValueError(f"crop should lie in [0, 0.25), got {crop}")
    if not 0 < screen <= 1:
        raise ValueError(f"screen should lie in (0, 1], got {screen}")
    if block < 1:
        raise ValueError(f"block should be at least 1, got {block}")
    # Rounding may move a correlation of exactly the threshold to either side in the screen.
    screen = min(screen if crop else threshold, threshold) - 1e-5
    flips = (False, True) if mirrored else (False,)
    blocks = [thumbnails(images) for images in _blocks(target_images, "target_images", block)]
    targets = np.concatenate(blocks or [np.empty((0, THUMBNAIL, THUMBNAIL), np.float16)])
    described = [
        (flip, start, _screening_descriptors(_turned(targets[start : start + block], flip), crop))
        for flip in flips
        for start in range(0, len(targets), block)
    ]
    found = []
    start = 0
    for images in _blocks(source_images, "source_images", block):
        source = thumbnails(images)
        views = _screening_descriptors(source, crop)
        for flip in flips:
            passed = [
                _positions(_passes(views, others, screen), first)
                for turned, first, others in described
                if turned == flip
            ]
            rows, columns = np.concatenate([np.empty((2, 0), np.int64), *passed], axis=1)
            scores = _aligned_correlation(source, targets, rows, columns, crop, flip)
            keep = scores >= threshold
            kept = (rows[keep] + start, columns[keep], scores[keep])
            found.append((*kept, np.full(keep.sum(), flip)))
        start += len(source)
    return _merged(found)


def excluded_positions(duplicates: Duplicates) -> np.ndarray:
    """The source images that have a duplicate among the targets: what a source task should exclude.

    Args:
      duplicates: from `find_duplicates`.

    Returns:
      int64, positions in the source set, ascending, each once.
    """
    return np.unique(duplicates.source)


def describe(images: np.ndarray) -> np.ndarray:
    """Descriptors whose dot product is the normalised correlation of two uncropped images.

    Args:
      images: uint8 (N, h, w, 3).

    Returns:
      float32 (N, 256), each of mean zero and norm one; zeros for an image without contrast.

    Raises:
      ValueError: the images are not uint8 (N, h, w, 3).
    """
    _require_images(images, "images")
    return np.asarray(_describe(thumbnails(images), _view_samplers(0.0))[:, 0])


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Grey thumbnails of 32x32: all that the search looks at.

    Args:
      images: uint8 (N, h, w, 3), of any size. Large images are averaged over areas.

    Returns:
      float16 (N, 32, 32), luminance in 0 .. 255.

    Raises:
      ValueError: the images are not uint8 (N, h, w, 3).
    """
    _require_images(images, "images")
    height, width = images.shape[1:3]
    rows, columns = (_area_sampler(size, THUMBNAIL) for size in (height, width))
    return np.asarray(_shrink(np.asarray(images), rows, columns))


def _blocks(images, name: str, block: int) -> Iterator[np.ndarray]:
    whole = hasattr(images, "shape")
    for part in [images] if whole else images:
        _require_images(part, name if whole else f"each block of {name}")
        for start in range(0, len(part), block):
            yield part[start : start + block]


def _require_images(images, name: str):
    shape, dtype = getattr(images, "shape", None), getattr(images, "dtype", None)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
        got = type(images).__name__ if shape is None else f"{dtype} {tuple(shape)}"
        raise ValueError(f"{name} should be uint8 (N, h, w, 3), got {got}")


def _area_sampler(pixels: int, cells: int) -> np.ndarray:
    """(cells, pixels): averages over each cell's area; interpolates where pixels are larger."""
    centres = (np.arange(cells) + 0.5) / cells * pixels
    half = max(pixels / cells, 1.0) / 2
    edges = np.arange(pixels)
    weights = np.minimum(centres[:, None] + half, edges + 1) - np.maximum(
        centres[:, None] - half, edges
    )
    weights = np.clip(weights, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _band_sampler(low: float, high: float) -> np.ndarray:
    """(2, cells, pixels): both blurs of a thumbnail of which `low` and `high` are cut off."""
    pixels = np.arange(THUMBNAIL) / THUMBNAIL
    inside = np.minimum(pixels + 1 / THUMBNAIL, 1 - high) - np.maximum(pixels, low)
    inside = np.clip(inside, 0, None)
    side = 1 - low - high
    centres = low + side * (np.arange(_CELLS) + 0.5) / _CELLS
    distance = (pixels + 0.5 / THUMBNAIL - centres[:, None]) / side
    widths = np.array([_FINE, _COARSE])[:, None, None]
    weights = inside * np.exp(-0.5 * (distance / widths) ** 2)
    return weights / weights.sum(2, keepdims=True)


@functools.lru_cache
def _view_samplers(crop: float, even: bool = False) -> np.ndarray:
    """(views, 2 blurs, cells, pixels): one view uncropped, then the crops of one axis."""
    steps = (0.0, crop / 2, crop)
    if even:
        cuts = [(0.0, 0.0), (crop / 2, crop / 2)]
    else:
        cuts = list(itertools.product(steps, steps))
    cuts = cuts if crop else cuts[:1]
    return np.stack([_band_sampler(*cut) for cut in cuts]).astype(np.float32)


@jax.jit
def _shrink(images, rows, columns):
    grey = jnp.asarray(images, jnp.float32) @ jnp.array(_LUMINANCE)
    thumbs = jnp.einsum("ip,npq,jq->nij", rows, grey, columns, precision=_EXACT)
    return thumbs.astype(jnp.float16)


def _unit(band):
    """Mean zero and norm one over the last axis; zeros where there is no contrast."""
    band = band - band.mean(-1, keepdims=True)
    norm = jnp.linalg.norm(band, axis=-1, keepdims=True)
    constant = norm < _LEAST_CONTRAST * _CELLS
    return jnp.where(constant, 0.0, band / jnp.where(constant, 1.0, norm))


@jax.jit
def _describe(thumbs, samplers):
    """(n, views, cells^2): views cropped by the same sampler along both axes."""
    thumbs = thumbs.astype(jnp.float32)
    blurs = jnp.einsum("vbip,npq,vbjq->nvbij", samplers, thumbs, samplers, precision=_EXACT)
    band = blurs[:, :, 0] - blurs[:, :, 1]
    return _unit(band.reshape(*band.shape[:2], -1))


def _turned(thumbs: np.ndarray, flip: bool) -> np.ndarray:
    return thumbs[:, :, ::-1] if flip else thumbs


def _screening_descriptors(thumbs: np.ndarray, crop: float):
    # Padded to a power of two, or the last block of every set would be compiled anew.
    missing = (1 << (len(thumbs) - 1).bit_length()) - len(thumbs)
    thumbs = np.pad(thumbs, ((0, missing), (0, 0), (0, 0)))
    return _describe(thumbs, _view_samplers(crop, even=True))


def _positions(mask, first: int) -> np.ndarray:
    """(2, n): rows and columns where a mask holds, the columns counted from `first`."""
    mask = np.asarray(mask)
    # Many times faster than np.nonzero on a matrix.
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return np.stack([rows, columns + first])


@jax.jit
def _passes(source, target, screen):
    """Which pairs of (n, views, d) and (m, views, d) reach the screen: one of the two cropped."""
    product = functools.partial(jnp.matmul, precision=_EXACT)
    best = product(source[:, 0], target[:, 0].T)
    for view in range(1, source.shape[1]):
        best = jnp.maximum(best, product(source[:, view], target[:, 0].T))
        best = jnp.maximum(best, product(source[:, 0], target[:, view].T))
    return best >= screen


def _aligned_correlation(source, target, rows, columns, crop, flip) -> np.ndarray:
    scores = np.empty(len(rows), np.float32)
    samplers = _view_samplers(crop)
    for start in range(0, len(rows), _PAIRS):
        here = slice(start, start + _PAIRS)
        count = len(scores[here])
        # The last chunk repeats its first pair, for one shape to be compiled.
        chosen = np.resize(np.arange(count), _PAIRS)
        pair = source[rows[here][chosen]], _turned(target[columns[here][chosen]], flip)
        scores[here] = np.asarray(_best_alignment(*pair, samplers))[:count]
    return scores


@jax.jit
def _best_alignment(source, target, samplers):
    """(n,): the best correlation of pairs with one of the two cropped in any way."""
    views = _all_views(source, samplers), _all_views(target, samplers)
    correlate = functools.partial(jnp.einsum, "nvd,nd->nv", precision=_EXACT)
    cropped_source = correlate(views[0], views[1][:, 0])
    cropped_target = correlate(views[1], views[0][:, 0])
    return jnp.maximum(cropped_source, cropped_target).max(1)


def _all_views(thumbs, samplers):
    """(n, views^2, cells^2): every crop of the rows with every crop of the columns."""
    thumbs = thumbs.astype(jnp.float32)
    bands = [
        jnp.einsum("vip,npq,wjq->nvwij", blur, thumbs, blur, precision=_EXACT)
        for blur in (samplers[:, 0], samplers[:, 1])
    ]
    return _unit((bands[0] - bands[1]).reshape(len(thumbs), len(samplers) ** 2, -1))


def _merged(found: list[tuple[np.ndarray, ...]]) -> Duplicates:
    columns = list(zip(*found, strict=True)) or [[np.empty(0)]] * 4
    source, target, correlation, mirrored = map(np.concatenate, columns)
    # A pair that matches both ways is kept once, as it matches better.
    order = np.lexsort((mirrored, -correlation, target, source))
    source, target = source[order].astype(np.int64), target[order].astype(np.int64)
    first = np.ones(len(order), bool)
    first[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    return Duplicates(
        source[first],
        target[first],
        correlation[order][first].astype(np.float32),
        mirrored[order][first].astype(bool),
    )
