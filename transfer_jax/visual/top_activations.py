"""Which images of a dataset excite each map of a layer most: the search behind Figure 2."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from transfer_jax.networks import Network, Params


@dataclasses.dataclass(frozen=True)
class TopActivations:
    """The images that excite each of M maps (or dense units) most, strongest first.

    `values` (M, count) float32 are what the layer gives at an image's strongest position,
    `image_ids` (M, count) int64 the images, `positions` (M, count, 2) int32 row and column, (0, 0)
    in dense layers. Places that no image fills hold -inf, -1 and -1.
    """

    values: np.ndarray
    image_ids: np.ndarray
    positions: np.ndarray


def top_activations(
    network: Network,
    params: Params,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    layers: Sequence[str],
    *,
    count: int = 9,
) -> dict[str, TopActivations]:
    """Finds the `count` strongest activations of every map of some layers in one pass over images.

    Batches are image ids (n,), integers below 2**31 given once each, and images (n, H, W, 3), mean
    already subtracted; smaller last batches are padded to save a compilation. An image enters a
    map's list once, with its strongest position. Equal values are ordered by image id, positions in
    reading order, so the order of images does not matter. NaN never enters.

    Example:
      >>> batches = ((np.arange(i, i + 256), images[i : i + 256]) for i in range(0, 10_000, 256))
      >>> top = top_activations(net, params, batches, ['conv1', 'conv5'])
      >>> top['conv5'].image_ids[17]  # of the nine images that excite map 17 most
    """
    layers = tuple(layers)
    shapes = {layer: network.output_shapes[layer] for layer in layers}
    update, size = _update(network, layers, count), 0
    empty = {layer: np.full((shape[-1], count), -1, np.int32) for layer, shape in shapes.items()}
    winners = {layer: (np.full(a.shape, -np.inf, np.float32), a, a) for layer, a in empty.items()}
    for ids, x in batches:
        size = max(size, len(ids))
        # top_k keeps the first of equal values, which in ascending order is the lowest id.
        order = np.argsort(ids)
        fill = (0, size - len(ids))
        ids = np.pad(np.asarray(ids, np.int32)[order], fill, constant_values=-1)
        x = np.pad(np.asarray(x, np.float32)[order], (fill, (0, 0), (0, 0), (0, 0)))
        previous, winners = winners, update(params, winners, ids, x)
        # Without this wait a fast reader would queue the whole dataset on the device.
        jax.block_until_ready(previous)
    found = {}
    for layer, shape in shapes.items():
        values, ids, places = map(np.asarray, winners[layer])
        positions = np.stack(np.divmod(places, shape[1] if len(shape) == 3 else 1), axis=-1)
        positions[ids < 0] = -1
        found[layer] = TopActivations(values, ids.astype(np.int64), positions)
    return found


@functools.lru_cache(maxsize=16)
def _update(network: Network, layers: tuple[str, ...], count: int):
    """The compiled step: winners so far (values, ids, places of each layer) and a batch."""

    def update(params, winners, ids, x):
        with jax.default_matmul_precision("highest"):
            activations = network.activations(params, x)
        return {
            layer: _merge(winners[layer], _strongest(activations[layer], ids, count))
            for layer in layers
        }

    return jax.jit(update)


def _strongest(activations, ids, count):
    """The best images of one batch for each map: values, ids and places, each (M, count or n)."""
    flat = activations.reshape(len(ids), -1, activations.shape[-1]).astype(jnp.float32)
    flat = jnp.where(jnp.isnan(flat), -jnp.inf, flat)
    values = jnp.max(flat, axis=1)
    # -0.0 sorts before 0.0, which would break the order of ids between them.
    values = jnp.where(values == 0, 0.0, values)
    values = jnp.where((ids < 0)[:, None], -jnp.inf, values)
    values, images = lax.top_k(values.T, min(count, len(ids)))
    maps = jnp.arange(flat.shape[-1])[:, None]
    # Places are looked up for the winners alone: argmax over everything costs more on CPUs.
    places = jnp.argmax(flat[images, :, maps], axis=-1).astype(jnp.int32)
    found = values > -jnp.inf
    return values, jnp.where(found, ids[images], -1), jnp.where(found, places, -1)


def _merge(one, other):
    count = one[0].shape[1]
    values, ids, places = (jnp.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    # Empty places hold -inf, which nothing that was found does: they sort last.
    falling, ids, places = lax.sort((-values, ids, places), dimension=1, num_keys=2)
    return -falling[:, :count], ids[:, :count], places[:, :count]
