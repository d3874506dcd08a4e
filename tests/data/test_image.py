"""One set of pixels, whichever library decodes; what is refused; squares of any image."""

import io
from unittest import mock

import numpy as np
import pytest
import simplejpeg
from PIL import Image, features

from tests.data import image_trees
from transfer_jax.data import image


def photograph(height=150, width=201):
    """Smooth areas with noise on top: every coefficient of the transform is in use."""
    noise = np.random.default_rng(0).normal(0, 25, (height, width, 3))
    return np.clip(image_trees.pixels(0, height, width) + noise, 0, 255).astype(np.uint8)


def pillow(data, enough=None):
    """The pixels by Pillow alone."""
    opened = Image.open(io.BytesIO(data))
    if enough is not None:
        opened.draft("RGB", (enough, enough))
    return np.asarray(opened.convert("RGB"))


@pytest.fixture
def fast(monkeypatch):
    """Counts images that simplejpeg decodes."""
    counting = mock.Mock(wraps=simplejpeg.decode_jpeg)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", counting)
    return counting


@pytest.mark.skipif(not features.check_feature("libjpeg_turbo"), reason="another libjpeg")
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 75},
        {"quality": 30, "subsampling": "4:2:2"},
        {"quality": 98, "progressive": True},
        {"quality": 90, "mode": "L"},
        {"quality": 100, "keep_rgb": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("enough", [None, 16, 37, 75, 400])
def test_pixels_are_the_same_bits_as_pillows(options, enough, fast):
    data = image_trees.encoded(photograph(), **options)
    one = image.decode(data, enough)
    assert fast.call_count == 1
    np.testing.assert_array_equal(one, pillow(data, enough))
    # 150 x 201 pixels: 1/8 leaves 18 rows, 1/4 leaves 37, 1/2 leaves 75.
    scale = {None: 1, 16: 8, 37: 4, 75: 2, 400: 1}[enough]
    assert one.shape == (-(-150 // scale), -(-201 // scale), 3)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_truncated_files_are_refused(mode):
    data = image_trees.encoded(photograph(), quality=80, mode=mode)
    for end in np.linspace(0, len(data) - 40, 30).astype(int).tolist():
        with pytest.raises(image.BrokenImageError):
            image.decode(data[:end])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "CMYK"}], ids=str)
def test_jpegs_damaged_in_their_middle(options):
    """Most that have lost bytes or got others are refused; the rest is decoded as by Pillow."""
    whole = image_trees.encoded(photograph(60, 80), quality=60, **options)
    random, refused = np.random.default_rng(0), {"lost": 0, "others": 0}
    for _ in range(100):
        place = random.integers(len(whole) // 3, len(whole) - 60)
        for kind, bytes_there in (("lost", b""), ("others", random.bytes(50))):
            data = whole[:place] + bytes_there + whole[place + 50 :]
            try:
                np.testing.assert_array_equal(image.decode(data), pillow(data))
            except image.BrokenImageError:
                refused[kind] += 1
    assert min(refused.values()) >= 30  # Pillow: none


def test_checksums_of_a_png_are_checked():
    whole = image_trees.encoded(photograph(60, 80), "PNG")
    for place in np.random.default_rng(0).integers(0, len(whole), 100):
        data = bytearray(whole)
        data[place] ^= 8
        with pytest.raises(image.BrokenImageError):
            image.to_square(bytes(data), None)


GREY = np.linspace(0, 65535, 35 * 30).reshape(35, 30)


@pytest.mark.parametrize(
    ("array", "format"),
    [
        (GREY.astype(np.uint16), "PNG"),
        (GREY.astype(np.uint16), "TIFF"),
        (GREY.astype(np.int32), "TIFF"),
        ((GREY / 65535).astype(np.float32), "TIFF"),
    ],
)
def test_more_than_eight_bits_are_scaled(array, format):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format)
    found = image.decode(buffer.getvalue())
    assert found.dtype == np.uint8 and found.shape == (35, 30, 3)
    assert np.abs(found - (GREY / 257)[..., None]).max() <= 0.51
    buffer = io.BytesIO()
    Image.fromarray(array.astype(np.float32) * 1000).save(buffer, "TIFF")
    with pytest.raises(image.BrokenImageError, match="0 to 1 are expected"):
        image.decode(buffer.getvalue())


def test_bytes_that_need_no_change_are_passed_through():
    for format in ("JPEG", "PNG"):
        data = image_trees.encoded(image_trees.pixels(0, 32, 32), format)
        assert image.to_square(data, 32) is data
    grey = image_trees.encoded(image_trees.pixels(0, 32, 40), "BMP", "L")
    assert image.to_square(grey, None) is grey
    with pytest.raises(image.BrokenImageError):
        image.to_square(data[:-50], None)


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P", "RGBA"])
def test_other_colour_models_become_rgb(mode):
    format = {"L": "JPEG", "CMYK": "JPEG", "P": "GIF"}.get(mode, "PNG")
    data = image_trees.encoded(image_trees.pixels(1, 32, 32), format, mode)
    result = image.to_square(data, 32)
    reopened = Image.open(io.BytesIO(result))
    assert (reopened.mode, reopened.size, reopened.format) == ("RGB", (32, 32), "PNG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(image.decode_rgb(result), expected)


def by_hand(array, width, height, box):
    """The whole image resized, then a part of it cut out: no library's idea of fitting."""
    whole = Image.fromarray(array).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(whole)[box[1] : box[3], box[0] : box[2]]


def test_squash_resizes_the_whole_and_centre_the_middle():
    landscape, portrait = image_trees.pixels(11, 40, 60), image_trees.pixels(12, 60, 40)
    for array, size, box in [
        (landscape, (36, 24), (6, 0, 30, 24)),
        (portrait, (24, 36), (0, 6, 24, 30)),
    ]:
        data = image_trees.encoded(array, "PNG")
        found = image.decode_rgb(data, 24, "centre").astype(int)
        # Pillow may resize columns before rows or after, which rounds otherwise.
        assert np.abs(found - by_hand(array, *size, box)).max() <= 1
        np.testing.assert_array_equal(
            image.decode_rgb(image.to_square(data, 24, "centre")), found.astype(np.uint8)
        )
        squashed = image.decode_rgb(data, 24)
        np.testing.assert_array_equal(squashed, by_hand(array, 24, 24, (0, 0, 24, 24)))


def test_large_squares_are_nearly_lossless():
    data = image_trees.encoded(image_trees.pixels(3, 50, 80), "BMP")
    large = image.to_square(data, 65)
    assert Image.open(io.BytesIO(large)).format == "JPEG"
    plain = Image.fromarray(image.decode_rgb(data)).resize((65, 65), Image.Resampling.LANCZOS)
    error = image.decode_rgb(large).astype(float) - np.asarray(plain)
    assert np.sqrt((error**2).mean()) < 2
