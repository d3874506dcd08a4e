"""Benchmarks as their authors' archives unpack: each a few lines that name its rows."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
from PIL import Image

from transfer_jax.data.batches import stream
from transfer_jax.data.listing import ANY, Listing, listing_of_files
from transfer_jax.data.voc import objects_in

_THREADS = 8
_PEOPLE = (
    "is_male has_long_hair has_glasses has_hat has_t-shirt has_long_sleeves has_shorts has_jeans "
    "has_long_pants"
).split()


class Row(NamedTuple):
    """An image, or a part of one.

    Attributes:
      splits: those it belongs to, separated by spaces; '' for none.
      label: the name of its class, or, where images show several, the names of all that it shows.
      file: path from the folder, with '/'.
      box: (left, top, right, bottom) in pixels; None for all of the image.
      unsure: where images show several, names of what is not to be judged.
    """

    splits: str
    label: str | set[str]
    file: str
    box: tuple[float, float, float, float] | None = None
    unsure: set[str] = frozenset()


def layout(root: str | os.PathLike, kind: str, **options) -> Listing:
    """Lists what lies under `root` in one of LAYOUTS.

    The splits are 'train' and 'val', what is tested on; of retrieval, 'train' are the references
    and 'val' the queries. Classes are those that any image shows, sorted by name. Images of one
    class are sorted by split, class and file name; where parts are cut out, or images show several
    classes, rows come as in the lists.
    """
    root = Path(root)
    rows = list(LAYOUTS[kind](root, **options))
    if not rows:
        raise FileNotFoundError(f"{root} holds no image in the layout of {kind!r}")
    several, whole = isinstance(rows[0].label, set), all(row.box is None for row in rows)
    if whole and not several:
        listed = list(dict.fromkeys(row.splits for row in rows))
        rows.sort(key=lambda row: (listed.index(row.splits), row.label, row.file))
    names = sorted(set().union(*(row.label if several else {row.label} for row in rows)))
    place = {name: label for label, name in enumerate(names)}
    if several:
        labels = np.zeros((len(rows), len(names)), np.int8)
        for marks, row in zip(labels, rows, strict=True):
            marks[[place[name] for name in row.unsure if name in place]] = -1
            marks[[place[name] for name in row.label]] = 1
    else:
        labels = np.array([place[row.label] for row in rows], np.int32)
    parts = [row.splits.split() for row in rows]
    splits = {
        split: np.array([split in part for part in parts]).nonzero()[0]
        for split in sorted(set().union(*parts))
    }
    cut = {}
    if not whole:
        crops = stream(lambda row: _crop(root, row), rows, _THREADS)
        ids = [f"{row.file}/{number}" for number, row in enumerate(rows)]
        cut = {"ids": ids, "crops": np.array(list(crops))}
    return listing_of_files(root, names, [row.file for row in rows], labels, splits, **cut)


def _crop(root: Path, row: Row) -> tuple[float, ...]:
    """(top, left, bottom, right) as fractions of the image's sides."""
    if row.box is None:
        return 0.0, 0.0, 1.0, 1.0
    with Image.open(root / row.file) as image:
        width, height = image.size
    left, top, right, bottom = row.box
    return top / height, left / width, bottom / height, right / width


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text("utf-8", ANY).splitlines() if line.strip()]


def _class_lists(root: Path, folder: str, train: str, val: str) -> Iterator[Row]:
    """Class folders in `folder`, and two lists of '<class>/<image>'."""
    for split, name in (("train", train), ("val", val)):
        for line in _lines(root / name):
            file = line.lstrip("/")
            yield Row(split, file.rpartition("/")[0], folder + file)


def _sun397(root: Path, partition: int) -> Iterator[Row]:
    # Its lines begin with '/': '/a/abbey/sun_aaalbzqrim.jpg'.
    return _class_lists(root, "", f"Training_{partition:02d}.txt", f"Testing_{partition:02d}.txt")


def _cub200(root: Path) -> Iterator[Row]:
    tables = ("images.txt", "train_test_split.txt", "bounding_boxes.txt")
    for image, split, box in zip(*(_lines(root / name) for name in tables), strict=True):
        file = image.split()[1]
        x, y, width, height = map(float, box.split()[1:])
        split = "train" if split.split()[1] == "1" else "val"
        yield Row(split, file.split("/")[0], f"images/{file}", (x, y, x + width, y + height))


def _flowers102(root: Path) -> Iterator[Row]:
    labels = scipy.io.loadmat(root / "imagelabels.mat")["labels"].ravel()
    sets = scipy.io.loadmat(root / "setid.mat")
    for split, key in (("train", "trnid"), ("train", "valid"), ("val", "tstid")):
        for number in sets[key].ravel():
            yield Row(split, f"{labels[number - 1]:03d}", f"jpg/image_{number:05d}.jpg")


def _pets(root: Path) -> Iterator[Row]:
    for split, name in (("train", "trainval"), ("val", "test")):
        for line in _lines(root / f"annotations/{name}.txt"):
            image = line.split()[0]  # 'Abyssinian_100 1 1 1'
            yield Row(split, image.rpartition("_")[0], f"images/{image}.jpg")


def _stanford40(root: Path) -> Iterator[Row]:
    for path in sorted((root / "ImageSplits").glob("*_*.txt")):  # 'applauding_train.txt'
        action, _, split = path.stem.rpartition("_")
        for file in _lines(path):
            yield Row(split.replace("test", "val"), action, f"JPEGImages/{file}")


def _people(root: Path) -> Iterator[Row]:
    for split, folder in (("train", "train"), ("val", "test")):
        for line in _lines(root / folder / "labels.txt"):
            file, *box, marks = line.split(maxsplit=5)
            x, y, width, height = map(float, box)
            said = {name: int(mark) for name, mark in zip(_PEOPLE, marks.split(), strict=True)}
            shows, unsure = ({n for n, mark in said.items() if mark == wanted} for wanted in (1, 0))
            yield Row(split, shows, f"{folder}/{file}", (x, y, x + width, y + height), unsure)


def _apascal(root: Path) -> Iterator[Row]:
    names = _lines(root / "attribute_data/attribute_names.txt")
    for split, stem, folder in (
        ("train", "apascal_train", "VOCdevkit/VOC2008/JPEGImages"),
        ("val", "apascal_test", "VOCdevkit/VOC2008/JPEGImages"),
        ("yahoo", "ayahoo_test", "ayahoo_test_images"),
    ):
        for line in _lines(root / f"attribute_data/{stem}.txt"):
            file, _, *numbers = line.split()
            left, top, right, bottom, *marks = map(float, numbers)
            shows = {name for name, mark in zip(names, marks, strict=True) if mark}
            yield Row(split, shows, f"{folder}/{file}", (left - 1, top - 1, right, bottom))


def _sun_attributes(root: Path) -> Iterator[Row]:
    tables = (("images", "images"), ("attributes", "attributes"),
              ("attributeLabels_continuous", "labels_cv"))  # fmt: skip
    files, names, votes = (
        scipy.io.loadmat(root / f"SUNAttributeDB/{name}.mat", squeeze_me=True)[key]
        for name, key in tables
    )
    for file, shares in zip(files, votes, strict=True):
        # Of three votes, two or three say yes, one is undecided.
        unsure = set(names[(shares > 0) & (shares < 0.5)])
        yield Row("", set(names[shares > 0.5]), f"images/{file}", None, unsure)


def _visual_phrases(root: Path) -> Iterator[Row]:
    # Layout from memory: a kit like VOC's, objects named by phrase.
    for split, name in (("train", "trainval"), ("val", "test")):
        for image in _lines(root / f"ImageSets/Main/{name}.txt"):
            found = {name for name, _, _ in objects_in(root, image)}
            # The other names are those of single objects and of pictures of no phrase.
            phrases = {name for name in found - {"absolute_negatives"} if "_" in name}
            yield Row(split, phrases, f"JPEGImages/{image}.jpg")


def _numbered(root: Path, group: int, queries: int) -> Iterator[Row]:
    """Images whose numbers divided by `group` tell the object, the first `queries` of each asked
    for; all are references."""
    for path in sorted(root.rglob("*.jpg")):
        if number := re.search(r"\d+$", path.stem):
            object_, rank = divmod(int(number[0]), group)
            splits = "train val" if rank < queries else "train"
            yield Row(splits, f"{object_:05d}", path.relative_to(root).as_posix())


def _landmarks(root: Path) -> Iterator[Row]:
    """All images, then the part of one that each query is; a class for every query, which the
    references show (good, ok), show too little (junk), or do not show."""
    # Of Oxford and Paris; that Sculptures comes with such files is from memory.
    shows: dict[str, set[str]] = {}
    unsure: dict[str, set[str]] = {}
    asked = sorted(root.rglob("*_query.txt"))
    for path in asked:
        query = path.name.removesuffix("_query.txt")
        for kind, marked in (("good", shows), ("ok", shows), ("junk", unsure)):
            for image in _lines(path.with_name(f"{query}_{kind}.txt")):
                marked.setdefault(image, set()).add(query)
    files = {path.stem: path.relative_to(root).as_posix() for path in sorted(root.rglob("*.jpg"))}
    for image, file in files.items():
        yield Row("train", shows.get(image, set()), file, None, unsure.get(image, set()))
    for path in asked:
        # 'oxc1_all_souls_000013 136.5 34.1 648.5 955.7'
        image, *box = path.read_text("utf-8", ANY).split()
        query = path.name.removesuffix("_query.txt")
        file = files[image.removeprefix("oxc1_")]
        yield Row("val", {query}, file, tuple(map(float, box)))


LAYOUTS: dict[str, Callable[..., Iterator[Row]]] = {
    "sun397": _sun397,
    "mit67": functools.partial(
        _class_lists, folder="Images/", train="TrainImages.txt", val="TestImages.txt"
    ),
    "cub200": _cub200,
    "flowers102": _flowers102,
    "pets": _pets,
    "stanford40": _stanford40,
    "people_attributes": _people,
    "apascal": _apascal,
    "sun_attributes": _sun_attributes,
    "visual_phrases": _visual_phrases,
    "holidays": functools.partial(_numbered, group=100, queries=1),
    "ukbench": functools.partial(_numbered, group=4, queries=4),
    "landmarks": _landmarks,
}
