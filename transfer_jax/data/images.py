"""Encoded images: from bytes to RGB pixels, and from any image to the bytes of a square one."""

import io

import numpy as np
from PIL import Image

LARGEST_PNG = 64
"""Images up to this side length are re-encoded as PNG, larger ones as JPEG."""


class BrokenImageError(ValueError):
    """The bytes are not an image that can be decoded from beginning to end."""


def decode_rgb(encoded: bytes, image_size: int | None = None) -> np.ndarray:
    """Decodes an image file.

    Args:
      encoded: the bytes of an image file in any format that Pillow reads. Grey, palette, CMYK and
        transparent images are converted to RGB; the format is told by content, not by name.
      image_size: side length in pixels to squash the image to, or None to leave it as it is.

    Returns:
      uint8 (h, w, 3).

    Raises:
      BrokenImageError: the bytes are truncated, damaged, or not an image.
    """
    image = _open(encoded)
    return np.asarray(_load_rgb(image) if image_size is None else _resized(image, image_size))


def squash(encoded: bytes, image_size: int) -> bytes:
    """An image file resized to a square, whatever its shape was.

    The aspect ratio is not kept, as in the preparation of ILSVRC2012 for Caffe that Yosinski et
    al. 2014 trained on. An RGB image in JPEG or PNG that already has the right size is passed
    through untouched (after decoding it once, to know that it can be).

    Args:
      encoded: the bytes of an image file in any format that Pillow reads.
      image_size: side length of the result in pixels.

    Returns:
      The bytes of an RGB image file, image_size x image_size: PNG up to `LARGEST_PNG` pixels,
      else JPEG.

    Raises:
      BrokenImageError: the bytes are truncated, damaged, or not an image.
    """
    size = (image_size, image_size)
    image = _open(encoded)
    if image.size == size and image.mode == "RGB" and image.format in ("JPEG", "PNG"):
        _load_rgb(image)
        return encoded
    image = _resized(image, image_size)
    buffer = io.BytesIO()
    if image_size <= LARGEST_PNG:
        # A small image costs little even without loss, and each of its pixels matters.
        image.save(buffer, "PNG")
    else:
        # At quality 95 with full colour resolution the error is below what resizing changes,
        # at about a fifth of the size of a PNG: 40 kB at 256 x 256, 50 GB for all of ILSVRC2012.
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _resized(image: Image.Image, image_size: int) -> Image.Image:
    # libjpeg can leave out the frequencies that the small image will not hold; twice the wanted
    # size leaves the filter enough to work on and decodes large photographs several times faster.
    image.draft("RGB", (2 * image_size, 2 * image_size))
    image, size = _load_rgb(image), (image_size, image_size)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _open(encoded: bytes) -> Image.Image:
    # Pillow reports damage by many exception types (OSError, SyntaxError, ValueError, zlib.error,
    # DecompressionBombError, ...); nothing but the bytes can be at fault here.
    try:
        return Image.open(io.BytesIO(encoded))
    except Exception as error:
        raise BrokenImageError(_reason(error, encoded)) from error


def _load_rgb(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:
        raise BrokenImageError(_reason(error)) from error


def _reason(error: Exception, encoded: bytes | None = None) -> str:
    if encoded is not None and not encoded:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not in an image format that is known"
    return str(error) or type(error).__name__
