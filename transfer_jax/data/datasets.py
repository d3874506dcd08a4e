"""A prepared dataset, as everything else in the package sees it: labels, pixels and records.

Any TFDS dataset stored in a random-access format (ArrayRecord) will do; nothing here needs
TensorFlow.
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from transfer_jax.data.images import BrokenImageError, size_name
from transfer_jax.data.labels import read_labels, replacing, write_labels
from transfer_jax.data.records import Reader, Records, RecordSource, blocks_of, decode_into

PACK_BYTES = 2**31
"""Splits of at most this many bytes of pixels are decoded once and then kept as one array file."""

_VALIDATION_NAMES = ("val", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled images on disk, with a training and a validation split. Made by `read_dataset`.

    Attributes:
      name: identity of the content, `name/config/version`: it changes with the content and not
        with the place where the data lies.
      class_names: in label order.
      class_paths: the hierarchy, one path from root to leaf per class, or None.
      splits: names of the splits; 'train' and 'val' are always among them. 'val' is empty where
        the images lay in class folders without a split, for `folds.fold_dataset` to draw from.
      image_shape: (h, w, 3) where all images have one shape, else None.
      directory: where the data lies; no part of the identity.
      stored_splits: for each of `splits` its name in TFDS.
      num_records: for each of `splits` how many records it has.
      image_size: side length of the squares that images are made as they are decoded, or None.
      fit: how they are made squares, one of `images.FITS`.
    """

    name: str
    class_names: tuple[str, ...]
    class_paths: tuple[tuple[str, ...], ...] | None
    splits: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    directory: Path = dataclasses.field(compare=False)
    stored_splits: Mapping[str, str] = dataclasses.field(compare=False, repr=False)
    num_records: Mapping[str, int] = dataclasses.field(compare=False)
    image_size: int | None = None
    fit: str = "squash"

    def labels(self, split: str) -> np.ndarray:
        """The dataset class of every record of a split, in record order.

        No image is decoded. The labels are kept beside the data and read from there the next time.

        Args:
          split: one of `splits`.

        Returns:
          int32 (N,), in 0 .. len(class_names) - 1, or -1 where a record has no label.
        """
        stored = self._stored(split)
        if not self.num_records[split]:
            return np.zeros(0, np.int32)
        labels = read_labels(self.directory, stored, self.num_records[split])
        if labels is None:
            reader = Reader(self.directory, stored, ("label",))
            blocks = (reader.read(block) for block in blocks_of(np.arange(len(reader))))
            labels = np.array([r["label"] for block in blocks for r in block], np.int32)
            try:
                write_labels(self.directory, stored, labels)
            except OSError as error:
                not_kept("labels", self.directory, error)
        return labels

    def images(
        self, split: str, indices: Sequence[int] | np.ndarray, *, progress: bool = False
    ) -> np.ndarray:
        """Decoded images of a split.

        The first time that a good part of a small split is asked for, all of it is decoded and kept
        beside the data as one array (`images-<split>.npy`), from which later calls read.

        Args:
          split: one of `splits`.
          indices: (n,) positions in the split, in any order.
          progress: whether to show a progress bar while decoding.

        Returns:
          uint8 (n, h, w, 3), in the order of `indices`.

        Raises:
          ValueError: the images do not all have one shape; read them by `record_source`.
          IndexError: an index lies outside the split.
        """
        stored = self._stored(split)
        size = f"-{size_name(self.image_size, self.fit)}" if self.image_size else ""
        return read_images(
            lambda: Reader(self.directory, stored, ("image",), self.image_size, self.fit),
            self.directory / f"images-{stored}{size}.npy",
            indices,
            count=self.num_records[split],
            image_shape=self.image_shape,
            what=f"{self.name} {split}",
            progress=progress,
        )

    def record_source(self, split: str) -> RecordSource:
        """Random access to the records of a split; made for Grain, and can be pickled.

        Args:
          split: one of `splits`.

        Returns:
          An object with `len(source)` and `source[i]`, a dict of `image`: uint8 (h, w, 3); `label`:
          int; `id`: str; and, where the data has them, `boxes`: float32 (k, 4), each
          (ymin, xmin, ymax, xmax) as fractions of the image's sides. Images that are cut to their
          central square as they are decoded come without boxes.
        """
        return Records(
            self.directory, self._stored(split), self.num_records[split], self.image_size, self.fit
        )

    def _stored(self, split: str) -> str:
        if split not in self.stored_splits:
            raise ValueError(f"{self.name} has the splits {', '.join(self.splits)}; got {split!r}")
        return self.stored_splits[split]


def read_dataset(
    directory: str | os.PathLike,
    *,
    class_paths: Sequence[Sequence[str]] | None = None,
    image_size: int | None = None,
    fit: str = "squash",
) -> Dataset:
    """Opens a prepared TFDS dataset.

    A dataset without 'val' lends its 'validation' split for it, or else its 'test' split.

    Args:
      directory: the folder that holds `dataset_info.json`.
      class_paths: the class hierarchy, one path from root to leaf per class, if there is one.
      image_size: side length in pixels of the squares that images are made as they are decoded;
        None takes them as they are stored.
      fit: how they are made squares, one of `images.FITS`.

    Returns:
      The dataset.

    Raises:
      ValueError: the features `image` (uint8) and `label` (of classes), the splits, or the storage
        format are not such that the dataset can be used; the message says which.
    """
    directory = Path(directory)
    info = random_access_info(directory)
    image, label = (dict(info.features).get(key) for key in ("image", "label"))
    is_image = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
    if not is_image or not isinstance(label, tfds.features.ClassLabel) or not label.num_classes:
        hint = "; images of several labels are opened by multilabel.open_multilabel"
        raise ValueError(
            f"{info.full_name} should have the features image (uint8) and label (of classes); "
            f"its features are {info.features}{hint if 'labels' in info.features else ''}"
        )
    class_names = tuple(label.names or map(str, range(label.num_classes)))
    if class_paths is not None:
        class_paths = tuple(tuple(path) for path in class_paths)
        if len(class_paths) != len(class_names):
            raise ValueError(
                f"{len(class_paths)} class paths were given for the {len(class_names)} classes "
                f"of {info.full_name}"
            )
    stored_splits = split_names(info)
    height, width = (image_size, image_size) if image_size else image.shape[:2]
    return Dataset(
        name=info.full_name + (f"/{size_name(image_size, fit)}" if image_size else ""),
        class_names=class_names,
        class_paths=class_paths,
        splits=tuple(stored_splits),
        image_shape=None if None in (height, width) else (height, width, 3),
        directory=directory,
        stored_splits=stored_splits,
        num_records={
            name: info.splits[stored].num_examples for name, stored in stored_splits.items()
        },
        image_size=image_size,
        fit=fit,
    )


def random_access_info(directory: Path) -> tfds.core.DatasetInfo:
    """What TFDS knows of a prepared dataset; ValueError where it cannot be read at random."""
    info = tfds.builder_from_directory(directory).info
    formats = {file_format.value for file_format in info.available_file_formats()}
    if "array_record" not in formats:
        raise ValueError(
            f"{info.full_name} in {directory} is stored as {', '.join(sorted(formats))}, which "
            "cannot be read at random: prepare it again with file_format='array_record'"
        )
    return info


def split_names(info: tfds.core.DatasetInfo) -> dict[str, str]:
    """The stored split behind 'train', behind 'val', and behind each further one.

    Raises:
      ValueError: there is no 'train', or nothing that can stand for 'val'.
    """
    found = list(info.splits)
    validation = next((name for name in _VALIDATION_NAMES if name in found), None)
    if "train" not in found or validation is None:
        raise ValueError(
            f"{info.full_name} should have the splits train and one of "
            f"{', '.join(_VALIDATION_NAMES)}; it has {', '.join(found) or 'none'}"
        )
    others = {name: name for name in found if name not in ("train", "val", validation)}
    return {"train": "train", "val": validation, **others}


def read_images(
    open_reader: Callable[[], Reader],
    pack_file: Path,
    indices: Sequence[int] | np.ndarray,
    *,
    count: int,
    image_shape: tuple[int, int, int] | None,
    what: str,
    progress: bool,
) -> np.ndarray:
    """Decoded images of a split, from its pack file or from its records.

    Args:
      open_reader: opens the records; called only where they have to be read.
      pack_file: where the decoded images of the whole split are kept.
      indices: (n,) positions in the split.
      count: records in the split.
      image_shape: of every image, or None where they have no common shape.
      what: the split, for messages.
      progress: whether to show a progress bar while decoding.

    Returns:
      uint8 (n, h, w, 3).

    Raises:
      ValueError: the images have no common shape.
      IndexError: an index lies outside the split.
    """
    if image_shape is None:
        raise ValueError(
            f"the images of {what} have no common shape, so they make no array: read them by "
            "record_source, or open the dataset with an image_size"
        )
    indices = np.asarray(indices, np.int64).reshape(-1)
    if not indices.size:
        return np.empty((0, *image_shape), np.uint8)
    if not (indices.min() >= 0 and indices.max() < count):
        raise IndexError(
            f"indices of {what} lie in 0 .. {count - 1}, got {indices.min()} .. {indices.max()}"
        )
    shape = (count, *image_shape)
    packed = _read_pack(pack_file, shape)
    small = int(np.prod(shape)) <= PACK_BYTES
    if packed is None and small and 10 * indices.size >= count:
        packed = _write_pack(pack_file, open_reader(), shape, progress)
    if packed is not None:
        return packed[indices]
    images = np.empty((indices.size, *image_shape), np.uint8)
    decode_into(images, open_reader(), indices, progress)
    return images


def _read_pack(pack_file: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        packed = np.load(pack_file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return packed if packed.shape == shape else None


def _write_pack(
    pack_file: Path, reader: Reader, shape: tuple[int, ...], progress: bool
) -> np.ndarray | None:
    try:
        # Checked first: running out of room under a memory map ends the process.
        _require_room(pack_file.parent, int(np.prod(shape)))
        with replacing(pack_file) as path:
            packed = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
            decode_into(packed, reader, np.arange(shape[0]), progress)
            packed.flush()
    except BrokenImageError:
        raise
    except OSError as error:
        not_kept("decoded images", pack_file.parent, error)
        return None
    return packed


def _require_room(directory: Path, num_bytes: int):
    stats = os.statvfs(directory)
    free = stats.f_bavail * stats.f_frsize
    if free < num_bytes:
        raise OSError(f"{num_bytes / 1e9:.3f} GB are wanted, {free / 1e9:.3f} GB are free")


def not_kept(what: str, directory: Path, error: OSError):
    """Warns that something which was to be kept beside the data could not be written."""
    logging.getLogger(__name__).warning(
        "the %s cannot be kept in %s and will be read anew each time: %s", what, directory, error
    )
