"""From the bytes of an image file to its pixels: ordinary JPEGs by simplejpeg, the rest by Pillow.

Both are libjpeg-turbo with the same settings (the accurate integer transform, smooth upsampling of
colour), so the pixels are the same bits whichever decodes, and a machine without simplejpeg reads
the same images, only more slowly. `python -m transfer_jax.bench decode` measures by how much.
"""

import io
import math

import numpy as np
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

_ORDINARY_COLOURS = ("YCbCr", "Gray", "RGB")
_DRAFT_SCALES = (8, 4, 2)


class BrokenImageError(ValueError):
    """The bytes are not an image that can be decoded from beginning to end."""


def decode(encoded: bytes, enough: int | None = None) -> np.ndarray:
    """Decodes an image file.

    Args:
      encoded: the bytes of an image file in any format that Pillow reads. Grey, palette, CMYK and
        transparent images are converted to RGB; the format is told by content, not by name.
      enough: for images that will be made smaller: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its
        size, as long as neither side gets shorter than this many pixels. None: at full size.

    Returns:
      uint8 (h, w, 3).

    Raises:
      BrokenImageError: the bytes are truncated, damaged, or not an image.

    Example:
      >>> decode(Path("photograph.JPEG").read_bytes()).shape
      (375, 500, 3)
    """
    pixels = _by_simplejpeg(encoded, enough)
    return _by_pillow(encoded, enough) if pixels is None else pixels


def open_image(encoded: bytes) -> Image.Image:
    """An image whose header is read and whose pixels are not; BrokenImageError for no image."""
    # Pillow reports damage by many exception types (OSError, SyntaxError, ValueError, zlib.error,
    # DecompressionBombError, ...); nothing but the bytes can be at fault here.
    try:
        return Image.open(io.BytesIO(encoded))
    except Exception as error:
        raise BrokenImageError(_reason(error, encoded)) from error


def load_rgb(image: Image.Image) -> Image.Image:
    """An opened image with its pixels, in RGB; BrokenImageError where they cannot be decoded."""
    try:
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:
        raise BrokenImageError(_reason(error)) from error


def _by_pillow(encoded: bytes, enough: int | None) -> np.ndarray:
    image = open_image(encoded)
    if enough is not None:
        image.draft("RGB", (enough, enough))
    return np.asarray(load_rgb(image))


def _by_simplejpeg(encoded: bytes, enough: int | None) -> np.ndarray | None:
    """The pixels of an ordinary JPEG without a flaw; None for anything that Pillow must judge.

    What is refused, and what is decoded in spite of a flaw, is so Pillow's decision alone.
    """
    if simplejpeg is None or not encoded.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
        # Pillow guards against images that unpack to more than memory holds.
        most = Image.MAX_IMAGE_PIXELS or math.inf
        if colours not in _ORDINARY_COLOURS or height * width > most:
            return None
        if enough is None:
            return simplejpeg.decode_jpeg(encoded, "RGB")
        # simplejpeg decodes at any eighth; asking for exactly the size that Pillow's draft mode
        # would choose gives the same pixels with and without simplejpeg.
        room = min(height, width) // enough
        scale = next((scale for scale in _DRAFT_SCALES if room >= scale), 1)
        least = -(-height // scale), -(-width // scale)
        pixels = simplejpeg.decode_jpeg(encoded, "RGB", min_height=least[0], min_width=least[1])
        return pixels if pixels.shape[:2] == least else None
    except ValueError:
        return None


def _reason(error: Exception, encoded: bytes | None = None) -> str:
    if encoded is not None and not encoded:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not in an image format that is known"
    return str(error) or type(error).__name__
