"""Windows of whole images: what a network says of squares of many sizes all over an image.

Oquab et al. 2014 score some 500 squares an image (sections 3.2 and 3.3) and make of them a score of
the image and a map. `scan` runs the network as convolutions over the resized image, so that windows
share what they have in common; where layers pad, a window is surrounded by its image and not by
zeros, as it would be were it cut out.
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

from transfer_jax.data.batches import stream
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


def scan(
    network: Network,
    params: Params,
    image: Callable[[int], np.ndarray],
    rows: Sequence[int] | np.ndarray,
    *,
    mean: ArrayLike,
    pixel_scale: float = 1.0,
    pyramid: Pyramid = Pyramid(),
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Logits of all windows of images, each scale in one pass of the network.

    `image` gives a row's uint8 (h, w, 3) of its own size, such as `dataset.image`. Images, also
    those smaller than the input, are resized for each scale (Pillow's bilinear filter) so that its
    windows have the input's size, and padded with the mean to one of a few canvases; a program is
    compiled for each scale and canvas. `mean` is subtracted, in pixel values (of a mean image its
    average), and pixels are multiplied with `pixel_scale` after that.

    Yields:
      (position in `rows`, boxes (M, 4) of `pyramid.boxes`, logits float32 (M, K)) of each image,
      not in order: images of one canvas come together.
    """
    dense, params = fully_convolutional(network, params, stride=pyramid.stride)
    params, waiting = jax.device_put(params), {}
    mean = jnp.asarray(mean, jnp.float32).reshape(-1, 3).mean(axis=0)
    most = min(GROUP, 1 << (len(rows) - 1).bit_length())

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
