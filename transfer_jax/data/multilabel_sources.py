"""How the splits of a `MultiLabelDataset` are read: records, pixels and targets."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from transfer_jax.data import voc
from transfer_jax.data.datasets import not_kept
from transfer_jax.data.labels import replacing
from transfer_jax.data.records import Reader, RecordSource, blocks_of

LABELS, CLEAR_LABELS = "labels", "labels_no_difficult"
"""Features with the classes in an image: all of them, and those not only difficult to see."""


class Source(Protocol):
    """A split: how it is read."""

    stored: str

    def reader(self) -> Reader:
        """Opens the encoded images."""

    def records(self) -> RecordSource:
        """Random access to the records; can be pickled."""

    def targets(self) -> np.ndarray:
        """int8 (N, K), see `MultiLabelDataset.targets`."""


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A split of a prepared TFDS dataset that has PASCAL VOC's features.

    Attributes:
      directory: the folder that holds `dataset_info.json`.
      stored: name of the split in TFDS.
      count: records in it.
      num_classes: columns of the targets.
      image_size: side length of the squares that images are made, or None.
      fit: how they are made squares, one of `images.FITS`.
    """

    directory: Path
    stored: str
    count: int
    num_classes: int
    image_size: int | None
    fit: str = "squash"

    def reader(self) -> Reader:
        """Opens the encoded images."""
        return Reader(self.directory, self.stored, ("image",), self.image_size, self.fit)

    def records(self) -> RecordSource:
        """Random access to the records; can be pickled."""
        return _TfdsRecords(self)

    def targets(self) -> np.ndarray:
        """int8 (N, K), read once and then kept beside the data."""
        path = self.directory / f"targets-{self.stored}.npy"
        try:
            targets = np.load(path)
            if targets.shape == (self.count, self.num_classes) and targets.dtype == np.int8:
                return targets
        except (OSError, ValueError, EOFError):
            pass
        reader = Reader(self.directory, self.stored, self.features(LABELS, CLEAR_LABELS))
        blocks = (reader.read(block) for block in blocks_of(np.arange(len(reader))))
        targets = np.array([self.target(record) for block in blocks for record in block], np.int8)
        try:
            with replacing(path) as temporary, open(temporary, "wb") as file:
                np.save(file, targets)
        except OSError as error:
            not_kept("targets", self.directory, error)
        return targets

    def target(self, record: Mapping[str, Any]) -> np.ndarray:
        """int8 (K,) of one parsed record."""
        targets = np.full(self.num_classes, -1, np.int8)
        labels = np.asarray(record[LABELS], np.int64)
        targets[labels] = 0
        targets[np.asarray(record.get(CLEAR_LABELS, labels), np.int64)] = 1
        return targets

    def features(self, *wanted: str) -> tuple[str, ...]:
        """Those of some features that the dataset has."""
        known = tfds.builder_from_directory(self.directory).info.features
        return tuple(name for name in wanted if name in known)


class _TfdsRecords:
    _IDS = ("id", "image/filename", "file_name")

    def __init__(self, source: TfdsSource):
        self._source = source
        self._features = source.features("image", LABELS, CLEAR_LABELS, "objects", *self._IDS)
        self._opened = None

    def __len__(self) -> int:
        return self._source.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        source = self._source
        index = range(source.count)[index]
        if self._opened is None:
            self._opened = Reader(
                source.directory, source.stored, self._features, source.image_size, source.fit
            )
        record = self._opened[index]
        ids = (record[name].decode() for name in self._IDS if name in record)
        found = {
            "image": self._opened.pixels(record),
            "targets": source.target(record),
            "id": next(ids, f"{source.stored}/{index}"),
        }
        objects = record.get("objects", {})
        if {"bbox", "label"} <= set(objects) and source.fit == "squash":
            found["boxes"] = np.asarray(objects["bbox"], np.float32).reshape(-1, 4)
            found["box_labels"] = np.asarray(objects["label"], np.int32).reshape(-1)
        return found

    def __getstate__(self):
        # Open files stay in the process that opened them.
        return {**self.__dict__, "_opened": None}


@dataclasses.dataclass(frozen=True)
class VocSource:
    """A split of the folder of VOC's development kit.

    Attributes:
      stored: name of the split.
      open_reader: makes what reads its images.
      entries: its records.
    """

    stored: str
    open_reader: Callable[[], voc.VocReader]
    entries: tuple[voc.VocEntry, ...]

    def reader(self) -> voc.VocReader:
        """Opens the encoded images."""
        return self.open_reader()

    def records(self) -> voc.VocReader:
        """Random access to the records; can be pickled."""
        return self.open_reader()

    def targets(self) -> np.ndarray:
        """int8 (N, K), as listed."""
        return np.array([entry.targets for entry in self.entries], np.int8)
