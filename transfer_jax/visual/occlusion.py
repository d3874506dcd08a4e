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

    Attributes:
      activation: (r, c) float32, the sum over positions of map `feature_map` of `layer`.
      probability: (r, c) float32, softmax probability of `true_class`.
      predicted: (r, c) int32, the most probable class.
      rows, columns: (r,) and (c,) int32, pixel of the square's top and left edge.
      square: the square's side in pixels.
      image_size: the image's side in pixels.
      layer: name of the layer that was watched.
      feature_map: index of its watched map.
      true_class: the class of the probabilities.
      unoccluded_activation, unoccluded_probability, unoccluded_predicted: the same three for the
        image without a square.
    """

    activation: np.ndarray
    probability: np.ndarray
    predicted: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    square: int
    image_size: int
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

    The square always lies wholly inside the image, so that every place hides equally many pixels.
    It starts in the top left corner and moves by `stride`; the last row and column of places touch
    the bottom and right border even when the stride does not divide the way, so that every pixel is
    hidden at least once. The occluded copies are made on the device, `batch_size` at a time, and
    one compiled program serves all images, squares, strides, grey levels and classes.

    Args:
      network: any Network.
      params: its parameters.
      image: (H, W, 3) float, mean already subtracted.
      true_class: the class whose probability is recorded.
      square: side of the square in pixels, 1 to H.
      stride: pixels from one place to the next, 1 to `square`.
      grey: the square's value in the image's units, where 0 is the mean; one number, or three, one
        for each colour.
      layer: the layer to watch; by default the last convolutional one.
      feature_map: the map to watch; by default the one with the largest single activation in the
        image without a square (the lowest index among equals).
      batch_size: how many occluded copies are in the network at once.

    Returns:
      OcclusionMaps.

    Raises:
      ValueError: for an unknown layer, a square, stride, map or class out of range, or an image
        that does not fit.

    Example:
      >>> maps = occlusion_maps(net, params, image, 3, square=8, stride=2)
      >>> maps.probability.shape  # (32 - 8) / 2 + 1 places a side
      (13, 13)
    """
    side = network.input_size
    image = np.asarray(image)
    if image.shape != (side, side, 3) or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(
            f"image of shape {image.shape} and type {image.dtype}; expected ({side}, {side}, 3) "
            "floats with the mean subtracted"
        )
    grey = np.asarray(grey, np.float32)
    if grey.shape not in ((), (3,)):
        raise ValueError(f"grey of shape {grey.shape}: expected one number or three")
    layer = _top_convolution(network) if layer is None else layer
    network.position(layer, 0)
    _check_range("true_class", true_class, 0, network.num_classes - 1)
    _check_range("square", square, 1, side)
    _check_range("stride", stride, 1, square)
    _check_range("batch_size", batch_size, 1, None)
    num_maps = network.output_shapes[layer][-1]
    if feature_map is not None:
        _check_range("feature_map", feature_map, 0, num_maps - 1)

    starts = square_places(side, square, stride)
    tops, lefts = (places.ravel() for places in np.meshgrid(starts, starts, indexing="ij"))
    # The first copy carries a square of no size: the image as it is.
    tops, lefts = np.append(0, tops), np.append(0, lefts)
    sides = np.append(0, np.full(len(tops) - 1, square))
    watch = _watch(network, layer)
    params, image = jax.device_put(dict(params)), jnp.asarray(image, jnp.float32)
    pieces = []
    for start in range(0, len(sides), batch_size):
        # Filling up repeats the unoccluded image, which is dropped below.
        batch = np.zeros((3, batch_size), np.int32)
        part = np.stack([tops, lefts, sides])[:, start : start + batch_size]
        batch[:, : part.shape[1]] = part
        sums, peaks, probability, predicted = watch(params, image, batch, grey, true_class)
        if feature_map is None:
            feature_map = int(np.argmax(np.asarray(peaks)[0]))
        pieces.append((sums[:, feature_map], probability, predicted))
    activation, probability, predicted = (
        np.concatenate([np.asarray(piece[k]) for piece in pieces])[: len(sides)] for k in range(3)
    )
    shape = (len(starts), len(starts))
    return OcclusionMaps(
        activation=activation[1:].reshape(shape),
        probability=probability[1:].reshape(shape),
        predicted=predicted[1:].reshape(shape),
        rows=starts,
        columns=starts.copy(),
        square=int(square),
        image_size=side,
        layer=layer,
        feature_map=int(feature_map),
        true_class=int(true_class),
        unoccluded_activation=float(activation[0]),
        unoccluded_probability=float(probability[0]),
        unoccluded_predicted=int(predicted[0]),
    )


def square_places(side: int, square: int, stride: int) -> np.ndarray:
    """Where the square starts along one side: 0, stride, ..., and always side - square.

    Example:
      >>> square_places(10, 4, 4)
      array([0, 4, 6], dtype=int32)
    """
    return np.append(np.arange(0, side - square, stride), side - square).astype(np.int32)


def centres_inside(maps: OcclusionMaps, box: Box) -> np.ndarray:
    """Which of the square's places have their centre inside a box.

    The mean of the result is how often a place drawn at random would lie inside: the chance level
    of `lowest_probability_inside`.

    Args:
      maps: what `occlusion_maps` returned.
      box: (ymin, xmin, ymax, xmax) as shares of the image's sides, borders included.

    Returns:
      (r, c) bool.

    Raises:
      ValueError: when the box is empty or leaves the image.
    """
    ymin, xmin, ymax, xmax = (float(edge) for edge in box)
    if not (0 <= ymin < ymax <= 1 and 0 <= xmin < xmax <= 1):
        raise ValueError(
            f"box {tuple(box)}: expected (ymin, xmin, ymax, xmax) with 0 <= min < max <= 1"
        )
    y, x = ((p + maps.square / 2) / maps.image_size for p in (maps.rows, maps.columns))
    return ((y >= ymin) & (y <= ymax))[:, None] & ((x >= xmin) & (x <= xmax))[None, :]


def lowest_probability_inside(maps: OcclusionMaps, box: Box) -> bool:
    """Whether hiding the object hurts most: is the lowest probability found inside its box?

    True when the centre of the square that leaves the true class its lowest probability (the first
    such place in reading order) lies inside the box.

    Args:
      maps: what `occlusion_maps` returned.
      box: (ymin, xmin, ymax, xmax) of the object as shares of the image's sides.
    """
    return bool(centres_inside(maps, box).ravel()[np.argmin(maps.probability)])


def _top_convolution(network: Network) -> str:
    names = [layer.name for layer in network.layers if isinstance(layer, Conv)]
    if not names:
        raise ValueError(f"{network.name} has no convolutional layer; name the layer to watch")
    return names[-1]


def _check_range(name: str, value: int, low: int, high: int | None) -> None:
    if value != int(value) or value < low or (high is not None and value > high):
        raise ValueError(f"{name}={value}: expected a whole number {low}..{high or ''}")


@functools.lru_cache(maxsize=16)
def _watch(network: Network, layer: str):
    def watch(params, image, squares, grey, true_class):
        top, left, side = (values[:, None, None] for values in squares)
        row = jnp.arange(image.shape[0])[None, :, None]
        column = jnp.arange(image.shape[1])[None, None, :]
        hidden = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
        copies = jnp.where(hidden[..., None], grey, image)
        activations = network.activations(params, copies)
        logits = activations[network.layer_names[-1]]
        probability = jax.nn.softmax(logits, axis=-1)[:, true_class]
        seen = activations[layer].reshape(len(copies), -1, activations[layer].shape[-1])
        return seen.sum(axis=1), seen.max(axis=1), probability, jnp.argmax(logits, axis=-1)

    return jax.jit(watch)
