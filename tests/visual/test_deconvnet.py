"""Projections against NumPy loops layer by layer, and by what must hold for any network."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.visual import naive_deconvnet as naive
from transfer_jax.networks import (
    AdaptiveAvgPool,
    Dense,
    MaxPool,
    Network,
    alexnet_mini,
    caffenet,
    receptive_field,
)
from transfer_jax.visual.deconvnet import RULES, send_down, unit_signal
from transfer_jax.visual.occlusion import _watch
from transfer_jax.visual.top_activations import _update

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
NARROW = dict.fromkeys(CONVS, 4) | {"fc6": 16, "fc7": 16}
SMALL = small.network()


def images(network, count):
    # The scale of real pixels, where normalisation does something.
    return 60 * normal((count, *network.input_shape), seed=0)


@partial(jax.jit, static_argnames=("network", "layer", "rule"))
def project(network, params, x, layer, signal, rule):
    return send_down(network, params, x, layer, lambda output: signal, rule)


def normal(shape, seed=1):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def assert_close(actual, expected, tolerance=1e-5):
    assert actual.shape == expected.shape and np.abs(expected).max() > 0
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance * np.abs(expected).max()


EVERY = tuple((name, rule) for name in ("conv2", "conv5", "fc6", "fc8") for rule in RULES)
FEW = (("conv1", "deconvnet"), ("conv5", "deconvnet"), ("conv5", "gradient"), ("fc6", "guided"))


@pytest.mark.parametrize(("network", "cases"), [
    (caffenet(5, widths=NARROW, input_size=(99, 67)), FEW),
    (alexnet_mini(5, widths=NARROW), EVERY),
], ids=["caffenet", "mini"])  # fmt: skip
def test_every_layer_agrees_with_numpy(network, cases):
    params = jax.tree.map(np.asarray, network.init(jax.random.key(3), "he"))
    # With biases no pre-activation is exactly 0, where a rounding error would decide.
    params = {k: p | {"bias": normal(p["bias"].shape)} for k, p in params.items()}
    x = images(network, 1)
    signals = {name: normal((1, *network.output_shapes[name])) for name, _ in cases}
    # Twice the precision, so that no switch or mask hangs on the last bit.
    with jax.enable_x64(True):
        exact = jax.tree.map(partial(np.asarray, dtype=np.float64), (params, x, signals))

        # Compiling takes far longer than running, unless LLVM is told not to optimise.
        @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
        def projections(params, x, signals):
            return [project(network, params, x, name, signals[name], rule) for name, rule in cases]

        found = [np.asarray(one) for one in projections(*exact)]
    steps = naive.record(network, params, x[0])
    for (name, rule), actual in zip(cases, found, strict=True):
        assert actual.dtype == np.float32
        assert_close(actual[0], naive.project(steps, params, name, signals[name][0], rule))


@pytest.mark.parametrize("pool", [MaxPool(3, 1, padding=1), AdaptiveAvgPool(3)])
def test_without_relu_and_norm_all_rules_are_the_vector_jacobian_product(pool):
    convs = [dataclasses.replace(one, then=(pool,)) for one in SMALL.layers[:2]]
    network = Network("linear but for its switches", 8, (*convs, Dense("fc4", 2)))
    params, x, signal = network.init(jax.random.key(0)), images(network, 3), normal((3, 2))

    @jax.jit
    def all_and_transposed(x, signal):
        rules = [project(network, params, x, "fc4", signal, rule) for rule in RULES]
        return rules, jax.vjp(lambda x: network.apply(params, x), x)[1](signal)[0]

    rules, transposed = all_and_transposed(x, signal)
    for found in rules:
        assert_close(found, transposed, 1e-6)


def test_the_gradient_rule_is_the_gradient():
    params, x, signal = SMALL.init(jax.random.key(0)), images(SMALL, 2), normal((2, 2))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(SMALL.apply(params, x) * signal)))(x)
    assert_close(project(SMALL, params, x, "fc4", signal, "gradient"), gradient, 1e-6)


def test_a_unit_projects_to_exact_zeros_outside_its_receptive_field():
    network = alexnet_mini(5, widths=NARROW)
    params, name = network.init(jax.random.key(3)), "conv3"
    side = network.output_shapes[name][0]
    places = [(0, 0), (0, side - 1), (side // 2, 1), (side - 1, side - 1)]
    signal = np.zeros((4, side, side, 4), np.float32)
    for k, place in enumerate(places):
        signal[(k, *place)] = 1  # in place of the unit's own activation, which may be 0
    for rule in RULES:
        found = np.array(project(network, params, images(network, 4), name, signal, rule))
        for place, picture in zip(places, found, strict=True):
            top, left, bottom, right = receptive_field(network, name).box(*place)
            assert rule != "deconvnet" or np.any(picture[top:bottom, left:right] != 0), place
            picture[top:bottom, left:right] = 0
            assert np.all(picture == 0), (rule, place)


def test_unit_signals_by_hand():
    activations = np.zeros((2, 2, 3, 2), np.float32)
    activations[0, 0, 1, 0] = activations[0, 1, 0, 0] = 2  # the first of equals counts
    activations[1] = -1
    activations[1, 1, 0, 1] = -0.5
    signal = np.asarray(unit_signal(activations, [0, 1]))
    assert signal[0, 0, 1, 0] == 2 and signal[1, 1, 0, 1] == -0.5 and np.count_nonzero(signal) == 2
    signal = np.asarray(unit_signal(activations, 0, [[1, 0], [1, 1]]))
    assert signal[0, 1, 0, 0] == 2 and signal[1, 1, 1, 0] == -1 and np.count_nonzero(signal) == 2
    dense = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
    for position in (None, (0, 0)):
        np.testing.assert_array_equal(unit_signal(dense, 1, position), [[0, -2, 0], [0, 5, 0]])


def test_products_are_asked_for_in_full():
    """GPUs would round them to 10 bits, and find other maxima than the accuracies are of."""
    params, x = SMALL.init(jax.random.key(0)), jnp.zeros((2, *SMALL.input_shape))
    down = project.lower(SMALL, params, x, "fc3", jnp.zeros((2, 16)), "deconvnet")
    squares, ids = jnp.zeros((2, 3), jnp.int32), jnp.zeros(2, jnp.int32)
    hidden = _watch(SMALL, "conv1").lower(params, x[0], squares, jnp.zeros(3), 0)
    none = jnp.zeros((16, 1)), jnp.zeros((16, 1), jnp.int32), jnp.zeros((16, 1), jnp.int32)
    top = _update(SMALL, ("fc3",), 1).lower(params, {"fc3": none}, ids, x)
    for lowered in (down, hidden, top):
        products = small.products(lowered.as_text())
        assert products and all("HIGHEST" in line for line in products)
