"""From a config to a network, a recipe, a runtime and a dataset."""

import dataclasses
import os

import pytest

from tests.data.image_trees import image_folder
from tests.studies.small_studies import get_config
from transfer_jax.data.multilabel import MultiLabelDataset
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.networks import alexnet_mini, caffenet
from transfer_jax.studies import settings
from transfer_jax.studies.settings import (
    as_config,
    dataset_from,
    dataset_opener,
    integers,
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


def test_ilsvrc2012_may_be_data_dir_too(tmp_path, monkeypatch):
    """Unless its images lie in a TFDS dataset, which has a name."""
    monkeypatch.setattr(settings, "open_dataset", lambda spec, kept: spec)
    fields = {**dataclasses.asdict(DatasetSpec("ilsvrc2012", path=".", image_size=8)), "path": ""}
    assert dataset_from(fields, str(tmp_path), tmp_path / "workdir").path == str(tmp_path)
    named = {**fields, "name": "imagenet2012"}
    assert dataset_from(named, str(tmp_path), tmp_path / "workdir").path == ""


@pytest.mark.parametrize(
    ("study", "fit"), [("yosinski2014", "squash"), ("huh2016", "squash"), ("zeiler2013", "centre")]
)
def test_the_imagenet_presets_make_squares_as_their_papers_do(study, fit):
    dataset = get_config(study, "imagenet").dataset
    assert (dataset.kind, dataset.image_size, dataset.fit) == ("ilsvrc2012", 256, fit)


def test_a_data_dir_that_cannot_be_written_is_left_alone(tmp_path, monkeypatch):
    images = image_folder(tmp_path / "images")
    before = sorted(images.rglob("*"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    fields = {**dataclasses.asdict(DatasetSpec("folder", path=".", image_size=16)), "path": ""}
    dataset = dataset_from(fields, str(images), tmp_path / "workdir")
    assert dataset.directory.is_relative_to(tmp_path / "workdir" / "data")
    assert sorted(images.rglob("*")) == before


def folder_fields(path, **changes):
    return {**dataclasses.asdict(DatasetSpec("folder", path=str(path), image_size=16)), **changes}


def test_a_path_is_looked_for_in_data_dir(tmp_path, monkeypatch):
    """Unless it is there as it stands."""
    image_folder(tmp_path / "data" / "pets")
    monkeypatch.chdir(tmp_path)
    dataset = dataset_from(folder_fields("pets"), "data", tmp_path / "workdir")
    assert dataset.class_names == ("cat", "dog", "owl")
    image_folder(tmp_path / "pets", classes=("ant", "bee"))
    dataset = dataset_from(folder_fields("pets"), "data", tmp_path / "workdir")
    assert dataset.class_names == ("ant", "bee")
    with pytest.raises(FileNotFoundError, match="nothing"):
        dataset_from(folder_fields("nothing"), "data", tmp_path / "workdir")


def test_an_opener_opens_each_dataset_once(tmp_path, monkeypatch):
    image_folder(tmp_path / "one")
    image_folder(tmp_path / "two", classes=("ant", "bee"))
    opened = []

    def opening(*arguments, **options):
        opened.append(arguments[0]["path"])
        return dataset_from(*arguments, **options)

    monkeypatch.setattr(settings, "dataset_from", opening)
    open_dataset = dataset_opener(str(tmp_path), tmp_path / "workdir")
    one, two = (open_dataset(folder_fields(name)) for name in ("one", "two"))
    spec = as_config(DatasetSpec("folder", path="one", image_size=16))
    assert open_dataset(spec) is one and open_dataset(folder_fields("two")) is two
    assert open_dataset(folder_fields("one", image_size=8)) is not one
    assert opened == ["one", "two", "one"]
    # Another run's opener has its own.
    assert dataset_opener(str(tmp_path), tmp_path)(spec) is not one


def test_images_of_several_labels_are_opened_as_such(tmp_path):
    fields = DatasetSpec("world_scenes", image_size=8, train_per_class=1, val_per_class=1)
    open_dataset = dataset_opener(str(tmp_path), tmp_path / "workdir")
    scenes = open_dataset(as_config(fields), multilabel=True)
    assert isinstance(scenes, MultiLabelDataset)
    assert open_dataset(as_config(fields), multilabel=True) is scenes
    assert scenes.directory.is_relative_to(tmp_path)
    with pytest.raises(ValueError, match="world_scenes"):
        open_dataset(as_config(fields))


def test_integers_are_told_from_what_is_like_them():
    assert integers((3, 1), "seeds") == (3, 1)
    for value in (True, 1.0, "1", None):
        with pytest.raises(ValueError, match=r"config\.seeds holds .*: expected integers"):
            integers((1, value), "seeds")
