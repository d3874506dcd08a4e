"""What splicing means: which arrays a spliced network holds, and what it computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from transfer_jax.networks import Conv, Dense, Network, Relu, alexnet_mini
from transfer_jax.transfer import lower_layers, splice

SMALL = {"conv1": 4, "conv2": 4, "conv3": 4, "conv4": 4, "conv5": 4, "fc6": 8, "fc7": 8}
NET = alexnet_mini(5, widths=SMALL)
LAYERS = NET.layer_names
SOURCE, TARGET = NET.init(jax.random.key(0)), NET.init(jax.random.key(1))


@given(st.sets(st.sampled_from(LAYERS)))
def test_named_layers_come_from_the_source_and_the_rest_from_the_target(layers):
    before = jax.tree.map(np.array, (SOURCE, TARGET))
    mixed = splice(SOURCE, TARGET, layers)
    assert tuple(mixed) == LAYERS
    for name in LAYERS:
        origin = SOURCE if name in layers else TARGET
        for entry in ("kernel", "bias"):
            assert mixed[name][entry] is origin[name][entry]
    jax.tree.map(np.testing.assert_array_equal, before, (SOURCE, TARGET))


@given(st.sets(st.sampled_from(LAYERS)), st.sets(st.sampled_from(LAYERS)))
def test_splicing_twice_is_splicing_the_union(first, second):
    twice = splice(SOURCE, splice(SOURCE, TARGET, first), second)
    once = splice(SOURCE, TARGET, first | second)
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, twice, once))


def test_the_result_can_be_changed_without_touching_the_inputs():
    mixed = splice(SOURCE, TARGET, ("conv1",))
    mixed["conv1"]["kernel"] = mixed["fc8"]["bias"] = None
    assert SOURCE["conv1"]["kernel"] is not None and TARGET["fc8"]["bias"] is not None


def test_a_spliced_network_computes_the_sources_features():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)
    mixed = NET.activations(splice(SOURCE, TARGET, lower_layers(NET, 3)), x)
    source = NET.activations(SOURCE, x)
    np.testing.assert_array_equal(mixed["conv3"], source["conv3"])
    assert not np.array_equal(mixed["conv4"], source["conv4"])


def test_other_classes_do_not_matter_below_the_last_layer():
    other = alexnet_mini(7, widths=SMALL).init(jax.random.key(2))
    assert splice(other, TARGET, LAYERS[:7])["fc8"]["bias"].shape == (5,)
    with pytest.raises(ValueError, match=r"'fc8'.*\[8, 7\].*\[8, 5\]"):
        splice(other, TARGET, LAYERS)


def test_layers_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"'conv9': source has the layers .*conv1"):
        splice(SOURCE, TARGET, ("conv9",))
    with pytest.raises(ValueError, match="'conv2': target has"):
        splice(SOURCE, {"fc8": TARGET["fc8"]}, ("conv2",))
    half = {"conv1": jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), SOURCE["conv1"])}
    with pytest.raises(ValueError, match=r"'conv1'.*bfloat16.*float32"):
        splice(half, TARGET, ("conv1",))
    with pytest.raises(ValueError, match="'fc8'"):
        splice({"fc8": {"kernel": SOURCE["fc8"]["kernel"]}}, TARGET, ("fc8",))


def test_lower_layers_count_from_the_input_in_networks_of_any_depth():
    assert lower_layers(NET, 0) == ()
    assert lower_layers(NET, 3) == ("conv1", "conv2", "conv3")
    convs = tuple(Conv(f"conv{i}", 4, 3, padding=1, then=(Relu(),)) for i in range(1, 14))
    deep = Network("deep", (8, 12), (*convs, Dense("fc14", 4), Dense("fc15", 4), Dense("fc16", 2)))
    assert lower_layers(deep, 15)[-1] == "fc15"
    for network, n in ((NET, 8), (NET, -1), (deep, 16)):
        with pytest.raises(ValueError, match=f"n={n} lower layers"):
            lower_layers(network, n)
