"""Which images and which mean each cell gets, in runs over one dataset and over two."""

import dataclasses
import json

import numpy as np
import pytest

from tests import small
from tests.grid.small_grid import RUNTIME, cell
from transfer_jax.grid.plan import build_plan
from transfer_jax.grid.supply import DataSupply, dataset_mean


def pixels(dataset, split="train"):
    return dataset.images(split, np.arange(dataset.num_records[split])).astype(np.float64)


def test_the_mean_is_of_all_training_images_and_kept(grids):
    for kind, axes in (("channel", (0, 1, 2)), ("image", 0)):
        mean = dataset_mean(grids.dataset, kind)
        np.testing.assert_allclose(mean, pixels(grids.dataset).mean(axis=axes), rtol=1e-6)
        (path,) = grids.dataset.directory.glob(f"mean_{kind}*.npy")
        np.testing.assert_array_equal(np.load(path), mean)


def test_the_mean_of_a_view_makes_its_folder(grids, tmp_path):
    """A view of a dataset may name a folder of its own that nothing was written to yet."""

    @dataclasses.dataclass(frozen=True)
    class Half:
        directory: object
        image_shape: tuple[int, ...]
        num_records: dict = dataclasses.field(compare=False)
        fit: str = "squash"

        def images(self, split, indices):
            return grids.dataset.images(split, 2 * np.asarray(indices))

    half = Half(tmp_path / "folds" / "0", grids.dataset.image_shape, {"train": 24})
    mean = dataset_mean(half, "channel")
    np.testing.assert_allclose(mean, pixels(grids.dataset)[::2].mean(axis=(0, 1, 2)), rtol=1e-6)
    assert len(list(half.directory.glob("mean_channel*.npy"))) == 1


def test_tasks_of_another_dataset_are_refused(grids):
    stranger = cell("baseA", network=small.network(), dataset="elsewhere/1.0.0")
    supply = grids.supply()
    for use in (supply, supply.check):
        with pytest.raises(ValueError, match=r"'A' is over dataset 'elsewhere/1.0.0'; those of"):
            use(stranger)
    with pytest.raises(ValueError, match="two datasets of one run are named"):
        DataSupply([grids.dataset, grids.dataset], RUNTIME)
    shapeless = dataclasses.replace(grids.dataset, image_shape=None)
    with pytest.raises(ValueError, match="several shapes: set config"):
        DataSupply([shapeless], RUNTIME).check(grids.cell("baseA"))


def test_a_network_that_moves_keeps_its_mean(grids):
    """Images are those of the task; the mean is that of the base's dataset."""
    supply = grids.supply()
    here, there = (dataset_mean(d, "channel") for d in (grids.dataset, grids.other))
    assert np.abs(here - there).max() > 0.5
    means = {
        "baseA": (grids.cell("baseA"), grids.dataset, here),
        "A2B": (grids.cell("A2B"), grids.dataset, here),
        "baseT": (grids.moved("baseT"), grids.other, there),
        "R2T": (grids.moved("R2T"), grids.other, there),
        "A2T": (grids.moved("A2T"), grids.other, here),
        "A2T+": (grids.moved("A2T+"), grids.other, here),
    }
    for name, (item, dataset, mean) in means.items():
        data = supply(item)
        assert data.dataset is dataset and data.task == item.task, name
        np.testing.assert_array_equal(data.mean, mean)


def test_a_mean_image_must_fit_the_images_that_it_is_taken_from(grids):
    larger = dataclasses.replace(grids.other, image_shape=(9, 9, 3))
    supply = DataSupply([grids.dataset, larger], RUNTIME)
    supply.check(grids.moved("A2T"))
    by_image = dataclasses.replace(small.RECIPE, mean="image")
    message = r"A2T: recipe.mean='image' .* shape \(8, 8, 3\), but .* shape \(9, 9, 3\)"
    with pytest.raises(ValueError, match=message):
        supply.check(grids.moved("A2T", recipe=by_image))
    supply.check(grids.moved("baseT", recipe=by_image))
    grids.supply().check(grids.moved("A2T", recipe=by_image))


def test_cells_of_two_datasets_are_told_apart_and_grouped_apart(grids):
    """Same letters, classes and recipe; another dataset."""
    here = grids.cell("baseA")
    there = dataclasses.replace(here, task=dataclasses.replace(here.task, dataset="other"))
    assert here.hash != there.hash and here.stream_seed != there.stream_seed
    items = [grids.cell("A1B"), grids.cell("A2B"), grids.moved("A1T"), grids.moved("A2T")]
    groups = [[str(c.treatment) for c in g.cells] for g in build_plan(items)]
    assert groups == [["baseA"], ["A1B", "A2B"], ["A1T", "A2T"]]


def test_a_run_over_two_datasets(grids, tmp_path):
    """Each cell's accuracy, read back and computed by hand from its own images and mean."""
    items = [grids.moved("baseT"), grids.moved("A2T")]
    store = grids.run(tmp_path, items)
    for item in items:
        mean = dataset_mean(grids.dataset if item.source else grids.other, "channel")
        places, labels = item.task.select(grids.other.labels("val"), limit=False)
        x = (grids.other.images("val", places).astype(np.float32) - mean) / 60
        logits = item.network.apply(store.params(item), x)
        shifted = np.asarray(logits, np.float64)
        losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
        metrics = (store.cell_dir(item) / "metrics.jsonl").read_text().splitlines()
        last = [entry for entry in map(json.loads, metrics) if "top1" in entry][-1]
        assert last["val_loss"] == pytest.approx(losses.mean(), rel=1e-5)
        assert last["top1"] == pytest.approx((logits.argmax(1) == labels).mean())
    base = store.params(grids.cell("baseA"))
    assert small.same_bits(store.params(items[1])["conv2"], base["conv2"])


def test_an_unserved_cell_stops_a_run_before_anything_is_trained(grids, tmp_path):
    stranger = cell("baseB", network=small.network(), dataset="elsewhere/1.0.0")
    with pytest.raises(ValueError, match="elsewhere"):
        grids.run(tmp_path, ["baseA", stranger])
    assert not (tmp_path / "cells").exists()
