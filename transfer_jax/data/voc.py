"""Listings of PASCAL VOC as its development kit unpacks it: whole images with the boxes of their
objects, and the people of the action task."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transfer_jax.data.batches import stream
from transfer_jax.data.listing import ANY, Listing, listing_of_files
from transfer_jax.data.records import Boxes

CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()

ACTIONS = (
    "jumping phoning playinginstrument reading ridingbike ridinghorse running takingphoto "
    "usingcomputer walking"
).split()

_THREADS = 8

Key = tuple[str, ...]  # (image,), or (image, place of the object)


def voc_folder(root: str | os.PathLike) -> Listing:
    """Lists the images of VOC 2007 to 2012, the objects in each, and their boxes.

    `root` is `VOCdevkit/VOC2012` or `VOCdevkit`, any year's. The splits are those of
    `ImageSets/Main/{train,val,trainval,test}.txt` whose images are annotated: the test sets of most
    years are kept secret. All else is read from `Annotations/<image>.xml`. Labels (N, 20) are 1
    where a class shows, 0 where it does not, -1 where its only objects are marked as difficult.
    """
    root, listed = _root(root), {}
    for split in ("train", "val", "trainval", "test"):
        path = root / "ImageSets/Main" / f"{split}.txt"
        names = path.read_text("utf-8", ANY).split() if path.exists() else []
        if names and all((root / "Annotations" / f"{name}.xml").exists() for name in names):
            listed[split] = [(name,) for name in names]
        elif names and split != "test":
            raise FileNotFoundError(f"{path} names images without annotation in {root}")
    keys, splits = _rows_of(root, listed)
    objects = list(stream(lambda key: objects_in(root, key[0]), keys, _THREADS))
    labels = np.zeros((len(keys), len(CLASSES)), np.int8)
    rows = []
    for row, found in enumerate(objects):
        classes = np.array([CLASSES.index(name) for name, _, _ in found], int)
        difficult = np.array([hard for _, _, hard in found], bool)
        labels[row, classes[difficult]], labels[row, classes[~difficult]] = -1, 1
        rows.append((classes, [box for _, box, _ in found], difficult))
    return _listing(root, CLASSES, keys, labels, splits, boxes=Boxes.of_rows(rows))


def voc_actions(root: str | os.PathLike) -> Listing:
    """Lists the people of the action task of VOC 2011 and 2012, and what they do.

    `root` is as for `voc_folder`. Reads `ImageSets/Action/<action>_<split>.txt`, lines of '<image>
    <object> <1, 0 or -1>' where the object is its place in the image's annotation, counted from 1.
    A row is a person, called '2010_006215/1', cropped to its box; labels (N, 10) are 1 for what
    they do, 0 for what they do not and -1 for what is not to be judged.
    """
    root = _root(root)
    marks: dict[Key, dict[str, int]] = {}
    listed: dict[str, list[Key]] = {}
    for split in ("train", "val", "test"):
        for action in ACTIONS:
            path = root / "ImageSets/Action" / f"{action}_{split}.txt"
            if split == "test" and not path.exists():
                continue
            for line in path.read_text("utf-8", ANY).splitlines():
                *key, mark = line.split()
                if len(key) != 2 or mark not in ("1", "0", "-1"):
                    raise ValueError(f"{path}: expected '<image> <object> <mark>', got {line!r}")
                marks.setdefault(tuple(key), {})[action] = int(mark)
                if action == ACTIONS[0]:
                    listed.setdefault(split, []).append(tuple(key))
    keys, splits = _rows_of(root, listed)
    if uneven := [key for key, of_key in marks.items() if set(of_key) != set(ACTIONS)]:
        raise ValueError(f"{root}: some lists of actions lack the person {'/'.join(uneven[0])}")
    signs = np.array([[marks[key][action] for action in ACTIONS] for key in keys])
    labels = np.choose(signs + 1, [0, -1, 1]).astype(np.int8)  # the kit's -1, 0, 1
    crops = np.array(list(stream(lambda key: _person(root, *key), keys, _THREADS)))
    return _listing(root, ACTIONS, keys, labels, splits, crops=crops)


def _root(root: str | os.PathLike) -> Path:
    root = Path(root)
    years = [path.parent for path in root.glob("VOC*/JPEGImages")]
    if (root / "JPEGImages").is_dir():
        return root
    if len(years) != 1:
        raise FileNotFoundError(
            f"{root} holds neither JPEGImages nor one folder like VOC2012 that does (found: "
            f"{', '.join(sorted(year.name for year in years)) or 'none'})"
        )
    return years[0]


def _rows_of(root: Path, listed: dict[str, list[Key]]) -> tuple[list[Key], dict[str, np.ndarray]]:
    """All that is listed, each once, and the rows of each split."""
    if not {"train", "val"} <= set(listed):
        raise FileNotFoundError(f"{root / 'ImageSets'} lacks the lists of train and val")
    listed.setdefault("trainval", listed["train"] + listed["val"])
    keys = list(dict.fromkeys(key for split in listed.values() for key in split))
    row_of = {key: row for row, key in enumerate(keys)}
    return keys, {split: np.array([row_of[k] for k in part]) for split, part in listed.items()}


def _listing(root: Path, class_names: Sequence[str], keys: Sequence[Key], *rest, **more) -> Listing:
    files, ids = [f"JPEGImages/{key[0]}.jpg" for key in keys], ["/".join(key) for key in keys]
    return listing_of_files(root, class_names, files, *rest, ids=ids, **more)


def objects_in(root: Path, image: str) -> list[tuple[str, tuple[float, ...], bool]]:
    """What an image shows: class, box as fractions (ymin, xmin, ymax, xmax), whether difficult."""
    path = root / "Annotations" / f"{image}.xml"
    found = []
    try:
        tree = ElementTree.parse(path).getroot()
        height, width = (_number(tree, f"size/{side}") for side in ("height", "width"))
        for each in tree.findall("object"):
            sides = ("ymin", "xmin", "ymax", "xmax")
            edges = np.array([_number(each, f"bndbox/{side}") for side in sides])
            # Pixels are counted from 1, and the last one belongs to the box.
            box = np.clip((edges - [1, 1, 0, 0]) / [height, width, height, width], 0, 1)
            if not (box[2:] > box[:2]).all():
                raise ValueError(f"the box {edges.tolist()} is outside {width:g}x{height:g} pixels")
            found.append((each.findtext("name"), tuple(box), each.findtext("difficult") == "1"))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path} is no annotation with sizes and boxes: {error}") from error
    return found


def _number(element: ElementTree.Element, tag: str) -> float:
    if (text := element.findtext(tag)) is None:
        raise ValueError(f"no {tag}")
    return float(text)


def _person(root: Path, image: str, place: str) -> tuple[float, ...]:
    found = objects_in(root, image)
    if not 1 <= int(place) <= len(found) or found[int(place) - 1][0] != "person":
        raise ValueError(f"object {place} of {image} in {root} is no person")
    return found[int(place) - 1][1]
