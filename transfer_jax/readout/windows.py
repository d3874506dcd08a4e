"""Windows of whole images: what a network says of squares of many sizes all over an image.

Oquab et al. 2014 score some 500 squares an image (sections 3.2 and 3.3) and make of them a score of
the image and a map. Two forms give the outputs of windows: `scan` runs the network as convolutions
over the resized image, so that windows share what they have in common; `crop_outputs` cuts every
window out. Both resize by the same filter, so they differ only where layers pad: a cropped window
is surrounded by zeros, a scanned one by its image.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from PIL import Image

from transfer_jax.data.batches import padded_batches, stream
from transfer_jax.networks import (
    Network,
    Params,
    as_convolutions,
    fully_convolutional,
    receptive_field,
)

ASPECTS = (1, 4 / 3, 3 / 2)
"""Long side by short side of the canvases on which images are scanned; beyond them whole numbers.
The photographs of VOC 2007 need 10 canvases a scale, 2 % of them padding."""
SQUEEZE = 0.02  # so much longer may an image be than its canvas; it is made shorter then
PIXELS = 2**20  # of a batch of canvases
GROUP = 16  # images of one canvas that are scanned together, a power of two
GRID = 64  # of crops: what they are cut from has sides of multiples of it

OfImage = Iterator[tuple[int, np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """Sizes and places of windows.

    A window at a scale is a square of the image's short side / scale, rounded so that a whole
    number of the network's strides leads from the first window to the last, border to border.
    Windows are `stride` of the network's strides apart (one is 32 of CaffeNet's 227 pixels); above
    1 they are some of those at 1, and the last ones may end short of the border.
    """

    scales: tuple[float, ...] = (1, 1.3, 1.6, 2, 2.4, 2.8, 3.2, 3.6, 4)
    stride: int = 1

    def sides(self, network: Network, shape: Sequence[float]) -> list[tuple[int, int]]:
        """(height, width) to which an image (height, width) is resized for each scale, so that its
        windows there have the network's input size."""
        stride, windows = _stride(network), network.input_shape[:2]
        return [
            tuple(
                window + stride * round((scale * length - 1) * window / stride)
                for window, length in zip(windows, _canvas(shape)[1], strict=True)
            )
            for scale in self.scales
        ]

    def boxes(self, network: Network, shape: Sequence[int]) -> np.ndarray:
        """All windows of an image (height, width): float32 (M, 4), (ymin, xmin, ymax, xmax) as
        fractions of its sides, scale by scale, row by row."""
        step, found = self.stride * _stride(network), []
        for sides in self.sides(network, shape):
            edges = []
            for window, side in zip(network.input_shape, sides, strict=False):
                starts = np.arange(0, side - window + 1, step)
                edges.append(np.stack([starts, starts + window]) / side)
            (top, bottom), (left, right) = edges
            grid = np.broadcast_arrays(top[:, None], left, bottom[:, None], right)
            found.append(np.stack(grid, axis=-1).reshape(-1, 4))
        return np.concatenate(found).astype(np.float32)

    def multiply_adds(self, network: Network, shape: Sequence[int]) -> tuple[int, int]:
        """Multiply-adds of the network for all windows of an image (height, width): scanned, and
        cut out one by one. Padding to a canvas is not counted, nor is resizing."""
        dense = as_convolutions(network, stride=self.stride)
        sides = self.sides(network, shape)
        levels = [dataclasses.replace(dense, input_size=size).multiply_adds for size in sides]
        scanned = sum(sum(counts.values()) for counts in levels)
        return scanned, len(self.boxes(network, shape)) * sum(network.multiply_adds.values())


def scan(
    network: Network,
    params: Params,
    image: Callable[[int], np.ndarray],
    rows: Sequence[int] | np.ndarray,
    *,
    mean: ArrayLike,
    pixel_scale: float = 1.0,
    pyramid: Pyramid = Pyramid(),
) -> OfImage:
    """Logits of all windows of images, each scale in one pass of the network.

    Images of any size, also smaller than the input, are resized for each scale (Pillow's bilinear
    filter) so that its windows have the input's size, and padded with the mean to one of a few
    canvases; a program is compiled for each scale and canvas.

    Args:
      network, params: the network and its params, not those of its convolutional form.
      image: row -> uint8 (h, w, 3) of its own size, such as `dataset.image`.
      rows: (N,) which images.
      mean: subtracted, in pixel values, (3,); of a mean image (h, w, 3) its average.
      pixel_scale: what pixels are multiplied with after that.
      pyramid: which windows.

    Yields:
      (position in `rows`, boxes (M, 4) of `pyramid.boxes`, logits float32 (M, K)) of each image,
      not in order: images of one canvas come together.
    """
    dense, params = fully_convolutional(network, params, stride=pyramid.stride)
    params, mean, waiting = jax.device_put(params), _colour(mean), {}
    most = min(GROUP, _power_of_two(len(rows)))

    def run(canvases, sides):
        return _outputs(dense, params, canvases, sides, mean, pixel_scale)

    def scanned(canvas):
        positions, images = zip(*waiting.pop(canvas), strict=True)
        found = _scan_group(run, network, pyramid, canvas, images, most)
        for position, pixels, logits in zip(positions, images, found, strict=True):
            yield position, pyramid.boxes(network, pixels.shape), logits

    for position, pixels in enumerate(stream(image, rows, os.cpu_count() or 1)):
        canvas, _ = _canvas(pixels.shape)
        waiting.setdefault(canvas, []).append((position, pixels))
        if len(waiting[canvas]) == GROUP:
            yield from scanned(canvas)
    for canvas in list(waiting):
        yield from scanned(canvas)


def _scan_group(run, network, pyramid, canvas, images, most):
    """Logits (M, K) of each of some images of one canvas."""
    sides = [pyramid.sides(network, pixels.shape) for pixels in images]
    rooms, jobs = pyramid.sides(network, canvas), []
    for level, room in enumerate(rooms):
        fit = max(1, PIXELS // math.prod(room))
        size = min(most, 1 << (fit.bit_length() - 1))
        jobs += [(level, start, size) for start in range(0, len(images), size)]

    def drawn(job):
        level, start, size = job
        canvases, inside = np.zeros((size, *rooms[level], 3), np.uint8), np.zeros((size, 2), int)
        for place, pixels in enumerate(images[start : start + size]):
            height, width = inside[place] = sides[start + place][level]
            resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
            canvases[place, :height, :width] = resized
        return canvases, inside

    found, step = [[] for _ in images], pyramid.stride * _stride(network)
    drawings = stream(drawn, jobs, os.cpu_count() or 1)
    for (level, start, _), drawing in zip(jobs, drawings, strict=True):
        for i, maps in zip(range(start, len(images)), np.asarray(run(*drawing)), strict=False):
            down, across = (
                (side - window) // step + 1
                for side, window in zip(sides[i][level], network.input_shape, strict=False)
            )
            found[i].append(maps[:down, :across].reshape(down * across, -1))
    return map(np.concatenate, found)


def crop_outputs(
    network: Network,
    params: Params,
    image: Callable[[int], np.ndarray],
    rows: Sequence[int] | np.ndarray,
    boxes: Callable[[int, np.ndarray], np.ndarray],
    *,
    mean: ArrayLike,
    pixel_scale: float = 1.0,
    batch_size: int = 64,
) -> OfImage:
    """Logits of the network for boxes of images, each cut out and resized to the input.

    Crops are cut on the device, where an image is moved once, by the antialiased triangle filter
    (Pillow's bilinear), which reaches over a box's edges into the image. Batches are full, whatever
    the number of boxes an image.

    Args:
      network, params, image, rows, mean, pixel_scale: as for `scan`.
      boxes: position in `rows`, its image -> float (m, 4), (ymin, xmin, ymax, xmax) as fractions of
        the image's sides, inside it.
      batch_size: crops a forward pass.

    Yields:
      (position in `rows`, boxes (m, 4), logits float32 (m, K)) of each image in order; maps are
      flattened row by row with channels last.

    Example:
      >>> windows = lambda position, image: pyramid.boxes(net, image.shape)
      >>> for i, boxes, logits in crop_outputs(net, params, voc.image, rows, windows, mean=mean):
    """
    params, mean = jax.device_put(params), _colour(mean)
    size, width = network.input_shape[:2], math.prod([*network.output_shapes.values()][-1])
    sides = np.tile(size, (batch_size, 1))

    def cropped(group):
        positions, images, found = zip(*group, strict=True)
        outputs = np.empty((sum(map(len, found)), width), np.float32)
        for places, crops in _crop_batches(images, found, size, batch_size):
            batch = np.asarray(_outputs(network, params, crops, sides, mean, pixel_scale))
            outputs[places] = batch[: len(places)].reshape(len(places), -1)
        parts = np.split(outputs, np.cumsum([len(boxes) for boxes in found])[:-1])
        yield from zip(positions, found, parts, strict=True)

    group, count = [], 0
    for position, pixels in enumerate(stream(image, rows, os.cpu_count() or 1)):
        group.append((position, pixels, boxes(position, pixels)))
        count += len(group[-1][-1])
        if count >= 16 * batch_size or len(group) == 64:
            yield from cropped(group)
            group, count = [], 0
    if group:
        yield from cropped(group)


def _crop_batches(
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    size: tuple[int, int],
    batch_size: int,
) -> Iterator[tuple[np.ndarray, jax.Array]]:
    """All boxes of some images as (places among them, crops float32 (batch_size, *size, 3)), the
    largest last; crops beyond the places are padding."""
    shapes = np.array([pixels.shape[:2] for pixels in images])
    room = -(-shapes.max(axis=0) // GRID) * GRID
    whole = np.zeros((_power_of_two(len(images)), *room, 3), np.uint8)
    for canvas, pixels in zip(whole, images, strict=False):
        canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    whole = jax.device_put(whole)
    which = np.repeat(np.arange(len(images)), [len(one) for one in boxes])
    limits = shapes[which]
    starts, ends = (np.concatenate(boxes)[:, side] * limits for side in ((0, 1), (2, 3)))
    # What the filter sees of the image lies between `low` and `high`.
    support = np.maximum((ends - starts) / size, 1)
    low = np.maximum(np.floor(starts - support), 0).astype(np.int32)
    high = np.minimum(np.ceil(ends + support), limits).astype(np.int32)
    order = np.argsort((high - low).max(axis=1))
    for indices, mask in padded_batches(len(which), batch_size):
        places = order[indices]
        # Small windows are cut from small pieces, by few programs.
        reach = tuple((-(-(high - low)[places].max(axis=0) // GRID) * GRID).tolist())
        corner = np.minimum(low[places], np.subtract(room, reach))
        where = starts[places], ends[places], limits[places]
        yield places[mask], _crops(whole, which[places], corner, *where, size, reach)


@functools.partial(jax.jit, static_argnums=(6, 7))
def _crops(images, which, corner, starts, ends, limits, size, reach):
    """Boxes (n, 2) of images (I, H, W, 3), resized to float32 (n, *size, 3): products with matrices
    of weights, of pieces of `reach` pixels from `corner` on; pixels beyond `limits` are none."""

    def crop(which, *place):
        piece = jax.lax.dynamic_slice(images, (which, *place[0], 0), (1, *reach, 3))[0]
        down, across = (
            _taps(*(edge[axis] for edge in place), size[axis], reach[axis]) for axis in (0, 1)
        )
        rows = jnp.einsum("ip,pqc->iqc", down, piece.astype(jnp.float32))
        return jnp.einsum("jq,iqc->ijc", across, rows)

    with jax.default_matmul_precision("highest"):
        return jax.vmap(crop)(which, corner, starts, ends, limits)


def _taps(corner, start, end, limit, outputs, taps):
    """Weights (outputs, taps) of pixels from `corner` on in a resized stretch from start to end."""
    step = (end - start) / outputs
    centres = start + (jnp.arange(outputs) + 0.5) * step
    pixels = corner + jnp.arange(taps) + 0.5
    weights = 1 - jnp.abs(pixels - centres[:, None]) / jnp.maximum(step, 1)
    weights = jnp.where(pixels < limit, jnp.maximum(weights, 0), 0)
    return weights / weights.sum(axis=1, keepdims=True)


def image_score(probabilities: np.ndarray, k: float = 5) -> np.ndarray:
    """Scores (K,) of an image from its windows' probabilities (M, K): the mean of their k-th powers
    (Oquab et al. 2014, section 3.3), or their maximum for k = inf."""
    if math.isinf(k):
        return probabilities.max(axis=0)
    return np.mean(np.asarray(probabilities, np.float64) ** k, axis=0)


def score_map(boxes: np.ndarray, scores: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Scores (M,) of windows drawn back on an image (h, w): in each pixel the mean of the windows
    that cover it, float64; in pixels that none covers the lowest score.

    Boxes are (ymin, xmin, ymax, xmax) as fractions of the image's sides, rounded to pixels.
    """
    height, width = shape[:2]
    edges = np.rint(np.asarray(boxes) * (height, width, height, width)).astype(int)
    top, left, bottom, right = edges.T
    # Summed along both axes, scores at boxes' corners give sums over the boxes.
    corners = np.concatenate([top, bottom, top, bottom]), np.concatenate([left, right, right, left])
    signs, (total, count) = np.repeat([1, -1], 2 * len(boxes)), np.zeros((2, height + 1, width + 1))
    np.add.at(total, corners, signs * np.tile(scores, 4))
    np.add.at(count, corners, signs)
    total, count = (sums.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] for sums in (total, count))
    return np.where(count > 0, total / np.maximum(count, 1), np.min(scores))


@functools.lru_cache
def _stride(network: Network) -> int:
    """Pixels between neighbouring units of the network as convolutions."""
    return receptive_field(as_convolutions(network), network.layer_names[-1]).stride


def _canvas(shape: Sequence[float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """(height, width), the short side 1, of the canvas for an image and of the image on it."""
    ratio = max(shape[:2]) / min(shape[:2])
    whole = next((a for a in ASPECTS if ratio <= a + SQUEEZE), math.ceil(ratio - SQUEEZE))
    tall = shape[0] > shape[1]
    canvas, image = ((long, 1) if tall else (1, long) for long in (whole, min(ratio, whole)))
    return canvas, image


@functools.partial(jax.jit, static_argnums=0)
def _outputs(network, params, images, sides, mean, pixel_scale):
    """Logits, float32, of images (N, H, W, 3) in pixel values, of which what lies beyond their own
    sides (N, 2) is set to the mean."""
    down, across = (
        jnp.arange(size) < side[:, None]
        for size, side in zip(images.shape[1:3], sides.T, strict=True)
    )
    inside = (down[:, :, None] & across[:, None, :])[..., None]
    x = jnp.where(inside, (images - mean) * pixel_scale, 0)
    # Accelerators would otherwise round the factors of products to fewer digits.
    with jax.default_matmul_precision("highest"):
        return network.apply(params, x).astype(jnp.float32)


def _colour(mean: ArrayLike) -> jax.Array:
    return jnp.asarray(mean, jnp.float32).reshape(-1, 3).mean(axis=0)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
