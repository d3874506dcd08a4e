"""Listings of class folders without splits, and of SUN397, whose splits are lists."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from transfer_jax.data.listings import Entry, Listing, images_in, require_folder, subfolders


def class_folder(root: str | os.PathLike) -> Listing:
    """Lists a folder of class folders without splits, as Caltech-101, Caltech-256 and SUN397 are.

    Every folder that holds images is a class, at whatever depth; its name is its path from `root`:
    '001.ak47', 'a/abbey'. All images are in 'train' and 'val' is empty: training and test sets are
    drawn from them, see `folds.fold_dataset`. Files are passed over as by `image_folder`, and so
    are images in `root` itself and folders inside a class.

    Args:
      root: the folder that holds the class folders.

    Returns:
      The listing; ids are paths relative to `root`.

    Raises:
      FileNotFoundError: `root` is missing.
      ValueError: no classes, a class without images, or a folder that has splits.
    """
    root = require_folder(root)
    if {"train", "val"} <= set(subfolders(root)):
        raise ValueError(
            f"{root} holds the splits train and val, not class folders: open it as kind 'folder'"
        )
    classes = sorted(_classes(root, root))
    if not classes:
        raise ValueError(f"{root} holds no class folders: expected <class>/<image>")
    entries = tuple(
        Entry(f"{name}/{file}", label, num_bytes)
        for label, (name, images) in enumerate(classes)
        for file, num_bytes in images
    )
    class_names = tuple(name for name, _ in classes)
    splits = {"train": entries, "val": ()}
    return Listing(str(root), class_names, splits, lambda id: (root / id).read_bytes())


def sun397_folder(root: str | os.PathLike, partition: int) -> Listing:
    """Lists one of the ten partitions of SUN397: 50 training and 50 test images a class.

    Args:
      root: the folder `SUN397`, with its class folders (`a/abbey/*.jpg`) and, from the archive of
        partitions, `Training_01.txt` .. `Testing_10.txt`, whose lines are like
        '/a/abbey/sun_aaalbzqrimafwbiv.jpg'.
      partition: 1 .. 10.

    Returns:
      The listing: 'train' as the one list says, 'val' as the other; ids are paths relative to
      `root`, classes are named like 'a/abbey' and sorted.

    Raises:
      FileNotFoundError: `root`, a list, or an image that it names is missing.
      ValueError: a list is empty, or the second names a class that the first does not.
    """
    root = require_folder(root)
    ids = {}
    for split, stem in (("train", "Training"), ("val", "Testing")):
        path = root / f"{stem}_{partition:02d}.txt"
        if not path.exists():
            raise FileNotFoundError(
                f"{root} lacks {path.name}, from SUN397's archive of partitions"
            )
        ids[split] = [line.strip().lstrip("/") for line in path.read_text().splitlines()]
        ids[split] = sorted(id for id in ids[split] if id)
        if not ids[split]:
            raise ValueError(f"{path} names no image")
    class_names = tuple(sorted({str(PurePosixPath(id).parent) for id in ids["train"]}))
    label_of = {name: label for label, name in enumerate(class_names)}
    splits = {}
    for split, listed in ids.items():
        entries = []
        for id in listed:
            name = str(PurePosixPath(id).parent)
            if name not in label_of:
                raise ValueError(f"{root}: class {name} of partition {partition} is never trained")
            if not (root / id).is_file():
                raise FileNotFoundError(f"{root}: partition {partition} names {id}: no such file")
            entries.append(Entry(id, label_of[name], (root / id).stat().st_size))
        splits[split] = tuple(sorted(entries, key=lambda entry: (entry.label, entry.id)))
    return Listing(str(root), class_names, splits, lambda id: (root / id).read_bytes())


def _classes(folder: Path, root: Path) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    for name in subfolders(folder):
        below = folder / name
        images = images_in(below, may_be_empty=True)
        if not images and subfolders(below):
            yield from _classes(below, root)
        else:
            yield below.relative_to(root).as_posix(), images or images_in(below)
