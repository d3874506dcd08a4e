"""What lies in a folder or archive of images: a listing in a fixed order, before anything is read.

A listing is what `prepare` turns into records. Its order is by class, then by file name, so that
"the first N images of a class" means the same on every machine.
"""

import collections
import dataclasses
import hashlib
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .gif .webp .tif .tiff .ppm .pgm".split())
"""What a file's name must end in, in either case, to count as an image."""

TINY_IMAGENET_PIXELS = 64
"""Tiny-ImageNet's boxes are given in pixels of 64 x 64 images, whatever the images' size is now."""

Box = tuple[float, float, float, float]


class Entry(NamedTuple):
    """One image of a listing."""

    id: str
    """Path relative to the root, with '/'."""
    label: int
    num_bytes: int
    boxes: tuple[Box, ...] = ()
    """(ymin, xmin, ymax, xmax), each in 0 .. 1."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """All images of a dataset, and how to read their bytes.

    Attributes:
      root: where it lies, for messages.
      class_names: in label order.
      splits: the entries of 'train' and of 'val', sorted by (label, id); 'val' may be empty.
      read: takes an entry's id and returns the file's bytes.
      has_boxes: whether entries carry boxes.
    """

    root: str
    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[Entry, ...]]
    read: Callable[[str], bytes]
    has_boxes: bool = False

    def fingerprint(self) -> str:
        """Twelve hex digits that change with the classes, paths, labels and sizes of the files."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for split, entries in self.splits.items():
            for entry in entries:
                line = f"\n{split}\t{entry.id}\t{entry.label}\t{entry.num_bytes}"
                digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:12]


def image_folder(root: str | os.PathLike) -> Listing:
    """Lists `ROOT/train/<class>/*` and `ROOT/val/<class>/*`.

    The classes are the folders under train, sorted by name. Files whose name starts with '.' or
    does not end like an image's are passed over.

    Args:
      root: the folder that holds `train` and `val`.

    Returns:
      The listing; ids are paths relative to `root`.

    Raises:
      FileNotFoundError: `root`, `train` or `val` is missing.
      ValueError: no classes, a class without images, or a class in val that train does not have.
    """
    root = require_folder(root, ("train", "val"))
    class_names = tuple(subfolders(root / "train"))
    if not class_names:
        raise ValueError(f"{root / 'train'} holds no class folders: expected train/<class>/<image>")
    strangers = sorted(set(subfolders(root / "val")) - set(class_names))
    if strangers:
        raise ValueError(
            f"{root / 'val' / strangers[0]} has no counterpart {root / 'train' / strangers[0]}: "
            "val may only hold classes that train holds"
        )
    splits = {
        split: tuple(
            Entry(f"{split}/{name}/{file}", label, num_bytes)
            for label, name in enumerate(class_names)
            for file, num_bytes in images_in(root / split / name)
        )
        for split in ("train", "val")
    }
    return Listing(str(root), class_names, splits, lambda id: (root / id).read_bytes())


def tiny_imagenet_folder(root: str | os.PathLike) -> Listing:
    """Lists an unpacked Tiny-ImageNet.

    The layout is `train/<wnid>/images/*` with `train/<wnid>/<wnid>_boxes.txt`, and `val/images/*`
    with `val/val_annotations.txt`. Images may have any size; the boxes, inclusive pixel positions
    in the 64 x 64 originals, become fractions of the image's sides.

    Args:
      root: the folder that holds `train` and `val`.

    Returns:
      The listing, with boxes; the classes are the wnids in sorted order.

    Raises:
      FileNotFoundError: a folder or a list of annotations is missing.
      ValueError: a class without images, or images and annotations that do not match.
    """
    root = require_folder(root, ("train", "val"))
    sizes: dict[str, int] = {}
    texts: dict[str, str] = {}
    for split_folder in [*(root / "train").iterdir(), root / "val"]:
        if not split_folder.is_dir():
            continue
        prefix = split_folder.relative_to(root).as_posix()
        for text in split_folder.glob("*.txt"):
            texts[f"{prefix}/{text.name}"] = text.read_text()
        for file, num_bytes in images_in(split_folder / "images"):
            sizes[f"{prefix}/images/{file}"] = num_bytes
    return _tiny_imagenet(str(root), sizes, texts, lambda id: (root / id).read_bytes())


def tiny_imagenet_archive(path: str | os.PathLike) -> Listing:
    """Lists a Tiny-ImageNet in its archive, a tar (of any compression) or a zip.

    The archive is read once from beginning to end and its files are kept in memory (about 100 MB
    for 32 x 32 images, 250 MB for the 64 x 64 originals), which is much faster than unpacking
    110,000 small files.

    Args:
      path: the archive. Its files may lie in a common top folder.

    Returns:
      The same listing as `tiny_imagenet_folder` of the unpacked archive.

    Raises:
      ValueError: not an archive, or not one of Tiny-ImageNet.
    """
    files = dict(_members(Path(path)))
    annotations = [name for name in files if name.endswith("val/val_annotations.txt")]
    if not annotations:
        raise ValueError(f"{path} is not an archive of Tiny-ImageNet: no val/val_annotations.txt")
    top = annotations[0].removesuffix("val/val_annotations.txt")
    files = {name.removeprefix(top): data for name, data in files.items() if name.startswith(top)}
    sizes = {name: len(data) for name, data in files.items() if _is_image(name)}
    texts = {
        name: data.decode()
        for name, data in files.items()
        if name.startswith(("train/", "val/")) and name.endswith(".txt")
    }
    return _tiny_imagenet(str(path), sizes, texts, files.__getitem__)


def _tiny_imagenet(
    root: str, sizes: dict[str, int], texts: dict[str, str], read: Callable[[str], bytes]
) -> Listing:
    files_of = collections.defaultdict(list)
    for id in sizes:
        files_of[str(PurePosixPath(id).parent)].append(id)
    wnids = sorted({name.split("/")[1] for name in (*sizes, *texts) if name.startswith("train/")})
    if not wnids:
        raise ValueError(f"{root} holds no classes: expected train/<wnid>/images/<image>")
    train, val = [], []
    for label, wnid in enumerate(wnids):
        ids = sorted(files_of[f"train/{wnid}/images"])
        if not ids:
            raise ValueError(f"{root}: class {wnid} is empty: no image in train/{wnid}/images")
        # The lists of boxes of the training images are optional: the labels do not need them.
        list_name = f"train/{wnid}/{wnid}_boxes.txt"
        boxes = {
            columns[0]: _box(columns[1:])
            for columns in _table(root, list_name, texts.get(list_name, ""), width=5)
        }
        for id in ids:
            box = boxes.get(PurePosixPath(id).name)
            train.append(Entry(id, label, sizes[id], (box,) if box else ()))
    list_name = "val/val_annotations.txt"
    if list_name not in texts:
        raise FileNotFoundError(f"{root} lacks {list_name}, which names the class of each image")
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    for line, columns in enumerate(_table(root, list_name, texts[list_name], width=6), start=1):
        id, wnid = f"val/images/{columns[0]}", columns[1]
        if wnid not in label_of:
            raise ValueError(f"{root}: {list_name}, line {line}: {wnid} is not a class of train")
        if id not in sizes:
            raise ValueError(f"{root}: {list_name}, line {line}: there is no {id}")
        val.append(Entry(id, label_of[wnid], sizes[id], (_box(columns[2:]),)))
    if not val:
        raise ValueError(f"{root}: {list_name} names no image")
    unlabelled = set(files_of["val/images"]) - {entry.id for entry in val}
    if unlabelled:
        raise ValueError(f"{root}: {list_name} does not name the class of {min(unlabelled)}")
    val.sort(key=lambda entry: (entry.label, entry.id))
    splits = {"train": tuple(train), "val": tuple(val)}
    return Listing(root, tuple(wnids), splits, read, has_boxes=True)


def _table(root: str, name: str, text: str, *, width: int) -> Iterator[list[str]]:
    for line, row in enumerate(text.splitlines(), start=1):
        columns = row.split()
        numbers = columns[width - 4 :]
        if len(columns) != width or not all(number.isdecimal() for number in numbers):
            raise ValueError(
                f"{root}: {name}, line {line}: expected {width} columns that end in the four "
                f"pixel positions of a box, got {row!r}"
            )
        yield columns


def _box(columns: Iterable[str]) -> Box:
    x1, y1, x2, y2 = (int(column) for column in columns)
    # Inclusive positions: the pixel that ends the box belongs to it.
    edges = (min(y1, y2), min(x1, x2), max(y1, y2) + 1, max(x1, x2) + 1)
    ymin, xmin, ymax, xmax = (min(edge / TINY_IMAGENET_PIXELS, 1.0) for edge in edges)
    return ymin, xmin, ymax, xmax


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


def require_folder(root: str | os.PathLike, splits: Iterable[str] = ()) -> Path:
    """The folder itself, once it and the splits in it are known to be there."""
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no image folder {root}")
    for split in splits:
        if not (root / split).is_dir():
            raise FileNotFoundError(f"the image folder {root} lacks the split {split}/")
    return root


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are passed over."""
    with os.scandir(folder) as items:
        return sorted(item.name for item in items if item.is_dir() and item.name[0] != ".")


def images_in(folder: Path, *, may_be_empty: bool = False) -> list[tuple[str, int]]:
    """Names and sizes of the images in a class's folder, sorted by name; ValueError for none."""
    if not folder.is_dir():
        raise ValueError(f"class folder {folder} is missing: every class needs images there")
    with os.scandir(folder) as items:
        images = sorted(
            (item.name, item.stat().st_size)
            for item in items
            if _is_image(item.name) and item.is_file()
        )
    if not images and not may_be_empty:
        raise ValueError(f"class folder {folder} is empty: no image in it")
    return images


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
