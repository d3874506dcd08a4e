"""Reading the records of a prepared TFDS dataset at random, without TensorFlow."""

import concurrent.futures
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from tensorflow_datasets.proto import tf_example_pb2

from transfer_jax.data.images import decode_rgb

_BLOCK = 256


class RecordSource(Protocol):
    """Random access to the records of a split, as Grain wants it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


def image_at(source: RecordSource, index: int) -> np.ndarray:
    """The image of one record, uint8 (h, w, channels), and nothing else of it.

    A source that has a method `read_image(index)` is asked by that one and spared the rest.
    """
    read = getattr(source, "read_image", None)
    return source[index]["image"] if read is None else read(index)


class Reader:
    """Reads some features of the records of a split, leaving images encoded."""

    def __init__(
        self,
        directory: Path,
        split: str,
        features: Sequence[str],
        image_size: int | None = None,
        fit: str = "squash",
    ):
        self._image_size, self._fit = image_size, fit
        builder = tfds.builder_from_directory(directory)
        self._records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        # Features that nobody asked for are not even parsed.
        self._features = tfds.features.FeaturesDict({k: builder.info.features[k] for k in features})
        self._decoders = {"image": tfds.decode.SkipDecoding()} if "image" in features else None

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.parse(self._records[index])

    def raw(self, indices: np.ndarray) -> Sequence[bytes]:
        """The serialised records at some positions."""
        return self._records.__getitems__(indices.tolist())

    def parse(self, record: bytes) -> dict[str, Any]:
        """The features of a serialised record; its image is still encoded."""
        return self._features.deserialize_example_np(record, decoders=self._decoders)

    def read_image(self, index: int) -> np.ndarray:
        """The decoded image of one record; its other features are not looked at."""
        # Straight from the message: by way of TFDS and NumPy it is copied twice and takes ten
        # times as long, of which Python's lock is held for most.
        example = tf_example_pb2.Example.FromString(self._records[index])
        (encoded,) = example.features.feature["image"].bytes_list.value
        return self.pixels({"image": encoded})

    def pixels(self, record: dict[str, Any]) -> np.ndarray:
        """The decoded image of a parsed record, fitted to the image size, if there is one."""
        return decode_rgb(record["image"], self._image_size, self._fit)

    def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """The features of the records at some positions."""
        return [self.parse(record) for record in self.raw(indices)]


class Records:
    """A `RecordSource` over a split of a dataset on disk, made by `Dataset.record_source`."""

    def __init__(
        self,
        directory: Path,
        split: str,
        length: int,
        image_size: int | None = None,
        fit: str = "squash",
    ):
        self._directory, self._split, self._length = directory, split, length
        self._image_size, self._fit = image_size, fit
        self._reader = None
        features = tfds.builder_from_directory(directory).info.features
        self._features = [
            k for k in ("image", "label", "id", "file_name", "objects", "bbox") if k in features
        ]
        if "objects" in features and not _holds_boxes(features["objects"]):
            self._features.remove("objects")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(self._length)[index]
        record = self._opened()[index]
        id = record.get("id", record.get("file_name", f"{self._split}/{index}"))
        found = {
            "image": self._reader.pixels(record),
            "label": int(record["label"]),
            "id": id.decode() if isinstance(id, bytes) else str(id),
        }
        boxes = record["objects"]["bbox"] if "objects" in record else record.get("bbox")
        # Boxes are fractions of the whole image's sides.
        if boxes is not None and self._fit == "squash":
            found["boxes"] = np.asarray(boxes, np.float32).reshape(-1, 4)
        return found

    def read_image(self, index: int) -> np.ndarray:
        """The image of `self[index]` alone, sooner."""
        return self._opened().read_image(range(self._length)[index])

    def _opened(self) -> Reader:
        if self._reader is None:
            self._reader = Reader(
                self._directory, self._split, self._features, self._image_size, self._fit
            )
        return self._reader

    def __getstate__(self):
        # Open files stay in the process that opened them.
        return {**self.__dict__, "_reader": None}


def _holds_boxes(objects: tfds.features.FeatureConnector) -> bool:
    each = getattr(objects, "feature", objects)
    return isinstance(each, tfds.features.FeaturesDict) and "bbox" in each


def blocks_of(indices: np.ndarray) -> list[np.ndarray]:
    """Cuts indices into pieces of a size that is read well at once."""
    return [indices[start : start + _BLOCK] for start in range(0, len(indices), _BLOCK)]


def decode_into(images: np.ndarray, reader: Reader, indices: np.ndarray, progress: bool):
    """Fills `images`, uint8 (n, h, w, 3), with the decoded images at n positions, by threads."""

    def decode(start: int):
        block = indices[start : start + _BLOCK]
        for row, record in enumerate(reader.raw(block), start):
            images[row] = reader.pixels(reader.parse(record))
        return len(block)

    starts = range(0, len(indices), _BLOCK)
    bar = tqdm.tqdm(
        total=len(indices), unit="image", desc="decoding", disable=not progress, mininterval=0.5
    )
    with bar, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        for done in threads.map(decode, starts):
            bar.update(done)
