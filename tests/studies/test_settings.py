"""What a config means beyond its words."""

import dataclasses

import numpy as np
import pytest

from configs import yosinski2014
from tests.networks import torch_alexnet
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.tasks import whole_task
from transfer_jax.data.views import Augmentation
from transfer_jax.studies.settings import (
    as_config,
    fit_to_network,
    network_config,
    network_from,
    recipe_from,
    study_config,
)
from transfer_jax.studies.yosinski2014 import entries
from transfer_jax.training import Recipe, Runtime, train
from transfer_jax.world import world_arrays

WIDTHS = dict(conv1=16, conv2=32, conv3=48, conv4=32, conv5=32, fc6=128, fc7=128)
RECIPE = Recipe(
    batch_size=16,
    steps=12,
    augmentation=Augmentation(size=64),
    mean="channel",
    eval_every=12,
    best_evals=1,
)


def test_torchvisions_network_trains_on_its_own_scale_of_pixels_and_not_on_raw_ones():
    arrays = world_arrays(size=64, train_per_class=2, val_per_class=1)
    images, labels, splits = (arrays[name] for name in ("images", "labels", "splits"))
    task = whole_task("A", Dataset.from_arrays(images, labels, splits=splits))
    network = network_config("torchvision_alexnet", widths=WIDTHS, input_size=64)
    config = study_config("yosinski2014", None, network, RECIPE, Runtime())
    net = network_from(config.network, 40)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train(net, task, recipe_from(config.recipe))
    fit_to_network(config)
    _, row = train(net, task, recipe_from(config.recipe))
    assert row["train_loss"] < 5
    assert "pixel_scale" in config.notes[0]


def test_an_imported_network_brings_its_widths_and_its_pixels():
    config = yosinski2014.get_config()
    config.network.update({"name": "torchvision_alexnet", "input_size": 64})
    config.dataset.update({"train_per_class": 2, "val_per_class": 1})
    config.experiments.random_halves.splits = config.experiments.man_natural.seeds = ()
    config.recipe.batch_size = 16
    config.imported.path = str(torch_alexnet.FILES / "state_dict.pth")
    fit_to_network(config)
    arrays = world_arrays(size=config.dataset.image_size, train_per_class=2, val_per_class=1)
    dataset = Dataset.from_arrays(**arrays)
    cells = [cell for _, cell in entries(config, lambda fields: dataset)]
    assert {cell.network.input_size for cell in cells} == {64}
    base = cells[0]
    assert base.imported and base.network.num_classes == torch_alexnet.CLASSES
    (three,) = (cell for cell in cells if str(cell.treatment) == "A3B")
    copied = three.init_params(base.init_params())
    kernel = copied["conv3"]["kernel"]
    np.testing.assert_array_equal(kernel, base.init_params()["conv3"]["kernel"])
    assert kernel.shape[-1] == torch_alexnet.WIDTHS["conv3"]
    config.network.name, config.network.widths = "alexnet_mini", {}
    with pytest.raises(ValueError, match=r"imported\.path of network\.name=alexnet_mini"):
        fit_to_network(config)


@pytest.mark.parametrize(
    ("name", "scale"), [("caffenet", 1.0), ("torchvision_alexnet", 1 / 60)], ids=str
)
def test_a_scale_that_somebody_chose_stays(name, scale):
    recipe = dataclasses.replace(RECIPE, pixel_scale=scale)
    config = study_config("yosinski2014", None, network_config(name), recipe, Runtime())
    fit_to_network(config)
    assert config.recipe == as_config(recipe) and not config.notes
