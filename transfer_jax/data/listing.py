"""What lies in a folder or archive of images: a listing in a fixed order, before it is prepared.

The order is by split, class and file name, so that "the first N images of a class" means the same
on every machine.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from transfer_jax.data.batches import stream
from transfer_jax.data.records import Boxes, digest
from transfer_jax.data.seals import HASH, file_digests
from transfer_jax.data.splits import with_fifth
from transfer_jax.wording import listed

log = logging.getLogger(__name__)

_IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .gif .webp .tif .tiff .ppm .pgm".split())
_TINY_IMAGENET_PIXELS = 64
_FORMAT = 2  # raise it when the same files would give other records
_THREADS = 16
ANY = "surrogateescape"  # how lists are decoded: names that are not UTF-8 name no image
_MOST_BYTES = 2**31  # of an archive's content, which is held in memory


class Entry(NamedTuple):
    """One image of a single-label listing: path relative to the root, class, box."""

    id: str
    label: int
    box: tuple[float, float, float, float] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """All images of a dataset, and how to read their bytes.

    Attributes:
      root: where it lies.
      class_names: in label order.
      files: paths of the images relative to the root, with '/'.
      read: takes a path and returns the file's bytes.
      labels, splits, boxes: of rows, as in `Dataset`.
      ids: of rows; None where each row is a file.
      places: (N,) the file of each row; None as well.
      crops: (N, 4) what of its file is the row's image, as boxes are; None for all of it.
      digests: of the files' content, see `with_digests`.
    """

    root: str
    class_names: tuple[str, ...]
    files: Sequence[str]
    read: Callable[[str], bytes]
    labels: np.ndarray
    splits: Mapping[str, np.ndarray]
    boxes: Boxes | None = None
    ids: Sequence[str] | None = None
    places: np.ndarray | None = None
    crops: np.ndarray | None = None
    digests: Mapping[str, str] | None = None

    def __post_init__(self):
        for name in (*self.class_names, *self.files):
            if not name.isascii() and name.encode(errors="ignore").decode() != name:
                raise ValueError(f"{self.root}: the name {name!r} is not UTF-8; rename it")

    def take(self, kept: np.ndarray) -> Listing:
        """Some rows, bool (N,), and the files that they need."""
        places = np.arange(len(kept)) if self.places is None else self.places
        used, place = np.unique(places[kept], return_inverse=True)
        new_row = np.cumsum(kept) - 1
        return dataclasses.replace(
            self,
            files=[self.files[file] for file in used],
            labels=self.labels[kept],
            splits={split: new_row[rows[kept[rows]]] for split, rows in self.splits.items()},
            boxes=self.boxes.take(np.flatnonzero(kept)) if self.boxes else None,
            ids=None if self.ids is None else [self.ids[row] for row in np.flatnonzero(kept)],
            places=None if self.places is None else place,
            crops=None if self.crops is None else self.crops[kept],
        )

    def of_classes(self, wanted: Collection[str]) -> Listing:
        """The images of some classes, () for all; a line tells what is left out. Of images of
        several classes those stay that show one of these, or may."""
        if not wanted:
            return self
        names = np.array(self.class_names)
        if unknown := sorted(set(wanted) - set(self.class_names)):
            raise ValueError(f"no class {unknown[0]!r} in {self.root} among {listed(names, 8)}")
        chosen = np.isin(names, list(wanted))
        new = np.append(np.where(chosen, np.cumsum(chosen) - 1, -1), -1).astype(np.int32)
        single = self.labels.ndim == 1
        labels = new[self.labels] if single else self.labels[:, chosen]
        found = dataclasses.replace(self, class_names=tuple(names[chosen].tolist()), labels=labels)
        found = found.take(labels >= 0 if single else (labels != 0).any(axis=1))
        if found.boxes:
            rows = map(found.boxes.__getitem__, range(len(found.labels)))
            named = ((new[row[0]], *row[1:]) for row in rows)
            known = ([part[row[0] >= 0] for part in row] for row in named)
            found = dataclasses.replace(found, boxes=Boxes.of_rows(known))
        count, left = len(labels) - len(found.labels), names[~chosen]
        log.warning(
            "%s: left out %d images of other classes: %s", self.root, count, listed(left, 8)
        )
        return found

    def with_digests(self, table: Path) -> Listing:
        """The listing of a folder with what its files hold, see `file_digests`; later it reads them
        only as they are now. Of those that hold something else than the last time, a line tells."""
        expected, changed = file_digests(self.root, self.files, table)
        if changed:
            first, rest = changed[0], f" and {len(changed) - 1} more files" * (len(changed) > 1)
            log.warning("%s: %s%s changed since the last time", self.root, first, rest)

        def read(file: str) -> bytes:
            content = self.read(file)
            if HASH(content).hexdigest() != expected[file]:
                raise ValueError(f"{file} in {self.root} was changed while it was being prepared")
            return content

        return dataclasses.replace(self, read=read, digests=expected)

    def fingerprint(self) -> str:
        """Twelve hex digits that change with all but the place."""
        known = [value for name, value in vars(self).items() if name not in ("root", "read")]
        return digest(_FORMAT, known)[:12]


def listing_of(
    root: str | os.PathLike,
    class_names: Sequence[str],
    splits: Mapping[str, Iterable[Entry]],
    read: Callable[[str], bytes] | None = None,
    *,
    has_boxes: bool = False,
) -> Listing:
    """A listing of single-label images; entries of the split '' belong to none. Without `read` they
    are files, and what lies beside them and is passed over is counted in a line."""
    parts = [sorted(part, key=lambda entry: (entry.label, entry.id)) for part in splits.values()]
    entries = [entry for part in parts for entry in part]
    rows = np.split(np.arange(len(entries)), np.cumsum([len(part) for part in parts]))
    boxes = [([e.label], [e.box], [False]) if e.box else ((), (), ()) for e in entries]
    if read is None and (passed := _passed_over(Path(root), [entry.id for entry in entries])):
        counts = ", ".join(f"{count} {what}" for what, count in passed.items())
        log.warning("%s: passed over %s", root, counts)
    return Listing(
        str(root),
        tuple(class_names),
        [entry.id for entry in entries],
        read or (lambda id: (Path(root) / id).read_bytes()),
        np.array([entry.label for entry in entries], np.int32),
        {split: part for split, part in zip(splits, rows, strict=False) if split},
        Boxes.of_rows(boxes) if has_boxes else None,
    )


def listing_of_files(
    root: Path,
    class_names: Sequence[str],
    files: Sequence[str],
    labels: np.ndarray,
    splits: Mapping[str, np.ndarray],
    ids: Sequence[str] | None = None,
    **more,
) -> Listing:
    """A listing of rows of which each is a file, or, with ids of its own, perhaps a part of one."""
    place_of = {file: place for place, file in enumerate(dict.fromkeys(files))}
    return Listing(
        str(root),
        tuple(class_names),
        list(place_of),
        lambda file: (root / file).read_bytes(),
        labels,
        splits,
        ids=ids,
        places=None if ids is None else np.array([place_of[file] for file in files]),
        **more,
    )


def image_folder(root: str | os.PathLike) -> Listing:
    """Lists `ROOT/train/<class>/*` and `ROOT/val/<class>/*`, perhaps also `ROOT/test/<class>/*`.

    The classes are the folders under train, sorted by name, or in ROOT where there is no train.
    Where there is no val, one called validation, valid or test stands for it, or else
    `splits.with_fifth`. Files whose name starts with '.' or does not end like an image's are passed
    over, and, with a line, other folders beside train.
    """
    root = Path(root)
    parts = {name.lower(): name for name in class_folders(root)}
    if not {"train", *VAL} & set(parts):
        found = class_folder(root)
        splits = {"train": np.arange(len(found.labels))}
        return dataclasses.replace(found, splits=with_fifth(splits, found.labels))
    class_names = class_folders(root / parts.get("train", "train"))
    found = {name: parts.pop(name) for name in ("train", *VAL) if name in parts}
    if parts:
        log.warning("%s: passed over %s", root, ", ".join(parts.values()))
    splits = {}
    for split, folder in with_val(found).items():
        if strangers := sorted(set(class_folders(root / folder)) - set(class_names)):
            raise ValueError(
                f"{root / folder / strangers[0]} has no counterpart in {root / 'train'}: only "
                "classes that train holds can be evaluated"
            )
        labels = {f"{folder}/{name}": label for label, name in enumerate(class_names)}
        splits[split] = entries_in(root, labels)
    found = listing_of(root, class_names, splits)
    return dataclasses.replace(found, splits=with_fifth(found.splits, found.labels))


VAL = ("val", "validation", "valid", "test")


def with_val(splits: Mapping[str, object]) -> dict[str, object]:
    """Splits in which the first of `VAL` that is there is called 'val'."""
    stand_in = next((name for name in VAL if name in splits), None)
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
        Entry(f"{name}/{file}", label)
        for label, name in enumerate(sorted(classes))
        for file in classes[name]
    ]
    return listing_of(root, sorted(classes), {"": entries})


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
        there = [item.relative_to(root).as_posix() for item in root.rglob("*") if item.is_file()]
        read = lambda id: (root / id).read_bytes()  # noqa: E731
    else:
        there = dict(_members(root))
        read = there.__getitem__
    annotations = "val/val_annotations.txt"
    top = next((id for id in there if f"/{id}".endswith(f"/{annotations}")), None)
    if top is None:
        raise ValueError(f"{path} is not Tiny-ImageNet: no {annotations}")
    top = top.removesuffix(annotations)
    files = {id.removeprefix(top) for id in there if id.startswith(top)}
    images_of = collections.defaultdict(list)
    for id in filter(_is_image, files):
        images_of[_parent(id)].append(id)

    def table(name: str, width: int) -> list[tuple[str, str, tuple[float, ...]]]:
        try:
            rows = [line.split() for line in read(top + name).decode().splitlines()]
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
        boxes = {image: box for image, _, box in table(name, 5)} if name in files else None
        if not (ids := images_of[f"train/{wnid}/images"]):
            raise ValueError(f"{path}: class {wnid} has no image in train/{wnid}/images")
        for id in ids:
            box = None if boxes is None else boxes.get(PurePosixPath(id).name)
            if box is None and boxes is not None:
                raise ValueError(f"{path}: {name} lacks the box of {id}")
            splits["train"].append(Entry(id, label, box))
    missing = set(images_of["val/images"])
    for image, wnid, box in table(annotations, 6):
        if wnid not in wnids or (id := f"val/images/{image}") not in missing:
            raise ValueError(f"{path}: {annotations} names {image} of {wnid}: no image or no class")
        missing.remove(id)
        splits["val"].append(Entry(id, wnids.index(wnid), box))
    if missing:
        raise ValueError(f"{path}: {annotations} does not name the class of {min(missing)}")
    return listing_of(root / top, wnids, splits, lambda id: read(top + id), has_boxes=True)


def _box(x1: int, y1: int, x2: int, y2: int) -> tuple[float, ...]:
    # Inclusive positions: the pixel that ends the box belongs to it.
    edges = (min(y1, y2), min(x1, x2), max(y1, y2) + 1, max(x1, x2) + 1)
    return tuple(min(edge / _TINY_IMAGENET_PIXELS, 1.0) for edge in edges)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    def check(size: int) -> None:
        if size > _MOST_BYTES:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES:,} bytes, the most expected")

    class Bounded(tarfile.TarFile):
        """Of which tarfile itself, for long names and properties, reads no more than may be."""

        def __init__(self, name, mode, fileobj, **options):
            unbounded = fileobj.read

            def read(size: int) -> bytes:
                check(size)
                return unbounded(size)

            fileobj.read = read
            super().__init__(name, mode, fileobj, **options)

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check(sum(member.file_size for member in archive.infolist()))
                for member in archive.infolist():
                    if not member.is_dir():  # no more than declared: it might be anything
                        content = archive.open(member).read(member.file_size)
                        yield member.filename.removeprefix("./"), content
            return
        with Bounded.open(path, "r|*") as archive:
            total = 0
            for member in archive:
                check(total := total + abs(member.size))
                if member.isfile():
                    yield member.name.removeprefix("./"), archive.extractfile(member).read()
    except Exception as error:  # of many types, from three compressors
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
    listed = stream(lambda folder: images_in(root / folder), label_of, _THREADS)
    return [
        Entry(f"{folder}/{name}", label)
        for (folder, label), images in zip(label_of.items(), listed, strict=True)
        for name in images
    ]


def images_in(folder: Path, *, may_be_empty: bool = False) -> list[str]:
    """Names of the images in a class's folder, sorted; ValueError for none."""
    images = []
    if folder.is_dir():
        with os.scandir(folder) as items:
            images = sorted(item.name for item in items if _is_image(item.name) and item.is_file())
    if not images and not may_be_empty:
        raise ValueError(f"class folder {folder} is empty: every class needs images there")
    return images


def _passed_over(root: Path, files: Sequence[str]) -> dict[str, int]:
    """What lies in the folders of some images and is none: kinds of files, and how many."""
    passed = collections.Counter()
    for folder in dict.fromkeys(map(_parent, files)):
        with os.scandir(root / folder) as items:
            for item in items:
                if item.name[0] == ".":
                    continue
                if item.is_dir():
                    below = (name for _, _, names in os.walk(item.path) for name in names)
                    passed["images a folder too deep"] += sum(map(_is_image, below))
                elif not item.is_file():
                    passed["dangling links"] += 1
                elif not _is_image(item.name):
                    passed[f"files that end in {os.path.splitext(item.name)[1]!r}"] += 1
    return +passed


def _parent(id: str) -> str:
    return id.rpartition("/")[0]


def _is_image(name: str) -> bool:
    stem, suffix = os.path.splitext(name.rpartition("/")[2])
    return suffix.lower() in _IMAGE_SUFFIXES and stem[0] != "."
