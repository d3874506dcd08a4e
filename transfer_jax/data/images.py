"""Encoded images: from bytes to RGB pixels, and from any image to the bytes of a square one."""

import io

import numpy as np
from PIL import Image

from transfer_jax.data.decoding import BrokenImageError, decode, load_rgb, open_image

__all__ = [
    "FITS",
    "LARGEST_PNG",
    "BrokenImageError",
    "central_square",
    "decode_rgb",
    "resized",
    "size_name",
    "to_square",
]

LARGEST_PNG = 64
"""Images up to this side length are re-encoded as PNG, larger ones as JPEG."""

FITS = ("squash", "centre")
"""How an image becomes a square: 'squash' resizes the whole of it and does not keep its aspect
ratio, as Caffe's preparation of ILSVRC2012 does, which Yosinski et al. 2014 trained on; 'centre'
resizes its short side and cuts out the central square, as Krizhevsky et al. 2012 (section 2) and
Zeiler & Fergus 2013 (section 3.1) do."""


def decode_rgb(encoded: bytes, image_size: int | None = None, fit: str = "squash") -> np.ndarray:
    """Decodes an image file.

    Args:
      encoded: the bytes of an image file in any format that Pillow reads. Grey, palette, CMYK and
        transparent images are converted to RGB; the format is told by content, not by name.
      image_size: side length in pixels of the square that the image is made, or None to leave it
        as it is.
      fit: one of `FITS`.

    Returns:
      uint8 (h, w, 3).

    Raises:
      BrokenImageError: the bytes are truncated, damaged, or not an image.
    """
    if image_size is None:
        return decode(encoded)
    return np.asarray(_square(encoded, image_size, fit))


def to_square(encoded: bytes, image_size: int, fit: str = "squash") -> bytes:
    """An image file made square, whatever its shape was.

    An RGB image in JPEG or PNG that already has the right size is passed through untouched (after
    decoding it once, to know that it can be).

    Args:
      encoded: the bytes of an image file in any format that Pillow reads.
      image_size: side length of the result in pixels.
      fit: one of `FITS`.

    Returns:
      The bytes of an RGB image file, image_size x image_size: PNG up to `LARGEST_PNG` pixels,
      else JPEG.

    Raises:
      BrokenImageError: the bytes are truncated, damaged, or not an image.
    """
    size = (image_size, image_size)
    image = open_image(encoded)
    if image.size == size and image.mode == "RGB" and image.format in ("JPEG", "PNG"):
        load_rgb(image)
        return encoded
    image = _square(encoded, image_size, fit)
    buffer = io.BytesIO()
    if image_size <= LARGEST_PNG:
        # A small image costs little even without loss, and each of its pixels matters.
        image.save(buffer, "PNG")
    else:
        # At quality 95 with full colour resolution the error is below what resizing changes,
        # at about a fifth of the size of a PNG: 40 kB at 256 x 256, 50 GB for all of ILSVRC2012.
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def size_name(image_size: int, fit: str) -> str:
    """What names of datasets and files say of a size and a fit: '256px' or '256px_centre'."""
    return f"{image_size}px" + ("" if fit == "squash" else f"_{fit}")


def central_square(width: float, height: float) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest square in the middle of an image, in pixels.

    Edges may lie between two pixels, where the long side exceeds the short one by an odd number.
    """
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _square(encoded: bytes, image_size: int, fit: str) -> Image.Image:
    # libjpeg can leave out the frequencies that the small image will not hold; twice the wanted
    # size leaves the filter enough to work on and decodes large photographs several times faster.
    return resized(Image.fromarray(decode(encoded, 2 * image_size)), image_size, fit)


def resized(image: Image.Image, image_size: int, fit: str = "squash") -> Image.Image:
    """A decoded image made square: `image_size` on each side, `fit` one of `FITS`."""
    size = (image_size, image_size)
    if image.size == size:
        return image
    # The filter reaches over the edges of the box: the same pixels as in a resized whole image
    # whose middle is then cut out.
    box = central_square(*image.size) if fit == "centre" else None
    return image.resize(size, Image.Resampling.LANCZOS, box)
