"""Labelled images, whatever they came from: one class, all splits in one row space."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from transfer_jax.data.batches import stream
from transfer_jax.data.records import Arrays, Boxes, Crops, Records, digest
from transfer_jax.data.seals import kept_array
from transfer_jax.data.splits import with_fifth

PACK_BYTES = 2**31
"""Pixels of datasets up to this size are decoded once and then kept as one array on disk."""

_packing = threading.Lock()
_BLOCK = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images. Made by `sources.open_dataset`, or from arrays by `Dataset.from_arrays`.

    It can be pickled: arrays in memory travel, files are opened again where they are wanted.

    Attributes:
      name: identity of the content; it does not change with the place where the files lie.
      class_names: in label order.
      labels: int32 (N,), -1 for none; or int8 (N, K): 1 where a class shows, 0 where it does not,
        -1 where all that shows of it is marked as difficult.
      splits: rows of 'train', of 'val' and perhaps of others, which may overlap; {} where the
        images came without splits.
      source: where the pixels are; anything with the method `image(row)`.
      class_paths: the hierarchy, one path from root to leaf per class, or None.
      boxes: marked objects, or None.
      image_shape: (h, w, 3), or None where images have several shapes.
      directory: where what is computed from the dataset may be kept, or None.
    """

    name: str
    class_names: tuple[str, ...]
    labels: np.ndarray
    splits: Mapping[str, np.ndarray]
    source: Arrays | Records | Crops
    class_paths: tuple[tuple[str, ...], ...] | None = None
    boxes: Boxes | None = None
    image_shape: tuple[int, int, int] | None = None
    directory: Path | None = None

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray | Sequence[np.ndarray],
        labels: np.ndarray,
        class_names: Sequence[str] | None = None,
        *,
        val: tuple[np.ndarray | Sequence[np.ndarray], np.ndarray] | None = None,
        boxes: np.ndarray | Sequence[tuple] | None = None,
        class_paths: Sequence[Sequence[str]] | None = None,
        name: str | None = None,
        splits: Mapping[str, np.ndarray] | None = None,
    ) -> Dataset:
        """A dataset of images in memory: uint8 (N, h, w, 3), or a sequence of (h, w, 3) of any
        sizes, with the class of each or labels (N, K) as above. `val` brings more images with their
        labels, which become the split 'val'; or `splits` gives the rows of each split; without
        either, a fifth of each class is 'val', see `splits.with_fifth`.

        `boxes` are those of all rows, of `val` last: (N, 4), one box an image, of its class; or for
        each image (labels (k,), boxes (k, 4), difficult (k,)). Classes are called by their numbers,
        and the dataset by its content, unless named.
        """
        num = len(images)
        if val is not None:
            same = isinstance(images, np.ndarray) and isinstance(val[0], np.ndarray)
            images = np.concatenate([images, val[0]]) if same else [*images, *val[0]]
            labels = np.concatenate([labels, val[1]])
        labels = np.asarray(labels)
        labels = labels.astype(np.int8 if labels.ndim == 2 else np.int32)
        if len(labels) != len(images):
            raise ValueError(f"{len(images)} images were given with {len(labels)} labels")
        for image in images if not isinstance(images, np.ndarray) else (images,):
            if image.dtype != np.uint8 or image.shape[-1] != 3:
                raise ValueError(f"expected uint8 (..., h, w, 3), got {image.dtype} {image.shape}")
        if class_names is None:
            class_names = range(labels.shape[1] if labels.ndim == 2 else labels.max(initial=-1) + 1)
        if splits is None:
            splits = {"train": np.arange(num)}
            if val is not None:
                splits["val"] = np.arange(num, len(images))
            splits = with_fifth(splits, labels)
        if isinstance(boxes, np.ndarray):
            boxes = [([label], [box], [False]) for label, box in zip(labels, boxes, strict=True)]
        if boxes is not None:
            boxes = Boxes.of_rows(boxes)
        class_names = tuple(map(str, class_names))
        splits = {split: np.asarray(rows, np.int64) for split, rows in splits.items()}
        return cls(
            name or f"arrays/{digest(class_names, labels, splits, boxes, images)}",
            class_names,
            labels,
            splits,
            Arrays(images),
            None if class_paths is None else tuple(map(tuple, class_paths)),
            boxes,
            tuple(images.shape[1:]) if isinstance(images, np.ndarray) else None,
        )

    def image(self, row: int) -> np.ndarray:
        """The decoded image of a row, uint8 (h, w, 3) of its own size."""
        return self.source.image(row)

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decoded images, uint8 (n, h, w, 3), of rows in any order; ValueError where they have
        several shapes.

        The first time that a good part of a small dataset is asked for, all of it is decoded and
        kept as one array in `directory`, from which later calls read.
        """
        if self.image_shape is None:
            raise ValueError(f"images of {self.name} have several shapes: give it an image_size")
        rows = np.asarray(rows, np.int64).reshape(-1)
        pixels = self.source.pixels if isinstance(self.source, Arrays) else self._packed(len(rows))
        return self._decoded(rows) if pixels is None else pixels[rows]

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """(N,) strings: file names, or what else tells the images of the source apart."""
        return self.source.ids()

    def _decoded(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.image_shape), np.uint8)

        def decode(start: int) -> None:
            for place, row in enumerate(rows[start : start + _BLOCK], start):
                images[place] = self.source.image(row)

        starts = range(0, len(rows), _BLOCK)
        few = len(rows) <= 8 * _BLOCK  # a batch: whoever reads those has threads of their own
        for _ in map(decode, starts) if few else stream(decode, starts, os.cpu_count()):
            pass
        return images

    def _packed(self, wanted: int) -> np.ndarray | None:
        """All pixels in a memory map, made now if `wanted` is many; None where there is none."""
        num = len(self.labels)
        if self.directory is None or num * int(np.prod(self.image_shape)) > PACK_BYTES:
            return None
        path = self.directory / "pixels.npy"
        with _packing:
            if "_pack" not in self.__dict__:
                if not path.exists() and 10 * wanted < num:
                    return None
                source = f"{num} images of {self.name}"
                pack = kept_array(path, source, lambda: self._decoded(np.arange(num)))
                self.__dict__["_pack"] = pack
        return self.__dict__["_pack"]

    def __getstate__(self):
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
