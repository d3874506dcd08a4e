"""Which images of a dataset excite each map of a layer most: the search behind Figure 2."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from transfer_jax.networks import Network, Params

EMPTY = -1
_LARGEST_ID = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class TopActivations:
    """The images that excite each of M maps (or dense units) most, strongest first.

    Attributes:
      values: (M, count) float32, what the layer gives at the image's strongest position; -inf in
        places that no image fills.
      image_ids: (M, count) int64, the ids that came with the images; -1 in places not filled.
      positions: (M, count, 2) int32, row and column of that value in the layer's output; (0, 0) in
        dense layers and -1 in places not filled.
    """

    values: np.ndarray
    image_ids: np.ndarray
    positions: np.ndarray


def top_activations(
    network: Network,
    params: Params,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    layers: Sequence[str] | str,
    *,
    count: int = 9,
) -> dict[str, TopActivations]:
    """Finds the strongest activations of every map of some layers over a whole dataset.

    One pass over the images serves all maps of all layers. Only the current winners are kept, on
    the device, so memory does not grow with the dataset. An image enters a map's list at most once,
    with its strongest position: the list is of the `count` most exciting images, as in Figure 2 of
    Zeiler & Fergus 2013, where count is 9.

    Equal values are ordered by image id, lowest first, and an image's strongest position is the
    first in reading order; so the result depends neither on the order of the images nor on how they
    are cut into batches, as far as the network's own arithmetic does not. An activation that is not
    a number never enters.

    Args:
      network: any Network.
      params: its parameters.
      batches: pairs of image ids (n,), integers from 0 to 2**31 - 1, each given once in the whole
        search, and images (n, H, W, 3), float32 with the mean already subtracted. The first batch
        sets the size of the compiled program; smaller ones are padded, larger ones are cut.
      layers: names of layers, convolutional or dense. A layer's output is what leaves it after
        its ReLU, pooling and normalisation, as `Network.activations` gives it.
      count: how many images to keep for each map.

    Returns:
      layer name -> TopActivations, in the order of `layers`. With fewer than `count` images the
      last places stay empty: id -1, value -inf, position (-1, -1).

    Raises:
      ValueError: for an unknown layer, a count below 1, ids that are negative, too large, repeated
        within a batch or not integers, or images that do not fit.

    Example:
      >>> batches = ((np.arange(i, i + 256), images[i : i + 256]) for i in range(0, 10_000, 256))
      >>> top = top_activations(net, params, batches, ['conv1', 'conv5'])
      >>> top['conv5'].image_ids[17]  # of the nine images that excite map 17 most
    """
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    for layer in layers:
        network.position(layer, 0)
    if count < 1:
        raise ValueError(f"count={count}: expected 1 or more images for each map")
    update = _update(network, layers, count)
    winners = {layer: _nothing(network.output_shapes[layer][-1], count) for layer in layers}
    params = jax.device_put(dict(params))
    for ids, x in _equal_batches(batches, network.input_size):
        previous, winners = winners, update(params, winners, ids, x)
        # Without this wait a fast reader would queue the whole dataset on the device.
        jax.block_until_ready(previous)
    return {layer: _unpacked(*winners[layer], network.output_shapes[layer]) for layer in layers}


_Winners = tuple[jax.Array, jax.Array, jax.Array]


def _nothing(maps: int, count: int) -> _Winners:
    return (
        jnp.full((maps, count), -jnp.inf, jnp.float32),
        jnp.full((maps, count), EMPTY, jnp.int32),
        jnp.full((maps, count), EMPTY, jnp.int32),
    )


def _unpacked(values, ids, places, shape: tuple[int, ...]) -> TopActivations:
    width = shape[1] if len(shape) == 3 else 1
    values, ids, places = np.array(values), np.array(ids, np.int64), np.array(places)
    positions = np.stack([places // width, places % width], axis=-1).astype(np.int32)
    positions[ids == EMPTY] = EMPTY
    return TopActivations(values, ids, positions)


def _equal_batches(batches, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of the first one's size, ids ascending, padded with id -1 at the end."""
    size = None
    for ids, x in batches:
        ids, x = np.asarray(ids), np.asarray(x)
        _check_batch(ids, x, side)
        if len(ids) == 0:
            continue
        size = size or len(ids)
        # top_k keeps the first of equal values, which in ascending order is the lowest id.
        order = np.argsort(ids)
        ids = ids.astype(np.int32)
        for start in range(0, len(ids), size):
            piece = order[start : start + size]
            padding = size - len(piece)
            yield (
                np.pad(ids[piece], (0, padding), constant_values=EMPTY),
                np.pad(x[piece].astype(np.float32), ((0, padding), (0, 0), (0, 0), (0, 0))),
            )


def _check_batch(ids: np.ndarray, x: np.ndarray, side: int) -> None:
    if x.ndim != 4 or x.shape[1:] != (side, side, 3) or not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"images of shape {x.shape} and type {x.dtype}; expected (n, {side}, {side}, 3) floats "
            "with the mean subtracted"
        )
    if ids.shape != x.shape[:1] or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"image ids of shape {ids.shape} and type {ids.dtype} for {len(x)} images; expected "
            f"({len(x)},) integers"
        )
    if len(ids) and (ids.min() < 0 or ids.max() > _LARGEST_ID):
        raise ValueError(
            f"image ids from {ids.min()} to {ids.max()}; expected them within 0..{_LARGEST_ID}"
        )
    if len(np.unique(ids)) != len(ids):
        raise ValueError("image ids: one occurs twice in a batch; each image is searched once")


@functools.lru_cache(maxsize=16)
def _update(network: Network, layers: tuple[str, ...], count: int):
    """The compiled step: winners so far and a batch -> winners."""

    def update(params, winners: Mapping[str, _Winners], ids, x) -> dict[str, _Winners]:
        activations = network.activations(params, x)
        return {
            layer: _merge(winners[layer], _strongest(activations[layer], ids, count))
            for layer in layers
        }

    return jax.jit(update)


def _strongest(activations: jax.Array, ids: jax.Array, count: int) -> _Winners:
    """The best images of one batch for each map: values, ids and places, each (M, count or n)."""
    flat = activations.reshape(len(ids), -1, activations.shape[-1]).astype(jnp.float32)
    flat = jnp.where(jnp.isnan(flat), -jnp.inf, flat)
    values = jnp.max(flat, axis=1)
    # -0.0 sorts before 0.0, which would break the order of ids between them.
    values = jnp.where(values == 0, 0.0, values)
    values = jnp.where((ids == EMPTY)[:, None], -jnp.inf, values)
    values, images = lax.top_k(values.T, min(count, len(ids)))
    maps = jnp.arange(flat.shape[-1])[:, None]
    # Places are looked up for the few winners alone: argmax over everything costs more on CPUs.
    places = jnp.argmax(flat[images, :, maps], axis=-1).astype(jnp.int32)
    found = values > -jnp.inf
    return values, jnp.where(found, ids[images], EMPTY), jnp.where(found, places, EMPTY)


def _merge(one: _Winners, other: _Winners) -> _Winners:
    count = one[0].shape[1]
    values, ids, places = (jnp.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    # Empty places hold -inf, which nothing that was found does: they sort last.
    falling, ids, places = lax.sort((-values, ids, places), dimension=1, num_keys=2)
    return -falling[:, :count], ids[:, :count], places[:, :count]
