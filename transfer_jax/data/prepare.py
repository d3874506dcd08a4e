"""Turns listed images into a dataset on disk that TFDS reads: ArrayRecord shards with metadata.

Shards are written one by one under a temporary name and renamed when complete, so that a killed
preparation goes on where it stopped; the folder gets its final name last, so that what can be
seen there is complete. TensorFlow is not needed.
"""

import collections
import concurrent.futures
import contextlib
import errno
import io
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import numpy as np
import tensorflow_datasets as tfds
import tqdm
from array_record.python import array_record_module

from transfer_jax.data import images
from transfer_jax.data.labels import write_labels
from transfer_jax.data.listings import Entry, Listing

VERSION = "1.0.0"
"""Version of what `prepare` writes: raise it when the same files would give other records."""

SKIPPED_FILE = "skipped.txt"
"""The list of images that were left out because they are broken, one id and reason a line."""

_SUFFIX = "array_record"
_BLOCK = 64
_SHARD_LIMITS = (256, 8192)


def prepare(
    listing: Listing,
    data_dir: str | os.PathLike,
    name: str,
    config: str,
    *,
    image_size: int,
    on_broken: str = "raise",
    progress: bool = True,
) -> Path:
    """Writes the listed images, squashed to a square, as a TFDS dataset, unless that has been done.

    Records hold `image`, `label`, `id` and, where the listing has boxes, `objects/bbox`; their
    order is that of the listing. A second process that asks for the same dataset waits for the
    first and then uses its work. After a kill the next call reuses every finished shard.

    Args:
      listing: what to write.
      data_dir: the TFDS folder; the dataset goes to `DATA_DIR/NAME/CONFIG/VERSION`.
      name: name of the dataset, a valid Python identifier.
      config: what tells this dataset from others of its name: size, fingerprint.
      image_size: side length in pixels.
      on_broken: 'raise' to stop at a broken image, 'skip' to leave it out and list it in
        `skipped.txt` beside the data.
      progress: whether to show a progress bar.

    Returns:
      The dataset's folder, as `tfds.builder_from_directory` takes it.

    Raises:
      images.BrokenImageError: an image cannot be decoded and `on_broken` is 'raise'.
      ValueError: so many images were skipped that a class has none left.
      OSError: the disk is full (errno.ENOSPC; the message says how much is wanted), or a file
        cannot be read or written.
    """
    final = Path(data_dir) / name / config / VERSION
    if not is_prepared(final):
        with exclusively(final):
            if not is_prepared(final):
                writer = _Writer(listing, final, image_size, on_broken, progress)
                try:
                    writer.write_all()
                except (OSError, RuntimeError) as error:
                    if not is_full_disk(error):
                        raise
                    raise writer.full_disk() from error
    require_whole(final, on_broken)
    return final


def require_whole(directory: Path, on_broken: str):
    """Refuses a prepared dataset that lacks broken images, unless `on_broken` is 'skip'."""
    skipped = directory / SKIPPED_FILE
    if on_broken == "raise" and skipped.exists():
        lines = skipped.read_text().splitlines()
        raise images.BrokenImageError(
            f"{directory} was prepared without {len(lines)} broken images, listed in {skipped}, "
            f"the first being {lines[0]!r}; say on_broken='skip' to use it as it is"
        )


def is_prepared(directory: Path) -> bool:
    """Whether a folder holds a complete TFDS dataset."""
    return (directory / "dataset_info.json").exists()


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


class _Writer:
    """One preparation under way."""

    def __init__(
        self, listing: Listing, final: Path, image_size: int, on_broken: str, progress: bool
    ):
        self.listing = listing
        self.final = final
        self.partial = final.with_name(f".{final.name}.partial")
        self.image_size = image_size
        self.on_broken = on_broken
        self.progress = progress
        features = {
            "image": tfds.features.Image(
                shape=(image_size, image_size, 3),
                encoding_format="png" if image_size <= images.LARGEST_PNG else "jpeg",
            ),
            "label": tfds.features.ClassLabel(names=listing.class_names),
            "id": tfds.features.Text(),
        }
        if listing.has_boxes:
            features["objects"] = tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()})
        self.features = tfds.features.FeaturesDict(features)
        # About 256 MB of pixels: a kill costs seconds, and ILSVRC2012 makes about 1000 files.
        self.shard_size = int(np.clip(2**28 // (3 * image_size**2), *_SHARD_LIMITS))
        self.total = sum(len(entries) for entries in listing.splits.values())

    def write_all(self):
        self.partial.mkdir(exist_ok=True)
        split_infos, skipped = [], []
        bar = tqdm.tqdm(
            total=self.total,
            unit="image",
            desc=f"preparing {self.final.parent.parent.name}",
            disable=not self.progress,
            mininterval=0.5,
        )
        threads = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        with bar, threads:
            for split, entries in self.listing.splits.items():
                info, left_out = self._write_split(split, entries, bar, threads)
                split_infos.append(info)
                skipped += left_out
        if skipped:
            (self.partial / SKIPPED_FILE).write_text("".join(line + "\n" for line in skipped))
        self._write_metadata(split_infos)
        os.replace(self.partial, self.final)
        # Not before: a resumed run needs to know what each finished shard left out.
        for left_out in self.final.glob("*.skipped"):
            left_out.unlink()

    def _write_split(self, split: str, entries: Sequence[Entry], bar, threads):
        num_shards = max(1, -(-len(entries) // self.shard_size))
        lengths, skipped, num_bytes = [], [], 0
        for shard in range(num_shards):
            part = entries[shard * self.shard_size : (shard + 1) * self.shard_size]
            path = (
                self.partial
                / self._template(split)
                .sharded_filepath(shard_index=shard, num_shards=num_shards)
                .name
            )
            left_out = path.with_name(path.name + ".skipped")
            if path.exists():
                bar.update(len(part))
            else:
                self._write_shard(path, left_out, part, bar, threads)
            lines = left_out.read_text().splitlines() if left_out.exists() else []
            skipped += lines
            lengths.append(len(part) - len(lines))
            num_bytes += path.stat().st_size
        broken = {line.split("\t")[0] for line in skipped}
        labels = np.array([e.label for e in entries if e.id not in broken], np.int32)
        counts = np.bincount(labels, minlength=len(self.listing.class_names))
        for entry in entries:
            if counts[entry.label] == 0:
                raise ValueError(
                    f"class {self.listing.class_names[entry.label]} has no readable image in the "
                    f"split {split} of {self.listing.root}: all of them are broken"
                )
        write_labels(self.partial, split, labels)
        info = tfds.core.SplitInfo(
            name=split,
            shard_lengths=lengths,
            num_bytes=num_bytes,
            filename_template=self._template(split),
        )
        return info, skipped

    def _write_shard(self, path: Path, left_out: Path, entries: Sequence[Entry], bar, threads):
        unfinished = path.with_name("unfinished-" + path.name)
        left_out.unlink(missing_ok=True)
        # The images are compressed already.
        writer = array_record_module.ArrayRecordWriter(str(unfinished), "group_size:1,uncompressed")
        skipped = []
        blocks = [entries[i : i + _BLOCK] for i in range(0, len(entries), _BLOCK)]
        try:
            for block, results in zip(
                blocks, _map_ahead(threads, self._encode_block, blocks), strict=True
            ):
                for entry, result in zip(block, results, strict=True):
                    if isinstance(result, bytes):
                        writer.write(result)
                        continue
                    if self.on_broken == "raise":
                        raise images.BrokenImageError(
                            f"broken image {entry.id} in {self.listing.root}: {result}. Replace or "
                            "remove it, or say on_broken='skip' to leave broken images out"
                        ) from result
                    reason = " ".join(str(result).split())
                    skipped.append(f"{entry.id}\t{reason}")
                bar.update(len(block))
        finally:
            writer.close()
        if skipped:
            left_out.write_text("".join(line + "\n" for line in skipped))
        os.replace(unfinished, path)

    def _encode_block(self, entries: Sequence[Entry]) -> list[bytes | images.BrokenImageError]:
        results = []
        for entry in entries:
            try:
                image = images.squash(self.listing.read(entry.id), self.image_size)
            except images.BrokenImageError as error:
                results.append(error)
                continue
            example = {"image": io.BytesIO(image), "label": entry.label, "id": entry.id}
            if self.listing.has_boxes:
                example["objects"] = [{"bbox": tfds.features.BBox(*box)} for box in entry.boxes]
            results.append(self.features.serialize_example(self.features.encode_example(example)))
        return results

    def _template(self, split: str) -> tfds.core.ShardedFileTemplate:
        return tfds.core.ShardedFileTemplate(
            data_dir=self.partial,
            dataset_name=self.final.parent.parent.name,
            split=split,
            filetype_suffix=_SUFFIX,
        )

    def _write_metadata(self, split_infos: Sequence[tfds.core.SplitInfo]):
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=self.final.parent.parent.name,
            config_name=self.final.parent.name,
            version=tfds.core.Version(self.final.name),
            data_dir=str(self.partial),
            module_name="",
        )
        info = tfds.core.DatasetInfo(builder=identity, features=self.features)
        info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
        info.set_splits(tfds.core.splits.SplitDict(split_infos))
        info.write_to_directory(self.partial)

    def full_disk(self) -> OSError:
        finished = list(self.partial.glob(f"*.{_SUFFIX}-*"))
        written = sum(path.stat().st_size for path in finished)
        wanted = self.total * 3 * self.image_size**2
        free = shutil.disk_usage(self.partial).free
        return OSError(
            errno.ENOSPC,
            f"the disk is full: preparing {self.total} images of {self.image_size} x "
            f"{self.image_size} in {self.final.parent} takes up to {wanted / 1e9:.3f} GB, of which "
            f"{written / 1e9:.3f} GB are written; {free / 1e9:.3f} GB are free. Make room or "
            "choose another data_dir; finished parts will be reused",
        )


def _map_ahead(threads, function, arguments: Sequence) -> Iterator:
    """`threads.map`, with only a few calls ahead of what has been taken."""
    pending = collections.deque()
    try:
        for argument in arguments:
            pending.append(threads.submit(function, argument))
            if len(pending) > 2 * os.cpu_count():
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def is_full_disk(error: Exception) -> bool:
    """Whether an error says that the disk is full."""
    # ArrayRecord reports what the system said as text in a RuntimeError.
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
