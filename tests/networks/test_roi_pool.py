"""RoI pooling against a loop over regions, windows and cells, and its gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transfer_jax.networks import AdaptiveAvgPool, Conv, Relu, RoiPool
from transfer_jax.networks.layers import output_shape
from transfer_jax.networks.roi_pool import roi_pool


def windows(low, high, size, cells):
    """The cells of each window along one side."""
    low = min(int(np.floor(np.float32(low) * np.float32(cells) + np.float32(0.5))), cells - 1)
    high = int(np.floor(np.float32(high) * np.float32(cells) + np.float32(0.5)))
    high = min(max(high, low + 1), cells)
    n = high - low
    return [
        range(low + int(np.floor(i * n / size)), low + int(np.ceil((i + 1) * n / size)))
        for i in range(size)
    ]


def naive(x, boxes, size, dy):
    """The maxima, and what dy sends back to x."""
    y, dx = np.zeros((*boxes.shape[:2], size, size, x.shape[3]), x.dtype), np.zeros_like(x)
    for n, r in np.ndindex(boxes.shape[:2]):
        top, left, bottom, right = boxes[n, r]
        rows = windows(top, bottom, size, x.shape[1])
        columns = windows(left, right, size, x.shape[2])
        for i, j in np.ndindex(size, size):
            cells = [(h, w) for h in rows[i] for w in columns[j]]
            for c in range(x.shape[3]):
                best = max(cells, key=lambda cell: x[n, *cell, c])
                y[n, r, i, j, c] = x[n, *best, c]
                dx[n, *best, c] += dy[n, r, i, j, c]
    return y, dx


def random_boxes(rng, count, regions):
    corners = np.sort(rng.uniform(size=(count, regions, 2, 2)), axis=2)
    return corners.reshape(count, regions, 4).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def both(x, boxes, size, dy):
    y, back = jax.vjp(lambda x: roi_pool(x, boxes, size), x)
    return y, back(dy)[0]


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 3, 2), (5, 7, 3), (8, 7, 2)]))
def test_equals_a_loop_and_so_does_its_gradient(seed, shape):
    rng, (height, width, size) = np.random.default_rng(seed), shape
    # Different numbers, so that every window has one maximum.
    x = rng.permutation(2 * height * width * 3).reshape(2, height, width, 3).astype(np.float32)
    boxes = random_boxes(rng, 2, 5)
    boxes[:, 0], boxes[:, 1] = (0, 0, 1, 1), 0.999  # all of the map, and less than a cell
    dy = rng.integers(-8, 8, (2, 5, size, size, 3)).astype(np.float32)
    for found, expected in zip(both(x, boxes, size, dy), naive(x, boxes, size, dy), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_equal_maxima_share_the_gradient():
    x = jnp.zeros((1, 4, 4, 1))
    boxes = random_boxes(np.random.default_rng(1), 1, 3)
    gradient = both(x, boxes, 2, jnp.ones((1, 3, 2, 2, 1)))[1]
    assert float(gradient.sum()) == pytest.approx(3 * 4) and float(gradient.min()) >= 0


def test_as_an_operation_it_takes_the_whole_map_as_one_region():
    x = np.random.default_rng(2).normal(size=(2, 8, 6, 3)).astype(np.float32)
    # Windows that neither overlap nor hang over.
    np.testing.assert_array_equal(
        RoiPool(2)(x[:, :, :4]), x[:, :, :4].reshape(2, 2, 4, 2, 2, 3).max((2, 4))
    )
    spans = AdaptiveAvgPool(4).spans
    for i, rows in enumerate(spans(8)):
        for j, columns in enumerate(spans(6)):
            window = x[:, slice(*rows), slice(*columns)]
            np.testing.assert_array_equal(RoiPool(4)(x)[:, i, j], window.max((1, 2)))
    layer = Conv("conv", 3, 3, padding=1, then=(Relu(), RoiPool(6)))
    assert output_shape(layer, (40, 17, 5)) == (6, 6, 3)
