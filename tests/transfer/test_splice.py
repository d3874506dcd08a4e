import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer_jax.networks import alexnet_mini
from transfer_jax.transfer import lower_layers, splice

SMALL = {"conv1": 4, "conv2": 4, "conv3": 4, "conv4": 4, "conv5": 4, "fc6": 8, "fc7": 8}
NET = alexnet_mini(5, widths=SMALL)
LAYERS = NET.layer_names
SOURCE, TARGET = NET.init(jax.random.key(0)), NET.init(jax.random.key(1))


@given(st.sets(st.sampled_from(LAYERS)))
def test_named_layers_come_from_the_source_and_the_rest_from_the_target(layers):
    before = jax.tree.map(np.asarray, (SOURCE, TARGET))
    mixed = splice(SOURCE, TARGET, layers)
    assert tuple(mixed) == LAYERS
    for name in LAYERS:
        origin = SOURCE if name in layers else TARGET
        for entry in ("kernel", "bias"):
            assert mixed[name][entry] is origin[name][entry]
    jax.tree.map(np.testing.assert_array_equal, before, (SOURCE, TARGET))


def test_the_result_can_be_changed_without_touching_the_inputs():
    mixed = splice(SOURCE, TARGET, ("conv1",))
    mixed["conv1"]["kernel"] = None
    mixed["fc8"]["bias"] = None
    assert SOURCE["conv1"]["kernel"] is not None and TARGET["fc8"]["bias"] is not None


@given(st.sets(st.sampled_from(LAYERS)), st.sets(st.sampled_from(LAYERS)))
def test_splicing_twice_is_splicing_the_union(first, second):
    twice = splice(SOURCE, splice(SOURCE, TARGET, first), second)
    once = splice(SOURCE, TARGET, first | second)
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, twice, once))


def test_a_spliced_network_computes_the_sources_features():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)
    mixed = NET.activations(splice(SOURCE, TARGET, lower_layers(NET, 3)), x)
    np.testing.assert_array_equal(mixed["conv3"], NET.activations(SOURCE, x)["conv3"])
    assert not np.array_equal(mixed["conv4"], NET.activations(SOURCE, x)["conv4"])


def test_other_classes_do_not_matter_below_the_last_layer():
    other = alexnet_mini(7, widths=SMALL).init(jax.random.key(2))
    assert splice(other, TARGET, LAYERS[:7])["fc8"]["bias"].shape == (5,)


def wider(name):
    return alexnet_mini(5, widths={**SMALL, name: 16}).init(jax.random.key(0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: splice(SOURCE, TARGET, ("conv9",)), ValueError, r"'conv9'.*source.*conv1"),
        (lambda: splice(SOURCE, TARGET, "conv1"), TypeError, r"\('conv1',\)"),
        (
            lambda: splice({"conv1": SOURCE["conv1"]}, TARGET, ("conv2",)),
            ValueError,
            "'conv2'.*source has no such layer",
        ),
        (
            lambda: splice(SOURCE, {"fc8": TARGET["fc8"]}, ("conv2",)),
            ValueError,
            "'conv2'.*target has no such layer",
        ),
        (
            lambda: splice(wider("conv1"), TARGET, ("conv1",)),
            ValueError,
            r"'conv1'.*\(5, 5, 3, 16\).*\(5, 5, 3, 4\).*leave 'conv1' out",
        ),
        (
            lambda: splice(alexnet_mini(9, widths=SMALL).init(jax.random.key(0)), TARGET, LAYERS),
            ValueError,
            r"'fc8'.*\(8, 9\).*\(8, 5\).*classes",
        ),
        (
            lambda: splice(
                {"conv1": jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), SOURCE["conv1"])},
                TARGET,
                ("conv1",),
            ),
            ValueError,
            "'conv1'.*bfloat16.*float32.*astype",
        ),
        (
            lambda: splice({"fc8": {"kernel": SOURCE["fc8"]["kernel"]}}, TARGET, ("fc8",)),
            ValueError,
            "'fc8'.*'kernel'.*'bias', 'kernel'",
        ),
        (lambda: lower_layers(NET, 8), ValueError, "n=8.*0..7"),
        (lambda: lower_layers(NET, -1), ValueError, "n=-1"),
        (lambda: lower_layers(NET, 2.0), ValueError, "n=2.0"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_lower_layers_count_from_the_input():
    assert lower_layers(NET, 0) == ()
    assert lower_layers(NET, 3) == ("conv1", "conv2", "conv3")
    assert lower_layers(NET, 7) == LAYERS[:7]
