"""Small trees of image files: class folders, Tiny-ImageNet, ILSVRC2012, VOC."""

import io
import tarfile
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from transfer_jax.data import voc
from transfer_jax.data.splits import ilsvrc_indices


def pixels(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth random picture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encoded(array: np.ndarray, format: str = "JPEG", mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def image_folder(root: Path, *, classes=("cat", "dog", "owl"), train=5, val=2, size=16) -> Path:
    """`root/{train,val}/<class>/<i>.JPEG`, `size` square, every image different."""
    seed = 0
    for split, count in (("train", train), ("val", val)):
        for name in classes:
            for index in range(count):
                seed += 1
                write(root / split / name / f"{index}.JPEG", encoded(pixels(seed, size, size)))
    return root


def tiny_imagenet(root: Path) -> Path:
    """The layout of Tiny-ImageNet; the wnids come unsorted, as in the original."""
    wnids, seed = ("n02", "n01"), 0
    annotations = []
    for wnid in wnids:
        boxes = []
        for index in range(3):
            seed += 1
            name = f"{wnid}_{index}.JPEG"
            write(root / f"train/{wnid}/images/{name}", encoded(pixels(seed, 32, 32)))
            boxes.append(f"{name}\t{index}\t8\t31\t63\n")
        write(root / f"train/{wnid}/{wnid}_boxes.txt", "".join(boxes).encode())
    for index in range(4):
        seed += 1
        write(root / f"val/images/val_{index}.JPEG", encoded(pixels(seed, 32, 32)))
        annotations.append(f"val_{index}.JPEG\t{wnids[index % len(wnids)]}\t0\t0\t31\t63\n")
    write(root / "val/val_annotations.txt", "".join(annotations).encode())
    write(root / "wnids.txt", "\n".join(wnids).encode())
    return root


def archive(root: Path, path: Path, *, top: str = "") -> Path:
    with tarfile.open(path, "w:xz") as file:
        for item in sorted(root.iterdir(), reverse=True):
            file.add(item, top + item.name)
    return path


WNIDS = ("n01440764", "n02105855", "n04074963", "n07930864")
"""In sorted order; not the first four of the 1000."""

VAL = (2, 0, 3, 1, 0, 2, 1, 3)
"""Class of each validation image of `ilsvrc2012`, in the order of their numbers."""

SIZES = ((40, 60), (60, 40), (41, 63), (80, 33), (37, 37))


def ilsvrc2012(root: Path, *, truth: str = "caffe") -> Path:
    """`train/<wnid>/*.JPEG` and flat `val/*.JPEG`; `truth`: devkit, caffe, kaggle or none."""
    for label, wnid in enumerate(WNIDS):
        for index in range(5):
            data = encoded(pixels(100 * label + index, *SIZES[index]))
            write(root / f"train/{wnid}/{wnid}_{index}.JPEG", data)
    for number in range(1, len(VAL) + 1):
        data = encoded(pixels(500 + number, *SIZES[number % len(SIZES)]))
        write(root / f"val/ILSVRC2012_val_{number:08d}.JPEG", data)
    wnids = [WNIDS[label] for label in VAL]
    {"devkit": devkit, "caffe": caffe, "kaggle": kaggle}.get(truth, lambda *_: None)(root, wnids)
    return root


def devkit(place: Path, wnids: list[str]) -> None:
    """The development kit's list, and its table whose numbers follow no order of the wnids."""
    order = np.random.default_rng(0).permutation(sorted(ilsvrc_indices()))
    # As in the original, inner nodes of the tree come after the 1000 classes.
    rows = [*enumerate(map(str, order), start=1), (1001, "n00001740"), (1002, "n00004258")]
    synsets = np.zeros((len(rows), 1), [("ILSVRC2012_ID", object), ("WNID", object)])
    for index, row in enumerate(rows):
        synsets[index, 0] = row
    data = place / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    scipy.io.savemat(data / "meta.mat", {"synsets": synsets})
    number_of = {wnid: number for number, wnid in rows}
    lines = "".join(f"{number_of[wnid]}\n" for wnid in wnids)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)


def caffe(place: Path, wnids: list[str], order: tuple[str, ...] | None = None) -> None:
    """Caffe's list, of places among the 1000 sorted wnids or in another order."""
    order = list(ilsvrc_indices()) if order is None else order
    lines = [f"ILSVRC2012_val_{i:08d}.JPEG {order.index(w)}\n" for i, w in enumerate(wnids, 1)]
    (place / "val.txt").write_text("".join(lines))


def kaggle(place: Path, wnids: list[str]) -> None:
    """Kaggle's list, in another order than the images and with one box or two."""
    lines = [
        f"ILSVRC2012_val_{i:08d},{w} 1 2 30 40 " + (f"{w} 5 6 7 8 " if i % 2 else "")
        for i, w in enumerate(wnids, 1)
    ]
    text = "\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n"
    (place / "LOC_val_solution.csv").write_text(text)


VOC_IMAGES = {
    "train": {
        "2008_000001": [("person", 0), ("dog", 0)],
        "2008_000002": [("chair", 1)],
        "2008_000003": [("person", 1), ("person", 0), ("car", 1)],
    },
    "val": {"2009_000004": [("cat", 0)], "2009_000005": [("cat", 1), ("tvmonitor", 0)]},
    "test": {"2009_000006": [("cow", 0)]},
}
"""For each image its objects: class, and whether it is difficult."""

VOC_SIZES = {"2008_000001": (30, 41), "2008_000002": (25, 20), "2008_000003": (33, 37),
             "2009_000004": (21, 50), "2009_000005": (50, 33), "2009_000006": (30, 30)}  # fmt: skip
"""Height and width."""

VOC_PEOPLE = {
    "train": {
        ("2008_000001", 1): {"running": 1, "phoning": 0},
        ("2008_000003", 2): {"walking": 1, "phoning": 1},
    },
    "val": {("2008_000003", 1): {"reading": 1}},
}
"""For each person, an object's place counted from 1, what the lists say other than -1."""


def voc_box(place: int) -> tuple[int, int, int, int]:
    """(xmin, ymin, xmax, ymax) of an object, pixels counted from 1, the last one included."""
    return 3 + place, 5, 12 + 2 * place, 20


def voc_folder(root: Path) -> Path:
    """`root/VOC2012` with images, annotations and the lists of both tasks."""
    home = root / "VOC2012"
    for split, images in VOC_IMAGES.items():
        for name, objects in images.items():
            height, width = VOC_SIZES[name]
            data = encoded(pixels(int(name[-1]), height, width))
            write(home / "JPEGImages" / f"{name}.jpg", data)
            text = "".join(_voc_object(place, *item) for place, item in enumerate(objects, 1))
            size = f"<size><width>{width}</width><height>{height}</height></size>"
            text = f"<annotation>{size}{text}</annotation>"
            write(home / "Annotations" / f"{name}.xml", text.encode())
        write(home / f"ImageSets/Main/{split}.txt", "".join(f"{n}\n" for n in images).encode())
        for action in voc.ACTIONS if split in VOC_PEOPLE else ():
            lines = [
                f"{name}  {place} {said.get(action, -1):2d}\n"
                for (name, place), said in VOC_PEOPLE[split].items()
            ]
            write(home / f"ImageSets/Action/{action}_{split}.txt", "".join(lines).encode())
    return root


def _voc_object(place: int, name: str, difficult: int) -> str:
    edges = zip(("xmin", "ymin", "xmax", "ymax"), voc_box(place), strict=True)
    inner = "".join(f"<{edge}>{value}.0</{edge}>" for edge, value in edges)
    # A part of a person has a box of its own.
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{inner}</bndbox>{part}</object>"
    )
