"""Whether files are what they were: digests of other people's files, seals on those kept here."""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import filelock
import numpy as np
import tqdm

from transfer_jax.data.batches import stream
from transfer_jax.seal import HASH, DamagedError, digest_of, replacing

log = logging.getLogger(__name__)
Found = TypeVar("Found")

_SEAL_BYTES = 16
_SEALED_AT_ONCE = 2**24
_FILES_AT_ONCE = 256
_THREADS = 16  # most wait where the disk is far away
_SETTLED = 2 * 10**9  # nanoseconds; what changes again sooner may keep its times


def file_digests(
    root: str | os.PathLike, files: Iterable[str], table: Path
) -> tuple[dict[str, str], list[str]]:
    """32 hex digits of the content of each file below a folder, and the files that hold something
    else than when they were read before. `table` keeps digests with sizes, times and inodes; files
    of which these are as they were are not read again."""
    root, now, known = os.path.abspath(root), time.time_ns(), {}  # table: four numbers, digest

    def state(file: str) -> list[int]:
        about = os.stat(f"{root}/{file}")
        return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]

    def each(function: Callable, items: Sequence[str]) -> dict:
        starts = range(0, len(items), _FILES_AT_ONCE)
        blocks = (items[start : start + _FILES_AT_ONCE] for start in starts)
        results = stream(lambda block: [(item, function(item)) for item in block], blocks, _THREADS)
        results = tqdm.tqdm(results, root, len(starts), disable=None, delay=5, leave=False)
        return {item: result for block in results for item, result in block}

    states = each(state, list(files))
    with contextlib.suppress(OSError, DamagedError):
        known = read_json(table).get(root, {})
    unknown = [file for file in states if known.get(file, [])[:4] != states[file]]
    fresh = each(lambda file: digest_of(Path(root, file)), unknown)
    digests = {file: fresh.get(file) or known[file][4] for file in states}
    if unknown:
        settled = {file: state[2] < now - _SETTLED for file, state in states.items()}
        rows = {file: [*states[file][: 4 * settled[file]], digests[file]] for file in states}
        try:
            write_json(table, {root: rows})
        except OSError as error:
            log.warning("digests of files cannot be kept in %s: %s", table, error)
    changed = [file for file in unknown if known.get(file, [fresh[file]])[-1] != fresh[file]]
    return digests, changed


def write_sealed(path: Path, source: str, save: Callable, **arrays: Any) -> None:
    """Writes an .npy or .npz file, whole or not at all. A seal of its content and of what it was
    made from ends it, where the readers of these formats do not look."""
    with replacing(path) as partial:
        with open(partial, "wb") as file:
            save(file, **arrays)
            file.flush()
            file.write(_seal(partial, file.tell(), source))


def check_seal(path: Path, source: str) -> None:
    """DamagedError unless a file is what `write_sealed` wrote, and from this source."""
    size = path.stat().st_size - _SEAL_BYTES
    with open(path, "rb") as file:
        file.seek(max(size, 0))
        if size <= 0 or file.read() != _seal(path, size, source):
            raise DamagedError(f"{path} is damaged or was not made from {source}")


def _seal(path: Path, size: int, source: str) -> bytes:
    # CRC-32 takes 0.4 s of a core for a pack of 2 GB, BLAKE2 1.9 s: seals are against accidents.
    content = np.memmap(path, np.uint8, "r", shape=size)
    blocks = (content[i : i + _SEALED_AT_ONCE] for i in range(0, size, _SEALED_AT_ONCE))
    sums = stream(zlib.crc32, blocks, os.cpu_count())
    return HASH(f"{source}\n{size} {list(sums)}".encode()).digest()


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Writes a JSON object with its own seal, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps({**content, "seal": _json_seal(content)}, indent=indent))


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; DamagedError where it is something else."""
    try:
        content = json.loads(path.read_bytes())
        whole = content.pop("seal") == _json_seal(content)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise DamagedError(f"{path} is damaged, or of an earlier version")
    return content


def _json_seal(content: Mapping[str, Any]) -> str:
    return HASH(json.dumps(content).encode()).hexdigest()


def kept(path: Path, make: Callable[[], None], read: Callable[[], Found]) -> Found:
    """What `read` finds at a path, where `make` puts it if it is missing or damaged. One process
    makes it at a time: its lock goes away with the process, however that ends."""
    with contextlib.suppress(FileNotFoundError, DamagedError):
        return read()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout:
        log.warning("another process is preparing %s; waiting for it", path)
        held = lock.acquire()
    with held:
        try:
            return read()
        except FileNotFoundError:
            pass
        except DamagedError as error:
            log.warning("%s: it is made again", error)
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'?' * 32}"):
            leftover.unlink()  # of a killed process
        make()
        return read()


def kept_array(path: Path | None, source: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that `make` makes from a source, memory-mapped from an .npy file; only in memory
    where there is none or it cannot be written."""
    if path is None:
        return make()
    made = None

    def write() -> None:
        nonlocal made
        made = make()
        write_sealed(path, source, np.save, arr=made)

    def read() -> np.ndarray:
        check_seal(path, source)
        return np.load(path, mmap_mode="r")

    try:
        return kept(path, write, read)
    except OSError as error:
        log.warning("%s cannot be kept: %s", path, error)
        return make() if made is None else made
