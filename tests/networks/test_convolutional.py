"""A network over a whole image: equal to the network itself on every crop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transfer_jax.networks import (
    Conv,
    Dense,
    MaxPool,
    Network,
    Relu,
    alexnet_mini,
    caffenet,
    fully_convolutional,
    receptive_field,
    torchvision_alexnet,
)

NARROW = {"conv1": 4, "conv2": 6, "conv3": 4, "conv4": 6, "conv5": 4, "fc6": 16, "fc7": 8}
NETWORKS = [
    alexnet_mini(7),
    caffenet(7, widths=NARROW),
    torchvision_alexnet(7, widths=NARROW),
    alexnet_mini(7, remove=("fc6", "fc7")),
]
# Layers with strides and without padding, whose windows see nothing but themselves.
VALID = Network("valid", 20, (
    Conv("conv1", 4, 4, stride=2, then=(Relu(), MaxPool(3, 2, round_up=False))),
    Conv("conv2", 6, 3, groups=2, then=(Relu(),)),
    Dense("fc3", 8, then=(Relu(),)),
    Dense("fc4", 5),
))  # fmt: skip


def params_of(network):
    def shifted(p):
        return np.asarray(p + 0.01 * np.cos(np.arange(p.size)).reshape(p.shape))

    return jax.tree.map(shifted, network.init(jax.random.key(1), "he"))


def images(count, *shape):
    return np.random.default_rng(0).normal(size=(count, *shape, 3)).astype(np.float32)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_equals_the_network_at_its_own_size(network):
    params = params_of(network)
    dense, dense_params = fully_convolutional(network, params)
    x = images(2, *network.input_shape[:2])
    maps = jax.jit(dense.apply)(dense_params, x)
    logits = np.asarray(jax.jit(network.apply)(params, x))
    assert maps.shape == (2, 1, 1, 7)
    np.testing.assert_allclose(maps[:, 0, 0], logits, atol=1e-5 * np.abs(logits).max())
    assert dense.num_classes == 7 and dense.output_shapes[network.layer_names[-1]] == (1, 1, 7)
    assert dense.multiply_adds == network.multiply_adds
    assert dense.num_params == network.num_params


def test_kernels_are_views():
    network = alexnet_mini(7)
    params = params_of(network)
    dense, dense_params = fully_convolutional(network, params)
    for name in network.layer_names:
        assert np.shares_memory(dense_params[name]["kernel"], params[name]["kernel"])
        assert dense_params[name]["kernel"].shape == dense.kernel_shapes[name]
        assert dense_params[name]["bias"] is params[name]["bias"]


@pytest.mark.parametrize("stride", [1, 3])
def test_every_unit_without_padding_is_the_network_on_its_crop(stride):
    params = params_of(VALID)
    dense, dense_params = fully_convolutional(VALID, params, stride=stride)
    step = receptive_field(dense, "fc4").stride
    assert step == 4 * stride
    x = images(1, 46, 61)
    maps = np.asarray(dense.apply(dense_params, x))[0]
    assert maps.shape == ((46 - 20) // step + 1, (61 - 20) // step + 1, 5)
    places = list(np.ndindex(*maps.shape[:2]))
    crops = [x[0, r * step : r * step + 20, c * step : c * step + 20] for r, c in places]
    logits = VALID.apply(params, jnp.array(crops)).reshape(maps.shape)
    np.testing.assert_allclose(maps, logits, atol=1e-5 * np.abs(logits).max())


def test_where_a_layer_pads_a_window_sees_its_surroundings():
    """With zeros around it a window is what its crop is; with an image around it, it is not, and
    still nothing reaches it from beyond its receptive field."""
    layers = (Conv("conv1", 4, 5, stride=2, padding=2, then=(Relu(),)), Dense("fc2", 5))
    network = Network("padded", 8, layers)
    params = params_of(network)
    dense, dense_params = fully_convolutional(network, params)
    field = receptive_field(dense, "fc2")
    assert (field.size, field.stride, field.offset) == (11, 2, -2)
    image = images(1, 24, 24)
    window, seen = np.s_[:, 8:16, 8:16], np.s_[:, 6:17, 6:17]
    alone, near = np.zeros_like(image), np.zeros_like(image)
    alone[window], near[seen] = image[window], image[seen]
    crop = network.apply(params, image[window])
    at = {name: dense.apply(dense_params, x)[:, 4, 4]
          for name, x in {"alone": alone, "near": near, "whole": image}.items()}  # fmt: skip
    np.testing.assert_allclose(at["alone"], crop, atol=1e-5)
    np.testing.assert_allclose(at["near"], at["whole"], atol=1e-5)
    assert np.abs(at["whole"] - crop).max() > 0.1


@pytest.mark.parametrize(("network", "message"), [
    (torchvision_alexnet(7, input_size=256, widths=NARROW),
     "conv5 averages 7 x 7 to 6 x 6 windows"),
    (caffenet(7, input_size=(227, 259), widths=NARROW), "map of 6 x 7 enters layer fc6"),
])  # fmt: skip
def test_what_cannot_be_convolved_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        fully_convolutional(network, network.init(jax.random.key(0)))


def test_an_image_smaller_than_the_input_has_no_window():
    dense, dense_params = fully_convolutional(VALID, params_of(VALID))
    with pytest.raises(ValueError, match="layer fc3: nothing is left"):
        dense.apply(dense_params, images(1, 19, 30))
