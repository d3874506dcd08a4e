"""The folder of a prepared dataset: whether it is complete, and who may write it."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import filelock

from transfer_jax.data.images import BrokenImageError

VERSION = "1.0.0"
"""Version of what `prepare` writes: raise it when the same files would give other records."""

SKIPPED_FILE = "skipped.txt"
"""The list of images that were left out because they are broken, one id and reason a line."""


def is_prepared(directory: Path) -> bool:
    """Whether a folder holds a complete TFDS dataset."""
    return (directory / "dataset_info.json").exists()


def skipped_images(directory: Path) -> list[str]:
    """The lines '<id>\\t<reason>' on the broken images that a prepared dataset lacks."""
    path = directory / SKIPPED_FILE
    return path.read_text().splitlines() if path.exists() else []


def require_whole(directory: Path, on_broken: str) -> None:
    """Refuses a prepared dataset that lacks broken images, unless `on_broken` is 'skip'.

    Raises:
      BrokenImageError: images are lacking; the message names the first and the list.
    """
    lines = skipped_images(directory)
    if on_broken == "raise" and lines:
        raise BrokenImageError(
            f"{directory} was prepared without {len(lines)} broken images, listed in "
            f"{directory / SKIPPED_FILE}, the first being {lines[0]!r}; say on_broken='skip' to "
            "use it as it is"
        )


@contextlib.contextmanager
def exclusively(directory: Path) -> Iterator[None]:
    """Holds the lock on preparing a dataset folder, saying so if another process has it already.

    The lock goes away with the process that holds it, however that ends.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(directory.with_name(f".{directory.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logging.getLogger(__name__).warning(
            "another process is preparing %s; waiting for it", directory
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_full_disk(error: Exception) -> bool:
    """Whether an error says that the disk is full."""
    # ArrayRecord reports what the system said as text in a RuntimeError.
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
