"""Listing of a dataset that TFDS prepared with images as they came, of all sizes."""

import hashlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from transfer_jax.data.ahead import map_ahead
from transfer_jax.data.datasets import random_access_info, split_names
from transfer_jax.data.listings import Entry, Listing
from transfer_jax.data.records import Reader, blocks_of

_FEATURES = ("image", "label", "file_name")


def tfds_images(directory: Path, *, progress: bool = True) -> Listing:
    """Lists the training and validation images of a TFDS dataset like `imagenet2012`.

    Every record is read once, to know names, classes and sizes; no image is decoded.

    Args:
      directory: the folder that holds `dataset_info.json`; stored as ArrayRecord, with the features
        `image`, `label` (of named classes) and `file_name`.
      progress: whether to show a progress bar.

    Returns:
      The listing: classes sorted by name, ids are the file names, `read` gives the encoded image.
      'val' is the split 'val' or 'validation', or else 'test'.

    Raises:
      ValueError: other features, splits or storage, a record without a class, or a file name that
        comes twice; the message says which.
    """
    info = random_access_info(directory)
    label = dict(info.features).get("label")
    if not set(_FEATURES) <= set(info.features) or not isinstance(label, tfds.features.ClassLabel):
        raise ValueError(
            f"{info.full_name} should have the features {', '.join(_FEATURES)}; its features are "
            f"{info.features}"
        )
    stored = split_names(info)
    readers = {split: Reader(directory, stored[split], _FEATURES) for split in ("train", "val")}
    class_names = tuple(sorted(label.names))
    label_of = [class_names.index(name) for name in label.names]
    places: dict[str, tuple[str, int]] = {}
    splits = {}
    for split, reader in readers.items():
        entries = []
        for place, (id, stored_label, num_bytes) in enumerate(_rows(reader, split, progress)):
            if not 0 <= stored_label < len(label_of):
                raise ValueError(f"{info.full_name}: {id} of the split {split} has no class")
            if id in places:
                raise ValueError(f"{info.full_name}: the file name {id} comes twice")
            places[id] = split, place
            entries.append(Entry(id, label_of[stored_label], num_bytes))
        splits[split] = tuple(sorted(entries, key=lambda entry: (entry.label, entry.id)))

    def read(id: str) -> bytes:
        split, place = places[id]
        reader = readers[split]
        return reader.parse(reader.raw(np.array([place]))[0])["image"]

    return Listing(str(directory), class_names, splits, read)


def tfds_fingerprint(directory: Path) -> str:
    """Sixteen hex digits that change with a TFDS dataset's metadata: splits, sizes, classes."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.json")) + sorted(directory.glob("*.labels.txt")):
        digest.update(path.name.encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()[:16]


def _rows(reader: Reader, split: str, progress: bool):
    """File name, label and size of the image of every record, in their order."""

    def read(indices: np.ndarray) -> list[tuple[str, int, int]]:
        return [
            (record["file_name"].decode(), int(record["label"]), len(record["image"]))
            for record in reader.read(indices)
        ]

    with tqdm.tqdm(
        total=len(reader), unit="image", desc=f"listing {split}", disable=not progress
    ) as bar:
        for rows in map_ahead(read, blocks_of(np.arange(len(reader)))):
            yield from rows
            bar.update(len(rows))
