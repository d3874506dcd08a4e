"""The layers against NumPy and SciPy, and their form for XLA:CPU against the plain one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import naive
from transfer_jax.networks import cpu_layers, layers
from transfer_jax.networks.adaptive_pool import adaptive_avg_pool

# name: (size, channels, window, stride, padding, groups, filters). Channels and filters are fewer
# than in the papers, windows, strides, padding and groups are theirs.
GEOMETRIES = {
    "alexnet conv1": (227, 3, 11, 4, 0, 1, 8),
    "alexnet conv2": (27, 8, 5, 1, 2, 2, 12),
    "alexnet conv3": (13, 12, 3, 1, 1, 1, 8),
    "alexnet conv4": (13, 8, 3, 1, 1, 2, 12),
    "zfnet conv1": (225, 3, 7, 2, 1, 1, 8),
    "zfnet conv2": (55, 8, 5, 2, 0, 1, 12),
    "mini conv1": (32, 3, 5, 1, 2, 1, 16),
    "mini conv1 3x3": (32, 3, 3, 1, 1, 1, 16),
    "mini conv2": (16, 16, 5, 1, 2, 2, 12),
    "mini conv4": (8, 12, 3, 1, 1, 2, 8),
    "uneven padding": (9, 6, 3, 2, ((0, 1), (2, 1)), 3, 9),
    "padding wider than the window": (6, 3, 2, 1, 3, 1, 4),
}


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), dtype)


def operands(geometry, batch=2):
    size, channels, window, stride, padding, groups, filters = GEOMETRIES[geometry]
    x = normal(0, batch, size, size, channels)
    kernel = normal(1, window, window, channels // groups, filters)
    return x, kernel, normal(2, filters), dict(stride=stride, padding=padding, groups=groups)


def value_and_gradients(implementation, function, *arguments):
    with layers.use_implementation(implementation):

        @jax.jit
        def both(cotangent, *arguments):
            value, backward = jax.vjp(function, *arguments)
            return value, *backward(cotangent)

        value = jax.eval_shape(function, *arguments)
        return both(normal(9, *value.shape, dtype=value.dtype), *arguments)


def assert_close(actual, expected, tolerance=1e-5):
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape and a.dtype == e.dtype
        a, e = np.asarray(a, np.float32), np.asarray(e, np.float32)
        assert np.abs(a - e).max() <= tolerance * np.abs(e).max()


def assert_forms_agree(function, *arguments, tolerance=1e-5):
    assert_close(
        value_and_gradients("cpu", function, *arguments),
        value_and_gradients("plain", function, *arguments),
        tolerance,
    )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_conv_forms_agree(geometry):
    x, kernel, bias, options = operands(geometry)
    assert_forms_agree(lambda *a: layers.conv(*a, **options), x, kernel, bias)


@pytest.mark.parametrize("form", ["plain", "cpu"])
@pytest.mark.parametrize("geometry", ["mini conv1", "mini conv2", "zfnet conv2", "uneven padding"])
def test_conv_is_scipys_correlation(form, geometry):
    x, kernel, bias, options = operands(geometry, batch=1)
    with layers.use_implementation(form):
        actual = jax.jit(partial(layers.conv, **options))(x, kernel, bias)
    padding = options["padding"]
    pads = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    image = np.pad(np.asarray(x[0], np.float64), (*pads, (0, 0)))
    inputs = kernel.shape[2]
    filters_per_group = kernel.shape[3] // options["groups"]
    for o in range(kernel.shape[3]):
        first = o // filters_per_group * inputs
        expected = sum(
            scipy.signal.correlate(image[..., first + i], np.asarray(kernel)[..., i, o], "valid")
            for i in range(inputs)
        )[:: options["stride"], :: options["stride"]]
        np.testing.assert_allclose(actual[0, ..., o], expected + bias[o], atol=1e-3)
    assert actual.shape[1] == layers.conv_output_size(
        x.shape[1], kernel.shape[0], options["stride"], pads[0]
    )


def pool_by_loops(x, window, stride, padding):
    """Caffe's loops, with the index that receives the gradient of each window."""
    height, width = x.shape
    sizes = [-(-(size + 2 * padding - window) // stride) + 1 for size in x.shape]
    if padding:
        sizes = [n - ((n - 1) * stride >= s + padding) for n, s in zip(sizes, x.shape, strict=True)]
    pooled, winners = np.full(sizes, -np.inf, x.dtype), np.full(sizes, -1)
    for row in range(sizes[0]):
        for column in range(sizes[1]):
            top, left = row * stride - padding, column * stride - padding
            for i in range(max(top, 0), min(top + window, height)):
                for j in range(max(left, 0), min(left + window, width)):
                    if x[i, j] > pooled[row, column]:
                        pooled[row, column], winners[row, column] = x[i, j], i * width + j
    return pooled, winners


@settings(deadline=None, max_examples=12)
@given(
    size=st.integers(4, 13), window=st.integers(1, 4), stride=st.integers(1, 4),
    padding=st.integers(0, 3), levels=st.sampled_from([3, 10**6]), seed=st.integers(0, 99),
)  # fmt: skip
def test_max_pool_is_caffes_loop_ties_included(size, window, stride, padding, levels, seed):
    stride = min(stride, window)
    padding = min(padding, window - 1)
    x = np.random.RandomState(seed).randint(levels, size=(size, size + 1)).astype(np.float32)
    pooled, winners = pool_by_loops(x, window, stride, padding)
    expected = np.zeros(x.size, np.float32)
    dy = np.arange(1.0, 1 + pooled.size, dtype=np.float32)
    np.add.at(expected, winners.ravel(), dy)

    @jax.jit
    def pool_and_gradient(x, dy):
        pool = partial(layers.max_pool, window=window, stride=stride, padding=padding)
        y, backward = jax.vjp(pool, x)
        return y, *backward(dy)

    for form in ("plain", "cpu"):
        with layers.use_implementation(form):
            y, dx = pool_and_gradient(x[None, ..., None], dy.reshape(1, *pooled.shape, 1))
        np.testing.assert_array_equal(y[0, ..., 0], pooled)
        np.testing.assert_array_equal(dx.ravel(), expected)


@pytest.mark.parametrize(
    "size,window,stride,padding,expected",
    [(55, 3, 2, 0, 27), (27, 3, 2, 0, 13), (13, 3, 2, 0, 6), (110, 3, 2, 0, 55), (32, 3, 2, 0, 16),
     (16, 3, 2, 0, 8), (6, 2, 2, 1, 4), (5, 2, 2, 1, 3), (4, 2, 3, 1, 2), (2, 3, 2, 0, 1)],
)  # fmt: skip
def test_pool_output_size(size, window, stride, padding, expected):
    assert layers.pool_output_size(size, window, stride, padding) == expected


@pytest.mark.parametrize("size,window,stride", [(55, 3, 2), (32, 3, 2), (13, 3, 2), (8, 2, 2)])
def test_max_pool_forms_agree(size, window, stride):
    x = normal(0, 2, size, size, 6)
    assert_forms_agree(lambda x: layers.max_pool(x, window=window, stride=stride), x)


@pytest.mark.parametrize("form", ["plain", "cpu"])
@pytest.mark.parametrize("size,window,stride,padding", [(32, 3, 2, 0), (7, 2, 3, 1), (9, 4, 3, 0)])
def test_pooling_that_rounds_down_equals_loops(form, size, window, stride, padding):
    x = normal(0, 2, size, size, 3)
    with layers.use_implementation(form):
        y = layers.max_pool(x, window=window, stride=stride, padding=padding, round_up=False)
    expected = [naive.max_pool(np.asarray(one), window, stride, padding, False) for one in x]
    np.testing.assert_array_equal(y, expected)
    assert y.shape[1] == layers.pool_output_size(size, window, stride, padding, round_up=False)


@pytest.mark.parametrize(
    "height,width,size", [(7, 9, 6), (13, 8, 6), (3, 4, 6), (12, 6, 6), (5, 5, 1)]
)
def test_adaptive_average_pooling_equals_loops(height, width, size):
    x = normal(0, 2, height, width, 3)
    expected = [naive.adaptive_avg_pool(np.asarray(one), size) for one in x]
    np.testing.assert_allclose(adaptive_avg_pool(x, size), expected, rtol=1e-5, atol=1e-6)


def test_adaptive_average_pooling_of_maps_of_its_size_changes_nothing():
    x = normal(0, 2, 6, 6, 3, dtype=jnp.bfloat16)
    np.testing.assert_array_equal(adaptive_avg_pool(x, 6), x)
    assert adaptive_avg_pool(x, 4).dtype == jnp.bfloat16


def lrn_by_loops(x, size, alpha, beta, k):
    y = np.zeros_like(x)
    for c in range(x.shape[-1]):
        window = x[..., max(c - size // 2, 0) : c + size // 2 + 1]
        y[..., c] = x[..., c] / (k + alpha / size * (window**2).sum(-1)) ** beta
    return y


@pytest.mark.parametrize(
    "size,alpha,beta,k,channels",
    [
        (5, 1e-4, 0.75, 1.0, 96),
        (5, 0.5, 0.75, 1.0, 7),
        (3, 0.8, 0.6, 2.0, 2),
        (1, 0.3, 1.0, 1.0, 4),
    ],
)
def test_lrn(size, alpha, beta, k, channels):
    x = 3 * normal(0, 2, 5, 4, channels)
    options = dict(size=size, alpha=alpha, beta=beta, k=k)
    expected = lrn_by_loops(np.asarray(x, np.float64), size, alpha, beta, k)
    for form in ("plain", "cpu"):
        with layers.use_implementation(form):
            np.testing.assert_allclose(layers.lrn(x, **options), expected, rtol=2e-6, atol=1e-6)
    assert_forms_agree(lambda x: layers.lrn(x, **options), x)


def block(x, kernel, bias):
    """One layer of an AlexNet: what a custom gradient must survive in combination."""
    x = jax.nn.relu(layers.conv(x, kernel, bias, padding=2, groups=2))
    return layers.lrn(layers.max_pool(x, window=3, stride=2))


def test_forms_agree_under_vmap():
    arguments = normal(0, 3, 2, 9, 9, 4), normal(1, 3, 5, 5, 2, 6), normal(2, 3, 6)
    assert_forms_agree(jax.vmap(block), *arguments)
    assert_forms_agree(jax.vmap(block, (0, None, None)), arguments[0], *normal_parameters())


def normal_parameters():
    return normal(1, 5, 5, 2, 6), normal(2, 6)


def test_forms_agree_under_pmap():
    devices = jax.local_device_count()
    x = normal(0, devices, 2, 9, 9, 4)

    def gradients(x, kernel, bias):
        def loss(*parameters):
            return jnp.sum(block(x, *parameters) ** 2)

        return jax.lax.pmean(jax.grad(loss, (0, 1))(kernel, bias), "batch")

    results = []
    for form in ("cpu", "plain"):
        with layers.use_implementation(form):
            mapped = jax.pmap(gradients, axis_name="batch", in_axes=(0, None, None))
            results.append(mapped(x, *normal_parameters()))
    assert_close(*results, tolerance=1e-4)


def test_bfloat16_stays_bfloat16_and_forms_agree():
    x, kernel, bias, options = operands("mini conv2")
    x = x.astype(jnp.bfloat16)
    with layers.use_implementation("cpu"):
        y = layers.conv(x, kernel, bias, **options)
        assert y.dtype == layers.lrn(y).dtype == jnp.bfloat16
        assert layers.max_pool(y, window=3, stride=2).dtype == jnp.bfloat16
    assert_forms_agree(lambda x: layers.conv(x, kernel, bias, **options), x, tolerance=0.02)
    assert_forms_agree(lambda x: layers.max_pool(x, window=3, stride=2), x, tolerance=0.02)
    assert_forms_agree(layers.lrn, x, tolerance=0.02)


def test_unused_gradients_cost_nothing():
    def loss(parameters, x):
        for kernel in parameters:
            x = layers.conv(x, kernel, padding=1, groups=1 if x.shape[3] == 3 else 2)
            x = layers.lrn(layers.max_pool(jax.nn.relu(x), window=3, stride=2))
        return jnp.sum(x)

    parameters = [normal(1, 3, 3, 3, 16), normal(2, 3, 3, 8, 16), normal(3, 3, 3, 8, 16)]
    x = normal(0, 4, 16, 16, 3)
    flops = []
    for frozen in range(3):

        def step(parameters, x, frozen=frozen):
            return jax.grad(loss)(parameters, x)[frozen:]

        with layers.use_implementation("cpu"):
            flops.append(jax.jit(step).lower(parameters, x).compile().cost_analysis()["flops"])
    assert flops[0] > 1.2 * flops[1] and flops[1] > 1.1 * flops[2]


def test_dropout_keeps_the_expected_share_and_scales_it():
    keys = jax.random.split(jax.random.key(0), 64)
    y = layers.dropout(jnp.ones((64, 500)), 0.3, keys)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    assert abs(float(jnp.mean(y)) - 1) < 5 * np.sqrt(0.3 / 0.7 / y.size)
    np.testing.assert_array_equal(layers.dropout(y, 0.0, keys), y)


def test_dropout_mask_belongs_to_the_example():
    keys = jax.random.split(jax.random.key(0), 8)
    x = normal(1, 8, 20)
    whole = layers.dropout(x, 0.5, keys)
    parts = [layers.dropout(x[i : i + 2], 0.5, keys[i : i + 2]) for i in range(0, 8, 2)]
    np.testing.assert_array_equal(whole, jnp.concatenate(parts))
    assert len(np.unique(np.asarray(whole) == 0, axis=0)) == 8


def test_the_switch():
    assert layers.implementation() == ("cpu" if jax.default_backend() == "cpu" else "plain")
    traced = []
    named = jax.jit(lambda x: (traced.append(layers.implementation()), x)[1])
    for name in ("plain", "cpu", "plain"):
        with layers.use_implementation(name):
            assert layers.implementation() == name
            named(1.0)
            with layers.use_implementation("auto"):
                assert layers.implementation() in ("plain", "cpu")
            assert layers.implementation() == name
    assert traced == ["plain", "cpu"]
    with pytest.raises(ValueError, match=r"fast.*plain"), layers.use_implementation("fast"):
        pass


def test_keep_freed_memory_can_be_repeated():
    assert cpu_layers.keep_freed_memory() == cpu_layers.keep_freed_memory()


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda: layers.conv(normal(0, 2, 8, 8, 3), normal(1, 3, 3, 4, 8)), r"3 channels .* 4"),
        (lambda: layers.conv(normal(0, 8, 8, 3), normal(1, 3, 3, 3, 8)), r"\(8, 8, 3\).*\(N, H"),
        (lambda: layers.conv(normal(0, 2, 8, 8, 4), normal(1, 3, 3, 2, 5), groups=2), "5 filters"),
        (lambda: layers.conv(normal(0, 2, 2, 2, 3), normal(1, 3, 3, 3, 8)), "does not fit into 2"),
        (lambda: layers.conv(normal(0, 2, 8, 8, 3), normal(1, 3, 3, 3, 8), stride=0), "stride=0"),
        (lambda: layers.conv(normal(0, 2, 8, 8, 3), normal(1, 3, 3, 3, 8), normal(2, 9)), "bias"),
        (lambda: layers.max_pool(normal(0, 2, 8, 8, 3), window=3, stride=2, padding=3), "padding"),
        (lambda: layers.max_pool(normal(0, 8, 8), window=3, stride=2), r"\(8, 8\)"),
        (lambda: layers.pool_output_size(0, 3, 2), "0 pixels"),
        (lambda: layers.pool_output_size(2, 3, 2, round_up=False), "window of 3.*2 pixels"),
        (lambda: adaptive_avg_pool(normal(0, 8, 8), 3), r"\(8, 8\)"),
        (lambda: adaptive_avg_pool(normal(0, 1, 8, 8, 3), 0), "size is 0"),
        (lambda: layers.lrn(normal(0, 2, 8), size=4), "4.*odd"),
        (lambda: layers.dropout(normal(0, 2, 8), 1.0, jax.random.split(jax.random.key(0), 2)), "1"),
        (
            lambda: layers.dropout(normal(0, 2, 8), 0.5, jax.random.key(0)),
            r"expected typed.*\(2,\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
