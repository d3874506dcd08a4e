"""What a config means beyond its words."""

import dataclasses

import pytest

from transfer_jax.data.dataset import Dataset
from transfer_jax.data.tasks import whole_task
from transfer_jax.data.views import Augmentation
from transfer_jax.studies.settings import (
    as_config,
    network_config,
    network_from,
    own_scale,
    recipe_from,
    study_config,
)
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
    own_scale(config)
    _, row = train(net, task, recipe_from(config.recipe))
    assert row["train_loss"] < 5
    assert "pixel_scale" in config.notes[0]


@pytest.mark.parametrize(
    ("name", "scale"), [("caffenet", 1.0), ("torchvision_alexnet", 1 / 60)], ids=str
)
def test_a_scale_that_somebody_chose_stays(name, scale):
    recipe = dataclasses.replace(RECIPE, pixel_scale=scale)
    config = study_config("yosinski2014", None, network_config(name), recipe, Runtime())
    own_scale(config)
    assert config.recipe == as_config(recipe) and not config.notes
