"""What a network loses when a square hides part of the image: Figure 6 of Zeiler & Fergus 2013."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from transfer_jax.networks import Conv, Network, Params

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class OcclusionMaps:
    """What the network does for every place of the square; r rows and c columns of places.

    `activation` (r, c) is the sum over positions of map `feature_map` of `layer`, `probability`
    that of `true_class`, `predicted` the most probable class; `unoccluded_...` are the same without
    a square. `rows` (r,) and `columns` (c,) are pixels of the square's top and left edge.
    """

    activation: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    square: int
    image_size: tuple[int, int]
    layer: str
    feature_map: int
    true_class: int
    unoccluded_activation: float
    unoccluded_probability: float
    unoccluded_predicted: int


def occlusion_maps(
    network: Network,
    params: Params,
    image: np.ndarray,
    true_class: int,
    *,
    square: int,
    stride: int,
    grey: float | np.ndarray = 0.0,
    layer: str | None = None,
    feature_map: int | None = None,
    batch_size: int = 128,
) -> OcclusionMaps:
    """Slides a grey square over one image and records three maps (section 4.2 and Figure 6).

    `image` is (H, W, 3) float, mean already subtracted. The square of `square` pixels moves by
    `stride`, always wholly inside; its last places touch the bottom and right border, so that every
    pixel is hidden at least once. `grey` is its value, one number or one a colour, 0 the mean. By
    default the map of the largest single activation in the last convolutional layer is watched.
    Copies are made on the device, `batch_size` at a time, by one program for all images.

    Example:
      >>> maps = occlusion_maps(net, params, image, 3, square=8, stride=2)
      >>> maps.probability.shape  # (32 - 8) / 2 + 1 places a side
      (13, 13)
    """
    layer = layer or [one.name for one in network.layers if isinstance(one, Conv)][-1]
    rows, columns = (square_places(side, square, stride) for side in network.input_shape[:2])
    places = np.stack([places.ravel() for places in np.meshgrid(rows, columns, indexing="ij")])
    # The first copy, and those that fill up the last batch, carry a square of no size.
    count = 1 + places.shape[1]
    squares = np.zeros((-(-count // batch_size) * batch_size, 3), np.int32)
    squares[1:count] = np.append(places, np.full((1, count - 1), square), axis=0).T
    watch, image, found = _watch(network, layer), jnp.asarray(image, jnp.float32), []
    for batch in np.split(squares, len(squares) // batch_size):
        sums, peaks, probability, predicted = watch(params, image, batch, grey, true_class)
        feature_map = int(np.argmax(peaks[0])) if feature_map is None else feature_map
        found.append((sums[:, feature_map], probability, predicted))
    arrays = [np.concatenate(parts)[:count] for parts in zip(*found, strict=True)]
    return OcclusionMaps(
        *(array[1:].reshape(len(rows), len(columns)) for array in arrays),
        rows, columns, square, network.input_shape[:2], layer, feature_map, true_class,
        *(array[0].item() for array in arrays),
    )  # fmt: skip


def square_places(side: int, square: int, stride: int) -> np.ndarray:
    """Where the square starts along one side: 0, stride, ..., and always side - square."""
    if not 0 < stride <= square <= side:
        raise ValueError(f"square={square}, stride={stride}: expected stride <= square <= {side}")
    return np.append(np.arange(0, side - square, stride), side - square).astype(np.int32)


def centres_inside(maps: OcclusionMaps, box: Box) -> np.ndarray:
    """(r, c) bool: which of the square's places have their centre inside a box, (ymin, xmin, ymax,
    xmax) as shares of the image's sides, borders included."""
    ymin, xmin, ymax, xmax = box
    y, x = (
        (places + maps.square / 2) / side
        for places, side in zip((maps.rows, maps.columns), maps.image_size, strict=True)
    )
    return ((y >= ymin) & (y <= ymax))[:, None] & ((x >= xmin) & (x <= xmax))[None, :]


@functools.lru_cache(maxsize=16)
def _watch(network: Network, layer: str):
    def watch(params, image, squares, grey, true_class):
        top, left, side = (values[:, None, None] for values in squares.T)
        row = jnp.arange(image.shape[0])[None, :, None]
        column = jnp.arange(image.shape[1])[None, None, :]
        hidden = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
        copies = jnp.where(hidden[..., None], grey, image)
        with jax.default_matmul_precision("highest"):
            activations = network.activations(params, copies)
        logits = activations[network.layer_names[-1]]
        probability = jax.nn.softmax(logits, axis=-1)[:, true_class]
        seen = activations[layer].reshape(len(copies), -1, activations[layer].shape[-1])
        return seen.sum(axis=1), seen.max(axis=1), probability, jnp.argmax(logits, axis=-1)

    return jax.jit(watch)
