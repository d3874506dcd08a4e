"""The folder of PASCAL VOC as its development kit unpacks it: what is listed there, and its pixels.

Targets are read from the kit's own lists: 1 where a class is present, -1 where it is not, 0 where
its only objects are difficult, or the list says to leave it out.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
import xml.etree.ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from transfer_jax.data.images import BrokenImageError, decode_rgb, resized

CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
"""The twenty classes, in alphabetical order."""

ACTIONS = (
    "jumping phoning playinginstrument reading ridingbike ridinghorse running takingphoto "
    "usingcomputer walking"
).split()
"""The ten actions of VOC 2011 and 2012, in alphabetical order."""

Box = tuple[float, float, float, float]


class VocEntry(NamedTuple):
    """One image, or one person in an image."""

    id: str
    """Of the image, '2008_000008'; for a person with the index of the object: '2010_006215/1'."""
    image: str
    """Path relative to the root, with '/'."""
    num_bytes: int
    targets: tuple[int, ...]
    """1, 0 or -1 for each class."""
    box: Box | None = None
    """(left, top, right, bottom) of the person, in pixels counted from 0, right and bottom
    exclusive."""


@dataclasses.dataclass(frozen=True)
class VocListing:
    """All records of one of VOC's tasks.

    Attributes:
      root: the folder that holds `JPEGImages`.
      class_names: in the order of the targets.
      splits: the entries of 'train', of 'val' and, where it is annotated, of 'test', in the order
        of the kit's lists.
    """

    root: Path
    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[VocEntry, ...]]

    def fingerprint(self) -> str:
        """Twelve hex digits that change with the classes, records, targets and sizes of files."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for split, entries in self.splits.items():
            for entry in entries:
                digest.update(f"\n{split}\t{tuple(entry)}".encode())
        return digest.hexdigest()[:12]


def classification(root: str | os.PathLike) -> VocListing:
    """Lists the images of the classification task and the classes in each.

    Reads `ImageSets/Main/<class>_<split>.txt`, lines of '<image> <1, 0 or -1>'.

    Args:
      root: `VOCdevkit/VOC2012` or `VOCdevkit`, any year's.

    Returns:
      The listing, with twenty classes.

    Raises:
      FileNotFoundError: a list, folder or image is missing.
      ValueError: a line is not such, or lists do not name the same images.
    """
    root = _root(root)
    splits = {}
    for split, lists in _lists(root, "Main", CLASSES).items():
        rows = _targets(lists, width=2)
        splits[split] = tuple(
            VocEntry(image, f"JPEGImages/{image}.jpg", _size_of(root, image), targets)
            for (image,), targets in rows
        )
    return VocListing(root, tuple(CLASSES), splits)


def actions(root: str | os.PathLike) -> VocListing:
    """Lists the people of the action task, the box of each, and what they do.

    Reads `ImageSets/Action/<action>_<split>.txt`, lines of '<image> <object> <1, 0 or -1>' where
    the object is its place in the image's annotation, counted from 1, and the boxes from
    `Annotations/<image>.xml`.

    Args:
      root: `VOCdevkit/VOC2012` or `VOCdevkit`.

    Returns:
      The listing, with ten classes and one entry per person.

    Raises:
      FileNotFoundError: a list, folder, annotation or image is missing.
      ValueError: a line is not such, lists do not name the same people, or an object is not there
        or no person.
    """
    root = _root(root)
    splits = {}
    for split, lists in _lists(root, "Action", ACTIONS).items():
        rows = _targets(lists, width=3)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            boxes = list(threads.map(lambda row: _person_box(root, *row[0]), rows))
        splits[split] = tuple(
            VocEntry(
                f"{image}/{place}", f"JPEGImages/{image}.jpg", _size_of(root, image), targets, box
            )
            for ((image, place), targets), box in zip(rows, boxes, strict=True)
        )
    return VocListing(root, tuple(ACTIONS), splits)


def widened(box: Box, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """A box with a margin around it, in whole pixels inside the image.

    Args:
      box: (left, top, right, bottom) in pixels, right and bottom exclusive.
      margin: what is added on each side, as a share of the box's own width and height.
      width, height: of the image.

    Returns:
      (left, top, right, bottom), of at least one pixel.

    Example:
      >>> widened((10, 20, 20, 40), 0.1, 100, 41)
      (9, 18, 21, 41)
    """
    left, top, right, bottom = box
    dx, dy = margin * (right - left), margin * (bottom - top)
    left, right = _inside(left - dx, right + dx, width)
    top, bottom = _inside(top - dy, bottom + dy, height)
    return left, top, right, bottom


class VocReader:
    """Reads the images of a split, cut out where entries have boxes, and makes them squares.

    Args:
      root: as in the listing.
      entries: of one split.
      image_size: side length in pixels.
      margin: see `widened`.
      fit: how images are made squares, one of `images.FITS`.
    """

    def __init__(
        self,
        root: Path,
        entries: Sequence[VocEntry],
        image_size: int,
        margin: float,
        fit: str = "squash",
    ):
        self._root, self._entries = root, entries
        self._image_size, self._margin, self._fit = image_size, margin, fit

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry = self._entries[range(len(self))[index]]
        return {"image": self.pixels(entry), "targets": np.array(entry.targets, np.int8),
                "id": entry.id}  # fmt: skip

    def raw(self, indices: np.ndarray) -> list[VocEntry]:
        """The entries at some positions."""
        return [self._entries[index] for index in indices]

    def parse(self, entry: VocEntry) -> VocEntry:
        """The entry itself."""
        return entry

    def pixels(self, entry: VocEntry) -> np.ndarray:
        """uint8 (image_size, image_size, 3)."""
        encoded = (self._root / entry.image).read_bytes()
        try:
            if entry.box is None:
                return decode_rgb(encoded, self._image_size, self._fit)
            image = Image.fromarray(decode_rgb(encoded))
        except BrokenImageError as error:
            raise BrokenImageError(f"broken image {self._root / entry.image}: {error}") from error
        image = image.crop(widened(entry.box, self._margin, *image.size))
        return np.asarray(resized(image, self._image_size, self._fit))


def _inside(low: float, high: float, size: int) -> tuple[int, int]:
    low = min(max(round(low), 0), size - 1)
    return low, max(min(round(high), size), low + 1)


def _root(root: str | os.PathLike) -> Path:
    root = Path(root)
    if (root / "JPEGImages").is_dir():
        return root
    years = sorted(path.parent for path in root.glob("VOC*/JPEGImages"))
    if len(years) != 1:
        found = ", ".join(year.name for year in years) or "none"
        raise FileNotFoundError(
            f"{root} holds no JPEGImages, nor one folder like VOC2012 that does (found: {found}): "
            "expected VOCdevkit/VOC2012"
        )
    return years[0]


def _lists(root: Path, task: str, names: Sequence[str]) -> dict[str, dict[str, Path]]:
    """For each split the list of each class."""
    folder = root / "ImageSets" / task
    splits = {}
    for split in ("train", "val", "test"):
        lists = {name: folder / f"{name}_{split}.txt" for name in names}
        missing = [path for path in lists.values() if not path.exists()]
        # The test sets of most years are kept secret.
        if missing and split == "test":
            continue
        if missing:
            raise FileNotFoundError(f"there is no {missing[0]}: expected a list for every class")
        splits[split] = lists
    return splits


def _targets(lists: Mapping[str, Path], width: int) -> list[tuple[tuple, tuple[int, ...]]]:
    """The records that lists agree on, in their order, with the targets of all classes."""
    expected = "<image> <1, 0 or -1>" if width == 2 else "<image> <object> <1, 0 or -1>"
    columns = []
    for path in lists.values():
        found = {}
        for line in path.read_text().splitlines():
            row = line.split()
            if not row:
                continue
            plain = len(row) == width and row[-1] in ("1", "0", "-1")
            if not plain or (width == 3 and not row[1].isdecimal()):
                raise ValueError(f"{path}: expected lines of {expected!r}, got {line!r}")
            if tuple(row[:-1]) in found:
                raise ValueError(f"{path} names {' '.join(row[:-1])} twice")
            found[tuple(row[:-1])] = int(row[-1])
        columns.append(found)
        different = sorted(found.keys() ^ columns[0].keys())
        if different:
            first = next(iter(lists.values()))
            raise ValueError(f"only one of {path} and {first.name} names {' '.join(different[0])}")
    if not columns[0]:
        raise ValueError(f"{path} names no image")
    return [(key, tuple(column[key] for column in columns)) for key in columns[0]]


def _size_of(root: Path, image: str) -> int:
    path = root / "JPEGImages" / f"{image}.jpg"
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {path}, which ImageSets names") from error


def _person_box(root: Path, image: str, place: str) -> Box:
    path = root / "Annotations" / f"{image}.xml"
    try:
        objects = xml.etree.ElementTree.parse(path).getroot().findall("object")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no {path}, which holds a person's box") from error
    except xml.etree.ElementTree.ParseError as error:
        raise ValueError(f"{path} is not an annotation: {error}") from error
    if not 1 <= int(place) <= len(objects):
        raise ValueError(f"{path} has {len(objects)} objects; ImageSets names object {place}")
    person = objects[int(place) - 1]
    if person.findtext("name") != "person":
        raise ValueError(f"{path}: object {place} is a {person.findtext('name')}, not a person")
    left, top, right, bottom = (
        float(person.findtext(f"bndbox/{edge}", "nan")) for edge in ("xmin", "ymin", "xmax", "ymax")
    )
    if not (1 <= left <= right and 1 <= top <= bottom):
        raise ValueError(f"{path}: object {place} has the box {(left, top, right, bottom)}")
    # Pixels are counted from 1, and the last one belongs to the box.
    return left - 1, top - 1, right, bottom
