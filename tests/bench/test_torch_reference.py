"""The PyTorch rival computes what ours computes; runs where torch is installed."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.bench import step, torch_reference
from transfer_jax.grid.cost import step_loop
from transfer_jax.networks import alexnet_mini, torchvision_alexnet
from transfer_jax.training import Augmentation

torch = pytest.importorskip("torch")

WIDTHS = {"conv1": 8, "conv2": 8, "conv3": 8, "conv4": 8, "conv5": 8, "fc6": 16, "fc7": 16}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    # Threads of torch wait for each other at every operation where the cores are busy.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("build", "size"), [(alexnet_mini, 32), (torchvision_alexnet, 96)])
def test_logits_are_equal(build, size):
    network = build(7, widths=WIDTHS, input_size=size)
    params = network.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(3, size, size, 3)).astype(np.float32)
    model = torch_reference.torch_network(network, params).eval()
    with torch.no_grad():
        theirs = model(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(theirs, jax.jit(network.apply)(params, x), rtol=1e-4, atol=1e-5)


def test_training_is_equal_without_chance():
    network = small.network()
    layers = [dataclasses.replace(one, then=one.then[:1]) for one in network.layers[1:]]
    network = dataclasses.replace(network, layers=(network.layers[0], *layers))
    recipe = dataclasses.replace(
        step.recipe_for(network, 8, "float32"),
        augmentation=Augmentation(size=8, mirror=False),
        learning_rate=0.5,
        weight_decay=0.05,
        bias_lr_multiplier=2.0,
        label_smoothing=0.1,
        steps=12,
    )
    data, params = step.noise(network, 8), network.init(jax.random.key(0))
    ours = step_loop(network, recipe, (0,), (params,), data)
    theirs = torch_reference.loop(network, recipe, params, data)
    pairs = [(ours(1)[0], theirs(1)) for _ in range(10)]
    np.testing.assert_allclose(*zip(*pairs, strict=True), rtol=1e-3)


def test_views_are_crops_of_the_padded_image_and_their_mirrors():
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    recipe = step.recipe_for(small.network(), 8, "float32")
    mean = np.array([100, 120, 140], np.float32)
    views = torch_reference.views(torch.from_numpy(images), torch.from_numpy(mean), recipe)
    padded = np.pad((images - mean) / 60, ((0, 0), (4, 4), (4, 4), (0, 0)))
    seen = []
    for view, image in zip(views.permute(0, 2, 3, 1).numpy(), padded, strict=True):
        seen += [
            (row, column, flip)
            for row in range(9)
            for column in range(9)
            for flip in (1, -1)
            if np.allclose(view, image[row : row + 8, column : column + 8][:, ::flip], atol=1e-5)
        ]
    assert len(seen) == 64
    assert {row for row, *_ in seen} >= {0, 8} and {column for _, column, _ in seen} >= {0, 8}
    assert {flip for *_, flip in seen} == {1, -1}


def test_bfloat16_is_autocast():
    network, found = small.network(), {}
    data, params = step.noise(network, 8), network.init(jax.random.key(0))
    for precision in ("float32", "bfloat16"):
        recipe = step.recipe_for(network, 8, precision)
        torch.manual_seed(0)  # the same views and dropout
        found[precision] = torch_reference.loop(network, recipe, params, data)(1)
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.02)
    assert found["bfloat16"] != found["float32"]
