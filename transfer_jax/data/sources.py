"""From the description of a dataset to the dataset: found under `data_dir`, or prepared there."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import os
from pathlib import Path

import numpy as np

from transfer_jax import world
from transfer_jax.data.dataset import Dataset, digest
from transfer_jax.data.ilsvrc2012 import ilsvrc2012_folder
from transfer_jax.data.image import FITS, size_name
from transfer_jax.data.layouts import LAYOUTS, layout
from transfer_jax.data.listing import class_folder, image_folder, tiny_imagenet
from transfer_jax.data.prepare import DESCRIPTION, prepare, read_prepared
from transfer_jax.data.records import Arrays, read_index, write_index
from transfer_jax.data.seals import kept
from transfer_jax.data.tfds_records import read_tfds, tfds_directory
from transfer_jax.data.voc import voc_actions, voc_folder

_LISTINGS = {
    "ilsvrc2012": ilsvrc2012_folder,
    "folder": image_folder,
    "tiny_imagenet": tiny_imagenet,
    "class_folder": class_folder,
    "voc": voc_folder,
    "voc_actions": voc_actions,
    **{kind: functools.partial(layout, kind=kind) for kind in LAYOUTS},
}
FILE_KINDS = tuple(_LISTINGS)
_WORLDS = {  # their functions in `world`
    "world": "world_arrays",
    "world_scenes": "scene_arrays",
    "world_attributes": "attribute_arrays",
    "world_instances": "instance_arrays",
    "world_relations": "relation_arrays",
    "world_retrieval": "retrieval_arrays",
}
KINDS = (*_WORLDS, "tfds", *FILE_KINDS)

_SIZES = {**dict.fromkeys(_WORLDS, 32), "tiny_imagenet": 32, "tfds": None}
_WORLD_FIELDS = ("train_per_class", "val_per_class", "max_objects", "instances", "name")
_WORLD_VERSION = 1  # raise it when the world is drawn otherwise


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Which dataset is wanted.

    Attributes:
      kind: 'world' and 'world_scenes' (images that the package renders, of one object and of
        several), 'world_attributes', 'world_instances', 'world_relations' and 'world_retrieval'
        (those of `world.groups`, for other tasks than naming a class), 'tfds' (any TFDS dataset of
        one label or several), 'folder' (`PATH/train/<class>/*`, `PATH/val/<class>/*`),
        'ilsvrc2012' (ImageNet's 1000 classes or some of them), 'tiny_imagenet' (its folder or
        archive), 'class_folder' (`PATH/<class>/*`, also nested, without splits, for
        `tasks.fold_task` to draw from; Caltech-101 and -256), 'sun397' (its nested folders with one
        of its partitions), 'voc' (`VOCdevkit/VOC2007` or another year), 'voc_actions' (the people
        in it and what they do), or another of `layouts.LAYOUTS`, benchmarks as they unpack.
      name: for 'tfds' as TFDS takes it: 'cifar10', 'cifar10:3.0.2', 'voc/2012'. For
        'world_instances' the class, for 'world_relations' some of them ('car,elephant,teapot'), for
        'world_retrieval' what changes: 'pose', 'place' or 'both'.
      path: of the folder, or of the archive of 'tiny_imagenet'. Or the folder of what was prepared
        before: nothing else is needed then.
      image_size: side length in pixels of the squares that images are made; None keeps the bytes
        and sizes of the files. 0 is the kind's own: 32 for 'world', 'world_scenes' and
        'tiny_imagenet', None for 'tfds', 256 otherwise.
      seed, train_per_class, val_per_class, max_objects, instances: for the kinds of the world, see
        `world.world_arrays`, `world.scene_arrays` and `world.groups`; None is their own default.
      on_broken: 'raise' to stop at a broken image, 'skip' to leave broken images out and list them
        beside the data.
      margin: where parts of images are cut out, as of 'voc_actions', what is added on each side of
        a part's box, as a share of the box's width and height.
      classes: names of those that are wanted of the kinds whose images lie in files; () for all.
      partition: for 'sun397', which of its partitions into training and test images, 1 .. 10.
      fit: how images become squares, one of `image.FITS`.
    """

    kind: str
    name: str = ""
    path: str = ""
    image_size: int | None = 0
    seed: int = 0
    train_per_class: int | None = None
    val_per_class: int | None = None
    on_broken: str = "raise"
    max_objects: int | None = None
    instances: int | None = None
    margin: float = 0.0
    partition: int = 1
    classes: tuple[str, ...] = ()
    fit: str = "squash"

    def __post_init__(self):
        for field, known in (("kind", KINDS), ("on_broken", ("raise", "skip")), ("fit", FITS)):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"{field} must be one of {', '.join(known)}; got {getattr(self, field)!r}"
                )
        if self.kind == "tfds" and not self.name:
            raise ValueError("a dataset of kind 'tfds' needs a name, for instance 'cifar10'")
        if self.kind in FILE_KINDS and not self.path:
            raise ValueError(f"a dataset of kind {self.kind!r} needs the path of its images")
        if self.image_size == 0:
            object.__setattr__(self, "image_size", _SIZES.get(self.kind, 256))
        if self.image_size is None:
            object.__setattr__(self, "fit", "squash")  # nothing is fitted
        if self.image_size is not None and not 1 <= self.image_size <= 4096:
            raise ValueError(f"image_size must lie in 1 .. 4096 pixels, got {self.image_size}")
        if self.kind in _WORLDS:
            self._check_world()
        if self.classes and self.kind not in FILE_KINDS:
            raise ValueError(f"classes of kind {self.kind!r} cannot be chosen: expected ()")
        if not 1 <= self.partition <= 10:
            raise ValueError(f"partition must lie in 1 .. 10, got {self.partition}")

    def _check_world(self) -> None:
        taken = inspect.signature(getattr(world, _WORLDS[self.kind])).parameters
        if strange := [field for field in _world_options(self) if field not in taken]:
            raise ValueError(f"{strange[0]} means nothing to a dataset of kind {self.kind!r}")
        if self.image_size is None:
            raise ValueError(f"a dataset of kind {self.kind!r} needs an image_size")
        if self.max_objects is not None and not 1 <= self.max_objects <= world.MOST_OBJECTS:
            raise ValueError(
                f"max_objects must lie in 1 .. {world.MOST_OBJECTS}, got {self.max_objects}"
            )
        if self.kind == "world_relations" and self.name and "," not in self.name:
            raise ValueError(
                f"name of kind 'world_relations' must be two classes or more, such as 'car,mug'; "
                f"got {self.name!r}"
            )


def open_dataset(
    spec: DatasetSpec, data_dir: str | os.PathLike, *, workers: int | None = None
) -> Dataset:
    """Opens a dataset, preparing it under `data_dir` at its first use by `workers` threads (None:
    one per core). Its `name` changes with everything that changes its content (kind, size, seed,
    the files' names and content, labels, boxes and splits), not with where it lies. The first
    opening reads all files; later ones those whose size, times or inode have changed.

      dataset = open_dataset(DatasetSpec("tiny_imagenet", path="tiny.tar.xz"), "~/datasets")
      images = dataset.read(dataset.splits["val"][:10])
    """
    data_dir = Path(data_dir).expanduser()
    data_dir.mkdir(parents=True, exist_ok=True)
    if spec.kind in _WORLDS:
        return _open_world(spec, data_dir)
    if spec.kind == "tfds":
        return read_tfds(tfds_directory(spec.name, data_dir), spec.image_size, spec.fit)
    path = Path(spec.path).expanduser()
    if not path.exists():
        place = path if path.is_absolute() else f"{path} in {Path.cwd()} or {data_dir}"
        raise FileNotFoundError(f"there is no {place}, given as path of a {spec.kind!r} dataset")
    view = {"margin": spec.margin, "on_broken": spec.on_broken}
    if (path / DESCRIPTION).exists():
        dataset = read_prepared(path, spec.image_size, spec.fit, **view)
        if spec.classes and set(spec.classes) != set(dataset.class_names):
            raise ValueError(
                f"{path} was prepared with {len(dataset.class_names)} classes, not with the "
                f"{len(spec.classes)} that are asked for"
            )
        return dataset

    cut, chosen = False, sorted(set(spec.classes))
    if spec.kind == "tiny_imagenet" and path.is_file():
        with open(path, "rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest()
        fingerprint = (digest(whole, chosen) if chosen else whole)[:12]
        make_listing = lambda: tiny_imagenet(path).of_classes(chosen)  # noqa: E731
    else:
        options = {"partition": spec.partition} if spec.kind == "sun397" else {}
        listing = _LISTINGS[spec.kind](path, **options).of_classes(chosen)
        listing = listing.with_digests(_table(spec, data_dir))
        fingerprint, make_listing = listing.fingerprint(), lambda: listing
        cut = listing.crops is not None
    # What are parts of images are cut out of them as they are read.
    size, fit = (None, "squash") if cut else (spec.image_size, spec.fit)
    name = f"{spec.kind}/{size_name(size, fit)}_{fingerprint}"
    options = {"image_size": size, "fit": fit, "on_broken": spec.on_broken, "workers": workers}
    prepare(make_listing, data_dir / name, name, **options)
    return read_prepared(data_dir / name, spec.image_size, spec.fit, **view)


def was_read(spec: DatasetSpec, data_dir: Path) -> bool:
    """Whether a dataset of files was opened before, or names a folder of what was prepared."""
    return _table(spec, data_dir).exists() or Path(spec.path, DESCRIPTION).exists()


def _table(spec: DatasetSpec, data_dir: Path) -> Path:
    """Where digests of a dataset's files are kept."""
    key = digest(os.path.abspath(Path(spec.path).expanduser()), *sorted(set(spec.classes)))
    return data_dir / spec.kind / f".{key}.files.json"


def _world_options(spec: DatasetSpec) -> dict:
    options = {key: getattr(spec, key) for key in _WORLD_FIELDS}
    return {key: value for key, value in options.items() if value not in (None, "")}


def _open_world(spec: DatasetSpec, data_dir: Path) -> Dataset:
    make = getattr(world, _WORLDS[spec.kind])
    options = {"size": spec.image_size, "seed": spec.seed, **_world_options(spec)}
    bound = inspect.signature(make).bind(**options)
    bound.apply_defaults()
    leaf = "_".join(f"{key}{value}" for key, value in bound.arguments.items())
    name = f"{spec.kind}/v{_WORLD_VERSION}_{leaf}"
    index = data_dir / name / "arrays.npz"

    def draw() -> None:
        made = Dataset.from_arrays(**make(**bound.arguments))
        more = {"images": made.source.pixels, "class_paths": np.array(made.class_paths)}
        write_index(index, name, made.labels, made.splits, made.boxes, **more)

    known = kept(index, draw, lambda: read_index(index, name))
    with np.load(index) as file:
        paths = tuple(map(tuple, file["class_paths"].tolist()))
    return Dataset(
        name=name,
        class_names=tuple(path[-1] for path in paths),
        class_paths=paths,
        source=Arrays(path=index),
        image_shape=(spec.image_size, spec.image_size, 3),
        directory=index.parent,
        **known,
    )
