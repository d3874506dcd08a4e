"""Where pixels lie: arrays, or records on disk; and the index of labels and boxes beside them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from PIL import Image

from transfer_jax.data.image import BrokenImageError, decode_rgb, resized
from transfer_jax.data.seals import DamagedError, check_seal, write_sealed


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """The marked objects of every row, laid end to end: row i has offsets[i] .. offsets[i + 1] - 1,
    and `boxes[i]` are its labels (k,), boxes (k, 4) and difficult (k,).

    Attributes:
      offsets: int64 (N + 1,).
      labels: int32 (M,), the class of each object.
      boxes: float32 (M, 4), (ymin, xmin, ymax, xmax) as fractions of the image's sides.
      difficult: bool (M,).
    """

    offsets: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    difficult: np.ndarray

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[Sequence, Sequence, Sequence]]) -> Boxes:
        """From (labels, boxes, difficult) of one row after the other."""
        rows = list(rows)
        labels, boxes, difficult = ([x for row in rows for x in row[i]] for i in range(3))
        return cls(
            np.cumsum([0, *(len(row[0]) for row in rows)], dtype=np.int64),
            np.array(labels, np.int32),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(difficult, bool),
        )

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        there = slice(self.offsets[row], self.offsets[row + 1])
        return self.labels[there], self.boxes[there], self.difficult[there]

    def take(self, rows: np.ndarray) -> Boxes:
        return Boxes.of_rows(self[row] for row in rows)


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Images in memory, or in an index file that is read when they are first wanted."""

    images: np.ndarray | Sequence[np.ndarray] | None = None
    path: Path | None = None

    @functools.cached_property
    def pixels(self) -> np.ndarray | Sequence[np.ndarray]:
        if self.path is None:
            return self.images
        with np.load(self.path) as file:
            return file["images"]

    def image(self, row: int) -> np.ndarray:
        return self.pixels[row]

    def shape(self, row: int) -> tuple[int, int]:
        return self.pixels[row].shape[:2]

    def ids(self) -> np.ndarray:
        return np.array([str(row) for row in range(len(self.pixels))])

    def __getstate__(self):
        return {"images": self.images, "path": self.path}


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Encoded images in ArrayRecord files, which every process opens when it first reads."""

    files: ArrayRecordDataSource
    index: Path  # the file that holds the ids of the rows
    is_example: bool = False  # TFDS's tf.train.Example, and not the bytes of an image alone
    image_size: int | None = None  # of the squares that images are made as they are decoded
    fit: str = "squash"
    places: np.ndarray | None = None  # (N,) the record of each row, None where they are the same

    def record(self, place: int) -> bytes:
        try:
            return self.files[place]
        except RuntimeError as error:  # records have checksums
            raise DamagedError(
                f"record {place} in {self.index.parent} is damaged; delete that folder to have it "
                f"prepared again: {error}"
            ) from error

    def encoded(self, row: int) -> bytes:
        record = self.record(int(row if self.places is None else self.places[row]))
        return example_features(record)["image"].bytes_list.value[0] if self.is_example else record

    def image(self, row: int) -> np.ndarray:
        encoded = self.encoded(row)
        try:
            return decode_rgb(encoded, self.image_size, self.fit)
        except BrokenImageError as error:
            raise BrokenImageError(f"row {row} of {self.index.parent}: {error}") from error

    def shape(self, row: int) -> tuple[int, int]:
        """(height, width) of the file's image, which is not decoded."""
        return Image.open(io.BytesIO(self.encoded(row))).size[::-1]

    def ids(self) -> np.ndarray:
        with np.load(self.index) as file:
            return file["ids"]


@dataclasses.dataclass(frozen=True, eq=False)
class Crops:
    """Parts of another source's images, cut out as they are read."""

    source: Arrays | Records
    rows: np.ndarray  # (N,) the image of each part
    boxes: np.ndarray  # (N, 4) where it lies in it, as Boxes.boxes
    size: int | None = None  # of the squares that parts are made
    fit: str = "squash"

    def image(self, row: int) -> np.ndarray:
        image = Image.fromarray(self.source.image(self.rows[row]))
        image = image.crop(whole_pixels(self.boxes[row], *image.size))
        return np.asarray(resized(image, self.size, self.fit) if self.size else image)

    def ids(self) -> np.ndarray:
        return self.source.ids()[self.rows]


def write_index(
    path: Path,
    source: str,
    labels: np.ndarray,
    splits: Mapping[str, np.ndarray],
    boxes: Boxes | None,
    **arrays: np.ndarray | None,
) -> None:
    """Keeps what a dataset knows besides its pixels in an .npz file, sealed with its source."""
    named = {"labels": labels, **{f"split:{name}": rows for name, rows in splits.items()}}
    if boxes is not None:
        named |= {f"boxes:{name}": array for name, array in vars(boxes).items()}
    named |= {name: array for name, array in arrays.items() if array is not None}
    save = np.savez if "images" in named else np.savez_compressed
    write_sealed(path, source, save, **named)


def read_index(path: Path, source: str) -> dict:
    """The arguments labels, splits, boxes of a `Dataset`, kept by `write_index`."""
    check_seal(path, source)
    with np.load(path) as file:
        splits = {name[6:]: file[name] for name in file if name.startswith("split:")}
        boxes = None
        if "boxes:offsets" in file:
            boxes = Boxes(*(file[f"boxes:{field.name}"] for field in dataclasses.fields(Boxes)))
        return {"labels": file["labels"], "splits": splits, "boxes": boxes}


def digest(*parts) -> str:
    """Sixteen hex digits that change with any of nested strings, numbers, arrays and boxes."""
    state = hashlib.sha256()

    def add(part) -> None:
        if isinstance(part, np.ndarray) and part.dtype.kind != "U":
            state.update(f"{part.dtype.str}{part.shape}".encode())
            state.update(np.ascontiguousarray(part))
        elif isinstance(part, Boxes):
            add(list(vars(part).values()))
        elif isinstance(part, Mapping):
            add([item for pair in part.items() for item in pair])
        elif isinstance(part, list | tuple | np.ndarray):
            state.update(f"[{len(part)}".encode())
            for item in part:
                add(item)
        else:
            text = str(part).encode("utf-8", "surrogateescape")
            state.update(f"{len(text)}:".encode() + text)

    add(parts)
    return state.hexdigest()[:16]


def whole_pixels(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) inside an image, at least one pixel, of a box in fractions."""

    def inside(low: float, high: float, size: int) -> tuple[int, int]:
        low, high = (round(round(float(edge) * size, 6)) for edge in (low, high))
        low = min(max(low, 0), size - 1)
        return low, max(min(high, size), low + 1)

    top, left, bottom, right = box
    left, right = inside(left, right, width)
    top, bottom = inside(top, bottom, height)
    return left, top, right, bottom


def example_features(record: bytes) -> Mapping:
    """The features of a serialised tf.train.Example, without TensorFlow."""
    # Imported where a TFDS dataset is read: it takes a second.
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature
