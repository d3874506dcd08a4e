"""From the description of a dataset to the dataset: found under `data_dir`, or prepared there."""

import errno
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from transfer_jax.data import class_folders, listings, tfds_listing, world
from transfer_jax.data.dataset_spec import MULTILABEL_KINDS, DatasetSpec
from transfer_jax.data.datasets import Dataset, read_dataset
from transfer_jax.data.ilsvrc2012 import ilsvrc2012_folder
from transfer_jax.data.images import size_name
from transfer_jax.data.labels import replacing
from transfer_jax.data.prepare import (
    VERSION,
    exclusively,
    is_full_disk,
    is_prepared,
    prepare,
    require_whole,
)

Write = Callable[[listings.Listing], Dataset]

__all__ = [
    "DatasetSpec",
    "build",
    "existing_path",
    "open_builder",
    "open_dataset",
    "tfds_directory",
]


def open_dataset(
    spec: DatasetSpec,
    data_dir: str | os.PathLike,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Dataset:
    """Opens a dataset, preparing it under `data_dir` at its first use.

    What is prepared is an ordinary TFDS dataset (`tfds.builder_from_directory` opens it), written
    once, by one process at a time, and resumed where it stopped if it was killed.

    Args:
      spec: which dataset.
      data_dir: the TFDS folder where prepared datasets are kept; it is made if it is missing.
      workers: threads that prepare images from files; None for one per core.
      progress: whether to show progress bars.

    Returns:
      The dataset. Its `name` changes with everything that changes its content (kind, size, version,
      seed, the list of files with their sizes), and not with where it lies.

    Raises:
      FileNotFoundError: the path of the images, or a split in it, is missing.
      ValueError: the images are not laid out as they should be, one is broken, or the dataset is of
        a sort that cannot be used. The message names the file, class or feature.
      OSError: the disk is full.

    Example:
      spec = DatasetSpec("tiny_imagenet", path="tiny_imagenet_32.tar.xz")
      dataset = open_dataset(spec, "~/tensorflow_datasets")
      labels = dataset.labels("train")
    """
    if spec.kind in MULTILABEL_KINDS:
        raise ValueError(
            f"the images of a dataset of kind {spec.kind!r} have several labels: open it by "
            "transfer_jax.data.multilabel.open_multilabel"
        )
    data_dir = Path(data_dir).expanduser()
    data_dir.mkdir(parents=True, exist_ok=True)
    if spec.kind == "world":
        return _open_world(spec, data_dir, progress)
    if spec.kind == "tfds":
        directory = tfds_directory(spec.name, data_dir, progress)
        return read_dataset(directory, image_size=spec.image_size, fit=spec.fit)
    write = functools.partial(_prepare, spec, data_dir, workers, progress)
    if spec.kind == "ilsvrc2012" and spec.name:
        return _open_ilsvrc2012_of_tfds(spec, data_dir, write, progress)
    path = existing_path(spec, data_dir)
    if spec.kind == "tiny_imagenet" and not path.is_dir():
        return _open_tiny_imagenet_archive(spec, path, data_dir, write)
    if spec.kind == "tiny_imagenet":
        return write(listings.tiny_imagenet_folder(path))
    if spec.kind == "folder":
        return write(listings.image_folder(path))
    if spec.kind == "ilsvrc2012":
        return write(ilsvrc2012_folder(path))
    if spec.kind == "class_folder":
        return write(class_folders.class_folder(path))
    return write(class_folders.sun397_folder(path, spec.partition))


def open_builder(
    builder: tfds.core.DatasetBuilder,
    *,
    class_paths: Sequence[Sequence[str]] | None = None,
    image_size: int | None = None,
    fit: str = "squash",
    progress: bool = True,
) -> Dataset:
    """Opens what a TFDS builder builds, letting it download and prepare the data at first use.

    Args:
      builder: made with `file_format='array_record'`.
      class_paths: the class hierarchy, one path from root to leaf per class, if there is one.
      image_size: side length of the squares that images are made as they are decoded, or None.
      fit: how they are made squares, one of `images.FITS`.
      progress: whether TFDS shows its progress bars.

    Returns:
      The dataset.

    Raises:
      ValueError: the dataset is of a sort that cannot be used, see `read_dataset`.
      OSError: the disk is full.
    """
    directory = build(builder, progress)
    return read_dataset(directory, class_paths=class_paths, image_size=image_size, fit=fit)


def build(builder: tfds.core.DatasetBuilder, progress: bool) -> Path:
    """The folder of what a TFDS builder builds, built there unless it has been.

    Args:
      builder: made with `file_format='array_record'`.
      progress: whether TFDS shows its progress bars.

    Raises:
      OSError: the disk is full.
    """
    directory = Path(builder.data_dir)
    if not is_prepared(directory):
        with exclusively(directory):
            if not is_prepared(directory):
                # What a killed preparation left: nobody else can be at work here now.
                for leftover in directory.parent.glob(f"incomplete.*_{directory.name}"):
                    shutil.rmtree(leftover)
                (tfds.enable_progress_bar if progress else tfds.disable_progress_bar)()
                try:
                    builder.download_and_prepare(file_format="array_record")
                except (OSError, RuntimeError) as error:
                    if not is_full_disk(error):
                        raise
                    raise _full_disk(builder, directory) from error
    return directory


def tfds_directory(name: str, data_dir: Path, progress: bool) -> Path:
    """The folder of a dataset by its TFDS name, prepared by TFDS where it is not there yet.

    Args:
      name: as `DatasetSpec.name`.
      data_dir: the TFDS folder.
      progress: whether TFDS shows its progress bars.

    Raises:
      ValueError: no dataset of that name.
      ImportError: TFDS lacks a package to prepare it.
      OSError: the disk is full.
    """
    prepared = _find_prepared(data_dir, name)
    if prepared is not None:
        return prepared
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"there is no dataset {name!r} under {data_dir}, and TFDS knows none of that name"
        ) from error
    try:
        return build(builder, progress)
    except ImportError as error:
        raise ImportError(
            f"TFDS needs a package that is missing to prepare {name!r}: {error}. Install it, "
            "or prepare the dataset elsewhere with file_format='array_record' and copy its folder "
            f"to {data_dir}"
        ) from error


def _open_world(spec: DatasetSpec, data_dir: Path, progress: bool) -> Dataset:
    config = world.world_config(size=spec.image_size, seed=spec.seed, **spec.world_counts())
    builder = world.EmbeddedWorld(config=config, data_dir=data_dir, file_format="array_record")
    return open_builder(builder, class_paths=world.class_paths(), progress=progress)


def _open_tiny_imagenet_archive(
    spec: DatasetSpec, path: Path, data_dir: Path, write: Write
) -> Dataset:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    note = data_dir / "tiny_imagenet" / "archives" / f"{digest}-{spec.image_size}px.txt"
    return _open_noted(note, spec, lambda: listings.tiny_imagenet_archive(path), write)


def _open_ilsvrc2012_of_tfds(
    spec: DatasetSpec, data_dir: Path, write: Write, progress: bool
) -> Dataset:
    folder = existing_path(spec, data_dir) if spec.path else data_dir
    directory = tfds_directory(spec.name, folder, progress)
    digest = tfds_listing.tfds_fingerprint(directory)
    size = size_name(spec.image_size, spec.fit)
    note = data_dir / "ilsvrc2012" / "tfds" / f"{digest}-{size}.txt"
    return _open_noted(
        note, spec, lambda: tfds_listing.tfds_images(directory, progress=progress), write
    )


def _open_noted(
    note: Path, spec: DatasetSpec, make_listing: Callable[[], listings.Listing], write: Write
) -> Dataset:
    """Opens a dataset whose listing takes reading all of it.

    A note by the fingerprint of the source, made the first time, leads to what was prepared from
    it. It lies two folders below the prepared datasets of its name.
    """
    if note.exists():
        prepared = note.parents[1] / note.read_text().strip() / VERSION
        if is_prepared(prepared):
            require_whole(prepared, spec.on_broken)
            return read_dataset(prepared)
    listing = make_listing()
    dataset = write(listing)
    note.parent.mkdir(exist_ok=True)
    with replacing(note) as temporary:
        temporary.write_text(_config(listing, spec))
    return dataset


def _prepare(
    spec: DatasetSpec,
    data_dir: Path,
    workers: int | None,
    progress: bool,
    listing: listings.Listing,
) -> Dataset:
    directory = prepare(
        listing,
        data_dir,
        _prepared_name(spec),
        _config(listing, spec),
        image_size=spec.image_size,
        fit=spec.fit,
        on_broken=spec.on_broken,
        workers=workers,
        progress=progress,
    )
    return read_dataset(directory)


def _prepared_name(spec: DatasetSpec) -> str:
    return {"folder": "image_folder", "sun397": "sun397_folder"}.get(spec.kind, spec.kind)


def _config(listing: listings.Listing, spec: DatasetSpec) -> str:
    return f"{size_name(spec.image_size, spec.fit)}_{listing.fingerprint()}"


def existing_path(spec: DatasetSpec, data_dir: Path) -> Path:
    """The path of a dataset of files; FileNotFoundError with what was prepared of it before."""
    name = _prepared_name(spec)
    path = Path(spec.path).expanduser()
    if not path.exists():
        prepared = sorted(
            f"{name}/{p.parent.parent.name}"
            for p in (data_dir / name).glob(f"*/{VERSION}/dataset_info.json")
        )
        hint = (
            f" (prepared before under {data_dir}: {', '.join(prepared)}; open one of these as "
            "kind 'tfds' by that name)"
            if prepared
            else ""
        )
        raise FileNotFoundError(
            f"there is no {spec.path}, given as path of a {spec.kind!r} dataset{hint}"
        )
    return path


def _full_disk(builder: tfds.core.DatasetBuilder, directory: Path) -> OSError:
    folder = next(parent for parent in directory.parents if parent.exists())
    wanted = builder.info.dataset_size
    size = f"{wanted / 1e9:.3f}" if wanted else "an unknown number of"
    return OSError(
        errno.ENOSPC,
        f"the disk is full: preparing {builder.info.full_name} in {directory} takes {size} GB, "
        f"{shutil.disk_usage(folder).free / 1e9:.3f} GB are free. Make room or choose another "
        "data_dir",
    )


def _find_prepared(data_dir: Path, name: str) -> Path | None:
    """The folder of a prepared dataset `name[/config][:version]`, the newest version by default."""
    folder = data_dir / name.replace(":", "/")
    if is_prepared(folder):
        return folder
    versions = [
        item
        for item in (folder.iterdir() if folder.is_dir() else ())
        if tfds.core.Version.is_valid(item.name) and is_prepared(item)
    ]
    return max(versions, key=lambda item: tfds.core.Version(item.name), default=None)
