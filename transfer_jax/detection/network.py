"""A network made a detector: its layers, with regions pooled where the last map is."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from transfer_jax.networks import AdaptiveAvgPool, Conv, Dense, MaxPool, Network, Params, RoiPool
from transfer_jax.networks.roi_pool import roi_pool


def detector(network: Network, num_classes: int, canvas: int) -> Network:
    """The detector that a network becomes for images of canvas x canvas pixels.

    Its layers keep their names and shapes but for two. The last convolution pools regions to the
    map that the layer above knows, in place of its own last pooling. The last layer is 'detect':
    logits of the background and the classes, then four offsets a class, all of one initial size
    (Girshick's offsets begin with a tenth of the logits'). So a detector on a network's layers is a
    treatment: 'A7B+1' copies all but 'detect' and holds conv1.
    """
    place = max(i for i, layer in enumerate(network.layers) if isinstance(layer, Conv))
    conv, layers = network.layers[place], list(network.layers)
    height, width, _ = network.output_shapes[conv.name]
    if height != width:
        raise ValueError(
            f"{network.name}: layer {conv.name} gives maps of {height} x {width}, regions are "
            "pooled to square ones"
        )
    pool = RoiPool(height)
    last = max((i for i, op in enumerate(conv.then) if isinstance(op, MaxPool)), default=None)
    below, above = conv.then[:last], () if last is None else conv.then[last + 1 :]
    above = tuple(op for op in above if not isinstance(op, AdaptiveAvgPool))
    layers[place] = dataclasses.replace(conv, then=(*below, pool, *above))
    layers[-1] = Dense("detect", 5 * num_classes + 1, weight_std=0.01)
    return dataclasses.replace(
        network, name=f"{network.name}_detector", input_size=canvas, layers=tuple(layers)
    )


def apply_regions(
    network: Network,
    params: Params,
    x: jax.Array,
    start: int,
    boxes: jax.Array,
    rng: jax.Array | None = None,
) -> jax.Array:
    """Outputs (N, R, 5 K + 1), float32, of a detector of K classes for regions of N images.

    x is what enters layer `start`, which lies no higher than the pooling of regions; `boxes` are
    (N, R, 4). With `rng`, keys (N,) of the images, dropout applies.
    """
    regions = pool_regions(network, params, x, start, boxes, rng)
    return judge_regions(network, params, regions, rng)


def pool_regions(
    network: Network,
    params: Params,
    x: jax.Array,
    start: int,
    boxes: jax.Array,
    rng: jax.Array | None = None,
) -> jax.Array:
    """The first part of `apply_regions`, up to pooling: (N, R, size, size, C)."""
    place, cut = pooling(network)
    layer = network.layers[place]
    if start > place:
        raise ValueError(
            f"{network.name}: {start} layers stand still, and {layer.name} pools regions: expected "
            f"at most {place}"
        )
    trunk = dataclasses.replace(layer, then=layer.then[:cut])
    trunk = dataclasses.replace(network, layers=(*network.layers[:place], trunk))
    maps = trunk.apply_range(params, x, start, None, train=rng is not None, rng=rng)
    return roi_pool(maps, boxes, layer.then[cut].size)


def judge_regions(
    network: Network, params: Params, regions: jax.Array, rng: jax.Array | None = None
) -> jax.Array:
    """The second part of `apply_regions`, from what `pool_regions` gives."""
    place, cut = pooling(network)
    count, keys, own = regions.shape[:2], None, None
    if rng is not None:
        of_regions = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
        keys = of_regions(rng, jnp.arange(count[1])).reshape(-1)
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
    x = regions.reshape(-1, *regions.shape[2:])
    for op in network.layers[place].then[cut + 1 :]:
        x = op(x, own)
    x = network.apply_range(params, x, place + 1, None, train=rng is not None, rng=keys)
    return x.astype(jnp.float32).reshape(*count, -1)


def pooling(network: Network) -> tuple[int, int]:
    """The layer that pools regions, and the place among its operations."""
    return next(
        (i, j)
        for i, layer in enumerate(network.layers)
        for j, op in enumerate(layer.then)
        if isinstance(op, RoiPool)
    )


def split(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits (..., 1 + K), the background's first, and offsets (..., K, 4) of a detector."""
    classes = (outputs.shape[-1] - 1) // 5
    moves = outputs[..., classes + 1 :]
    return outputs[..., : classes + 1], moves.reshape(*moves.shape[:-1], classes, 4)
