"""Listing of ILSVRC2012: class folders of training images, and flat validation images whose
classes stand in a list, or class folders of both.

Three lists are in use. The development kit's has a number on each line, in the order of the images;
the numbers are those of its table of synsets and not places among the sorted wnids. Caffe's has a
name and a place among the sorted wnids on each line. Kaggle's is a CSV of names and wnids.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from transfer_jax.data.listing import (
    ANY,
    Entry,
    Listing,
    class_folders,
    entries_in,
    images_in,
    listing_of,
)
from transfer_jax.data.splits import ilsvrc_indices

_DEVKIT_LIST = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
_LISTS = (_DEVKIT_LIST, Path(_DEVKIT_LIST).name, "val.txt", "LOC_val_solution.csv")
_LAYOUTS = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")


def ilsvrc2012_folder(root: str | os.PathLike) -> Listing:
    """Lists ILSVRC2012, or some of its classes.

    Training images are `train/<wnid>/*.JPEG`. Validation images are `val/*.JPEG`, and their classes
    are looked for in the development kit's list (`ILSVRC2012_devkit_t12/data/` with `meta.mat`), in
    Caffe's `val.txt` and in Kaggle's `LOC_val_solution.csv`, in this order, each inside the folder
    or beside it; or they lie in class folders too, `val/<wnid>/*.JPEG`, and need no list. `root`
    holds `train` and `val`, or holds them as `ILSVRC/Data/CLS-LOC/{train,val}`.

    The classes are those of `train`, in the order of their wnids. Where these are not all 1000,
    validation images of other classes are passed over, there or not. Numbers in a `val.txt` are
    places among the 1000 sorted wnids, or among those of `train` where none is larger than that.
    """
    given = root = Path(root)
    root = next((root / at for at in _LAYOUTS if (root / at / "train").is_dir()), root)
    wnids = class_folders(root / "train")
    if unknown := [wnid for wnid in wnids if wnid not in ilsvrc_indices()]:
        raise ValueError(
            f"{root / 'train' / unknown[0]} is none of the 1000 classes of ILSVRC2012, whose "
            "folders are named like n01440764; other class folders are of kind 'folder'"
        )
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    if flat := images_in(root / "val", may_be_empty=True):
        there = {Path(name).stem: name for name in flat}
        truth = _truth(_find_list(root, given), root / "val", wnids, there)
        val = [Entry(f"val/{there[image]}", label_of[wnid]) for image, wnid in truth.items()]
    else:
        there = [wnid for wnid in class_folders(root / "val") if wnid in label_of]
        val = entries_in(root, {f"val/{wnid}": label_of[wnid] for wnid in there})
    if without := set(label_of.values()) - {entry.label for entry in val}:
        raise ValueError(f"class {wnids[min(without)]} has no validation image in {root / 'val'}")
    train = entries_in(root, {f"train/{wnid}": label for wnid, label in label_of.items()})
    return listing_of(root, wnids, {"train": train, "val": val})


def _find_list(root: Path, given: Path) -> Path:
    """The first list of classes that is found: inside, then beside."""
    places = [root, root / "val", given, given.parent]
    if root.parts[-2:] == ("Data", "CLS-LOC"):
        # Kaggle's archive has the images three levels below its lists.
        places += [*root.parents][1:3]
    paths = [place / name for name in _LISTS for place in dict.fromkeys(places)]
    if found := next((path for path in paths if path.is_file()), None):
        return found
    listed = ", ".join(map(str, paths))
    raise FileNotFoundError(f"the validation images' classes are not known: none of {listed}")


def _truth(path: Path, folder: Path, wnids: Sequence[str], there: Mapping) -> dict[str, str]:
    """The wnid of each validation image of these classes, by the image's stem."""
    read = {"val.txt": _read_caffe, "LOC_val_solution.csv": _read_kaggle}.get(path.name)
    truth = read(path, wnids, there) if read else _read_devkit(path)
    if unknown := set(truth.values()) - set(ilsvrc_indices()):
        raise ValueError(f"{path} names the class {min(unknown)}, none of ILSVRC2012's 1000")
    wanted = {image: wnid for image, wnid in truth.items() if wnid in set(wnids)}
    if missing := set(wanted) - set(there):
        raise ValueError(f"{path} names {len(missing)} images that {folder} lacks: {min(missing)}")
    if unnamed := set(there) - set(truth):
        raise ValueError(f"{path} lacks {len(unnamed)} images of {folder}: {min(unnamed)}")
    return wanted


def _read_devkit(path: Path) -> dict[str, str]:
    import scipy.io  # Slow to import, and wanted for this one table only.

    table = path.with_name("meta.mat")
    try:
        synsets = scipy.io.loadmat(table, squeeze_me=True)["synsets"].reshape(-1)
        wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        numbers = np.loadtxt(path, int, ndmin=1)
        return {f"ILSVRC2012_val_{i:08d}": wnid_of[n] for i, n in enumerate(numbers, start=1)}
    except Exception as error:  # SciPy names what is wrong with a file by many types
        raise ValueError(
            f"{path} should hold numbers that {table} explains, the development kit's table of "
            f"synsets with the fields ILSVRC2012_ID and WNID: {error}"
        ) from error


def _read_caffe(path: Path, wnids: Sequence[str], there: Mapping) -> dict[str, str]:
    classes = {}
    for line, row in enumerate(path.read_text("utf-8", ANY).splitlines(), start=1):
        match = re.fullmatch(r"\s*(\S+)\s+(n\d{8}|\d+)\s*", row)
        if match:
            classes[Path(match[1]).stem] = match[2]
        elif row.strip():
            raise ValueError(
                f"{path}, line {line}: expected a name and a class like "
                f"'ILSVRC2012_val_00000001.JPEG 65', got {row!r}"
            )
    numbers = [int(n) for image, n in classes.items() if image in there and n.isdecimal()]
    # Should all numbers be small because train holds the first of the 1000 classes, then both
    # readings agree.
    order = wnids if max(numbers, default=0) < len(wnids) else list(ilsvrc_indices())
    if too_large := [n for n in classes.values() if n.isdecimal() and int(n) >= len(order)]:
        raise ValueError(f"{path} names the class {too_large[0]} of {len(order)} sorted wnids")
    return {image: order[int(n)] if n.isdecimal() else n for image, n in classes.items()}


def _read_kaggle(path: Path, wnids: Sequence[str], there: Mapping) -> dict[str, str]:
    try:
        rows = pd.read_csv(path, usecols=["ImageId", "PredictionString"], dtype=str)
        return dict(zip(rows.ImageId, rows.PredictionString.str.split().str[0], strict=True))
    except ValueError as error:
        raise ValueError(f"{path} is no list of images and wnids: {error}") from error
