"""Photographs of ILSVRC's usual size, made from two, and what decodes and resizes them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.images import decode_rgb
from transfer_jax.data.sources import DatasetSpec, open_dataset

MEAN_BYTES = 110_000
"""What a training image of ILSVRC2012 takes: 138 GB in 1.28 million files."""

Decoder = Callable[[bytes], np.ndarray]
Resizer = Callable[[np.ndarray], np.ndarray]


def photographs(count: int) -> list[bytes]:
    """JPEG files of ILSVRC's usual size: 500 x 375 and `MEAN_BYTES` on average.

    They are random sections of scikit-learn's two sample photographs, mirrored or not, resized to
    375 .. 625 pixels of width, all at the one JPEG quality that gives the wanted mean.

    Args:
      count: how many; the same ones in every run.
    """
    from sklearn.datasets import load_sample_images

    originals = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    random = np.random.default_rng(0)
    # Evenly spread, so that the mean is right for few photographs too.
    widths = random.permutation(np.linspace(375, 625, count)).round().astype(int).tolist()
    sections = [_section(originals[i % 2], width, random) for i, width in enumerate(widths)]
    sample = sections[:16]
    quality = min(
        range(60, 101), key=lambda quality: abs(_mean_bytes(sample, quality) - MEAN_BYTES)
    )
    return [_jpeg(section, quality) for section in sections]


@contextlib.contextmanager
def written(files: Sequence[bytes], size: int) -> Iterator[tuple[list[Path], Dataset]]:
    """Writes files to a temporary folder and prepares a dataset of one class from them.

    Args:
      files: JPEGs.
      size: side length of the records' images.

    Yields:
      The paths of the files, and the dataset; both are gone afterwards.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "photographs")
        paths = [root / "train" / "all" / f"{number:05}.JPEG" for number in range(len(files))]
        other = root / "val" / "all" / "0.JPEG"
        for path, encoded in zip([*paths, other], [*files, files[0]], strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded)
        spec = DatasetSpec("folder", path=str(root), image_size=size)
        yield paths, open_dataset(spec, Path(folder, "prepared"), progress=False)


def _section(photograph: Image.Image, width: int, random: np.random.Generator) -> Image.Image:
    height = round(0.75 * width)
    share = random.uniform(0.75, 1.0)
    tall = share * photograph.height
    wide = min(photograph.width, tall * width / height)
    left = random.uniform(0, photograph.width - wide)
    top = random.uniform(0, photograph.height - tall)
    section = photograph.resize(
        (width, height), Image.Resampling.BICUBIC, (left, top, left + wide, top + tall)
    )
    mirrored = random.random() < 0.5
    return section.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else section


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _mean_bytes(images: list[Image.Image], quality: int) -> float:
    return float(np.mean([len(_jpeg(image, quality)) for image in images]))


def decoders(size: int) -> tuple[dict[str, Decoder], list[str]]:
    """What turns a file into pixels, at full size or not below `size`, and what is not here.

    Returns:
      name -> function from the bytes of a JPEG to uint8 (h, w, 3) in RGB; and one sentence for
      each library that cannot be used.
    """
    found: dict[str, Decoder] = {
        "Pillow": lambda encoded: np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")),
        "Pillow, draft mode": lambda encoded: _draft(encoded, size),
    }
    missing = []
    if importlib.util.find_spec("simplejpeg"):
        from simplejpeg import decode_jpeg

        found["simplejpeg"] = lambda encoded: decode_jpeg(encoded, "RGB")
        found["simplejpeg, scaled"] = lambda encoded: decode_jpeg(
            encoded, "RGB", min_height=size, min_width=size
        )
    else:
        missing.append("simplejpeg is not installed.")
    turbo, reason = _turbojpeg()
    if turbo is None:
        missing.append(f"PyTurboJPEG was not measured: {reason}.")
    else:
        import turbojpeg

        found["PyTurboJPEG"] = lambda encoded: turbo.decode(
            encoded, pixel_format=turbojpeg.TJPF_RGB
        )
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
        found["OpenCV"] = lambda encoded: cv2.imdecode(
            np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB
        )
        found["OpenCV, reduced"] = lambda encoded: _opencv_reduced(encoded, size)
    else:
        missing.append("OpenCV is not installed.")
    return found, missing


def resizers(size: int) -> dict[str, Resizer]:
    """What turns pixels of any size into uint8 (size, size, 3), by name.

    Those of Pillow average over all pixels that a new one covers, as OpenCV's area does; OpenCV's
    linear looks at four pixels and leaves out what lies between.
    """
    found: dict[str, Resizer] = {
        "Pillow LANCZOS": lambda pixels: pillow_resize(pixels, size, Image.Resampling.LANCZOS),
        "Pillow LANCZOS, reducing_gap 2": lambda pixels: np.asarray(
            Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
        ),
        "Pillow bilinear": lambda pixels: pillow_resize(pixels, size, Image.Resampling.BILINEAR),
    }
    if importlib.util.find_spec("cv2"):
        import cv2

        found["OpenCV area"] = lambda pixels: cv2.resize(
            pixels, (size, size), interpolation=cv2.INTER_AREA
        )
        found["OpenCV linear"] = lambda pixels: cv2.resize(
            pixels, (size, size), interpolation=cv2.INTER_LINEAR
        )
    return found


def pillow_resize(pixels: np.ndarray, size: int, resample: Image.Resampling) -> np.ndarray:
    """uint8 (size, size, 3), as torchvision's Resize does it for the images of Pillow."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), resample))


def pairs(size: int) -> list[tuple[str, str]]:
    """The decoders and resizers that are worth a contest, by their names.

    Modes that leave images of this size as they are meet one resizer only, and so does Pillow's
    reducing gap, which first averages whole pixels where an image is many times too large.
    """
    modes = ("Pillow, draft mode", "OpenCV, reduced")
    plain = [name for name in resizers(size) if "gap" not in name]
    found = [(decoder, name) for decoder in decoders(size)[0] for name in plain]
    found = [pair for pair in found if pair[0] not in modes or pair[1] == plain[0]]
    return [*found, ("Pillow", "Pillow LANCZOS, reducing_gap 2")]


def package(size: int) -> Decoder:
    """The package's own way from a file to uint8 (size, size, 3)."""
    return lambda encoded: decode_rgb(encoded, size)


def versions() -> str:
    """Of the libraries that take part."""
    names = ("pillow", "simplejpeg", "PyTurboJPEG", "opencv-python-headless", "grain", "torch")
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "decoders and loaders: " + ", ".join(found)


def _draft(encoded: bytes, size: int) -> np.ndarray:
    image = Image.open(io.BytesIO(encoded))
    image.draft("RGB", (size, size))
    return np.asarray(image.convert("RGB"))


def _opencv_reduced(encoded: bytes, size: int) -> np.ndarray:
    import cv2

    # Asked for by a flag, and never checked against a size: one that is too small would be
    # enlarged again.
    side = min(Image.open(io.BytesIO(encoded)).size)
    flags = (
        (8, cv2.IMREAD_REDUCED_COLOR_8),
        (4, cv2.IMREAD_REDUCED_COLOR_4),
        (2, cv2.IMREAD_REDUCED_COLOR_2),
    )
    flag = next((flag for scale, flag in flags if side // scale >= size), None)
    buffer = np.frombuffer(encoded, np.uint8)
    if flag is None:
        return cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    return cv2.cvtColor(cv2.imdecode(buffer, flag), cv2.COLOR_BGR2RGB)


def _turbojpeg():
    if not importlib.util.find_spec("turbojpeg"):
        return None, "it is not installed"
    import turbojpeg

    try:
        return turbojpeg.TurboJPEG(), None
    except (RuntimeError, OSError):
        return None, "its library libturbojpeg is not on this machine"
