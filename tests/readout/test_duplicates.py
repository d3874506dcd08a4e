"""Near-duplicates: planted copies, and a correlation worked out by loops."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from transfer_jax.readout.duplicates import THRESHOLD, describe, find_duplicates


def pictures(count, seed):
    """Images with structure at several scales, as photographs have it."""
    rng = np.random.default_rng(seed)
    total = sum(
        gaussian_filter(
            rng.standard_normal((count, 32, 32, 1))  # the channels go together, mostly
            + 0.3 * rng.standard_normal((count, 32, 32, 3)),
            (0, s, s, 0),
        )
        * s**1.3
        for s in (1, 32 / 12, 32 / 6)
    )
    total = (total - total.min((1, 2, 3), keepdims=True)) / np.ptp(total, (1, 2, 3), keepdims=True)
    return (40 + 150 * total).round().astype(np.uint8)


def jpeg(image, quality=60):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def resized(images, *size):
    return np.stack([np.asarray(Image.fromarray(x).resize(size, Image.BOX)) for x in images])


def pairs(found):
    return list(zip(*map(np.ndarray.tolist, found[:2]), strict=True))


ALTERATIONS = {
    "brighter": lambda x: x + 30,
    "blue cast": lambda x: (x * np.array([0.7, 1.0, 1.1])).round().astype(np.uint8),
    "grey": lambda x: np.repeat(x.mean(-1, keepdims=True), 3, -1).round().astype(np.uint8),
    "jpeg": lambda x: np.stack([jpeg(image) for image in x]),
    "all at once": lambda x: np.stack([jpeg(image // 2 + 60) for image in x]),
    "enlarged and squashed": lambda x: resized(x, 48, 64),
}


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
def test_planted_copies_are_found_and_nothing_else(alter):
    source, target = pictures(300, seed=0), alter(pictures(60, seed=1))
    target[[3, 10, 20, 59]] = alter(source[[5, 17, 100, 299]])
    found = find_duplicates(describe(source), describe(target), block=64)
    assert pairs(found) == [(5, 3), (17, 10), (100, 20), (299, 59)]
    assert (found[2] >= THRESHOLD).all() and (found[2] <= 1 + 1e-5).all()


def by_loops(image):
    """The descriptor of an image of 32x32, by its definition."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    band, pixels = np.zeros((16, 16)), np.arange(32)
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


@pytest.mark.parametrize("block", [5, 1000])
def test_it_is_the_correlation_matrix_whatever_the_blocks(block):
    source, target = pictures(18, seed=3), pictures(12, seed=4)
    target[:4] = source[:4] // 2 + gaussian_filter(target[:4], (0, 1, 1, 0)) // 2
    matrix = np.array([by_loops(x) for x in source]) @ np.array([by_loops(x) for x in target]).T
    # In the widest gap between two correlations, so that rounding decides nothing.
    values = np.sort(matrix[(matrix > 0.1) & (matrix < 0.6)])
    threshold = (values[:-1] + np.diff(values) / 2)[np.argmax(np.diff(values))]
    found = find_duplicates(describe(source), describe(target), threshold, block=block)
    rows, columns = np.nonzero(matrix >= threshold)
    assert pairs(found) == list(zip(rows.tolist(), columns.tolist(), strict=True)) and len(rows) > 1
    np.testing.assert_allclose(found[2], matrix[rows, columns], atol=1e-4)


def test_images_without_contrast_match_nothing_and_empty_sets_have_no_duplicates():
    flat = np.full((6, 32, 32, 3), 50, np.uint8)
    flat[1, 3, 3] += 1
    flat[2:] += 100
    described = describe(flat)
    np.testing.assert_array_equal(described, 0)
    assert pairs(find_duplicates(described, described, 0.01)) == []
    assert pairs(find_duplicates(described[:0], described)) == []
