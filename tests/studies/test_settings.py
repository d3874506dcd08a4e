"""From a config to a network, a recipe, a runtime and a dataset."""

import dataclasses
import os

import pytest

from tests.data.image_trees import image_folder
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.networks import alexnet_mini, caffenet
from transfer_jax.studies.settings import (
    as_config,
    dataset_from,
    network_config,
    network_from,
    recipe_from,
    runtime_from,
)
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.trainer import Runtime


def test_dataclasses_come_back_from_their_configs():
    recipe = Recipe(steps=7, solver="sgd", nesterov=True)
    assert recipe_from(as_config(recipe)) == recipe
    assert recipe_from(as_config(recipe), steps=9) == dataclasses.replace(recipe, steps=9)
    runtime = Runtime(log_every=3, data_mode="stream")
    assert runtime_from(as_config(runtime)) == runtime


def test_fields_without_a_value_take_one_of_their_type_only():
    config = as_config(DatasetSpec("world"))
    assert config.train_per_class is None and config.image_size == 32
    config.train_per_class = 4
    with pytest.raises(TypeError):
        config.val_per_class = "few"
    assert DatasetSpec(**dict(config)) == DatasetSpec("world", train_per_class=4)


def test_networks_keep_their_own_defaults():
    assert network_from(network_config("caffenet"), 500) == caffenet(500)
    config = network_config("alexnet_mini", dropout=0.1)
    config.widths = {"fc6": 32}
    config.remove = ("conv3",)
    config.input_size = 16
    expected = alexnet_mini(
        9, widths={"fc6": 32}, remove=("conv3",), dropout=0.1, input_size=16, init="he"
    )
    assert network_from(config, 9) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: recipe_from(as_config(Recipe()), speed=1), r"config\.recipe\.speed is unknown"),
        (lambda: runtime_from({"hurry": True}), r"config\.runtime\.hurry is unknown.*log_every"),
        (lambda: network_from(network_config("alexnet_mini", depth=8), 9), "depth"),
        (
            lambda: recipe_from({**as_config(Recipe()), "augmentation": {"size": 8, "zoom": 2}}),
            r"config\.recipe\.augmentation\.zoom is unknown",
        ),
    ],
)
def test_unknown_fields_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_empty_path_is_data_dir_and_what_is_prepared_lies_beside(tmp_path):
    images = image_folder(tmp_path / "images")
    fields = {**dataclasses.asdict(DatasetSpec("folder", path=".", image_size=16)), "path": ""}
    dataset = dataset_from(fields, str(images), tmp_path / "workdir")
    assert dataset.class_names == ("cat", "dog", "owl")
    assert dataset.directory.is_relative_to(images)


def test_a_data_dir_that_cannot_be_written_is_left_alone(tmp_path, monkeypatch):
    images = image_folder(tmp_path / "images")
    before = sorted(images.rglob("*"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    fields = {**dataclasses.asdict(DatasetSpec("folder", path=".", image_size=16)), "path": ""}
    dataset = dataset_from(fields, str(images), tmp_path / "workdir")
    assert dataset.directory.is_relative_to(tmp_path / "workdir" / "data")
    assert sorted(images.rglob("*")) == before
