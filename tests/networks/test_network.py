import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import naive
from transfer_jax import networks
from transfer_jax.networks import alexnet, alexnet_mini, caffenet, torchvision_alexnet, zfnet

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
MINI = alexnet_mini(10)
PARAMS = MINI.init(jax.random.key(0))


def images(network, count=2, seed=0):
    shape = (count, network.input_size, network.input_size, 3)
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * 50, jnp.float32)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (caffenet, 60_965_224),
        (alexnet, 60_965_224),
        (torchvision_alexnet, 61_100_840),
        (zfnet, 62_357_608),
    ],
)
def test_published_parameter_counts(build, count):
    network = build(num_classes=1000)
    assert network.num_params == count
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
    assert network.layer_names == LAYERS == tuple(shapes)


def test_map_sizes_of_the_papers():
    assert [caffenet().output_shapes[f"conv{i}"][0] for i in range(1, 6)] == [27, 13, 13, 13, 6]
    assert [zfnet().output_shapes[f"conv{i}"][0] for i in range(1, 6)] == [55, 13, 13, 13, 6]
    for side, maps in {224: [27, 13, 13, 13, 6], 320: [39, 19, 19, 19, 6]}.items():
        shapes = torchvision_alexnet(input_size=side).output_shapes
        assert [shapes[f"conv{i}"][0] for i in range(1, 6)] == maps
    assert [MINI.output_shapes[f"conv{i}"][0] for i in range(1, 6)] == [16, 8, 8, 8, 4]


def test_mini_costs_about_fifteen_million_multiply_adds():
    assert sum(alexnet_mini().multiply_adds.values()) == pytest.approx(15e6, rel=0.05)


def test_multiply_adds_of_caffenet_layers_by_hand():
    counts = caffenet().multiply_adds
    assert counts["conv1"] == 55 * 55 * 96 * 11 * 11 * 3
    assert counts["conv2"] == 27 * 27 * 256 * 5 * 5 * 48
    assert counts["fc6"] == 6 * 6 * 256 * 4096


@pytest.mark.parametrize(
    "build",
    [
        caffenet,
        alexnet,
        zfnet,
        alexnet_mini,
        functools.partial(torchvision_alexnet, input_size=227),
    ],
    ids=["caffenet", "alexnet", "zfnet", "alexnet_mini", "torchvision_alexnet"],
)
def test_every_layer_equals_an_independent_implementation(build):
    # Full geometry, few maps: SciPy takes minutes for all of them.
    narrow = {"conv1": 8, "conv2": 16, "conv3": 8, "conv4": 12, "conv5": 8, "fc6": 32, "fc7": 16}
    network = build(num_classes=7, widths=narrow, init="he")
    params = network.init(jax.random.key(1))
    params = jax.tree.map(
        lambda leaf: leaf + 0.01 * jnp.arange(leaf.size).reshape(leaf.shape) / leaf.size, params
    )
    x = images(network, 1)
    ours = network.activations(params, x)
    reference = naive.activations(network, params, np.asarray(x[0]))
    for name in network.layer_names:
        error = np.abs(ours[name][0] - reference[name]).max() / np.abs(reference[name]).max()
        assert error < 1e-4, (name, error)


@pytest.mark.slow
def test_full_width_caffenet_equals_an_independent_implementation():
    network = caffenet(init="he")
    params = network.init(jax.random.key(1))
    x = images(network, 1)
    ours = network.activations(params, x)
    reference = naive.activations(network, params, np.asarray(x[0]))
    for name in network.layer_names:
        error = np.abs(ours[name][0] - reference[name]).max() / np.abs(reference[name]).max()
        assert error < 1e-4, (name, error)


def test_initial_weights_and_biases_are_caffes():
    params = caffenet(100, widths={"fc6": 512, "fc7": 512}).init(jax.random.key(0))
    stds = {"conv1": 0.01, "conv3": 0.01, "fc6": 0.005, "fc7": 0.005, "fc8": 0.01}
    for name, std in stds.items():
        assert float(params[name]["kernel"].std()) == pytest.approx(std, rel=0.05)
        assert abs(float(params[name]["kernel"].mean())) < std / 20
    ones = {name for name in LAYERS if bool((params[name]["bias"] == 1).all())}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert all(bool((params[name]["bias"] == 0).all()) for name in set(LAYERS) - ones)


def test_he_initialisation():
    params = alexnet_mini(10).init(jax.random.key(0))
    fan_in = 3 * 3 * 48
    assert float(params["conv4"]["kernel"].std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    assert all(bool((layer["bias"] == 0).all()) for layer in params.values())


def test_dense_input_is_the_map_flattened_row_by_row():
    activations = MINI.activations(PARAMS, images(MINI))
    flat = np.asarray(activations["conv5"]).reshape(2, -1)
    fc6 = np.maximum(flat @ PARAMS["fc6"]["kernel"] + PARAMS["fc6"]["bias"], 0)
    np.testing.assert_allclose(activations["fc6"], fc6, rtol=1e-4, atol=1e-3)


@settings(max_examples=10)
@given(st.integers(0, 8), st.booleans())
def test_prefix_and_suffix_compose_to_the_whole(cut, train):
    x, rng = images(MINI), jax.random.key(3) if train else None
    whole = MINI.apply(PARAMS, x, train=train, rng=rng)
    middle = MINI.apply_range(PARAMS, x, 0, cut, train=train, rng=rng)
    parts = MINI.apply_range(PARAMS, middle, cut, None, train=train, rng=rng)
    np.testing.assert_array_equal(whole, parts)


def test_ranges_by_name_are_slices():
    x = images(MINI)
    by_name = MINI.apply_range(PARAMS, x, "conv1", "conv3")
    np.testing.assert_array_equal(by_name, MINI.activations(PARAMS, x)["conv2"])


def test_a_part_needs_only_its_own_params():
    upper = {name: PARAMS[name] for name in LAYERS[5:]}
    h = jnp.ones((2, 4, 4, 64))
    assert MINI.apply_range(upper, h, "fc6", None).shape == (2, 10)


def test_dropout_scales_kept_units_and_depends_on_the_example_alone():
    x = images(MINI, 4)
    rng = jax.random.key(0)
    fc6 = MINI.apply_range(PARAMS, x, 0, 6)
    dropped = MINI.apply_range(PARAMS, x, 0, 6, train=True, rng=rng)
    kept = np.asarray(dropped) != 0
    np.testing.assert_allclose(np.asarray(dropped)[kept], 2 * np.asarray(fc6)[kept], rtol=1e-5)
    keys = jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(4))
    tail = MINI.apply_range(PARAMS, x[2:], 0, 6, train=True, rng=keys[2:])
    np.testing.assert_allclose(tail, dropped[2:], rtol=1e-4, atol=1e-3)
    assert ((np.asarray(tail) != 0) == kept[2:]).all()


def test_ablations_are_other_tuples():
    shallow = zfnet(10, remove=("conv3", "conv4", "fc6", "fc7"))
    assert shallow.layer_names == ("conv1", "conv2", "conv5", "fc8")
    assert shallow.kernel_shapes["conv5"] == (3, 3, 256, 256)
    wide = zfnet(10, widths={"conv3": 512, "conv4": 1024, "conv5": 512})
    assert wide.kernel_shapes["fc6"] == (6 * 6 * 512, 4096)


def test_networks_are_immutable_and_hashable():
    assert alexnet_mini(10) == MINI and hash(alexnet_mini(10)) == hash(MINI)
    with pytest.raises(dataclasses.FrozenInstanceError):
        MINI.name = "other"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: networks.build("resnet"), "resnet.*caffenet"),
        (lambda: networks.build("zfnet", depth=3), "depth"),
        (lambda: alexnet_mini(widths={"conv9": 3}), "conv9"),
        (lambda: alexnet_mini(remove=("conv9",)), "conv9"),
        (lambda: alexnet_mini(remove=("fc8",)), "num_classes"),
        (lambda: alexnet_mini(widths={"conv2": 63}), "conv2.*63.*2 groups"),
        (lambda: alexnet_mini(dropout=1.0), "dropout=1.0"),
        (lambda: alexnet_mini(init="xavier"), "xavier"),
        (lambda: caffenet(input_size=8), "conv"),
        (lambda: MINI.apply(PARAMS, jnp.zeros((1, 31, 32, 3))), r"32, 32, 3.*31, 32, 3"),
        (lambda: MINI.apply(PARAMS, images(MINI), train=True), "rng"),
        (lambda: MINI.apply({}, images(MINI)), "conv1"),
        (lambda: MINI.apply_range(PARAMS, images(MINI), 0, "conv9"), "conv9"),
        (lambda: MINI.apply_range(PARAMS, images(MINI), 0, 9), "9.*0..8"),
        (lambda: MINI.apply_range(PARAMS, images(MINI), 3, 2), "behind"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
