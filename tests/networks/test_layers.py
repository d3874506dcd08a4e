"""The operations against NumPy and SciPy, loop by loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax
from jax.test_util import check_grads

from tests.networks import naive
from transfer_jax.networks import AdaptiveAvgPool, Dropout, LocalResponseNorm, MaxPool, Relu
from transfer_jax.networks.layers import conv_general_dilated

# name: (size, channels, window, stride, padding, groups, filters). Channels and filters are fewer
# than in the papers, windows, strides, padding and groups are theirs.
GEOMETRIES = {
    "alexnet conv1": (67, 3, 11, 4, 0, 1, 8),
    "alexnet conv2": (27, 8, 5, 1, 2, 2, 12),
    "mini conv1": (32, 3, 5, 1, 2, 1, 16),
    "three groups": (9, 6, 3, 2, 1, 3, 9),
    "a dense layer over a map": (12, 32, 6, 2, 0, 1, 256),
}


def normal(seed, *shape):
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
    ("geometry", "backend"), [*((name, "cpu") for name in GEOMETRIES), ("three groups", "gpu")]
)
def test_convolution_is_scipys_correlation_with_jaxs_gradients(geometry, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    size, channels, window, stride, padding, groups, filters = GEOMETRIES[geometry]
    x = normal(0, 2, size, size, channels)
    kernel = normal(1, window, window, channels // groups, filters)
    geometry = (stride,) * 2, ((padding,) * 2,) * 2
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    @jax.jit
    def value_and_gradients(x, kernel, dy):
        def convolve(f, **options):
            return jax.vjp(lambda *a: f(*a, *geometry, feature_group_count=groups, **options),
                           x, kernel)  # fmt: skip

        y, backward = convolve(conv_general_dilated)
        return y, backward(dy), convolve(lax.conv_general_dilated, **layout)[1](dy)

    side = (size + 2 * padding - window) // stride + 1
    y, *gradients = value_and_gradients(x, kernel, normal(2, 2, side, side, filters))
    for one, image in zip(y, np.asarray(x, np.float64), strict=True):
        expected = naive.conv(image, np.asarray(kernel), np.zeros(filters), stride, padding, groups)
        np.testing.assert_allclose(one, expected, atol=1e-3)
    for ours, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


@settings(max_examples=8)
@given(
    size=st.integers(4, 13), window=st.integers(1, 4), stride=st.integers(1, 4),
    padding=st.integers(0, 3), round_up=st.booleans(), levels=st.sampled_from([3, 10**6]),
)  # fmt: skip
def test_max_pool_is_loops_ties_included(size, window, stride, padding, round_up, levels):
    pool = MaxPool(window, min(stride, window), min(padding, window - 1), round_up)
    x = np.random.RandomState(size).randint(levels, size=(size, size + 1, 1)).astype(np.float32)
    pooled, winners = naive.pool(x, window, pool.stride, pool.padding, round_up)
    expected = np.zeros(x.size, np.float32)
    dy = np.arange(1.0, 1 + pooled.size, dtype=np.float32)
    np.add.at(expected, winners.ravel(), dy)

    @jax.jit
    def pool_and_gradient(x, dy):
        y, backward = jax.vjp(pool, x)
        return y, *backward(dy)

    y, dx = pool_and_gradient(x[None], dy.reshape(1, *pooled.shape))
    np.testing.assert_array_equal(y[0], pooled)
    np.testing.assert_array_equal(dx.ravel(), expected)


@pytest.mark.parametrize("height,width,size", [(7, 9, 6), (3, 4, 6), (12, 6, 6), (5, 5, 1)])
def test_adaptive_average_pooling_equals_loops(height, width, size):
    x = normal(0, 2, height, width, 3)
    expected = [naive.adaptive_avg_pool(np.asarray(one), size) for one in x]
    np.testing.assert_allclose(AdaptiveAvgPool(size)(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("constants,channels", [((5, 0.5, 0.75, 1.0), 7), ((3, 0.8, 0.6, 2.0), 2)])
def test_normalisation_equals_loops_and_its_gradient_differences(constants, channels):
    x, norm = 3 * normal(0, 2, 3, 2, channels), LocalResponseNorm(*constants)
    expected = [naive.lrn(one, *constants) for one in np.asarray(x, np.float64)]
    np.testing.assert_allclose(norm(x), expected, rtol=2e-6, atol=1e-6)
    check_grads(norm, (x,), order=1, modes=["rev"], atol=0.02, rtol=0.02)


def test_dropout_keeps_the_expected_share_of_each_example_by_its_own_key():
    keys = jax.random.split(jax.random.key(0), 64)
    y = Dropout(0.3)(jnp.ones((64, 500)), keys)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    assert abs(float(jnp.mean(y)) - 1) < 5 * np.sqrt(0.3 / 0.7 / y.size)
    assert len(np.unique(np.asarray(y) == 0, axis=0)) == 64
    np.testing.assert_array_equal(Dropout(0.3)(jnp.ones((2, 500)), keys[5:7]), y[5:7])
    np.testing.assert_array_equal(Dropout(0.3)(y), y)


def test_bfloat16_stays_bfloat16():
    x = normal(0, 2, 9, 9, 4).astype(jnp.bfloat16)
    for operation in (MaxPool(), LocalResponseNorm(), AdaptiveAvgPool(2), MaxPool(2, 2, 1)):
        y, dx = jax.eval_shape(jax.value_and_grad(lambda x, f=operation: f(x).sum()), x)
        assert y.dtype == dx.dtype == jnp.bfloat16


def test_a_relu_passes_no_gradient_at_zero():
    assert jax.grad(Relu())(0.0) == 0.0
