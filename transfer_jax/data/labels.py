"""The label index of a prepared dataset: one small array per split, beside the data.

It is written once, and from then on labels are read without opening a record.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def label_file(directory: Path, split: str) -> Path:
    """Where the labels of a split (by its name in TFDS) are kept."""
    return Path(directory) / f"labels-{split}.npy"


def write_labels(directory: Path, split: str, labels: np.ndarray):
    """Writes the labels of a split, int32 (N,), whole or not at all."""
    with replacing(label_file(directory, split)) as path, open(path, "wb") as file:
        np.save(file, np.asarray(labels, np.int32))


def read_labels(directory: Path, split: str, num_records: int) -> np.ndarray | None:
    """Reads the labels of a split, or None where there are none that fit `num_records` records."""
    try:
        labels = np.load(label_file(directory, split))
    except (OSError, ValueError, EOFError):
        return None
    return labels if labels.shape == (num_records,) and labels.dtype == np.int32 else None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write a file under, which takes the place of `path` once it is complete.

    Several processes may do so at once: the last one wins, and a reader sees one whole file or the
    other.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
