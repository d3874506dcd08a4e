"""Turns listed images into a dataset on disk that TFDS reads: ArrayRecord shards with metadata.

`python -m transfer_jax.data.prepare` does so from the command line. TensorFlow is not needed.
"""

from transfer_jax.data.prepare.folders import (
    SKIPPED_FILE,
    VERSION,
    exclusively,
    is_full_disk,
    is_prepared,
    require_whole,
    skipped_images,
)
from transfer_jax.data.prepare.writer import prepare

__all__ = [
    "SKIPPED_FILE",
    "VERSION",
    "exclusively",
    "is_full_disk",
    "is_prepared",
    "prepare",
    "require_whole",
    "skipped_images",
]
