"""The PyTorch contender computes what ours computes; runs where torch can be imported."""

import dataclasses

import jax
import numpy as np
import pytest

from transfer_jax.bench import torch_training
from transfer_jax.bench.training import SyntheticData, recipe_for, train_loop
from transfer_jax.data.augment import Augmentation, eval_view
from transfer_jax.networks import alexnet_mini, torchvision_alexnet
from transfer_jax.training.step import Program

torch = pytest.importorskip("torch")

WIDTHS = {"conv1": 8, "conv2": 8, "conv3": 8, "conv4": 8, "conv5": 8, "fc6": 16, "fc7": 16}


@pytest.mark.parametrize(("build", "size"), [(alexnet_mini, 32), (torchvision_alexnet, 96)])
def test_logits_are_equal(build, size):
    network = build(7, widths=WIDTHS, input_size=size)
    params = network.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(3, size, size, 3)).astype(np.float32)
    model = torch_training.torch_network(network, params).eval()
    with torch.no_grad():
        theirs = model(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(theirs, jax.jit(network.apply)(params, x), rtol=1e-4, atol=1e-5)


def test_training_is_equal_without_chance(tiny_network):
    layers = [dataclasses.replace(layer, then=layer.then[:1]) for layer in tiny_network.layers[1:]]
    network = dataclasses.replace(tiny_network, layers=(tiny_network.layers[0], *layers))
    recipe = dataclasses.replace(
        recipe_for(network, 8),
        augmentation=Augmentation(size=8, pad=0, mirror=False),
        learning_rate=0.5,
        weight_decay=0.05,
        bias_lr_multiplier=2.0,
        label_smoothing=0.1,
        steps=12,
    )
    data = SyntheticData.draw(network, 8)
    params = network.init(jax.random.key(0))
    ours = train_loop(Program(network, recipe, (0,)), (params,), data)
    ours.run(10)
    run, losses = torch_training.train_loop(network, params, recipe, data)
    for _ in range(10):
        run(1)
    np.testing.assert_allclose(losses, ours.losses()[:, 0], rtol=1e-3)


def test_views_are_crops_of_the_padded_image():
    network = alexnet_mini(7, widths=WIDTHS)
    recipe = recipe_for(network, 8)
    data = SyntheticData.draw(network, 8)
    images, mean = data.source.images[:64], data.source.mean
    views = torch_training._views(torch.from_numpy(images), torch.from_numpy(mean), recipe)
    views = views.permute(0, 2, 3, 1).numpy()
    bordered = Augmentation(size=40, pad=4)
    padded = np.asarray(eval_view(images, bordered, mean, recipe.pixel_scale))
    places = []
    for view, image in zip(views, padded, strict=True):
        found = [
            (row, column, flip)
            for row in range(9)
            for column in range(9)
            for flip in (1, -1)
            if np.allclose(view, image[row : row + 32, column : column + 32][:, ::flip], atol=1e-5)
        ]
        assert len(found) == 1
        places += found
    assert {flip for *_, flip in places} == {1, -1}
    assert {row for row, *_ in places} > {0, 8} and {column for _, column, _ in places} > {0, 8}


def test_dropout_is_at_work(tiny_network):
    model = torch_training.torch_network(tiny_network, tiny_network.init(jax.random.key(0)))
    x = torch.ones(2, 3, 8, 8)
    assert not torch.equal(model.train()(x), model.train()(x))
    assert torch.equal(model.eval()(x), model.eval()(x))


def test_refuses_a_solver_that_torch_lacks(tiny_network):
    recipe = dataclasses.replace(recipe_for(tiny_network, 8), solver="caffe", nesterov=False)
    params = tiny_network.init(jax.random.key(0))
    with pytest.raises(ValueError, match="sgd"):
        torch_training.train_loop(tiny_network, params, recipe, SyntheticData.draw(tiny_network, 8))


def test_bfloat16_is_autocast(tiny_network):
    data = SyntheticData.draw(tiny_network, 8)
    params = tiny_network.init(jax.random.key(0))
    found = {}
    for dtype in ("float32", "bfloat16"):
        recipe = recipe_for(tiny_network, 8, dtype)
        run, losses = torch_training.train_loop(tiny_network, params, recipe, data)
        torch.manual_seed(0)  # the same views and dropout
        run(1)
        found[dtype] = losses[0]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.02)
    assert found["bfloat16"] != found["float32"]
