"""Files of weights as bytes, as long as they are no larger than weights are."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np

MOST_BYTES = 2**31
"""Of a file and of what it unpacks to: eight times the largest network here."""


def read_bytes(path: Path) -> bytes:
    """The content of a file."""
    check_size(path.stat().st_size)
    return path.read_bytes()


def read_zip(path: Path) -> dict[str, bytes]:
    """The files in a zip archive; not a byte of them is unpacked if together they are too large."""
    with zipfile.ZipFile(path) as archive:
        check_size(sum(member.file_size for member in archive.infolist()))
        # No more than was declared: the whole of a member might be anything.
        return {m.filename: archive.open(m).read(m.file_size) for m in archive.infolist()}


def read_npy(content: bytes) -> np.ndarray:
    """The array of an .npy file; no memory is taken for what its head declares and it lacks."""
    file, form = io.BytesIO(content), np.lib.format
    is_first = form.read_magic(file) == (1, 0)
    read_head = form.read_array_header_1_0 if is_first else form.read_array_header_2_0
    shape, fortran_order, dtype = read_head(file)
    if dtype.hasobject:
        raise ValueError("it holds objects that would have to be unpickled")
    numbers = np.frombuffer(content, dtype, math.prod(shape), file.tell())
    return numbers.reshape(shape, order="F" if fortran_order else "C")


def check_size(size: int) -> None:
    """ValueError for a number of bytes that weights do not have."""
    if size > MOST_BYTES:
        raise ValueError(f"{size:,} bytes of weights, at most {MOST_BYTES:,} expected")
