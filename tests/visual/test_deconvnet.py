"""Projections against NumPy loops layer by layer, and by what must hold for any network."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests import small
from tests.visual import naive_deconvnet as naive
from transfer_jax.networks import (
    AdaptiveAvgPool,
    Conv,
    LocalResponseNorm,
    MaxPool,
    Network,
    Relu,
    alexnet_mini,
    caffenet,
    layers,
    zfnet,
)
from transfer_jax.visual import deconvnet
from transfer_jax.visual.deconvnet import RULES, project, project_units, unpool
from transfer_jax.visual.receptive_field import receptive_field
from transfer_jax.visual.units import strongest_unit, unit_signal

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
NARROW = dict.fromkeys(CONVS, 4) | {"fc6": 16, "fc7": 16}


def images(network, count, seed=0):
    # The scale of real pixels, where normalisation does something.
    shape = (count, network.input_size, network.input_size, 3)
    return 60 * np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def normal(shape, seed=1):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def assert_close(actual, expected, tolerance=1e-5):
    assert actual.shape == expected.shape
    assert np.abs(expected).max() > 0
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance * np.abs(expected).max()


EVERY = tuple((name, rule) for name in (*CONVS, "fc6", "fc7", "fc8") for rule in RULES)
FULL_SIZE = (
    *((name, "deconvnet") for name in ("conv1", "conv2", "conv5")),
    ("conv5", "gradient"),
    ("fc6", "guided"),
)


@pytest.mark.parametrize(
    ("build", "cases"), [(caffenet, FULL_SIZE), (zfnet, FULL_SIZE), (alexnet_mini, EVERY)]
)
def test_every_layer_agrees_with_numpy(build, cases):
    network = build(5, widths=NARROW, init="he")
    params = jax.tree.map(np.asarray, network.init(jax.random.key(3)))
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
        assert_close(actual[0], naive.project(network, steps, name, signals[name][0], rule))


def test_a_projection_worked_by_hand():
    then = (Relu(), MaxPool(2, 2), LocalResponseNorm(1, alpha=1.0, beta=1.0))
    network = Network("hand", 2, (Conv("conv1", 1, 1, then=then),))
    kernel = np.array([1.0, 2.0, -1.0], np.float32).reshape(1, 1, 3, 1)
    params = {"conv1": {"kernel": kernel, "bias": np.array([-1.0], np.float32)}}
    x = np.array([[[1, 1, 1], [0, 2, 0]], [[0, 0, 4], [1, 0, 0]]], np.float32)[None]
    # Before pooling: 1, 3, -5 -> 0, 0. The switch is at (0, 1), y = 3 / (1 + 9), dy/d3 = -0.08.
    for rule, pixel in {
        "deconvnet": [0.3, 0.6, -0.3],
        "gradient": [-0.024, -0.048, 0.024],
        "guided": [0.0, 0.0, 0.0],
    }.items():
        expected = np.zeros((1, 2, 2, 3), np.float32)
        expected[0, 0, 1] = pixel
        np.testing.assert_allclose(
            project_units(network, params, x, "conv1", 0, rule=rule), expected, atol=1e-6
        )


def test_the_gradient_rule_is_the_gradient_of_an_ablated_network():
    remove = ("conv3", "conv4", "fc7")
    widths = {name: width for name, width in NARROW.items() if name not in remove}
    network = alexnet_mini(5, widths=widths, remove=remove)
    params, x = network.init(jax.random.key(0)), images(network, 2)
    signal = normal((2, 5))

    @jax.jit
    def gradient(x):
        return jax.grad(lambda x: jnp.sum(network.apply(params, x) * signal))(x)

    assert_close(project(network, params, x, "fc8", signal, "gradient"), gradient(x), 1e-6)


@pytest.mark.parametrize(
    "pool",
    [MaxPool(3, 2), MaxPool(3, 1, padding=1), MaxPool(3, 2, round_up=False), AdaptiveAvgPool(3)],
    ids=["hanging over", "padded", "rounded down", "averaged"],
)
def test_without_relu_the_deconvnet_is_the_vector_jacobian_product(pool):
    described = [
        dataclasses.replace(
            layer,
            then=tuple(pool for after in layer.then if isinstance(after, MaxPool)),
        )
        for layer in small.network().layers
    ]
    network = Network("linear but for its switches", small.IMAGE_SIZE, tuple(described))
    params, x = network.init(jax.random.key(0)), images(network, 3)
    signal = normal((3, 2))

    @jax.jit
    def transposed(x, signal):
        return jax.vjp(lambda x: network.apply(params, x), x)[1](signal)[0]

    assert_close(project(network, params, x, "fc4", signal), transposed(x, signal), 1e-6)


@settings(max_examples=8)
@given(
    size=st.integers(4, 9), window=st.integers(1, 4), stride=st.integers(1, 4),
    padding=st.integers(0, 2), levels=st.sampled_from([3, 10**6]), seed=st.integers(0, 99),
    form=st.sampled_from(["plain", "cpu"]),
)  # fmt: skip
def test_unpooling_then_pooling_restores_the_maxima(
    size, window, stride, padding, levels, seed, form
):
    assume(padding < window and stride <= window)
    random = np.random.RandomState(seed)
    # Not negative: what is pooled in these networks has been rectified.
    below = random.randint(levels, size=(size, size + 1, 2)).astype(np.float32)
    pooled, switches = naive.pool_with_switches(below, window, stride, padding)
    values = [pooled, np.ones(pooled.shape), random.standard_normal(pooled.shape)]
    with layers.use_implementation(form):
        up, shared, any_values = np.asarray(
            unpool(
                np.stack(values), np.stack([below] * 3),
                window=window, stride=stride, padding=padding,
            )
        )  # fmt: skip
    np.testing.assert_allclose(
        any_values, naive.unpool(values[2], switches, below.shape), atol=1e-5
    )
    # A place holds the maximum once for each window that shares it.
    at_switches = (switches[..., 0], switches[..., 1], np.arange(2))
    np.testing.assert_allclose(up[at_switches], pooled * shared[at_switches], rtol=1e-6)
    once = up / np.maximum(shared, 1)
    np.testing.assert_allclose(
        naive.pool_with_switches(once, window, stride, padding)[0], pooled, rtol=1e-6
    )
    if stride == window:
        assert shared.max() == 1


def test_a_unit_projects_to_exact_zeros_outside_its_receptive_field():
    network = alexnet_mini(5, widths=NARROW)
    params = network.init(jax.random.key(3))
    names = ("conv1", "conv2", "conv3")

    @jax.jit
    def projections(x, signals):
        return {
            (name, rule): project(network, params, x, name, signals[name], rule)
            for name in names
            for rule in RULES
        }

    places, signals = {}, {}
    for name in names:
        side = network.output_shapes[name][0]
        places[name] = [(0, 0), (0, side - 1), (side // 2, 1), (side - 1, side - 1)]
        # Whole activations of 1 in place of the unit's own, which may be 0.
        signals[name] = np.zeros((4, side, side, 4), np.float32)
        for k, (row, column) in enumerate(places[name]):
            signals[name][k, row, column] = 1
    for (name, rule), found in projections(images(network, 4), signals).items():
        for place, picture in zip(places[name], np.array(found), strict=True):
            top, left, bottom, right = receptive_field(network, name).box(*place)
            assert np.any(picture[top:bottom, left:right] != 0), (name, rule, place)
            picture[top:bottom, left:right] = 0
            assert np.all(picture == 0), (name, rule, place)


@pytest.fixture(scope="module")
def trained():
    network = small.network()
    params, x = network.init(jax.random.key(0)), images(network, 3)
    return network, params, x, jax.jit(network.activations)(params, x)


@pytest.mark.parametrize(("layer", "maps", "positions"), [
    ("conv2", [3, 0, 2], None),
    ("conv2", [1, 1, 3], [[0, 0], [1, 0], [0, 1]]),
    ("conv2", 2, (1, 1)),
    ("fc3", [5, 0, 15], None),
    ("fc3", 7, [[0, 0]] * 3),
])  # fmt: skip
def test_project_units_is_project_of_a_unit_signal(trained, layer, maps, positions):
    network, params, x, activations = trained
    activations = activations[layer]
    signal = np.asarray(unit_signal(activations, maps, positions))
    kept = strongest_unit(activations, maps) if positions is None else positions
    expected = np.zeros(activations.shape, np.float32)
    of_map = np.broadcast_to(maps, 3)
    for k, (row, column) in enumerate(np.broadcast_to(kept, (3, 2))):
        unit = (k, row, column, of_map[k]) if layer == "conv2" else (k, of_map[k])
        expected[unit] = activations[unit]
    np.testing.assert_array_equal(signal, expected)
    np.testing.assert_allclose(
        project_units(network, params, x, layer, maps, positions),
        project(network, params, x, layer, signal),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip


def test_both_forms_of_the_layers_project_alike(trained):
    network, params, x, _ = trained

    @jax.jit
    def projections(x, signal):
        return [project(network, params, x, "conv2", signal, rule) for rule in RULES]

    signal, found = normal((3, 2, 2, 4)), []
    for form in ("plain", "cpu"):
        with layers.use_implementation(form):
            found.append([np.asarray(one) for one in projections(x, signal)])
    for plain, cpu in zip(*found, strict=True):
        assert_close(plain, cpu)


def test_examples_do_not_meet_and_the_lower_parameters_suffice(trained):
    network, params, x, _ = trained
    lower = {name: params[name] for name in ("conv1", "conv2")}
    together = project_units(network, lower, x, "conv2", [0, 1, 2])
    for k in range(3):
        alone = project_units(network, lower, x[k : k + 1], "conv2", [k])
        np.testing.assert_allclose(together[k], alone[0], rtol=1e-5, atol=1e-5)


def test_equal_networks_share_a_program(trained):
    _, params, x, _ = trained
    project_units(small.network(), params, x, "conv2", 0)
    size = deconvnet._project_units._cache_size()
    project_units(small.network(), params, 2 * x, "conv2", 3, rule="deconvnet")
    assert deconvnet._project_units._cache_size() == size


def test_bad_input_is_named(trained):
    network, params, x, _ = trained
    signal = np.zeros((3, 2, 2, 4), np.float32)
    conv1 = {"conv1": params["conv1"]}
    for wrong, message in (
        (lambda: project(network, params, x, "conv9", signal), "'conv9' is not a layer"),
        (lambda: project(network, params, x, "conv2", signal, "relu"), "rule 'relu' is unknown"),
        (lambda: project(network, params, x, "conv2", signal[:1]), r"expected \(3, 2, 2, 4\)"),
        (lambda: project(network, params, x[:, 1:], "conv2", signal), r"expects x of shape \(N, 8"),
        (lambda: project(network, conv1, x, "conv2", signal), "params hold no layer 'conv2'"),
        (lambda: project(network, params, x.astype(np.uint8), "conv2", signal), "x is uint8"),
        (lambda: project_units(network, params, x, "conv9", 0), "'conv9' is not a layer"),
        (lambda: project_units(network, params, x, "conv2", 4), r"maps hold 4; .* 0\.\.3"),
        (lambda: project_units(network, params, x, "fc4", 0, (0, 1)), r"\(column\) hold 1"),
        (lambda: unpool(signal, signal, window=2, stride=2), r"expected \(3, 1, 1, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
