import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.networks import naive
from transfer_jax import networks
from transfer_jax.networks import (
    Dense,
    Network,
    adapted,
    alexnet,
    alexnet_mini,
    caffenet,
    torchvision_alexnet,
    zfnet,
)

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
MINI = alexnet_mini(10)
SHORT = alexnet_mini(10, widths={"fc6": 32}, remove=("conv3", "conv4", "conv5", "fc7"))


@pytest.fixture(scope="module")
def params():
    return MINI.init(jax.random.key(0))


def images(network, count=2):
    shape = (count, *network.input_shape)
    return jnp.asarray(np.random.default_rng(0).normal(size=shape) * 50, jnp.float32)


@pytest.mark.parametrize(
    ("build", "count"),
    [(caffenet, 60_965_224), (alexnet, 60_965_224), (torchvision_alexnet, 61_100_840),
     (zfnet, 62_357_608)],
)  # fmt: skip
def test_published_parameter_counts(build, count):
    network = build(num_classes=1000)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    assert network.num_params == sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
    assert network.layer_names == LAYERS


# Kernels and biases, by hand: of 3 x 3 convolutions 3 -> 16, 16 -> 16, ..., and of dense layers
# from 4 x 4 x 64 units to 512, 512 and 10.
RGB, CONV16, TO48, CONV48, TO64, CONV64 = 448, 2_320, 6_960, 20_784, 27_712, 36_928
FC6, FC7, FC8 = 524_800, 262_656, 5_130
EIGHT = RGB + TO48 + TO64 + 2 * CONV64 + FC6 + FC7 + FC8


@pytest.mark.parametrize(
    ("depth", "count"),
    [(8, EIGHT), (11, EIGHT + CONV48 + 2 * CONV64), (13, EIGHT + CONV16 + CONV48 + 3 * CONV64),
     (16, EIGHT + CONV16 + 2 * CONV48 + 5 * CONV64)],
)  # fmt: skip
def test_the_series_of_depths_is_one_network_with_more_convolutions(depth, count):
    network = networks.build(f"deep{depth}", num_classes=10)
    assert len(network.layers) == depth and network.num_params == count
    assert network.layer_names[-3:] == ("fc6", "fc7", "fc8")
    for size, sides in ((32, [16, 8, 8, 4]), (64, [32, 16, 16, 8])):
        maps = networks.build(f"deep{depth}", num_classes=10, input_size=size).output_shapes
        # Of each stage the last convolution; the next one begins with the digit after its own.
        last = {name[4]: shape[0] for name, shape in maps.items() if name[:4] == "conv"}
        assert [*last.values()] == sides


def test_the_series_of_widths():
    half, double = (alexnet_mini(10, width=width) for width in (0.5, 2))
    maps = [16, 32, 48, 48, 32, 256, 256, 10]  # a half of 24, 64, ..., in sixteens
    assert [layer.features for layer in half.layers] == maps
    assert half.num_params == 1_216 + 6_432 + 13_872 + 10_416 + 6_944 + 131_328 + 65_792 + 2_570
    assert [layer.features for layer in double.layers] == [48, 128, 192, 192, 128, 1024, 1024, 10]
    assert double.num_params == (
        3_648 + 76_928 + 221_376 + 166_080 + 110_720 + 2_098_176 + 1_049_600 + 10_250
    )
    mixed = alexnet_mini(10, width=0.5, widths={"fc6": 40}, remove=("fc7",))
    assert [layer.features for layer in mixed.layers] == [16, 32, 48, 48, 32, 40, 10]


def test_map_sizes_of_the_papers():
    for network, sides in (
        (caffenet(), [27, 13, 13, 13, 6]),
        (zfnet(), [55, 13, 13, 13, 6]),
        (torchvision_alexnet(input_size=320), [39, 19, 19, 19, 6]),
        (MINI, [16, 8, 8, 8, 4]),
        (zfnet(remove=("conv3", "conv4", "fc6")), [55, 13, 6]),
    ):
        assert [shape[0] for shape in network.output_shapes.values() if len(shape) == 3] == sides


@pytest.mark.parametrize(
    ("cut", "hidden", "added"),
    [
        ("fc7", (2048,), {"fca": (4096, 2048), "fcb": (2048, 21)}),
        ("fc6", (), {"fcb": (4096, 21)}),
        ("fc8", (64, 32), {"fca": (1000, 64), "fca2": (64, 32), "fcb": (32, 21)}),
    ],
)
def test_adaptation_layers_stand_on_a_network_up_to_its_cut(cut, hidden, added):
    base = caffenet()
    network = adapted(base, cut, hidden, 21)
    kept = LAYERS[: LAYERS.index(cut) + 1]
    assert network.layers[: len(kept)] == base.layers[: len(kept)]
    assert network.kernel_shapes == {name: base.kernel_shapes[name] for name in kept} | added
    relus = [layer.then != () for layer in network.layers[len(kept) :]]
    assert relus == [True] * len(hidden) + [False]


def test_costs_by_hand():
    counts = caffenet().multiply_adds
    assert counts["conv1"] == 55 * 55 * 96 * 11 * 11 * 3
    assert counts["conv2"] == 27 * 27 * 256 * 5 * 5 * 48
    assert counts["fc6"] == 6 * 6 * 256 * 4096
    assert sum(alexnet_mini().multiply_adds.values()) == pytest.approx(15e6, rel=0.05)
    dense = Network("dense", 4, (Dense("a", 10), Dense("b", 3)))
    assert dense.train_flops() == 2 * (2 * 480 + 3 * 30)  # the pixels need no gradient
    assert dense.train_flops(num_frozen=1) == 2 * (480 + 2 * 30)


@pytest.mark.parametrize(
    ("build", "size"),
    [(caffenet, (131, 99)), (alexnet, 99), (zfnet, 99), (alexnet_mini, 32),
     (torchvision_alexnet, 150)],
)  # fmt: skip
def test_every_layer_equals_an_independent_implementation(build, size):
    narrow = {"conv1": 4, "conv2": 6, "conv3": 4, "conv4": 6, "conv5": 4, "fc6": 16, "fc7": 8}
    network = build(num_classes=7, widths=narrow, input_size=size)
    params = network.init(jax.random.key(1), "he")
    params = jax.tree.map(lambda p: p + 0.01 * jnp.linspace(0, 1, p.size).reshape(p.shape), params)
    x = images(network, 1)
    ours = jax.jit(network.activations)(params, x)
    reference = naive.activations(network, params, np.asarray(x[0]))
    for name in network.layer_names:
        error = np.abs(ours[name][0] - reference[name]).max() / np.abs(reference[name]).max()
        assert error < 1e-4, (name, error)


def test_initial_weights_and_biases_are_caffes():
    params = caffenet(100, widths={"fc6": 256, "fc7": 256}).init(jax.random.key(0))
    stds = {"conv1": 0.01, "conv3": 0.01, "fc6": 0.005, "fc7": 0.005, "fc8": 0.01}
    for name, std in stds.items():
        assert float(params[name]["kernel"].std()) == pytest.approx(std, rel=0.05)
        assert abs(float(params[name]["kernel"].mean())) < std / 20
    ones = {name for name in LAYERS if bool((params[name]["bias"] == 1).all())}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert all(bool((params[name]["bias"] == 0).all()) for name in set(LAYERS) - ones)
    assert tuple(params) == LAYERS


def test_alexnets_initial_biases_are_those_with_which_bvlcs_model_learns():
    params = alexnet(10, widths={"fc6": 16, "fc7": 16}).init(jax.random.key(0))
    biases = {name: float(layer["bias"].max()) for name, layer in params.items()}
    some = dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), 0.1)
    assert biases == pytest.approx(dict.fromkeys(LAYERS, 0.0) | some)


def test_schemes_of_initialisation():
    network = caffenet(10, widths=dict.fromkeys(("fc6", "fc7"), 64))
    for scheme, first in (("he", (2 / 363) ** 0.5), ("he_quiet_conv1", 0.01)):
        params = network.init(jax.random.key(0), scheme)
        assert float(params["conv1"]["kernel"].std()) == pytest.approx(first, rel=0.05)
        he = (2 / (3 * 3 * 192)) ** 0.5
        assert float(params["conv4"]["kernel"].std()) == pytest.approx(he, rel=0.05)
        assert all(bool((layer["bias"] == 0).all()) for layer in params.values())


def test_a_layers_weights_depend_on_key_name_and_shape_alone(params):
    other = alexnet_mini(7, remove=("conv3",)).init(jax.random.key(0))
    for name in ("conv1", "conv2", "fc6", "fc7"):
        np.testing.assert_array_equal(params[name]["kernel"], other[name]["kernel"])
    assert (params["fc7"]["kernel"] != MINI.init(jax.random.key(1))["fc7"]["kernel"]).mean() > 0.9
    conv2, fc7 = (np.ravel(params[name]["kernel"])[:9000] for name in ("conv2", "fc7"))
    assert abs(np.corrcoef(conv2, fc7)[0, 1]) < 0.1


@settings(max_examples=5)
@given(st.integers(0, 4), st.booleans(), st.booleans())
def test_prefix_and_suffix_compose_to_the_whole(cut, train, many):
    params, x, rng = SHORT.init(jax.random.key(0)), images(SHORT), jax.random.key(3)
    rng = jax.random.split(rng, len(x)) if many else rng
    whole = SHORT.apply(params, x, train=train, rng=rng)
    middle = SHORT.apply_range(params, x, 0, cut, train=train, rng=rng)
    upper = {name: params[name] for name in SHORT.layer_names[cut:]}
    parts = SHORT.apply_range(upper, middle, cut, None, train=train, rng=rng)
    np.testing.assert_array_equal(whole, parts)


def test_dropout_depends_on_the_example_alone():
    params, x, rng = SHORT.init(jax.random.key(0)), images(SHORT, 4), jax.random.key(0)
    dropped = SHORT.apply_range(params, x, 0, 3, train=True, rng=rng)
    keys = jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(2, 4))
    tail = SHORT.apply_range(params, x[2:], 0, 3, train=True, rng=keys)
    np.testing.assert_array_equal(tail != 0, dropped[2:] != 0)


def test_convolutions_take_images_of_any_size_and_dense_layers_do_not(params):
    large = jnp.zeros((1, 50, 41, 3))
    lower = jax.eval_shape(lambda x: MINI.apply_range(params, x, None, "fc6"), large)
    assert lower.shape == (1, 6, 5, 64)
    with pytest.raises(ValueError, match=r"\(6, 5, 64\) enters layer fc6.*\(4, 4, 64\)"):
        MINI.apply(params, large)
    # As many units in other places.
    with pytest.raises(ValueError, match=r"\(2, 8, 64\) enters layer fc6.*\(4, 4, 64\)"):
        MINI.apply(params, jnp.zeros((1, 16, 64, 3)))
    flat = MINI.apply_range(params, jnp.zeros((1, 1024)), "fc6", None)
    assert flat.shape == (1, MINI.num_classes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: networks.build("resnet"), "resnet.*caffenet"),
        (lambda: alexnet_mini(widths={"conv9": 3}), "conv9"),
        (lambda: alexnet_mini(widths={"conv2": 63}), "conv2.*63.*2 groups"),
        (lambda: alexnet_mini(dropout=1.0), "dropout=1.0"),
        (lambda: MINI.init(jax.random.key(0), "xavier"), "xavier"),
        (lambda: caffenet(input_size=8), "conv1"),
        (lambda: MINI.apply({}, images(MINI), train=True), "rng"),
        (lambda: MINI.apply_range({}, images(MINI), 0, "conv9"), "conv9"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
