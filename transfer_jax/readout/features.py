"""Features: what leaves the layers of a frozen network, and what the network says of images.

Zeiler & Fergus 2013 keep layers 1 to 7 as ImageNet taught them and train classifiers on what comes
out of them (sections 5.2 and 5.3).
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transfer_jax.data.batches import padded_batches, stream
from transfer_jax.networks import AdaptiveAvgPool, Network, Params

Read = Callable[[np.ndarray], np.ndarray]
View = Callable[[np.ndarray], jax.Array]


def layer_features(
    network: Network,
    params: Params,
    read: Read,
    rows: Sequence[int] | np.ndarray,
    layers: Sequence[str],
    *,
    view: View,
) -> dict[str, np.ndarray]:
    """Features of some layers of a frozen network, all from one forward pass in float32.

    Args:
      network, params: the network, and parameters of at least the layers up to the deepest one.
      read: rows (n,) -> uint8 (n, h, w, 3), such as `dataset.read`.
      rows: (N,) which images, in the order that the features shall have.
      layers: names of layers; each gives (N, D), its output after ReLU, pooling and normalisation,
        maps flattened row by row with channels last.
      view: uint8 images -> what the network takes, such as a trained network's `view`.

    Example:
      >>> x = layer_features(net, params, caltech.read, rows, net.layer_names[:-1], view=view)
      >>> x["fc7"].shape
      (3060, 4096)
    """
    wanted = tuple((layer, "flat") for layer in layers)

    def run(images):
        found = outputs(network, wanted, params, view(images))
        return {layer: x for (layer, _), x in found.items()}

    return map_images(run, read, rows)


def probabilities(
    network: Network,
    params: Params,
    read: Read,
    rows: Sequence[int] | np.ndarray,
    *,
    view: View,
) -> np.ndarray:
    """Class probabilities, float32 (N, K), of a trained network for the images `rows`.

    A view of several crops of each image, (n, crops, h, w, 3), gives the mean of the crops'
    probabilities (Krizhevsky et al. 2012, section 4.1). The other arguments are those of
    `layer_features`.
    """
    last = network.layer_names[-1]

    def run(images):
        x = view(images)
        found = outputs(network, ((last, "flat"),), params, x.reshape(-1, *x.shape[-3:]))
        logits = found[last, "flat"]
        return jax.nn.softmax(logits.reshape(len(images), -1, logits.shape[-1])).mean(axis=1)

    return map_images(run, read, rows)


def map_images(
    run: Callable[[np.ndarray], Any],
    read: Read,
    rows: Sequence[int] | np.ndarray,
    batch_size: int = 256,
) -> Any:
    """What `run` makes of the images `rows`, in batches of one shape: NumPy arrays over all rows.

    `run` maps uint8 (n, h, w, 3) to arrays, or a tree of them, whose first axis is n. Batches are
    read by threads while others are computed.
    """
    rows = np.asarray(rows, np.int64)
    # Few images in powers of two: sets of other sizes are not compiled for anew.
    batch_size = min(batch_size, 1 << (len(rows) - 1).bit_length())
    batches = list(padded_batches(len(rows), batch_size))
    images = stream(read, (rows[indices] for indices, _ in batches), os.cpu_count() or 1)
    whole = None
    for (indices, mask), batch in zip(batches, images, strict=True):
        outputs = run(batch)
        if whole is None:
            whole = jax.tree.map(lambda a: np.empty((len(rows), *a.shape[1:]), a.dtype), outputs)
        for array, output in zip(jax.tree.leaves(whole), jax.tree.leaves(outputs), strict=True):
            array[indices[mask]] = np.asarray(output)[mask]
    return whole


@functools.partial(jax.jit, static_argnums=(0, 1))
def outputs(
    network: Network, wanted: tuple[tuple[str, str], ...], params: Params, x: jax.Array
) -> dict[tuple[str, str], jax.Array]:
    """What leaves layers for the network's input x (N, h, w, 3): each wanted (layer, pool) ->
    float32 (N, D), pooled as `pooled` says, from one forward pass."""
    found, deepest = {}, max(network.position(layer, 0) for layer, _ in wanted)
    # Accelerators would otherwise round the factors of products to fewer digits.
    with jax.default_matmul_precision("highest"):
        for position, name in enumerate(network.layer_names[: deepest + 1]):
            x = network.apply_range(params, x, position, position + 1)
            for layer, pool in wanted:
                if layer == name:
                    found[layer, pool] = pooled(x.astype(jnp.float32), pool)
    return found


GRIDS = {"1": (1,), "2": (2,), "3": (3,), "pyramid": (1, 2, 3)}
POOLS = ("flat", *(kind + grids for kind in ("max", "avg") for grids in GRIDS))
"""How maps become a vector: as they are, or by the maximum or the mean of each map in each cell of
a grid of 1, 2 x 2 or 3 x 3, or of the three grids one after the other."""


def pooled(x: jax.Array, pool: str) -> jax.Array:
    """Maps (N, h, w, c) as vectors (N, D), `pool` one of `POOLS`: cells row by row, channels last.

    The outputs of dense layers (N, D) stay as they are.
    """
    if pool == "flat" or x.ndim == 2:
        return x.reshape(len(x), -1)
    reduce = {"max": jnp.max, "avg": jnp.mean}[pool[:3]]
    cells = []
    for grid in GRIDS[pool[3:]]:
        rows, columns = (AdaptiveAvgPool(grid).spans(side) for side in x.shape[1:3])
        for (top, bottom), (left, right) in itertools.product(rows, columns):
            cells.append(reduce(x[:, top:bottom, left:right], axis=(1, 2)))
    return jnp.concatenate(cells, axis=1)
