"""From the bytes of an image file to its pixels, and from any image to a square one.

Ordinary JPEGs are decoded by simplejpeg, the rest by Pillow. Both are libjpeg-turbo with the same
settings (the accurate integer transform, smooth upsampling of colour), so the pixels are the same
bits whichever decodes. simplejpeg alone tells of damage in the middle of a JPEG, where codes do not
end as they should: in 33 of 200 photographs with a flipped bit, in 122 with three other bytes, in
144 that had lost 100 (Pillow: 1, 2, 0). PNG has checksums; JPEG, BMP, GIF, TIFF and WebP have none.
"""

import contextlib
import io
import math
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image

FITS = ("squash", "centre")
"""How an image becomes a square: 'squash' resizes the whole of it and does not keep its aspect
ratio, as Caffe's preparation of ILSVRC2012 does, which Yosinski et al. 2014 trained on; 'centre'
resizes its short side and cuts out the central square, as Krizhevsky et al. 2012 (section 2) and
Zeiler & Fergus 2013 (section 3.1) do."""

_LARGEST_PNG = 64  # pixels; larger squares are stored as JPEG
_DRAFT_SCALES = (8, 4, 2)


class BrokenImageError(ValueError):
    """The bytes are not an image that can be decoded from beginning to end."""


def decode_rgb(encoded: bytes, image_size: int | None = None, fit: str = "squash") -> np.ndarray:
    """Decodes an image file, uint8 (h, w, 3).

    Grey, palette, CMYK and transparent images are converted to RGB, 16-bit integers (0 .. 65535)
    and floats (0 .. 1) to bytes; the format is told by content, not by name. With an `image_size`
    the image becomes a square of that side, `fit` one of `FITS`. BrokenImageError where the bytes
    are truncated, damaged, or not an image.
    """
    if image_size is None:
        return decode(encoded)
    # libjpeg can leave out the frequencies that the small image will not hold; twice the wanted
    # size leaves the filter enough to work on and decodes large photographs several times faster.
    image = Image.fromarray(decode(encoded, 2 * image_size))
    return np.asarray(resized(image, image_size, fit))


def to_square(encoded: bytes, image_size: int | None, fit: str = "squash") -> bytes:
    """An image file made square: PNG up to 64 pixels, where each of them matters, else JPEG.

    With image_size None, and where it is an RGB JPEG or PNG of the right size, the file is passed
    through untouched, after decoding it once to know that it can be (else BrokenImageError).
    """
    image = _open(encoded)
    with _breaking():
        image.verify()  # the checksums of a PNG
    kept = image.size == (image_size,) * 2 and image.mode == "RGB"
    if image_size is None or (kept and image.format in ("JPEG", "PNG")):
        decode(encoded)
        return encoded
    # At quality 95 with full colour resolution the error of a JPEG is below what resizing changes,
    # at about a fifth of the size of a PNG: 40 kB at 256 x 256, 50 GB for all of ILSVRC2012.
    jpeg = {"format": "JPEG", "quality": 95, "subsampling": 0}
    buffer = io.BytesIO()
    image = Image.fromarray(decode_rgb(encoded, image_size, fit))
    image.save(buffer, **({"format": "PNG"} if image_size <= _LARGEST_PNG else jpeg))
    return buffer.getvalue()


def resized(image: Image.Image, image_size: int, fit: str = "squash") -> Image.Image:
    """A decoded image made square by Lanczos's filter, `fit` one of `FITS`."""
    size = (image_size, image_size)
    if image.size == size:
        return image
    box = None
    if fit == "centre":
        # The filter reaches over the edges of the box: the same pixels as in a resized whole image
        # whose middle is then cut out. Edges may lie between two pixels.
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = left, top, left + side, top + side
    return image.resize(size, Image.Resampling.LANCZOS, box)


def size_name(image_size: int | None, fit: str = "squash") -> str:
    """What names of datasets say of a size and a fit: '256px', '256px_centre' or 'original'."""
    if image_size is None:
        return "original"
    return f"{image_size}px" + ("" if fit == "squash" else f"_{fit}")


def decode(encoded: bytes, enough: int | None = None) -> np.ndarray:
    """Decodes an image file, uint8 (h, w, 3); BrokenImageError where that is not possible.

    With `enough`, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as neither side
    gets shorter than this many pixels.
    """
    pixels = _by_simplejpeg(encoded, enough)
    return _by_pillow(encoded, enough) if pixels is None else pixels


def _by_pillow(encoded: bytes, enough: int | None) -> np.ndarray:
    image = _open(encoded)
    with _breaking():
        if enough is not None:
            image.draft("RGB", (enough, enough))
        image.load()
        if image.mode[0] not in "IF":
            return np.asarray(image.convert("RGB"))
        # 'I;16', 'I', 'F': Pillow would make everything above 255 white.
        grey, white = np.asarray(image, np.float64), 1 if image.mode == "F" else 65535
        if not (grey.min() >= 0 and grey.max() <= white):
            raise BrokenImageError(
                f"values of {grey.min():g} to {grey.max():g} where 0 to {white} are expected"
            )
        return np.repeat(np.round(grey[..., None] * (255 / white)).astype(np.uint8), 3, axis=2)


@contextlib.contextmanager
def _breaking() -> Iterator[None]:
    # Pillow reports damage by many exception types (OSError, SyntaxError, ValueError, zlib.error,
    # DecompressionBombError, ...); nothing but the bytes can be at fault here.
    try:
        yield
    except Image.UnidentifiedImageError as error:
        raise BrokenImageError("it is in no format that is known") from error
    except Exception as error:
        raise BrokenImageError(str(error) or type(error).__name__) from error


def _open(encoded: bytes) -> Image.Image:
    with _breaking():
        return Image.open(io.BytesIO(encoded))


def _by_simplejpeg(encoded: bytes, enough: int | None) -> np.ndarray | None:
    """The pixels of an ordinary JPEG without a flaw; None for anything that Pillow must judge."""
    if not encoded.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
        # Pillow guards against images that unpack to more than memory holds.
        most = Image.MAX_IMAGE_PIXELS or math.inf
        if height * width > most:
            return None
        if colours not in ("YCbCr", "Gray", "RGB"):
            simplejpeg.decode_jpeg(encoded, "CMYK")
            return None
        if enough is None:
            return simplejpeg.decode_jpeg(encoded, "RGB")
        # simplejpeg decodes at any eighth; asking for exactly the size that Pillow's draft mode
        # would choose gives the same pixels.
        room = min(height, width) // enough
        scale = next((scale for scale in _DRAFT_SCALES if room >= scale), 1)
        least = -(-height // scale), -(-width // scale)
        pixels = simplejpeg.decode_jpeg(encoded, "RGB", min_height=least[0], min_width=least[1])
        return pixels if pixels.shape[:2] == least else None
    except ValueError as error:
        if "Corrupt" in str(error):  # libjpeg's words for codes that make no sense
            raise BrokenImageError(str(error)) from error
        return None
