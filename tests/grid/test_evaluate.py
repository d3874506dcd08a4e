"""Class probabilities of stored cells, against networks run by hand, and ensembles of them."""

import dataclasses
import json

import numpy as np
import pytest

from tests import small
from tests.grid.small_grid import RUNTIME
from transfer_jax.data.augment import ten_crop_view
from transfer_jax.grid.evaluate import validation_probabilities
from transfer_jax.grid.supply import DataSupply
from transfer_jax.networks import alexnet_mini
from transfer_jax.training import evaluation
from transfer_jax.training.evaluation import class_probabilities

NAMES = ("baseA", "A2B", "baseB")


@pytest.fixture(scope="module")
def store(grids, tmp_path_factory):
    runtime = dataclasses.replace(RUNTIME, snapshot_steps=(3,))
    return grids.run(tmp_path_factory.mktemp("evaluate"), NAMES, runtime)


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def by_hand(grids, cell, params, view=lambda x: x):
    places, labels = cell.task.select(grids.dataset.labels("val"), limit=False)
    data = grids.supply()(cell)
    x = (grids.dataset.images("val", places).astype(np.float32) - data.mean) / 60
    return softmax(cell.network.apply(params, view(x))), labels


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_probabilities_are_those_of_the_stored_params(grids, store, mode):
    supply = DataSupply([grids.dataset], dataclasses.replace(RUNTIME, data_mode=mode))
    for name in NAMES:
        cell = grids.cell(name)
        probabilities, labels = validation_probabilities(cell, store, supply)
        expected, right = by_hand(grids, cell, store.params(cell))
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(labels, right)
        assert probabilities.dtype == np.float32 and labels.dtype == np.int32
        done = json.loads((store.cell_dir(cell) / "done.json").read_text())
        assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(done["top1"])


def test_a_snapshots_probabilities(grids, store):
    cell = grids.cell("A2B")
    early, _ = validation_probabilities(cell, store, grids.supply(), step=3)
    expected, _ = by_hand(grids, cell, store.snapshot_params(cell, 3))
    np.testing.assert_allclose(early, expected, rtol=1e-4, atol=1e-6)
    late, _ = validation_probabilities(cell, store, grids.supply())
    assert np.abs(early - late).max() > 1e-4


def test_ten_crops_are_averaged_and_programs_are_shared(grids, store, monkeypatch):
    """Another learning rate makes no other program; another view does."""
    cell = grids.cell("baseA")
    data, params = grids.supply()(cell), store.params(cell)
    made, make = [], evaluation.make_probability_step
    monkeypatch.setattr(
        evaluation, "make_probability_step", lambda *of: made.append(of) or make(*of)
    )
    evaluation._compiled_probability_step.cache_clear()
    class_probabilities(cell.network, cell.recipe, params, data)
    slower = dataclasses.replace(cell.recipe, learning_rate=0.5, steps=77)
    class_probabilities(cell.network, slower, params, data)
    assert len(made) == 1
    crops = dataclasses.replace(cell.recipe, ten_crop=True)
    found, _ = class_probabilities(cell.network, crops, params, data)
    assert len(made) == 2
    places, _ = cell.task.select(grids.dataset.labels("val"), limit=False)
    views = ten_crop_view(
        grids.dataset.images("val", places), crops.augmentation, data.mean, crops.pixel_scale
    )
    ten = [softmax(cell.network.apply(params, views[:, i])) for i in range(10)]
    np.testing.assert_allclose(found, np.mean(ten, axis=0), rtol=1e-4, atol=1e-6)


def test_an_unfinished_cell_has_no_probabilities(grids, store):
    with pytest.raises(FileNotFoundError):
        validation_probabilities(grids.cell("A1B"), store, grids.supply())
    with pytest.raises(FileNotFoundError, match=r"no snapshot of step 4"):
        validation_probabilities(grids.cell("baseA"), store, grids.supply(), step=4)


def test_networks_of_other_tasks_are_refused(grids, store):
    cell = grids.cell("baseA")
    three = alexnet_mini(3, widths=small.WIDTHS, input_size=small.IMAGE_SIZE)
    with pytest.raises(ValueError, match="3 logits and task A 2 classes"):
        class_probabilities(three, cell.recipe, {}, grids.supply()(cell))
