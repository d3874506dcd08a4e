import io

import image_trees
import numpy as np
import pytest
from PIL import Image

from transfer_jax.data import images


def test_an_image_of_the_right_size_is_passed_through():
    for format in ("JPEG", "PNG"):
        data = image_trees.encoded(image_trees.pixels(0, 32, 32), format)
        assert images.squash(data, 32) is data


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P", "RGBA"])
def test_other_colour_models_become_rgb(mode):
    array = image_trees.pixels(1, 32, 32)
    data = image_trees.encoded(array, "JPEG" if mode in ("L", "CMYK") else "PNG", mode)
    result = images.squash(data, 32)
    reopened = Image.open(io.BytesIO(result))
    assert (reopened.mode, reopened.size, reopened.format) == ("RGB", (32, 32), "PNG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(images.decode_rgb(result), expected)
    np.testing.assert_array_equal(images.decode_rgb(data), expected)


def test_cmyk_keeps_its_colours():
    red = np.zeros((16, 16, 3), np.uint8) + np.array([200, 30, 40], np.uint8)
    squashed = images.decode_rgb(images.squash(image_trees.encoded(red, mode="CMYK"), 8))
    assert np.abs(squashed.astype(int) - red[:8, :8]).max() < 12


def test_odd_sizes_are_squashed_without_keeping_the_aspect_ratio():
    array = np.zeros((37, 61, 3), np.uint8)
    array[:, 30:] = 255
    result = images.decode_rgb(images.squash(image_trees.encoded(array, "PNG"), 32))
    assert result.shape == (32, 32, 3)
    assert (result[:, :12] < 10).all() and (result[:, 20:] > 245).all()


def test_a_large_photograph_equals_a_plain_resize():
    array = image_trees.pixels(2, 900, 1201)
    data = image_trees.encoded(array)
    result = images.decode_rgb(images.squash(data, 64)).astype(float)
    plain = Image.fromarray(images.decode_rgb(data)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(result - np.asarray(plain)).max() < 6


def test_large_results_are_jpeg_and_small_ones_lossless():
    data = image_trees.encoded(image_trees.pixels(3, 50, 80), "BMP")
    assert Image.open(io.BytesIO(images.squash(data, 64))).format == "PNG"
    large = images.squash(data, 65)
    assert Image.open(io.BytesIO(large)).format == "JPEG"
    plain = Image.fromarray(images.decode_rgb(data)).resize((65, 65), Image.Resampling.LANCZOS)
    error = images.decode_rgb(large).astype(float) - np.asarray(plain)
    assert np.sqrt((error**2).mean()) < 2


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [32, 20])
def test_truncated_images_are_broken(format, size):
    data = image_trees.encoded(image_trees.pixels(4, 32, 32), format)
    for end in (len(data) // 3, len(data) - 30):
        with pytest.raises(images.BrokenImageError):
            images.squash(data[:end], size)
        with pytest.raises(images.BrokenImageError):
            images.decode_rgb(data[:end])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "the file is empty"), (b"<html>not found</html>", "not in an image format")],
)
def test_what_is_not_an_image(data, reason):
    with pytest.raises(images.BrokenImageError, match=reason):
        images.squash(data, 32)
