"""Data loaders on the same files and the same cores: PyTorch's with Pillow, and the package's."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from transfer_jax.bench.options import not_negative, positive
from transfer_jax.bench.photographs import Decoder, pillow_resize
from transfer_jax.data.pipeline import stream_once
from transfer_jax.data.records import RecordSource

CROP = 227


def add_reading(parser: argparse.ArgumentParser, photographs: int) -> None:
    """--photographs and --workers."""
    parser.add_argument("--photographs", type=positive, default=photographs, help="files to make")
    parser.add_argument(
        "--workers",
        type=not_negative,
        default=0,
        help="processes that read our stream; 0 reads in threads",
    )


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def central_crop(pixels: np.ndarray) -> np.ndarray:
    """The middle of (..., h, w, 3), a copy: what costs the same wherever a crop lies."""
    top, left = (pixels.shape[-3] - CROP) // 2, (pixels.shape[-2] - CROP) // 2
    return np.ascontiguousarray(pixels[..., top : top + CROP, left : left + CROP, :])


class PillowFiles:
    """What a torch DataLoader reads: file `i` opened, resized and cropped by Pillow.

    Args:
      paths: of the files.
      size: side length to resize to.
      resample: Pillow's filter; torchvision's own choice is BILINEAR.
    """

    def __init__(self, paths: Sequence[Path], size: int, resample: Image.Resampling):
        self.paths, self.size, self.resample = tuple(paths), size, resample

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        with Image.open(self.paths[index]) as image:
            pixels = np.asarray(image.convert("RGB"))
        return central_crop(pillow_resize(pixels, self.size, self.resample))


class DecodedFiles:
    """A `RecordSource` of files, decoded and resized by a function."""

    def __init__(self, paths: Sequence[Path], view: Decoder):
        self.paths, self.view = tuple(paths), view

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        return {"image": self.view(self.paths[index].read_bytes()), "label": 0}


def why_no_torch() -> str | None:
    """The reason why torch's DataLoader cannot be measured here, or None."""
    if importlib.util.find_spec("torch") is None:
        return "torch cannot be imported by this interpreter"
    return None


def torch_loader(files: PillowFiles, batch_size: int) -> Callable[[int], None]:
    """run(images): reads that many by a DataLoader with as many workers as there are cores.

    The workers start at the first run and are kept; each run is an epoch of its own, so that
    nothing is read ahead of it or left over by it.
    """
    import torch

    sampler = _Places(len(files))
    loader = torch.utils.data.DataLoader(
        files,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=cores(),
        persistent_workers=True,
        # Forking a process that runs JAX's threads may hang.
        multiprocessing_context="spawn",
    )

    def run(images: int) -> None:
        sampler.images = images
        read = sum(len(batch) for batch in loader)
        if read != images:
            raise RuntimeError(f"the DataLoader gave {read} images of {images}")

    return run


class _Places:
    """Positions in a fixed shuffled order, as many as the next epoch wants."""

    def __init__(self, count: int):
        self.order, self.images = shuffled(count), count

    def __len__(self) -> int:
        return self.images

    def __iter__(self):
        return iter(np.resize(self.order, self.images).tolist())


def shuffled(count: int) -> np.ndarray:
    """A fixed order of `count` files, the same for every loader."""
    return np.random.default_rng(1).permutation(count)


def stream_loader(source: RecordSource, batch_size: int, workers: int) -> Callable[[int], None]:
    """run(images): reads that many through the package's Grain stream, and crops them.

    Args:
      source: where they are read.
      batch_size: images a batch.
      workers: processes; 0 decodes in threads of this one.
    """
    order = shuffled(len(source))

    def run(images: int) -> None:
        records = np.resize(order, images)
        labels = np.zeros(images, np.int32)
        read = 0
        for batch in stream_once(source, records, labels, batch_size, num_workers=workers):
            central_crop(batch["image"])
            read += int(batch["mask"].sum())
        if read != images:
            raise RuntimeError(f"the stream gave {read} images of {images}")

    return run
