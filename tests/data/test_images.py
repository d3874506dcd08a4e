import io

import image_trees
import numpy as np
import pytest
from PIL import Image

from transfer_jax.data import images


def test_an_image_of_the_right_size_is_passed_through():
    for format in ("JPEG", "PNG"):
        data = image_trees.encoded(image_trees.pixels(0, 32, 32), format)
        assert images.to_square(data, 32) is data


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P", "RGBA"])
def test_other_colour_models_become_rgb(mode):
    array = image_trees.pixels(1, 32, 32)
    data = image_trees.encoded(array, "JPEG" if mode in ("L", "CMYK") else "PNG", mode)
    result = images.to_square(data, 32)
    reopened = Image.open(io.BytesIO(result))
    assert (reopened.mode, reopened.size, reopened.format) == ("RGB", (32, 32), "PNG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(images.decode_rgb(result), expected)
    np.testing.assert_array_equal(images.decode_rgb(data), expected)


def test_cmyk_keeps_its_colours():
    red = np.zeros((16, 16, 3), np.uint8) + np.array([200, 30, 40], np.uint8)
    squashed = images.decode_rgb(images.to_square(image_trees.encoded(red, mode="CMYK"), 8))
    assert np.abs(squashed.astype(int) - red[:8, :8]).max() < 12


def test_odd_sizes_are_squashed_without_keeping_the_aspect_ratio():
    array = np.zeros((37, 61, 3), np.uint8)
    array[:, 30:] = 255
    result = images.decode_rgb(images.to_square(image_trees.encoded(array, "PNG"), 32))
    assert result.shape == (32, 32, 3)
    assert (result[:, :12] < 10).all() and (result[:, 20:] > 245).all()


def by_hand(array, width, height, box):
    """The whole image resized, then a part of it cut out: no library's idea of fitting."""
    whole = Image.fromarray(array).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(whole)[box[1] : box[3], box[0] : box[2]]


def test_centre_resizes_the_short_side_and_cuts_out_the_middle():
    landscape, portrait = image_trees.pixels(11, 40, 60), image_trees.pixels(12, 60, 40)
    expected = [
        by_hand(landscape, 36, 24, (6, 0, 30, 24)),
        by_hand(portrait, 24, 36, (0, 6, 24, 30)),
    ]
    for array, middle in zip((landscape, portrait), expected, strict=True):
        data = image_trees.encoded(array, "PNG")
        found = images.decode_rgb(data, 24, "centre")
        # Pillow may resize columns before rows or after, which rounds otherwise.
        assert np.abs(found.astype(int) - middle).max() <= 1
        square = images.decode_rgb(images.to_square(data, 24, "centre"))
        np.testing.assert_array_equal(square, found)
        assert np.abs(images.decode_rgb(data, 24).astype(int) - middle).max() > 10


def test_the_middle_of_an_odd_number_of_pixels():
    assert images.central_square(61, 40) == (10.5, 0, 50.5, 40)
    assert images.central_square(33, 80) == (0, 23.5, 33, 56.5)
    assert images.central_square(37, 37) == (0, 0, 37, 37)
    # A picture that is its own mirror image stays so.
    half = image_trees.pixels(13, 40, 30)
    array = np.concatenate([half, half[:, :1], half[:, ::-1]], axis=1)
    assert (array == array[:, ::-1]).all()
    result = images.decode_rgb(image_trees.encoded(array, "PNG"), 16, "centre").astype(int)
    assert np.abs(result - result[:, ::-1]).max() <= 1


def test_the_middle_of_a_photograph_that_is_decoded_at_half_its_size():
    array = image_trees.pixels(14, 400, 640)
    result = images.decode_rgb(image_trees.encoded(array), 50, "centre").astype(float)
    expected = by_hand(images.decode_rgb(image_trees.encoded(array)), 80, 50, (15, 0, 65, 50))
    assert np.abs(result - expected).max() < 6


@pytest.mark.parametrize("fit", images.FITS)
def test_a_square_is_squashed_and_cut_alike(fit):
    data = image_trees.encoded(image_trees.pixels(15, 48, 48), "PNG")
    np.testing.assert_array_equal(images.decode_rgb(data, 20, fit), images.decode_rgb(data, 20))


def test_a_large_photograph_equals_a_plain_resize():
    array = image_trees.pixels(2, 900, 1201)
    data = image_trees.encoded(array)
    result = images.decode_rgb(images.to_square(data, 64)).astype(float)
    plain = Image.fromarray(images.decode_rgb(data)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(result - np.asarray(plain)).max() < 6


def test_large_results_are_jpeg_and_small_ones_lossless():
    data = image_trees.encoded(image_trees.pixels(3, 50, 80), "BMP")
    assert Image.open(io.BytesIO(images.to_square(data, 64))).format == "PNG"
    large = images.to_square(data, 65)
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
            images.to_square(data[:end], size)
        with pytest.raises(images.BrokenImageError):
            images.decode_rgb(data[:end])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "the file is empty"), (b"<html>not found</html>", "not in an image format")],
)
def test_what_is_not_an_image(data, reason):
    with pytest.raises(images.BrokenImageError, match=reason):
        images.to_square(data, 32)
