"""Files that are written whole or not at all, and seals: digests by which a reader knows that they
are what was written.

A JSON object carries a seal of its own content and of its owner, so that neither an edited object
nor that of another owner passes for it; under `files` it may hold the digests of files beside it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MARKS = ("failed.json", "done.json")
"""The files of a cell's folder that say what came of it; it has one of them, or none."""

Files = Mapping[str, str]
"""Names of files in a folder, and their digests."""

HASH = functools.partial(hashlib.blake2b, digest_size=16)
"""Of bytes; `hexdigest` gives the 32 digits that are stored."""


class DamagedError(ValueError):
    """A stored file is missing, or is not what was written."""


def damaged(path: Path) -> DamagedError:
    """The error that says what is wrong with a file."""
    wrong = "is not what was written there" if path.exists() else "is missing"
    return DamagedError(f"{os.path.normpath(path)} {wrong}")


def digest_of(path: Path) -> str:
    """32 hex digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, HASH).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """Those of all files in a folder, by their paths in it."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): digest_of(path) for path in paths}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write a file under, which takes the place of `path` once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> str:
    """Writes a file, whole or not at all; returns its digest."""
    with replacing(path) as partial:
        partial.write_bytes(content)
    return HASH(content).hexdigest()


def write_json(path: Path, content: Mapping[str, Any], owner: str) -> str:
    """Writes a JSON object with its seal, whole or not at all; returns the file's digest."""
    sealed = {**content, "seal": _seal(content, owner)}
    return write(path, (json.dumps(sealed, indent=1) + "\n").encode())


def read_json(path: Path, owner: str) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
      DamagedError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
        whole = content.pop("seal") == _seal(content, owner)
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise damaged(path) from error
    if not whole:
        raise damaged(path)
    return content


def check(folder: Path, files: Files) -> None:
    """Raises DamagedError unless all files are there and have their digests."""
    for name, expected in files.items():
        try:
            found = digest_of(folder / name)
        except OSError as error:
            raise damaged(folder / name) from error
        if found != expected:
            raise damaged(folder / name)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Raises:
      DamagedError: it is missing or holds none.
    """
    try:
        with np.load(path) as file:
            return dict(file)
    except Exception as error:  # zipfile, zlib and NumPy each have errors of their own
        raise damaged(path) from error


def read_right(folder: Path) -> tuple[str, np.ndarray]:
    """The digest of a finished cell's validation images, and which of them were right (bool)."""
    outcome(folder)
    found = read_arrays(folder / "right.npz")
    bits = np.unpackbits(found["bits"], count=int(found["num"])).astype(bool)
    return str(found["images"]), bits


def outcome(folder: Path) -> tuple[dict[str, Any], Files] | None:
    """What came of a cell: its row, and the digests of its files; None while it is not finished.
    Every file must be there; weights are not read.

    Raises:
      DamagedError: a file is missing or is not what was written.
    """
    for mark in MARKS:
        if (folder / mark).exists():
            row = read_json(folder / mark, folder.name)
            files = row.pop("files")
            for name, expected in files.items():
                if not name.endswith(".safetensors"):
                    check(folder, {name: expected})
                elif not (folder / name).exists():
                    raise damaged(folder / name)
            return row, files
    return None


def _seal(content: Mapping[str, Any], owner: str) -> str:
    # As it comes back from a file: with lists for tuples and strings for keys.
    content = json.loads(json.dumps(content))
    return HASH(json.dumps([owner, content], sort_keys=True).encode()).hexdigest()
