"""Mean pixels of many images, by channel or pixel by pixel, kept beside a dataset's files."""

from __future__ import annotations

import functools
import weakref

import numpy as np

from transfer_jax.data.batches import stream
from transfer_jax.data.dataset import Dataset, digest
from transfer_jax.data.seals import kept_array

# Large enough for `Dataset.read` to keep the pixels of a small dataset, and for a block's sum to
# fit the 32 bits in which NumPy adds bytes fastest.
_BLOCK_BYTES = 2**28
_in_memory: weakref.WeakKeyDictionary[Dataset, dict[str, np.ndarray]] = weakref.WeakKeyDictionary()


def mean_of(dataset: Dataset, rows: np.ndarray, kind: str) -> np.ndarray:
    """Mean over the images of some rows, float32 in pixel values: 'channel' (3,), or 'image'
    (h, w, 3), what Caffe's `compute_image_mean` writes. It is computed once from exact sums and
    kept in memory and, where the dataset has a directory, in a file there."""
    kept = _in_memory.setdefault(dataset, {})
    key = digest(dataset.name, rows)
    if key not in kept:
        if not len(rows):
            raise ValueError(f"{dataset.name}: there is no mean of no images")
        path = dataset.directory and dataset.directory / f"mean-{key}.npy"
        make = functools.partial(_mean_image, dataset, rows)
        kept[key] = kept_array(path, f"{dataset.name}, rows {key}", make)
    mean = kept[key]
    return (mean.mean(axis=(0, 1)) if kind == "channel" else mean).astype(np.float32)


def _mean_image(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """float64 (h, w, 3)."""
    size = max(1, _BLOCK_BYTES // int(np.prod(dataset.image_shape)))
    blocks = (rows[start : start + size] for start in range(0, len(rows), size))
    sums = stream(lambda block: dataset.read(block).sum(axis=0, dtype=np.uint32), blocks)
    return functools.reduce(np.add, sums, np.zeros(dataset.image_shape, np.uint64)) / len(rows)
