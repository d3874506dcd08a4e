"""What a config means beyond its words."""

import numpy as np
import pytest

from configs import azizpour2014, yosinski2014, zeiler2013
from tests.data import image_trees
from tests.networks import torch_alexnet
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.studies.settings import (
    as_config,
    dataset_opener,
    fit_to_network,
    network_config,
    planning_opener,
    study_config,
)
from transfer_jax.studies.yosinski2014 import entries
from transfer_jax.training import Recipe, Runtime


def test_torchvisions_network_is_given_its_own_scale_of_pixels():
    network = network_config("torchvision_alexnet")
    config = study_config("yosinski2014", None, network, Recipe(), Runtime())
    fit_to_network(config)
    assert config.recipe.pixel_scale == pytest.approx(1 / (255 * torch_alexnet.STD.mean()))
    assert "pixel_scale" in config.notes[0]


def test_an_imported_network_brings_its_widths_and_its_pixels():
    config = yosinski2014.get_config()
    config.network.update({"name": "torchvision_alexnet", "input_size": 64})
    config.experiments.random_halves.splits = config.experiments.man_natural.seeds = ()
    config.recipe.batch_size = 16
    config.imported.path = str(torch_alexnet.FILES / "state_dict.pth")
    fit_to_network(config)
    labels, size = np.arange(80) % 40, config.dataset.image_size
    dataset = Dataset.from_arrays(np.zeros((80, size, size, 3), np.uint8), labels)
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


@pytest.mark.parametrize("study", [zeiler2013, azizpour2014])
def test_targets_of_an_imported_network_have_the_pixels_that_it_takes(study):
    config = study.get_config()
    config.network.update({"name": "torchvision_alexnet", "input_size": 96})
    config.imported.path = str(torch_alexnet.FILES / "state_dict.pth")
    fit_to_network(config)
    sizes = [target.dataset.get("image_size", 96) for target in config.targets.values()]
    if study is zeiler2013:
        sizes.append(config.experiments.multilabel.dataset.image_size)
    assert {config.dataset.image_size, *sizes} == {96}


def test_a_file_of_weights_that_is_not_there_is_named():
    config = yosinski2014.get_config()
    config.imported.path = "nothing.npz"
    with pytest.raises(FileNotFoundError, match=r"config\.imported\.path=nothing\.npz"):
        fit_to_network(config)


def test_what_was_opened_before_is_planned_as_it_is_and_only_that(tmp_path):
    image_trees.voc_folder(tmp_path / "VOCdevkit")
    opener, remarks = planning_opener(str(tmp_path), tmp_path)
    one, other = (DatasetSpec("voc", path=f"VOCdevkit/VOC{year}") for year in (2012, 2007))
    assert opener(as_config(one)).name == "voc/2012 (outline)"
    there = dataset_opener(str(tmp_path), tmp_path)(as_config(one))
    assert opener(as_config(one)).name == there.name
    assert opener(as_config(other)).name == "voc/2007 (outline)" and len(remarks) == 2


@pytest.mark.parametrize(
    ("name", "scale"), [("caffenet", 1.0), ("torchvision_alexnet", 1 / 60)], ids=str
)
def test_a_scale_that_somebody_chose_stays(name, scale):
    recipe = Recipe(pixel_scale=scale)
    config = study_config("yosinski2014", None, network_config(name), recipe, Runtime())
    fit_to_network(config)
    assert config.recipe == as_config(recipe) and not config.notes
