"""What lies in a folder or archive of images: a listing in a fixed order, before it is prepared.

The order is by split, class and file name, so that "the first N images of a class" means the same
on every machine.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from transfer_jax.data.batches import permutation, stream
from transfer_jax.data.records import Boxes, digest

_IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .gif .webp .tif .tiff .ppm .pgm".split())
_TINY_IMAGENET_PIXELS = 64
_FORMAT = 1  # raise it when the same files would give other records
_THREADS = 16


class Entry(NamedTuple):
    """One image of a single-label listing: path relative to the root, class, size, box."""

    id: str
    label: int
    num_bytes: int
    box: tuple[float, float, float, float] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """All images of a dataset, and how to read their bytes.

    Attributes:
      root: where it lies, for messages.
      class_names: in label order.
      files: paths of the images relative to the root, with '/'.
      sizes: in bytes.
      read: takes a path and returns the file's bytes.
      labels, splits, boxes: of rows, as in `Dataset`.
      ids: of rows; None where each row is a file.
      places: (N,) the file of each row; None as well.
      crops: (N, 4) what of its file is the row's image, as boxes are; None for all of it.
    """

    root: str
    class_names: tuple[str, ...]
    files: Sequence[str]
    sizes: Sequence[int]
    read: Callable[[str], bytes]
    labels: np.ndarray
    splits: Mapping[str, np.ndarray]
    boxes: Boxes | None = None
    ids: Sequence[str] | None = None
    places: np.ndarray | None = None
    crops: np.ndarray | None = None

    def fingerprint(self) -> str:
        """Twelve hex digits that change with classes, paths, sizes, labels, splits and boxes."""
        rest = [getattr(self, field.name) for field in dataclasses.fields(self)[5:]]
        return digest(_FORMAT, self.class_names, self.files, np.array(self.sizes), rest)[:12]


def listing_of(
    root: str | os.PathLike,
    class_names: Sequence[str],
    splits: Mapping[str, Iterable[Entry]],
    read: Callable[[str], bytes] | None = None,
    *,
    has_boxes: bool = False,
) -> Listing:
    """A listing of single-label images; entries of the split '' belong to none."""
    parts = [sorted(part, key=lambda entry: (entry.label, entry.id)) for part in splits.values()]
    entries = [entry for part in parts for entry in part]
    rows = np.split(np.arange(len(entries)), np.cumsum([len(part) for part in parts]))
    boxes = [([e.label], [e.box], [False]) if e.box else ((), (), ()) for e in entries]
    return Listing(
        str(root),
        tuple(class_names),
        [entry.id for entry in entries],
        [entry.num_bytes for entry in entries],
        read or (lambda id: (Path(root) / id).read_bytes()),
        np.array([entry.label for entry in entries], np.int32),
        {split: part for split, part in zip(splits, rows, strict=False) if split},
        Boxes.of_rows(boxes) if has_boxes else None,
    )


def image_folder(root: str | os.PathLike) -> Listing:
    """Lists `ROOT/train/<class>/*` and `ROOT/val/<class>/*`, perhaps also `ROOT/test/<class>/*`.

    The classes are the folders under train, sorted by name. Where there is no val, test stands for
    it; where there is no train, the folders in ROOT are the classes and a fifth of the images of
    each, drawn once for all, is val. Files whose name starts with '.' or does not end like an
    image's are passed over.
    """
    root = Path(root)
    if (folders := class_folders(root)) and not {"train", "val", "test"} & set(folders):
        whole, fifths = class_folder(root), {"train": [], "val": []}
        for label in range(len(whole.class_names)):
            drawn = permutation(len(rows := np.flatnonzero(whole.labels == label)), 0, label)
            parts = np.split(rows[drawn], [len(rows) - len(rows) // 5])
            for split, part in zip(fifths, parts, strict=True):
                fifths[split].append(np.sort(part))
        splits = {split: np.concatenate(parts) for split, parts in fifths.items()}
        return dataclasses.replace(whole, splits=splits)
    class_names = class_folders(root / "train")
    found = {name: name for name in ("train", "val", "test") if (root / name).is_dir()}
    splits = {}
    for split, folder in with_val(found).items():
        if strangers := sorted(set(class_folders(root / folder)) - set(class_names)):
            raise ValueError(
                f"{root / folder / strangers[0]} has no counterpart in {root / 'train'}: only "
                "classes that train holds can be evaluated"
            )
        labels = {f"{folder}/{name}": label for label, name in enumerate(class_names)}
        splits[split] = entries_in(root, labels)
    return listing_of(root, class_names, splits)


def with_val(splits: Mapping[str, object]) -> dict[str, object]:
    """Splits in which 'validation', or else 'test', stands for 'val' where there is no 'val'."""
    stand_in = next((name for name in ("val", "validation", "test") if name in splits), None)
    return {"val" if name == stand_in else name: value for name, value in splits.items()}


def class_folder(root: str | os.PathLike) -> Listing:
    """Lists a folder of class folders without splits, as Caltech-101 and Caltech-256 are.

    Every folder that holds images is a class, at whatever depth; its name is its path from `root`:
    '001.ak47', 'a/abbey'. Images in `root` itself and folders inside a class are passed over.
    """
    root, classes = Path(root), {}
    if {"train", "val"} <= set(class_folders(root)):
        raise ValueError(
            f"{root} holds the splits train and val, not class folders: open it as kind 'folder'"
        )
    for folder, below, _ in os.walk(root, followlinks=True):
        below[:] = [name for name in below if name[0] != "."]
        name = Path(folder).relative_to(root).as_posix()
        if name != "." and (images := images_in(Path(folder), may_be_empty=bool(below))):
            classes[name] = images
            below.clear()
    entries = [
        Entry(f"{name}/{file}", label, num_bytes)
        for label, name in enumerate(sorted(classes))
        for file, num_bytes in classes[name]
    ]
    return listing_of(root, sorted(classes), {"": entries})


def sun397_folder(root: str | os.PathLike, partition: int) -> Listing:
    """Lists one of the ten partitions of SUN397: 50 training and 50 test images a class.

    `root` holds the class folders (`a/abbey/*.jpg`) and, from the archive of partitions,
    `Training_01.txt` .. `Testing_10.txt`, whose lines are like '/a/abbey/sun_aaalbzqrim.jpg'.
    """
    root, ids = Path(root), {}
    for split, stem in (("train", "Training"), ("val", "Testing")):
        lines = (root / f"{stem}_{partition:02d}.txt").read_text().split()
        ids[split] = [line.lstrip("/") for line in lines]
    class_names = sorted({_parent(id) for listed in ids.values() for id in listed})
    label_of = {name: label for label, name in enumerate(class_names)}
    splits = {
        split: [Entry(id, label_of[_parent(id)], (root / id).stat().st_size) for id in listed]
        for split, listed in ids.items()
    }
    return listing_of(root, class_names, splits)


def tiny_imagenet(path: str | os.PathLike) -> Listing:
    """Lists Tiny-ImageNet, its folder or its archive (a tar of any compression, or a zip).

    The layout is `train/<wnid>/images/*` with `train/<wnid>/<wnid>_boxes.txt`, and `val/images/*`
    with `val/val_annotations.txt`, perhaps in a common top folder. Images may have any size; the
    boxes, inclusive pixel positions in the 64 x 64 originals, become fractions of the image's
    sides. An archive is read once from beginning to end and kept in memory (100 MB for 32 x 32
    images, 250 MB for the originals), much faster than unpacking 110,000 small files.
    """
    root = Path(path)
    if root.is_dir():
        there = (item for item in root.rglob("*") if item.is_file())
        sizes = {item.relative_to(root).as_posix(): item.stat().st_size for item in there}
        read = lambda id: (root / id).read_bytes()  # noqa: E731
    else:
        members = dict(_members(root))
        sizes, read = {name: len(data) for name, data in members.items()}, members.__getitem__
    annotations = "val/val_annotations.txt"
    top = next((id for id in sizes if f"/{id}".endswith(f"/{annotations}")), None)
    if top is None:
        raise ValueError(f"{path} is not Tiny-ImageNet: no {annotations}")
    top = top.removesuffix(annotations)
    files = {id.removeprefix(top): size for id, size in sizes.items() if id.startswith(top)}
    images_of = collections.defaultdict(list)
    for id in filter(_is_image, files):
        images_of[_parent(id)].append(id)

    def table(name: str, width: int) -> list[tuple[str, str, tuple[float, ...]]]:
        rows = [line.split() for line in read(top + name).decode().splitlines()]
        try:
            return [(row[0], row[width - 5], _box(*map(int, row[width - 4 :]))) for row in rows]
        except (ValueError, IndexError, TypeError) as error:
            raise ValueError(
                f"{path}: {name} should have {width} columns that end in the four pixel positions "
                f"of a box: {error}"
            ) from error

    wnids = sorted({id.split("/")[1] for id in files if id.startswith("train/")})
    splits: dict[str, list[Entry]] = {"train": [], "val": []}
    for label, wnid in enumerate(wnids):
        # The lists of boxes of the training images are optional: the labels do not need them.
        name = f"train/{wnid}/{wnid}_boxes.txt"
        boxes = {image: box for image, _, box in table(name, 5)} if name in files else {}
        if not (ids := images_of[f"train/{wnid}/images"]):
            raise ValueError(f"{path}: class {wnid} has no image in train/{wnid}/images")
        for id in ids:
            splits["train"].append(Entry(id, label, files[id], boxes.get(PurePosixPath(id).name)))
    missing = set(images_of["val/images"])
    for image, wnid, box in table(annotations, 6):
        if wnid not in wnids or (id := f"val/images/{image}") not in missing:
            raise ValueError(f"{path}: {annotations} names {image} of {wnid}: no image or no class")
        missing.remove(id)
        splits["val"].append(Entry(id, wnids.index(wnid), files[id], box))
    if missing:
        raise ValueError(f"{path}: {annotations} does not name the class of {min(missing)}")
    return listing_of(path, wnids, splits, lambda id: read(top + id), has_boxes=True)


def _box(x1: int, y1: int, x2: int, y2: int) -> tuple[float, ...]:
    # Inclusive positions: the pixel that ends the box belongs to it.
    edges = (min(y1, y2), min(x1, x2), max(y1, y2) + 1, max(x1, x2) + 1)
    return tuple(min(edge / _TINY_IMAGENET_PIXELS, 1.0) for edge in edges)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield member.filename.removeprefix("./"), archive.read(member)
        return
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name.removeprefix("./"), archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a readable tar or zip archive: {error}") from error


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, none hidden; ValueError where there is none."""
    with os.scandir(folder) as items:
        names = sorted(item.name for item in items if item.is_dir() and item.name[0] != ".")
    if not names:
        raise ValueError(f"{folder} holds no class folders: expected {folder.name}/<class>/<image>")
    return names


def entries_in(root: Path, label_of: Mapping[str, int]) -> list[Entry]:
    """The images of class folders, of which the labels are given."""
    # A million calls for the size of a file, most of which wait where the disk is far away.
    listed = stream(lambda folder: images_in(root / folder), label_of, _THREADS)
    return [
        Entry(f"{folder}/{name}", label, num_bytes)
        for (folder, label), images in zip(label_of.items(), listed, strict=True)
        for name, num_bytes in images
    ]


def images_in(folder: Path, *, may_be_empty: bool = False) -> list[tuple[str, int]]:
    """Names and sizes of the images in a class's folder, sorted by name; ValueError for none."""
    images = []
    if folder.is_dir():
        with os.scandir(folder) as items:
            found = (item for item in items if _is_image(item.name) and item.is_file())
            images = sorted((item.name, item.stat().st_size) for item in found)
    if not images and not may_be_empty:
        raise ValueError(f"class folder {folder} is empty: every class needs images there")
    return images


def _parent(id: str) -> str:
    return id.rpartition("/")[0]


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _IMAGE_SUFFIXES and not path.name.startswith(".")
