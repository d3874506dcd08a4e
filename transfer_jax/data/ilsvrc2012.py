"""Listing of ILSVRC2012 in its folders: class folders of training images, and flat validation
images whose classes stand in a list.

Three lists are in use. The development kit's has a number on each line, in the order of the images;
the numbers are those of its table of synsets and not places among the sorted wnids. Caffe's has a
name and a place among the sorted wnids on each line. Kaggle's is a CSV of names and wnids.
"""

import csv
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from transfer_jax.data.ahead import map_ahead
from transfer_jax.data.listings import (
    Entry,
    Listing,
    image_folder,
    images_in,
    require_folder,
    subfolders,
)
from transfer_jax.data.splits import ilsvrc_indices

DEVKIT_LIST = "ILSVRC2012_validation_ground_truth.txt"
CAFFE_LIST = "val.txt"
KAGGLE_LIST = "LOC_val_solution.csv"

_LAYOUTS = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_LISTING_THREADS = 16


class GroundTruth(NamedTuple):
    """The class of every validation image, as a list says it."""

    path: Path
    """The list."""
    wnids: Mapping[str, str]
    """The wnid for each image's name without suffix: 'ILSVRC2012_val_00000001'."""


def ilsvrc2012_folder(root: str | os.PathLike) -> Listing:
    """Lists ILSVRC2012, or some of its classes.

    Training images are `train/<wnid>/*.JPEG`. Validation images are `val/*.JPEG`, and their classes
    are looked for in the development kit's list (`ILSVRC2012_devkit_t12/data/` with `meta.mat` and
    `ILSVRC2012_validation_ground_truth.txt`), in Caffe's `val.txt` and in Kaggle's
    `LOC_val_solution.csv`, in this order, each inside the folder or beside it; or they lie in class
    folders too, `val/<wnid>/*.JPEG`, and need no list.

    The classes are those of `train`, in the order of their wnids. Where these are not all 1000,
    validation images of other classes are passed over, there or not. Numbers in a `val.txt` are
    places among the 1000 sorted wnids, or among those of `train` where none is larger than that.

    Args:
      root: the folder that holds `train` and `val`, or that holds them as
        `ILSVRC/Data/CLS-LOC/{train,val}`.

    Returns:
      The listing; ids are paths relative to the folder of `train` and `val`.

    Raises:
      FileNotFoundError: `root`, `train`, `val` or every list is missing; the message says where was
        looked.
      ValueError: a class that is none of ILSVRC2012's, a class without training or validation
        images, a list that cannot be read, or a list that names other images than there are.
    """
    given = require_folder(root)
    found = [given / layout for layout in _LAYOUTS if (given / layout / "train").is_dir()]
    root = require_folder(found[0] if found else given, ("train", "val"))
    wnids = _training_wnids(root / "train")
    flat = images_in(root / "val", may_be_empty=True)
    folders = subfolders(root / "val")
    if folders and not flat:
        return image_folder(root)
    if not flat:
        raise ValueError(f"{root / 'val'} holds no images: expected ILSVRC2012_val_*.JPEG")
    if set(folders) & set(wnids):
        raise ValueError(
            f"{root / 'val'} holds images and the class folder {min(set(folders) & set(wnids))}: "
            "expected either all images in class folders, or none"
        )
    truth = ground_truth(_places(root, given), wnids, (Path(name).stem for name, _ in flat))
    splits = {
        "train": tuple(_training(root, wnids)),
        "val": _validation(root, wnids, flat, truth),
    }
    return Listing(str(root), wnids, splits, lambda id: (root / id).read_bytes())


def ground_truth(
    places: Sequence[Path], wnids: Sequence[str], images: Iterator[str]
) -> GroundTruth:
    """The first list of the classes of validation images that is found.

    Args:
      places: folders to look in, best first.
      wnids: the training classes, sorted; they tell what the numbers of a `val.txt` mean.
      images: names, without suffix, of the images that are there.

    Returns:
      What the list says; it may name more images, or other ones.

    Raises:
      FileNotFoundError: there is none, or the development kit's lacks its table of synsets.
      ValueError: it cannot be read.
    """
    readers: dict[str, Callable[[Path], Mapping[str, str]]] = {
        DEVKIT_LIST: _read_devkit,
        CAFFE_LIST: functools.partial(_read_caffe, wnids=wnids, images=frozenset(images)),
        KAGGLE_LIST: _read_kaggle,
    }
    looked = []
    for name, read in readers.items():
        for place in places:
            below = ("ILSVRC2012_devkit_t12/data", "") if name == DEVKIT_LIST else ("",)
            for path in (place / folder / name for folder in below):
                if path.is_file():
                    return GroundTruth(path, read(path))
                looked.append(path)
    raise FileNotFoundError(
        "the classes of the validation images are not known: there is none of "
        + ", ".join(map(str, looked))
    )


def _training_wnids(train: Path) -> tuple[str, ...]:
    wnids, known = subfolders(train), ilsvrc_indices()
    if not wnids:
        packed = " (its .tar files are to be unpacked, each into a folder of its name)"
        hint = packed if any(train.glob("n*.tar")) else ""
        raise ValueError(f"{train} holds no class folders: expected train/<wnid>/*.JPEG{hint}")
    for wnid in wnids:
        if wnid not in known:
            raise ValueError(
                f"{train / wnid} is none of the 1000 classes of ILSVRC2012, whose folders are "
                "named like n01440764; other class folders are of kind 'folder'"
            )
    return tuple(wnids)


def _places(root: Path, given: Path) -> list[Path]:
    """Where lists may lie: inside, then beside."""
    places = [root, root / "val", given, given.parent]
    if root.parts[-2:] == ("Data", "CLS-LOC"):
        # Kaggle's archive has the images three levels below its lists.
        places += [*root.parents][1:3]
    return list(dict.fromkeys(places))


def _training(root: Path, wnids: Sequence[str]) -> Iterator[Entry]:
    # A million calls for the size of a file, most of which wait where the disk is far away.
    listed = map_ahead(lambda wnid: images_in(root / "train" / wnid), wnids, _LISTING_THREADS)
    for label, (wnid, images) in enumerate(zip(wnids, listed, strict=True)):
        for name, num_bytes in images:
            yield Entry(f"train/{wnid}/{name}", label, num_bytes)


def _validation(
    root: Path, wnids: Sequence[str], flat: Sequence[tuple[str, int]], truth: GroundTruth
) -> tuple[Entry, ...]:
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    known = ilsvrc_indices()
    for image, wnid in truth.wnids.items():
        if wnid not in known:
            raise ValueError(f"{truth.path}: {image} is of class {wnid}, none of ILSVRC2012's 1000")
    entries, there = [], set()
    for name, num_bytes in flat:
        stem = Path(name).stem
        there.add(stem)
        if stem not in truth.wnids:
            raise ValueError(
                f"{truth.path} says nothing of {root / 'val' / name}: it names "
                f"{len(truth.wnids)} images, and there are {len(flat)}"
            )
        label = label_of.get(truth.wnids[stem])
        if label is not None:
            entries.append(Entry(f"val/{name}", label, num_bytes))
    wanted = [image for image, wnid in truth.wnids.items() if wnid in label_of]
    if missing := sorted(set(wanted) - there):
        raise ValueError(
            f"{truth.path} names {len(wanted)} images of the classes in train, but {root / 'val'} "
            f"lacks {len(missing)} of them, the first being {missing[0]}"
        )
    if empty := sorted(set(range(len(wnids))) - {entry.label for entry in entries}):
        raise ValueError(f"class {wnids[empty[0]]} has no validation image, says {truth.path}")
    return tuple(sorted(entries, key=lambda entry: (entry.label, entry.id)))


def _read_devkit(path: Path) -> dict[str, str]:
    import scipy.io  # Slow to import, and wanted for this one table only.

    table = path.with_name("meta.mat")
    if not table.is_file():
        raise FileNotFoundError(
            f"there is no {table}, which says of what class the numbers in {path.name} are"
        )
    try:
        synsets = scipy.io.loadmat(table, squeeze_me=True)["synsets"].reshape(-1)
        wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except Exception as error:  # SciPy names what is wrong with a file by many types
        raise ValueError(
            f"{table} is not the development kit's table of synsets, with the fields "
            f"ILSVRC2012_ID and WNID: {error}"
        ) from error
    wnids = {}
    for line, number in enumerate(path.read_text().split(), start=1):
        if not number.isdecimal() or int(number) not in wnid_of:
            raise ValueError(f"{path}, line {line}: {number!r} is no ILSVRC2012_ID of {table.name}")
        wnids[f"ILSVRC2012_val_{line:08d}"] = wnid_of[int(number)]
    return wnids


def _read_caffe(path: Path, wnids: Sequence[str], images: frozenset[str]) -> dict[str, str]:
    classes = {}
    for line, row in enumerate(path.read_text().splitlines(), start=1):
        if not row.strip():
            continue
        match = re.fullmatch(r"\s*(\S+)\s+(n\d{8}|\d+)\s*", row)
        if not match:
            raise ValueError(
                f"{path}, line {line}: expected a name and a class like "
                f"'ILSVRC2012_val_00000001.JPEG 65', got {row!r}"
            )
        classes[Path(match[1]).stem] = match[2]
    numbers = {
        int(number) for image, number in classes.items() if image in images and number.isdecimal()
    }
    # Should all numbers be small because train holds the first of the 1000 classes, then both
    # readings agree.
    order = wnids if numbers and max(numbers) < len(wnids) else tuple(ilsvrc_indices())
    for image, number in classes.items():
        if number.isdecimal():
            if int(number) >= len(order):
                raise ValueError(
                    f"{path}: {image} is of class {number}; expected a place among the "
                    f"{len(order)} sorted wnids, 0 .. {len(order) - 1}"
                )
            classes[image] = order[int(number)]
    return classes


def _read_kaggle(path: Path) -> dict[str, str]:
    with open(path, newline="") as file:
        rows = csv.DictReader(file)
        if not {"ImageId", "PredictionString"} <= set(rows.fieldnames or ()):
            raise ValueError(
                f"{path} should have the columns ImageId and PredictionString; it has "
                f"{rows.fieldnames}"
            )
        wnids = {}
        for row in rows:
            prediction = (row["PredictionString"] or "").split()
            if not prediction:
                raise ValueError(f"{path}, line {rows.line_num}: {row['ImageId']} has no class")
            wnids[Path(row["ImageId"]).stem] = prediction[0]
    return wnids
