"""One set of pixels and one set of refusals, whichever library decodes."""

import io

import image_trees
import numpy as np
import pytest
from PIL import Image, features

from transfer_jax.data import decoding, images

simplejpeg = pytest.importorskip("simplejpeg")


def photograph(height=150, width=201, seed=0):
    """Smooth areas with noise on top: every coefficient of the transform is in use."""
    noise = np.random.default_rng(seed).normal(0, 25, (height, width, 3))
    smooth = image_trees.pixels(seed, height, width)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def jpeg(pixels, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def both(monkeypatch, function):
    """What a function returns, or the type of what it raises, with and without simplejpeg."""
    results = []
    for library in (simplejpeg, None):
        monkeypatch.setattr(decoding, "simplejpeg", library)
        try:
            results.append(function())
        except images.BrokenImageError as error:
            results.append(type(error))
    return results


def assert_same(with_it, without):
    assert type(with_it) is type(without)
    if isinstance(without, np.ndarray):
        assert with_it.dtype == np.uint8
        np.testing.assert_array_equal(with_it, without)
    else:
        assert with_it is without


@pytest.fixture
def fast(monkeypatch):
    """Counts images that simplejpeg decodes."""
    calls = []
    original = simplejpeg.decode_jpeg

    def counting(*arguments, **options):
        calls.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counting)
    return calls


@pytest.mark.skipif(not features.check_feature("libjpeg_turbo"), reason="another libjpeg")
@pytest.mark.parametrize(
    "options",
    [
        {"quality": 95, "subsampling": 0},
        {"quality": 75},
        {"quality": 30, "subsampling": "4:2:2"},
        {"quality": 98, "progressive": True},
        {"quality": 90, "mode": "L"},
        {"quality": 100, "keep_rgb": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("enough", [None, 16, 37, 75, 400])
def test_pixels_are_the_same_bits_with_and_without_simplejpeg(options, enough, fast, monkeypatch):
    data = jpeg(photograph(), **options)
    one, other = both(monkeypatch, lambda: decoding.decode(data, enough))
    assert len(fast) == 1
    assert_same(one, other)
    # 150 x 201 pixels: 1/8 leaves 18 rows, 1/4 leaves 37, 1/2 leaves 75.
    scale = {None: 1, 16: 8, 37: 4, 75: 2, 400: 1}[enough]
    assert one.shape == (-(-150 // scale), -(-201 // scale), 3)


@pytest.mark.parametrize("fit", images.FITS)
def test_squares_are_the_same_bits_with_and_without_simplejpeg(fit, fast, monkeypatch):
    data = jpeg(photograph(300, 417))
    assert_same(*both(monkeypatch, lambda: images.decode_rgb(data, 64, fit)))
    assert len(fast) == 1


def test_full_size_pixels_are_those_of_pillow():
    data = jpeg(photograph())
    np.testing.assert_array_equal(decoding.decode(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("format, mode", [("JPEG", "CMYK"), ("PNG", "RGBA"), ("GIF", "P")])
def test_pillow_decodes_what_simplejpeg_does_not(format, mode, fast):
    data = image_trees.encoded(photograph(), format, mode)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decoding.decode(data), expected)
    assert not fast


def test_truncated_files_are_refused_by_both(monkeypatch):
    data = jpeg(photograph(), quality=80)
    for end in np.linspace(0, len(data) - 40, 30).astype(int).tolist():
        results = both(monkeypatch, lambda end=end: decoding.decode(data[:end]))
        assert results == [images.BrokenImageError] * 2, end


def test_damaged_files_are_judged_alike(monkeypatch):
    data = bytearray(jpeg(photograph(60, 80), quality=60))
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            damaged[place] = random.integers(256)
        one, other = both(monkeypatch, lambda damaged=damaged: decoding.decode(bytes(damaged)))
        assert_same(one, other)
        refused += not isinstance(other, np.ndarray)
    # Damage of both kinds was met: what Pillow decodes all the same, and what it refuses.
    assert 10 < refused < 290


def test_images_too_large_to_unpack_are_refused_by_both(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = jpeg(photograph())
    results = both(monkeypatch, lambda: decoding.decode(data))
    assert results == [images.BrokenImageError] * 2
