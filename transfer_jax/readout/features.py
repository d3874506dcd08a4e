"""Features: what leaves the layers of a frozen network, computed once and kept on disk.

Zeiler & Fergus 2013 keep layers 1 to 7 as they were trained on ImageNet and train classifiers on
what comes out of them (sections 5.2 and 5.3).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from transfer_jax.data.augment import Augmentation, eval_view
from transfer_jax.data.labels import replacing
from transfer_jax.networks import Network

# Raised when the same key would stand for other numbers than before.
_VERSION = 1


class Images(Protocol):
    """What has to be known of a dataset: `transfer_jax.data.datasets.Dataset` and its views."""

    name: str

    def images(self, split: str, indices: np.ndarray) -> np.ndarray:
        """Images uint8 (n, h, w, 3) of a split."""


def features(
    network: Network,
    params: Any,
    dataset: Images,
    split: str,
    indices: Sequence[int] | np.ndarray,
    layers: Sequence[str],
    *,
    augmentation: Augmentation,
    mean: ArrayLike,
    scale: ArrayLike = 1.0,
    cache_dir: str | Path | None = None,
    batch_size: int = 256,
) -> dict[str, np.ndarray]:
    """Features of some layers of a frozen network, from one forward pass over the images.

    A layer's features are kept in one file of `cache_dir`. Its name holds a digest of all that
    decides them: the layers up to it and their weights, the dataset's name, split and indices, the
    view. Networks that share lower layers therefore share those layers' files, and a call computes
    only what is missing.

    Args:
      network: the network.
      params: its parameters, of at least the layers up to the deepest one asked for.
      dataset: where the images come from; its `name` stands for their content.
      split: one of its splits.
      indices: (N,) positions in the split, in the order that the features shall have.
      layers: names of layers of the network, in any order.
      augmentation: size and padding of the centre crop, as in training.
      mean: (3,) or (h, w, 3), subtracted from the pixels, as in training.
      scale: multiplies what is left, as in training.
      cache_dir: folder of the files, made when missing; None keeps nothing.
      batch_size: images per forward pass.

    Returns:
      layer -> float32 (N, D), with D the product of the shape of the layer's output for an image
      (after ReLU, pooling and normalisation), maps flattened row by row, channels last. Read-only
      memory maps where there is a cache.

    Raises:
      ValueError: no indices, no layers, an unknown layer, params that lack one, images that do not
        fit the view or the network.
      OSError: the disk is full. Nothing is left behind then, nor after a kill, that would be taken
        for features.

    Example:
      >>> view = dict(augmentation=recipe.augmentation, mean=mean, scale=recipe.pixel_scale)
      >>> train = features(net, params, caltech, "train", indices, net.layer_names[:7], **view,
      ...                  cache_dir="runs/features")
      >>> train["conv5"].shape
      (3060, 1024)
    """
    indices = np.asarray(indices, np.int64).reshape(-1)
    positions = {name: network.position(name, 0) for name in layers}
    if not indices.size or not positions:
        raise ValueError(f"{indices.size} indices and {len(positions)} layers were asked for")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1")
    if augmentation.size != network.input_size:
        raise ValueError(
            f"augmentation.size={augmentation.size}, but network {network.name} takes images of "
            f"{network.input_size} pixels"
        )
    depth = max(positions.values()) + 1
    for name in network.layer_names[:depth]:
        if name not in params:
            raise ValueError(f"params hold no layer {name!r}; they hold {tuple(params)}")
    ordered = sorted(positions, key=positions.__getitem__)
    shapes = {name: (indices.size, int(np.prod(network.output_shapes[name]))) for name in ordered}
    paths: dict[str, Path] = {}
    if cache_dir is not None:
        numbers = [_content(np.asarray(number, np.float32)) for number in (mean, scale)]
        view = (augmentation.size, augmentation.pad, *numbers)
        source = (dataset.name, split, _content(indices), view)
        keys = _keys(network, params, depth, source)
        paths = {name: Path(cache_dir) / f"{name}-{keys[name]}.npy" for name in ordered}
        Path(cache_dir).mkdir(parents=True, exist_ok=True)
    found = {name: _read(paths[name], shapes[name]) for name in paths}
    found = {name: array for name, array in found.items() if array is not None}
    missing = tuple(name for name in ordered if name not in found)
    if missing:
        deepest = network.layer_names[: positions[missing[-1]] + 1]
        used = {name: params[name] for name in deepest}
        run = functools.partial(
            _program(network, augmentation, missing), used, mean=mean, scale=scale
        )
        with contextlib.ExitStack() as stack:
            sinks = {}
            for name in missing:
                if name in paths:
                    sinks[name] = stack.enter_context(_file(paths[name], shapes[name])).write
                else:
                    found[name] = np.empty(shapes[name], np.float32)
                    sinks[name] = _Rows(found[name]).write
            for outputs in map_batches(run, dataset, split, indices, batch_size):
                for name, output in zip(missing, outputs, strict=True):
                    sinks[name](np.ascontiguousarray(output))
        for name in missing:
            if name in paths:
                found[name] = np.load(paths[name], mmap_mode="r")
    return {name: found[name] for name in layers}


def map_batches(
    run: Callable[[jax.Array], Any],
    dataset: Images,
    split: str,
    indices: np.ndarray,
    batch_size: int,
) -> Iterator[Any]:
    """Runs a compiled function over images in batches of one size.

    The last batch is filled up with its first image, so that one program serves all; those rows
    are cut off again. A batch is read while the one before it is computed.

    Args:
      run: images uint8 (batch, h, w, 3) -> arrays whose first axis is the batch.
      dataset, split, indices: as in `features`.
      batch_size: images a call; fewer where there are fewer indices.

    Yields:
      What `run` returns for each batch, as NumPy arrays.
    """
    batch_size = min(batch_size, len(indices))
    computing = None
    for start in range(0, len(indices), batch_size):
        images = np.asarray(dataset.images(split, indices[start : start + batch_size]))
        count = len(images)
        if count < batch_size:
            filling = np.repeat(images[:1], batch_size - count, axis=0)
            images = np.concatenate([images, filling])
        outputs = run(jnp.asarray(images))
        if computing is not None:
            yield _cut(*computing)
        computing = outputs, count
    if computing is not None:
        yield _cut(*computing)


def _cut(outputs, count):
    return jax.tree.map(lambda output: np.asarray(output)[:count], outputs)


@functools.lru_cache(maxsize=64)
def _program(network: Network, augmentation: Augmentation, layers: tuple[str, ...]):
    depth = network.position(layers[-1], 0) + 1

    @jax.jit
    def run(params, images, mean, scale):
        x = eval_view(images, augmentation, mean, scale)
        outputs = {}
        for position, name in enumerate(network.layer_names[:depth]):
            x = network.apply_range(params, x, position, position + 1)
            outputs[name] = x.reshape(len(x), -1).astype(jnp.float32)
        return [outputs[name] for name in layers]

    return run


def _keys(network: Network, params, depth: int, source) -> dict[str, str]:
    """For each layer a digest of what decides its features."""
    digest = hashlib.sha256(repr((_VERSION, network.input_size, source)).encode())
    keys = {}
    for layer in network.layers[:depth]:
        digest.update(repr(layer).encode())
        for name in sorted(params[layer.name]):
            digest.update(f"{name} {_content(params[layer.name][name])}".encode())
        keys[layer.name] = digest.hexdigest()[:24]
    return keys


def _content(array: ArrayLike) -> str:
    array = np.ascontiguousarray(array)
    return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.float32 else None


class _Rows:
    """Puts batches one below the other into an array."""

    def __init__(self, array: np.ndarray):
        self.array, self.filled = array, 0

    def write(self, rows: np.ndarray) -> None:
        self.array[self.filled : self.filled + len(rows)] = rows
        self.filled += len(rows)


@contextlib.contextmanager
def _file(path: Path, shape: tuple[int, int]):
    """An .npy file to write rows to, which bears its name once it is complete."""
    # Written, not mapped: on a full disk a memory map ends the process instead of raising.
    with replacing(path) as partial:
        with open(partial, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            yield file
