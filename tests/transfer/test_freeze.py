"""What freezing means: bits that stand still, and an optimiser that does not know of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st

from tests.small import same_bits
from transfer_jax.transfer import freeze

LAYERS = ("conv1", "conv2", "fc8")


def make_params():
    rng = np.random.default_rng(0)
    return {
        name: {
            "kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
            "bias": jnp.asarray([0.0, -0.0, 1e-37, jnp.inf], jnp.float32),
        }
        for name in LAYERS
    }


OPTIMISERS = {
    "momentum and weight decay": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.5, 0.9)),
    "adamw": optax.adamw(0.1, weight_decay=0.3),
    "global norm": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
}


@pytest.mark.parametrize("name", OPTIMISERS)
@settings(max_examples=10)
@given(frozen=st.sets(st.sampled_from(LAYERS)), steps=st.integers(1, 4))
def test_frozen_leaves_are_bit_identical_and_the_others_move(name, frozen, steps):
    tx = freeze(OPTIMISERS[name], frozen)
    params = make_params()
    params["fc8"]["bias"] = jnp.zeros(4)
    start = dict(params)
    state, update = tx.init(params), jax.jit(tx.update)
    for step in range(1, steps + 1):
        gradients = jax.tree.map(lambda leaf, s=step: jnp.full_like(leaf, s), params)
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    for layer in LAYERS:
        assert same_bits(params[layer], start[layer]) == (layer in frozen)


def test_frozen_layers_carry_no_optimiser_state():
    params, tx = make_params(), optax.sgd(0.1, 0.9)
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(freeze(tx, frozen).init(params)))
        for frozen in ((), ("conv1", "conv2"), LAYERS)
    ]
    assert sizes == [3 * 16, 16, 0]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_layers_that_learn_get_the_wrapped_optimisers_updates(name):
    """Also where it takes a norm over all layers, to which frozen ones then add nothing."""
    params, tx = make_params(), OPTIMISERS[name]
    gradients = jax.tree.map(lambda leaf: 1 + jnp.arange(leaf.size).reshape(leaf.shape) / 9, params)
    gradients["conv1"] = jax.tree.map(lambda leaf: leaf * 1e6, gradients["conv1"])
    frozen = freeze(tx, ("conv1",))
    ours, _ = frozen.update(gradients, frozen.init(params), params)
    alone = {name: params[name] for name in LAYERS[1:]}
    theirs, _ = tx.update({n: gradients[n] for n in LAYERS[1:]}, tx.init(alone), alone)
    for name in LAYERS[1:]:
        jax.tree.map(np.testing.assert_array_equal, ours[name], theirs[name])


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"conv9.*conv1"):
        freeze(optax.sgd(0.1), ("conv9",)).init(make_params())
