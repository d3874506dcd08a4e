"""Near-duplicates: planted copies, and a correlation worked out by loops."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from transfer_jax.readout.duplicates import (
    Duplicates,
    describe,
    excluded_positions,
    find_duplicates,
    thumbnails,
)


def pictures(count, seed, size=32):
    """Images with structure at several scales, as photographs have it."""
    rng = np.random.default_rng(seed)
    total = sum(
        gaussian_filter(
            rng.standard_normal((count, size, size, 1))  # the channels go together, mostly
            + 0.3 * rng.standard_normal((count, size, size, 3)),
            (0, s, s, 0),
        )
        * s**1.3
        for s in (size / 32, size / 12, size / 6)
    )
    total = (total - total.min((1, 2, 3), keepdims=True)) / np.ptp(total, (1, 2, 3), keepdims=True)
    return (40 + 150 * total).round().astype(np.uint8)


def jpeg(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def cropped(image, left, top, right, bottom):
    height, width = image.shape[:2]
    box = (left, top, width - right, height - bottom)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.BICUBIC, box=box))


def pairs(found):
    return list(zip(found.source.tolist(), found.target.tolist(), strict=True))


ALTERATIONS = {
    "brighter": lambda x: x + 30,
    "less contrast": lambda x: (x * 0.5 + 60).round().astype(np.uint8),
    "blue cast": lambda x: (x * np.array([0.7, 1.0, 1.1])).round().astype(np.uint8),
    "grey": lambda x: np.repeat(x.mean(-1, keepdims=True), 3, -1).round().astype(np.uint8),
    "jpeg of quality 60": lambda x: np.stack([jpeg(image, 60) for image in x]),
    "one pixel cropped": lambda x: np.stack([cropped(image, 1, 1, 1, 1) for image in x]),
    "two pixels cropped": lambda x: np.stack([cropped(image, 2, 2, 2, 2) for image in x]),
    "one corner cropped": lambda x: np.stack([cropped(image, 2, 2, 0, 0) for image in x]),
    "all at once": lambda x: np.stack(
        [jpeg(cropped(image, 0, 1, 2, 1) // 2 + 60, 60) for image in x]
    ),
}


@pytest.fixture(scope="module")
def source():
    return pictures(300, seed=0)


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
def test_planted_copies_are_found_and_nothing_else(source, alter):
    planted = np.array([5, 17, 100, 299])
    target = pictures(60, seed=1)
    target[[3, 10, 20, 59]] = alter(source[planted])
    found = find_duplicates(source, target)
    assert pairs(found) == [(5, 3), (17, 10), (100, 20), (299, 59)]
    assert (found.correlation >= 0.97).all() and (found.correlation <= 1 + 1e-5).all()
    assert not found.mirrored.any()
    np.testing.assert_array_equal(excluded_positions(found), planted)


def test_a_source_that_is_a_crop_of_the_target_is_found_too(source):
    target = source[:8]
    shown = np.stack([cropped(image, 2, 1, 0, 2) for image in target])
    assert pairs(find_duplicates(shown, target)) == [(i, i) for i in range(8)]
    assert len(find_duplicates(shown, target, crop=0, threshold=0.995)) == 0


def test_mirrored_copies_are_found_on_request(source):
    target = source[[4, 9, 11]].copy()
    target[:2] = target[:2, :, ::-1]
    assert pairs(find_duplicates(source, target)) == [(11, 2)]
    found = find_duplicates(source, target, mirrored=True)
    assert pairs(found) == [(4, 0), (9, 1), (11, 2)]
    np.testing.assert_array_equal(found.mirrored, [True, True, False])
    symmetric = np.concatenate([source[:1, :, :16], source[:1, :, 15::-1]], axis=2)
    assert len(find_duplicates(symmetric, symmetric, mirrored=True)) == 1


def test_the_two_sets_may_have_images_of_different_sizes():
    large = pictures(20, seed=2, size=96)
    small = np.stack([np.asarray(Image.fromarray(x).resize((32, 48), Image.BOX)) for x in large])
    assert pairs(find_duplicates(large, small[[7, 13]])) == [(7, 0), (13, 1)]
    tiny = np.stack([np.asarray(Image.fromarray(x).resize((24, 24), Image.BOX)) for x in large])
    assert pairs(find_duplicates(large, tiny[[7]], threshold=0.9)) == [(7, 0)]


def test_without_crops_it_is_the_correlation_matrix():
    source, target = pictures(18, seed=3), pictures(12, seed=4)
    target[:4] = source[:4] // 2 + gaussian_filter(target[:4], (0, 1, 1, 0)) // 2
    matrix = np.array(list(map(by_loops, source))) @ np.array(list(map(by_loops, target))).T
    np.testing.assert_allclose(describe(source) @ describe(target).T, matrix, atol=2e-3)
    # In the widest gaps between two correlations, so that rounding of thumbnails decides nothing.
    values = np.sort(matrix[(matrix > 0.1) & (matrix < 0.6)])
    for threshold in (values[:-1] + np.diff(values) / 2)[np.argsort(np.diff(values))[-2:]]:
        found = find_duplicates(source, target, crop=0, threshold=threshold, block=16)
        rows, columns = np.nonzero(matrix >= threshold)
        assert pairs(found) == list(zip(rows.tolist(), columns.tolist(), strict=True))
        assert len(rows) > 1
        np.testing.assert_allclose(found.correlation, matrix[rows, columns], atol=2e-3)


def by_loops(image):
    """The descriptor of an uncropped image of 32x32, by its definition."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    band = np.zeros((16, 16))
    pixels = np.arange(32)
    for i in range(16):
        for j in range(16):
            values = []
            for width in (1.25, 3.0):
                rows = np.exp(-0.5 * ((pixels - (2 * i + 0.5)) / width) ** 2)
                columns = np.exp(-0.5 * ((pixels - (2 * j + 0.5)) / width) ** 2)
                weights = np.outer(rows, columns)
                values.append((grey * weights).sum() / weights.sum())
            band[i, j] = values[0] - values[1]
    band -= band.mean()
    return band.ravel() / np.linalg.norm(band)


@settings(max_examples=6)
@given(st.sampled_from([3, 16, 1000]), st.integers(0, 1), st.booleans())
def test_neither_the_block_nor_the_way_of_passing_images_matters(block, seed, as_blocks):
    source, target = pictures(30, seed=10 + seed), pictures(16, seed=20 + seed)
    target[[2, 9]] = source[[29, 0]] // 2 + 50
    whole = find_duplicates(source, target, threshold=0.4)
    given_source = iter([source[:11], source[11:]]) if as_blocks else source
    given_target = [target[:3], target[3:]] if as_blocks else target
    parts = find_duplicates(given_source, given_target, threshold=0.4, block=block)
    assert pairs(parts) == pairs(whole) and {(29, 2), (0, 9)} <= set(pairs(whole))
    np.testing.assert_allclose(parts.correlation, whole.correlation, atol=1e-5)


def test_images_without_contrast_match_nothing():
    flat = np.full((6, 32, 32, 3), np.array([0, 50, 100, 150, 200, 255])[:, None, None, None])
    flat = flat.astype(np.uint8)
    flat[1, 3, 3] += 1
    assert len(find_duplicates(flat, flat, threshold=0.01)) == 0
    np.testing.assert_array_equal(describe(flat), 0)


def test_descriptors_have_mean_zero_and_norm_one(source):
    described = describe(source[:10])
    assert described.shape == (10, 256) and described.dtype == np.float32
    np.testing.assert_allclose(described.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, rtol=1e-5)


def test_thumbnails_average_over_areas():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    grey = image[0] @ np.array([0.299, 0.587, 0.114])
    expected = grey.reshape(32, 2, 32, 3).mean((1, 3))
    np.testing.assert_allclose(thumbnails(image)[0], expected, atol=0.1)


def test_empty_sets_have_no_duplicates(source):
    none = source[:0]
    for found in (find_duplicates(none, source[:3]), find_duplicates(source[:3], none)):
        assert len(found) == 0 and excluded_positions(found).dtype == np.int64


def test_a_memory_map_will_do(source, tmp_path):
    np.save(tmp_path / "images.npy", source[:20])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert pairs(find_duplicates(mapped, source[7:9])) == [(7, 0), (8, 1)]


def test_each_source_is_excluded_once():
    found = Duplicates(np.array([3, 3, 8]), np.array([0, 5, 1]), np.ones(3), np.zeros(3, bool))
    np.testing.assert_array_equal(excluded_positions(found), [3, 8])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (np.zeros((2, 8, 8, 3)), {}, r"source_images should be uint8 \(N, h, w, 3\), got float64"),
        (np.zeros((2, 8, 8), np.uint8), {}, r"got uint8 \(2, 8, 8\)"),
        ([np.zeros((8, 8, 3), np.uint8)], {}, "each block of source_images"),
        (None, {"threshold": 0}, "threshold should lie in"),
        (None, {"crop": 0.3}, "crop should lie in"),
        (None, {"screen": 2.0}, "screen should lie in"),
        (None, {"block": 0}, "block should be at least 1"),
    ],
)
def test_bad_input_is_named(source, options, message):
    good = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        find_duplicates(good if source is None else source, good, **options)
