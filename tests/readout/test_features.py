import functools

import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.readout import features
from transfer_jax.readout.features import layer_features, probabilities

NETWORK = small.network(3)
PARAMS = NETWORK.init(jax.random.key(0))
PIXELS = np.random.default_rng(0).integers(0, 256, (23, small.SIZE, small.SIZE, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    of_eight = functools.partial(features.map_images, batch_size=8)
    monkeypatch.setattr(features, "map_images", of_eight)


def view(images):
    return (images.astype(np.float32) - 120) / 60


def test_features_are_the_flattened_activations_in_the_order_of_the_rows():
    """Lower layers need no params of upper ones, and take images of any size."""
    large = np.repeat(np.repeat(PIXELS, 2, axis=1), 2, axis=2)
    rows, layers = np.random.default_rng(1).permutation(23)[:21], ("conv2", "conv1")
    lower = {name: PARAMS[name] for name in layers}
    found = layer_features(NETWORK, lower, large.__getitem__, rows, layers, view=view)
    for name, above in (("conv1", "conv2"), ("conv2", "fc3")):
        wanted = NETWORK.apply_range(PARAMS, view(large[rows]), None, above).reshape(21, -1)
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], wanted, atol=1e-5)


def test_probabilities_are_the_mean_over_the_crops_of_a_view():
    def softmax(x):
        logits = np.asarray(NETWORK.apply(PARAMS, x), np.float64)
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    def both(images):
        return np.stack([view(images), view(images[:, :, ::-1])], axis=1)

    read, rows = PIXELS.__getitem__, np.arange(23)
    plain, mirrored = softmax(view(PIXELS)), softmax(view(PIXELS[:, :, ::-1]))
    one = probabilities(NETWORK, PARAMS, read, rows, view=view)
    two = probabilities(NETWORK, PARAMS, read, rows, view=both)
    np.testing.assert_allclose(one, plain, atol=1e-5)
    np.testing.assert_allclose(two, (plain + mirrored) / 2, atol=1e-5)
