"""Small trees of image files for the tests."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth random picture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encoded(array: np.ndarray, format: str = "JPEG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).convert(mode).save(buffer, format)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def image_folder(
    root: Path, *, classes=("cat", "dog", "owl"), train=5, val=2, size=16, seed=0
) -> Path:
    """`root/{train,val}/<class>/<i>.JPEG`, `size` square, every image different."""
    for split, count in (("train", train), ("val", val)):
        for name in classes:
            for index in range(count):
                seed += 1
                write(root / split / name / f"{index}.JPEG", encoded(pixels(seed, size, size)))
    return root


def tiny_imagenet(root: Path, *, wnids=("n02", "n01"), train=3, val=2, size=32) -> Path:
    """The layout of Tiny-ImageNet; the wnids come unsorted, as in the original."""
    seed = 0
    annotations = []
    for wnid in wnids:
        boxes = []
        for index in range(train):
            seed += 1
            name = f"{wnid}_{index}.JPEG"
            write(root / f"train/{wnid}/images/{name}", encoded(pixels(seed, size, size)))
            boxes.append(f"{name}\t{index}\t8\t31\t63\n")
        write(root / f"train/{wnid}/{wnid}_boxes.txt", "".join(boxes).encode())
    for index in range(val * len(wnids)):
        seed += 1
        write(root / f"val/images/val_{index}.JPEG", encoded(pixels(seed, size, size)))
        annotations.append(f"val_{index}.JPEG\t{wnids[index % len(wnids)]}\t0\t0\t31\t63\n")
    write(root / "val/val_annotations.txt", "".join(annotations).encode())
    write(root / "wnids.txt", "\n".join(wnids).encode())
    write(root / "words.txt", b"".join(b"%s\tthing\n" % wnid.encode() for wnid in wnids))
    return root


def archive(root: Path, path: Path, *, top: str = "") -> Path:
    with tarfile.open(path, "w:xz") as file:
        for item in sorted(root.iterdir(), reverse=True):
            file.add(item, top + item.name)
    return path
