"""Mean pixels of many images: by channel, or pixel by pixel; kept beside a dataset's files."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tqdm

from transfer_jax.data.ahead import map_ahead
from transfer_jax.data.datasets import Dataset, not_kept
from transfer_jax.data.labels import replacing

KINDS = ("image", "channel")
"""'image': one value for each pixel and channel; 'channel': one for each channel."""

_CHUNK = 1024
_BLOCK_BYTES, _BLOCK_LIMITS = 2**28, (16, 4096)


@functools.lru_cache(maxsize=4)
def dataset_mean(dataset: Dataset, kind: str) -> np.ndarray:
    """Mean over a dataset's training images, kept beside its files.

    Args:
      dataset: any dataset whose images have one shape.
      kind: 'channel' for (3,) or 'image' for (h, w, 3).

    Returns:
      float32, in pixel values 0..255.

    Raises:
      ValueError: as `keep_means` does.
    """
    path = mean_file(dataset, kind)
    if path.exists():
        return np.load(path)
    return keep_means(dataset, (kind,))[kind]


def mean_file(dataset: Dataset, kind: str) -> Path:
    """Where `dataset_mean` keeps a mean of this kind: 'mean_image_256x256.npy'."""
    height, width = dataset.image_shape[:2]
    name = f"mean_{kind}_{height}x{width}"
    if dataset.fit != "squash":
        # The same folder may hold the mean of the same images squashed.
        name += f"_{dataset.fit}"
    return dataset.directory / f"{name}.npy"


def keep_means(
    dataset: Dataset, kinds: Sequence[str] = KINDS, *, progress: bool | None = None
) -> dict[str, np.ndarray]:
    """Computes means over a dataset's training images in one pass and writes their files.

    Blocks of images are decoded by all cores while the one before is added up.

    Args:
      dataset: any dataset whose images have one shape.
      kinds: which means, of `KINDS`.
      progress: whether to show a progress bar; None shows one where it takes a while: from
        2^18 images of 32 x 32 pixels, or 4096 of 256 x 256.

    Returns:
      float32 for each kind: 'image' (h, w, 3), 'channel' (3,); both rounded once from exact sums.

    Raises:
      ValueError: there are no training images, or no such kind.
    """
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"a mean is of kind {' or '.join(KINDS)}; got {min(unknown)!r}")
    count, num_bytes = dataset.num_records["train"], int(np.prod(dataset.image_shape))
    size = int(np.clip(_BLOCK_BYTES // num_bytes, *_BLOCK_LIMITS))
    starts = range(0, count, size)
    if progress is None:
        progress = count * num_bytes >= 3 * 2**28

    def add_up(start: int) -> tuple[np.ndarray, int]:
        images = dataset.images("train", np.arange(start, min(start + size, count)))
        return _sum_over_images(images), len(images)

    if not count:
        raise ValueError(f"{dataset.name} has no training images to take the mean of")
    with tqdm.tqdm(
        total=count, unit="image", desc="mean image", disable=not progress, mininterval=0.5
    ) as bar:
        # The first alone: it may decode a small dataset into one file, for the others to read.
        sums = itertools.chain([add_up(0)], map_ahead(add_up, starts[1:], workers=2))
        total = np.zeros(dataset.image_shape, np.uint64)
        for block, number in sums:
            total += block
            bar.update(number)
    return {kind: _keep(dataset, kind, _mean_of(total, count, kind)) for kind in kinds}


def _mean_of(total: np.ndarray, count: int, kind: str) -> np.ndarray:
    if kind == "channel":
        total, count = total.sum(axis=(0, 1)), count * total.shape[0] * total.shape[1]
    return (total.astype(np.float64) / count).astype(np.float32)


def _keep(dataset: Dataset, kind: str, mean: np.ndarray) -> np.ndarray:
    path = mean_file(dataset, kind)
    try:
        # A view of a dataset may name a folder that nothing was written to yet.
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, open(partial, "wb") as file:
            np.save(file, mean)
    except OSError as error:
        not_kept(f"mean ({kind})", path.parent, error)
    return mean


def channel_mean(images: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
    """Mean pixel value of each channel.

    Args:
      images: uint8 (N, height, width, channels), read in pieces (a memory map will do), or an
        iterable of such batches, whose image sizes may differ.

    Returns:
      float32 (channels,), rounded once from exact sums.

    Raises:
      TypeError: images that are not uint8.
      ValueError: no images, or batches that differ in their number of channels.

    Example:
      >>> mean = channel_mean(resident.images)
    """
    total, pixels = 0, 0
    for batch in _batches(images):
        if pixels and batch.shape[-1] != len(total):
            raise ValueError(
                f"a batch has {batch.shape[-1]} channels where the ones before had {len(total)}."
            )
        total = total + _sum_over_images(batch).sum(axis=(0, 1))
        pixels += batch.shape[0] * batch.shape[1] * batch.shape[2]
    if not pixels:
        raise ValueError("there are no images to take the mean of.")
    return (total.astype(np.float64) / pixels).astype(np.float32)


def mean_image(images: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
    """The mean over images, pixel by pixel: what Caffe's `compute_image_mean` writes.

    Args:
      images: uint8 (N, height, width, channels), read in pieces (a memory map will do), or an
        iterable of such batches, all of one image size.

    Returns:
      float32 (height, width, channels), rounded once from exact sums.

    Raises:
      TypeError: images that are not uint8.
      ValueError: no images, or batches of different image sizes.
    """
    total, count = 0, 0
    for batch in _batches(images):
        if count and batch.shape[1:] != total.shape:
            raise ValueError(
                f"a batch holds images of shape {batch.shape[1:]} where the ones before were "
                f"{total.shape}; a mean image needs one size (channel_mean does not)."
            )
        total = total + _sum_over_images(batch)
        count += len(batch)
    if not count:
        raise ValueError("there are no images to take the mean of.")
    return _mean_of(total, count, "image")


def _batches(images: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for batch in [images] if hasattr(images, "shape") else images:
        if batch.dtype != np.uint8:
            raise TypeError(f"images has dtype {batch.dtype}; expected uint8 pixel values.")
        if batch.ndim != 4:
            raise ValueError(
                f"images has shape {batch.shape}; expected (count, height, width, channels)."
            )
        for start in range(0, len(batch), _CHUNK):
            yield batch[start : start + _CHUNK]


def _sum_over_images(batch: np.ndarray) -> np.ndarray:
    # A chunk's sum fits 32 bits, in which NumPy adds bytes up faster than in 64.
    return np.asarray(batch).sum(axis=0, dtype=np.uint32).astype(np.uint64)
