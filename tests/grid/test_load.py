"""Trained networks by name: equal to what the store gives for their cells."""

import numpy as np
import pytest

from tests import small
from transfer_jax.data.augment import eval_view
from transfer_jax.grid.cell import to_json
from transfer_jax.grid.load import from_json, load_network
from transfer_jax.networks import alexnet_mini, caffenet, torchvision_alexnet, zfnet
from transfer_jax.training.recipe import Recipe


@pytest.mark.parametrize(
    "network",
    [caffenet(10), torchvision_alexnet(4), zfnet(5), alexnet_mini(3, remove=["conv3"])],
    ids=lambda network: network.name,
)
def test_a_network_comes_back_from_json_as_it_was(network):
    assert from_json(to_json(network)) == network


def test_a_recipe_comes_back_from_json_as_it_was():
    recipe = Recipe(steps=7, crops="ten", max_filter_rms=0.1)
    assert from_json(to_json(recipe)) == recipe


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="'Cell' is no part"):
        from_json({"type": "Cell"})


@pytest.fixture(scope="module")
def store(grids, tmp_path_factory):
    return grids.run(tmp_path_factory.mktemp("loaded"), ("baseA", "A2B", "R1B"))


@pytest.mark.parametrize("name", ["baseA", "A2B", "R1B", "0 A2B"])
def test_a_network_of_a_workdir_is_that_of_its_cell(grids, store, name):
    cell = grids.cell(name.split()[-1])
    loaded = load_network(store.workdir, name)
    assert (loaded.network, loaded.recipe, loaded.hash) == (cell.network, cell.recipe, cell.hash)
    assert list(loaded.params) == list(cell.network.layer_names)
    assert small.same_bits(loaded.params, store.params(cell))
    assert load_network(store.workdir, cell.hash[:8]).row == loaded.row


def test_its_view_is_that_of_its_evaluations(grids, store):
    loaded, data = load_network(store.workdir, "A2B"), grids.supply()(grids.cell("A2B"))
    images = data.dataset.images("val", [0, 3])
    recipe = small.RECIPE
    expected = eval_view(images, recipe.augmentation, data.mean, recipe.pixel_scale)
    np.testing.assert_array_equal(loaded.view(images), expected)


def test_unknown_and_ambiguous_names_list_what_there_is(store):
    with pytest.raises(ValueError, match=r"no finished network is called 'A5B'.* 0 R1B"):
        load_network(store.workdir, "A5B")
    with pytest.raises(ValueError, match="several networks are called '0'"):
        load_network(store.workdir, "0")
