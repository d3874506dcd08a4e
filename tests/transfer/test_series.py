"""Networks of every depth and width splice and freeze."""

import jax
import numpy as np
import optax
import pytest

from tests.small import same_bits
from transfer_jax.networks import build
from transfer_jax.transfer import freeze, lower_layers, splice


@pytest.mark.parametrize("name,width", [("deep16", 0.5), ("alexnet_mini", 1.5)])
def test_every_network_of_the_series_splices_and_freezes(name, width):
    network = build(name, num_classes=3, input_size=8, width=width)
    base = jax.tree.map(np.asarray, network.init(jax.random.key(0), "he"))
    other = jax.tree.map(lambda leaf: leaf + np.float32(0.01), base)
    frozen = lower_layers(network, len(network.layers) // 2)
    tx, x = freeze(optax.sgd(0.1, 0.9), frozen), np.ones((2, *network.input_shape), np.float32)

    @jax.jit
    def step(params):
        def loss(params):
            return -jax.nn.log_softmax(network.apply(params, x))[:, 1].sum()

        updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params)
        return optax.apply_updates(params, updates)

    start = splice(base, other, frozen)
    after = step(start)
    for layer in network.layer_names:
        assert same_bits(start[layer], base[layer]) == (layer in frozen)
        assert same_bits(after[layer], start[layer]) == (layer in frozen)
