"""From the description of a dataset to the dataset: found under `data_dir`, or prepared there."""

import dataclasses
import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from transfer_jax.data import listings, world
from transfer_jax.data.datasets import Dataset, read_dataset
from transfer_jax.data.labels import replacing
from transfer_jax.data.prepare import (
    VERSION,
    exclusively,
    is_full_disk,
    is_prepared,
    prepare,
    require_whole,
)

KINDS = ("world", "tfds", "folder", "tiny_imagenet")

_IMAGE_SIZES = {"world": 32, "folder": 256, "tiny_imagenet": 32}


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Which dataset is wanted.

    Attributes:
      kind: 'world' (images that the package renders), 'tfds' (any TFDS dataset), 'folder'
        (`PATH/train/<class>/*` and `PATH/val/<class>/*`) or 'tiny_imagenet' (its layout, as a
        folder or as the archive itself).
      name: for 'tfds' the name as TFDS takes it: 'cifar10', 'cifar10:3.0.2', 'imagenet2012'; also
        'image_folder/<config>' for a folder prepared before, wherever its files have gone.
      path: for 'folder' the folder, for 'tiny_imagenet' the folder or archive.
      image_size: side length in pixels that images are squashed to. None: 32 for 'world' and
        'tiny_imagenet', 256 for 'folder', and for 'tfds' the size that is stored; with a size,
        images of 'tfds' are squashed each time they are decoded.
      seed: for 'world', what it is drawn from.
      train_per_class: for 'world', training images per class; None is its own default.
      val_per_class: for 'world', validation images per class; None is its own default.
      on_broken: for 'folder' and 'tiny_imagenet': 'raise' to stop at a broken image, 'skip' to
        leave broken images out and list them beside the data.

    Raises:
      ValueError: a field has no meaning, or one that the kind needs is missing.

    Example:
      >>> DatasetSpec("folder", path="~/flowers", image_size=64).image_size
      64
    """

    kind: str
    name: str = ""
    path: str = ""
    image_size: int | None = None
    seed: int = 0
    train_per_class: int | None = None
    val_per_class: int | None = None
    on_broken: str = "raise"

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"dataset kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.kind == "tfds" and not self.name:
            raise ValueError("a dataset of kind 'tfds' needs a name, for instance 'cifar10'")
        if self.kind in ("folder", "tiny_imagenet") and not self.path:
            raise ValueError(f"a dataset of kind {self.kind!r} needs the path of its images")
        if self.image_size is None:
            object.__setattr__(self, "image_size", _IMAGE_SIZES.get(self.kind))
        elif not 1 <= self.image_size <= 4096:
            raise ValueError(f"image_size must lie in 1 .. 4096 pixels, got {self.image_size}")
        if self.on_broken not in ("raise", "skip"):
            raise ValueError(f"on_broken must be 'raise' or 'skip', got {self.on_broken!r}")
        for field in ("train_per_class", "val_per_class"):
            value = getattr(self, field)
            if value is not None and (self.kind != "world" or value < 1):
                raise ValueError(
                    f"{field} is a positive number for kind 'world', got {value} "
                    f"for kind {self.kind!r}"
                )


def open_dataset(
    spec: DatasetSpec, data_dir: str | os.PathLike, *, progress: bool = True
) -> Dataset:
    """Opens a dataset, preparing it under `data_dir` at its first use.

    What is prepared is an ordinary TFDS dataset (`tfds.builder_from_directory` opens it), written
    once, by one process at a time, and resumed where it stopped if it was killed.

    Args:
      spec: which dataset.
      data_dir: the TFDS folder where prepared datasets are kept; it is made if it is missing.
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
    data_dir = Path(data_dir).expanduser()
    data_dir.mkdir(parents=True, exist_ok=True)
    opener = {
        "world": _open_world,
        "tfds": _open_tfds,
        "folder": _open_folder,
        "tiny_imagenet": _open_tiny_imagenet,
    }[spec.kind]
    return opener(spec, data_dir, progress)


def open_builder(
    builder: tfds.core.DatasetBuilder,
    *,
    class_paths: Sequence[Sequence[str]] | None = None,
    image_size: int | None = None,
    progress: bool = True,
) -> Dataset:
    """Opens what a TFDS builder builds, letting it download and prepare the data at first use.

    Args:
      builder: made with `file_format='array_record'`.
      class_paths: the class hierarchy, one path from root to leaf per class, if there is one.
      image_size: side length to squash images to as they are decoded, or None.
      progress: whether TFDS shows its progress bars.

    Returns:
      The dataset.

    Raises:
      ValueError: the dataset is of a sort that cannot be used, see `read_dataset`.
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
    return read_dataset(directory, class_paths=class_paths, image_size=image_size)


def _open_world(spec: DatasetSpec, data_dir: Path, progress: bool) -> Dataset:
    counts = {"train_per_class": spec.train_per_class, "val_per_class": spec.val_per_class}
    given = {name: count for name, count in counts.items() if count is not None}
    config = world.world_config(size=spec.image_size, seed=spec.seed, **given)
    builder = world.EmbeddedWorld(config=config, data_dir=data_dir, file_format="array_record")
    return open_builder(builder, class_paths=world.class_paths(), progress=progress)


def _open_tfds(spec: DatasetSpec, data_dir: Path, progress: bool) -> Dataset:
    prepared = _find_prepared(data_dir, spec.name)
    if prepared is not None:
        return read_dataset(prepared, image_size=spec.image_size)
    try:
        builder = tfds.builder(spec.name, data_dir=data_dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"there is no dataset {spec.name!r} under {data_dir}, and TFDS knows none of that name"
        ) from error
    try:
        return open_builder(builder, image_size=spec.image_size, progress=progress)
    except ImportError as error:
        raise ImportError(
            f"TFDS needs a package that is missing to prepare {spec.name!r}: {error}. Install it, "
            "or prepare the dataset elsewhere with file_format='array_record' and copy its folder "
            f"to {data_dir}"
        ) from error


def _open_folder(spec: DatasetSpec, data_dir: Path, progress: bool) -> Dataset:
    path = _existing(spec, data_dir, "image_folder")
    return _open_listing(listings.image_folder(path), "image_folder", spec, data_dir, progress)


def _open_tiny_imagenet(spec: DatasetSpec, data_dir: Path, progress: bool) -> Dataset:
    path = _existing(spec, data_dir, "tiny_imagenet")
    if path.is_dir():
        listing = listings.tiny_imagenet_folder(path)
        return _open_listing(listing, "tiny_imagenet", spec, data_dir, progress)
    # To know an archive's listing takes reading all of it; its hash, known from the first time,
    # leads to what was prepared from it.
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    note = data_dir / "tiny_imagenet" / "archives" / f"{digest}-{spec.image_size}px.txt"
    if note.exists():
        prepared = data_dir / "tiny_imagenet" / note.read_text().strip() / VERSION
        if is_prepared(prepared):
            require_whole(prepared, spec.on_broken)
            return read_dataset(prepared)
    listing = listings.tiny_imagenet_archive(path)
    dataset = _open_listing(listing, "tiny_imagenet", spec, data_dir, progress)
    note.parent.mkdir(exist_ok=True)
    with replacing(note) as temporary:
        temporary.write_text(_config(listing, spec))
    return dataset


def _open_listing(
    listing: listings.Listing, name: str, spec: DatasetSpec, data_dir: Path, progress: bool
) -> Dataset:
    directory = prepare(
        listing,
        data_dir,
        name,
        _config(listing, spec),
        image_size=spec.image_size,
        on_broken=spec.on_broken,
        progress=progress,
    )
    return read_dataset(directory)


def _config(listing: listings.Listing, spec: DatasetSpec) -> str:
    return f"{spec.image_size}px_{listing.fingerprint()}"


def _existing(spec: DatasetSpec, data_dir: Path, name: str) -> Path:
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
