"""Writes the records of a listing, shard by shard.

Each shard is written under a temporary name and renamed when complete, so that a killed
preparation goes on where it stopped; the folder gets its final name last, so that what can be seen
there is complete. The same listing always gives the same bytes.
"""

import dataclasses
import errno
import functools
import io
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from array_record.python import array_record_module
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from transfer_jax.data import images
from transfer_jax.data.ahead import map_ahead
from transfer_jax.data.labels import write_labels
from transfer_jax.data.listings import Entry, Listing
from transfer_jax.data.prepare.folders import (
    SKIPPED_FILE,
    VERSION,
    exclusively,
    is_full_disk,
    is_prepared,
    require_whole,
)

_SUFFIX = "array_record"
_BLOCK = 16
_SHARD_LIMITS = (256, 8192)


def prepare(
    listing: Listing,
    data_dir: str | os.PathLike,
    name: str,
    config: str,
    *,
    image_size: int,
    fit: str = "squash",
    on_broken: str = "raise",
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Writes the listed images, made square, as a TFDS dataset, unless that has been done.

    Records hold `image`, `label`, `id` and, where the listing has boxes, `objects/bbox`; their
    order is that of the listing. A second process that asks for the same dataset waits for the
    first and then uses its work. After a kill the next call reuses every finished shard, and what
    it ends up with is what an uninterrupted call would have written, byte for byte.

    Args:
      listing: what to write.
      data_dir: the TFDS folder; the dataset goes to `DATA_DIR/NAME/CONFIG/VERSION`.
      name: name of the dataset, a valid Python identifier.
      config: what tells this dataset from others of its name: size, fit, fingerprint.
      image_size: side length in pixels.
      fit: how images become squares, one of `images.FITS`. Boxes are fractions of the whole
        image's sides, so a listing that has them can only be squashed.
      on_broken: 'raise' to stop at a broken image, 'skip' to leave it out and list it in
        `skipped.txt` beside the data.
      workers: threads that read, decode, resize and encode; None for one per core. Pillow lets go
        of the interpreter in all of these; 0.3 ms of an image's 4 are spent in Python, so that
        threads keep about a dozen cores busy.
      progress: whether to show a progress bar.

    Returns:
      The dataset's folder, as `tfds.builder_from_directory` takes it.

    Raises:
      images.BrokenImageError: an image cannot be decoded and `on_broken` is 'raise'.
      ValueError: so many images were skipped that a class has none left, or there are boxes and
        `fit` is not 'squash'.
      OSError: the disk is full (errno.ENOSPC; the message says how much is wanted), or a file
        cannot be read or written.
    """
    if listing.has_boxes and fit != "squash":
        raise ValueError(
            f"fit={fit!r} would cut through the boxes of {listing.root}: only fit='squash' keeps "
            "them true"
        )
    final = Path(data_dir) / name / config / VERSION
    if not is_prepared(final):
        with exclusively(final):
            if not is_prepared(final):
                writer = _Writer(listing, final, image_size, fit, on_broken, workers, progress)
                try:
                    writer.write_all()
                except (OSError, RuntimeError) as error:
                    if not is_full_disk(error):
                        raise
                    raise writer.full_disk() from error
    require_whole(final, on_broken)
    return final


@dataclasses.dataclass(frozen=True)
class _Shard:
    path: Path
    entries: Sequence[Entry]

    @property
    def left_out(self) -> Path:
        """Lists what the shard lacks; there while others of its dataset are being written."""
        return self.path.with_name(self.path.name + ".skipped")

    @property
    def blocks(self) -> list[Sequence[Entry]]:
        return [self.entries[i : i + _BLOCK] for i in range(0, len(self.entries), _BLOCK)]


@dataclasses.dataclass(frozen=True)
class _Writer:
    """One preparation under way."""

    listing: Listing
    final: Path
    image_size: int
    fit: str
    on_broken: str
    workers: int | None
    progress: bool

    @functools.cached_property
    def partial(self) -> Path:
        return self.final.with_name(f".{self.final.name}.partial")

    @functools.cached_property
    def features(self) -> tfds.features.FeaturesDict:
        features = {
            "image": tfds.features.Image(
                shape=(self.image_size, self.image_size, 3),
                encoding_format="png" if self.image_size <= images.LARGEST_PNG else "jpeg",
            ),
            "label": tfds.features.ClassLabel(names=self.listing.class_names),
            "id": tfds.features.Text(),
        }
        if self.listing.has_boxes:
            features["objects"] = tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()})
        return tfds.features.FeaturesDict(features)

    @functools.cached_property
    def serializer(self) -> ExampleSerializer:
        return ExampleSerializer(self.features.get_serialized_info())

    @functools.cached_property
    def shards(self) -> dict[str, list[_Shard]]:
        # About 256 MB of pixels: a kill costs seconds, and ILSVRC2012 makes about 1000 files.
        size = int(np.clip(2**28 // (3 * self.image_size**2), *_SHARD_LIMITS))
        shards = {}
        for split, entries in self.listing.splits.items():
            count = max(1, -(-len(entries) // size))
            template = self.template(split)
            shards[split] = [
                _Shard(
                    self.partial
                    / template.sharded_filepath(shard_index=index, num_shards=count).name,
                    entries[index * size : (index + 1) * size],
                )
                for index in range(count)
            ]
        return shards

    @property
    def total(self) -> int:
        return sum(len(entries) for entries in self.listing.splits.values())

    def write_all(self) -> None:
        self.partial.mkdir(exist_ok=True)
        shards = [shard for of_split in self.shards.values() for shard in of_split]
        unfinished = [shard for shard in shards if not shard.path.exists()]
        bar = tqdm.tqdm(
            total=self.total,
            initial=self.total - sum(len(shard.entries) for shard in unfinished),
            unit="image",
            desc=f"preparing {self.final.parent.parent.name}",
            disable=not self.progress,
            mininterval=0.5,
        )
        # One stream over all shards: no thread waits where one ends and the next begins.
        blocks = itertools.chain.from_iterable(shard.blocks for shard in unfinished)
        encoded = map_ahead(self.encode_block, blocks, self.workers)
        try:
            with bar:
                for shard in unfinished:
                    self.write_shard(shard, encoded, bar)
        finally:
            encoded.close()
        split_infos, skipped = [], []
        for split in self.listing.splits:
            info, lines = self.finish_split(split)
            split_infos.append(info)
            skipped += lines
        if skipped:
            (self.partial / SKIPPED_FILE).write_text("".join(line + "\n" for line in skipped))
        self.write_metadata(split_infos)
        os.replace(self.partial, self.final)
        # Not before: a resumed run needs to know what each finished shard left out.
        for shard in shards:
            (self.final / shard.left_out.name).unlink(missing_ok=True)

    def write_shard(self, shard: _Shard, encoded: Iterator[list], bar: tqdm.tqdm) -> None:
        unfinished = shard.path.with_name("unfinished-" + shard.path.name)
        shard.left_out.unlink(missing_ok=True)
        # The images are compressed already.
        writer = array_record_module.ArrayRecordWriter(str(unfinished), "group_size:1,uncompressed")
        skipped = []
        try:
            for block in shard.blocks:
                for entry, result in zip(block, next(encoded), strict=True):
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
            shard.left_out.write_text("".join(line + "\n" for line in skipped))
        os.replace(unfinished, shard.path)

    def encode_block(self, entries: Sequence[Entry]) -> list[bytes | images.BrokenImageError]:
        results = []
        for entry in entries:
            try:
                encoded = self.listing.read(entry.id)
                image = images.to_square(encoded, self.image_size, self.fit)
            except images.BrokenImageError as error:
                results.append(error)
                continue
            example = {"image": io.BytesIO(image), "label": entry.label, "id": entry.id}
            if self.listing.has_boxes:
                example["objects"] = [{"bbox": tfds.features.BBox(*box)} for box in entry.boxes]
            proto = self.serializer.get_tf_example(self.features.encode_example(example))
            # Otherwise the order of features would differ from process to process.
            results.append(proto.SerializeToString(deterministic=True))
        return results

    def finish_split(self, split: str) -> tuple[tfds.core.SplitInfo, list[str]]:
        """Writes the labels of a split whose shards are there; returns its lines on left out."""
        entries = self.listing.splits[split]
        lengths, skipped = [], []
        for shard in self.shards[split]:
            left_out = shard.left_out
            lines = left_out.read_text().splitlines() if left_out.exists() else []
            skipped += lines
            lengths.append(len(shard.entries) - len(lines))
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
            num_bytes=sum(shard.path.stat().st_size for shard in self.shards[split]),
            filename_template=self.template(split),
        )
        return info, skipped

    def template(self, split: str) -> tfds.core.ShardedFileTemplate:
        return tfds.core.ShardedFileTemplate(
            data_dir=self.partial,
            dataset_name=self.final.parent.parent.name,
            split=split,
            filetype_suffix=_SUFFIX,
        )

    def write_metadata(self, split_infos: Sequence[tfds.core.SplitInfo]) -> None:
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
