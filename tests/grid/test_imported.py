"""Bases whose weights come from a file, against the networks that the files were written from."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests import small
from tests.grid.small_grid import RUNTIME
from transfer_jax.data.means import dataset_mean
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.imported import Imported, read_imported
from transfer_jax.grid.imported_base import imported_base
from transfer_jax.grid.load import load_network, save_network
from transfer_jax.grid.plan import all_cells, build_plan
from transfer_jax.grid.store import Store
from transfer_jax.networks.weights import save_weights
from transfer_jax.report.results import read_results
from transfer_jax.training.recipe import Recipe
from transfer_jax.transfer import Treatment

EXACT = dataclasses.replace(small.RECIPE, pixel_scale=1 / 64)
"""Folding a power of two into the first layer loses no bit."""

MEAN = np.array([120.0, 110.0, 100.0], np.float32)
FIVE = small.network(5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of a network of five classes, which no dataset here has."""
    path = tmp_path_factory.mktemp("weights") / "five.npz"
    save_weights(path, FIVE, FIVE.init(jax.random.key(5)), mean=MEAN)
    return path


@pytest.fixture(scope="module")
def origin(grids, tmp_path_factory):
    """A base that was trained here, its store, and the file that was written from it."""
    base = grids.cell("baseA", recipe=EXACT)
    store = grids.run(tmp_path_factory.mktemp("origin"), [base])
    path = store.workdir / "base_a.safetensors"
    save_network(load_network(store.workdir, "baseA"), path)
    return base, store, path


def base_of(path, recipe=EXACT, network=FIVE, **options):
    return imported_base(read_imported(path, network), network, recipe, **options)


def copied(grids, base, name="A2B", recipe=EXACT, **changes):
    return dataclasses.replace(grids.cell(name, recipe=recipe), source=base, **changes)


def test_a_base_is_known_by_its_file_its_mean_and_how_it_is_shown_images(weights, tmp_path):
    moved = tmp_path / "elsewhere.npz"
    moved.write_bytes(weights.read_bytes())
    reference = base_of(weights)
    same = [
        base_of(moved),
        base_of(weights, dataclasses.replace(EXACT, steps=99, learning_rate=1.0), seed=3),
        base_of(weights, letter="W"),
    ]
    assert {cell.hash for cell in same} == {reference.hash}
    assert "elsewhere" not in json.dumps(same[0].content)
    other_weights = tmp_path / "other.npz"
    save_weights(other_weights, FIVE, FIVE.init(jax.random.key(6)), mean=MEAN)
    brighter = read_imported(weights, FIVE, mean=MEAN + 1)
    others = [
        base_of(other_weights),
        imported_base(brighter, FIVE, EXACT),
        base_of(weights, small.RECIPE),
        base_of(weights, dataclasses.replace(EXACT, mean="image")),
        base_of(weights, network=dataclasses.replace(FIVE, layers=small.network(5, 0.1).layers)),
    ]
    assert len({reference.hash, *(cell.hash for cell in others)}) == 6
    assert reference.kind == "imported" and reference.name == "baseA"


def test_cells_that_copy_from_other_files_are_other_cells(grids, weights):
    here, brighter = base_of(weights), read_imported(weights, FIVE, mean=MEAN + 1)
    there = imported_base(brighter, FIVE, EXACT)
    trained = grids.cell("A2B", recipe=EXACT)
    cells = [trained, copied(grids, here), copied(grids, there), copied(grids, here, "A1B")]
    assert len({cell.hash for cell in cells}) == 4
    assert len({cell.stream_seed for cell in cells}) == 1
    groups = [[cell.name for cell in group.cells] for group in build_plan([cells[1], cells[3]])]
    assert groups == [["A1B", "A2B"]]
    assert here in all_cells(cells)


def test_cells_that_make_no_sense_are_refused(grids, weights):
    base = base_of(weights)
    with pytest.raises(ValueError, match=r"A2B is no base: five.npz cannot be it"):
        copied(grids, grids.cell("baseA", recipe=EXACT), imported=base.imported)
    with pytest.raises(ValueError, match=r"A2B: recipe.pixel_scale=0.016.*five.npz was made for"):
        copied(grids, base, recipe=small.RECIPE)
    two = grids.cell("baseA").task
    with pytest.raises(ValueError, match=r"five.npz tells 5 classes apart .* task A .* are 2"):
        base_of(weights, task=two)


def test_a_file_that_does_not_fit_is_refused(weights, tmp_path):
    with pytest.raises(ValueError, match=r"fc4.*\(5,\).*\(2,\)|fc4.*5.*2"):
        read_imported(weights, small.network(2))
    silent = tmp_path / "silent.npz"
    save_weights(silent, FIVE, FIVE.init(jax.random.key(0)))
    with pytest.raises(ValueError, match=r"silent.npz does not tell .*config.imported.mean"):
        read_imported(silent, FIVE)
    for mean in (np.zeros(4), np.zeros((8, 8))):
        with pytest.raises(ValueError, match=r"the mean of .* has shape .*; expected \(3,\) or"):
            read_imported(silent, FIVE, mean=mean)


def test_a_mean_serves_both_kinds_of_recipes():
    image = np.arange(8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
    of_image = Imported("1", "2", "caffe.npz", None, image)
    by_hand = [image[:, :, channel].mean() for channel in range(3)]
    np.testing.assert_allclose(of_image.mean_for("channel", (9, 9, 3)), by_hand, rtol=1e-6)
    assert of_image.mean_for("image", (8, 8, 3)) is image
    message = r"mean image of caffe.npz, of shape \(8, 8, 3\), .* \(9, 9, 3\): .*image_size=8"
    with pytest.raises(ValueError, match=message):
        of_image.mean_for("image", (9, 9, 3))
    of_channels = Imported("1", "2", "torch.npz", None, MEAN)
    for kind in ("channel", "image"):
        assert of_channels.mean_for(kind, (9, 9, 3)) is MEAN


def test_the_supply_subtracts_the_files_mean(grids, weights):
    supply, base = grids.supply(), base_of(weights)
    for name in ("A2B", "A2B+"):
        np.testing.assert_array_equal(supply(copied(grids, base, name)).mean, MEAN)
    recipe = dataclasses.replace(EXACT, mean="image")
    image = read_imported(weights, FIVE, mean=np.zeros((9, 9, 3)))
    large = copied(grids, imported_base(image, FIVE, recipe), recipe=recipe)
    with pytest.raises(ValueError, match=r"five.npz, of shape \(9, 9, 3\)"):
        supply.check(large)


def test_an_imported_base_equals_the_trained_one_that_was_written(grids, origin, tmp_path):
    """The same layers, and from them the same initial params of every cell, bit for bit."""
    trained, there, path = origin
    base = imported_base(
        read_imported(path, small.network()), small.network(), EXACT, task=trained.task
    )
    items = [base, copied(grids, base), copied(grids, base, "A2B+")]
    runtime = dataclasses.replace(RUNTIME, snapshot_steps=(0,))
    store = grids.run(tmp_path, items, runtime)
    assert small.same_bits(store.params(base), there.params(trained))
    assert (store.cell_dir(base) / "mean.npy").read_bytes() == (
        there.cell_dir(trained) / "mean.npy"
    ).read_bytes()
    both = []
    for source, of in ((base, store), (trained, there)):
        cell = copied(grids, source)
        key = jax.random.key(7)
        both.append(cell.treatment.initial_params(cell.network, key, of.params(source)))
    assert small.same_bits(*both)
    wanted, start = there.params(trained), store.snapshot_params(items[2], 0)
    frozen, tuned = store.params(items[1]), store.params(items[2])
    for layer in ("conv1", "conv2"):
        assert small.same_bits(start[layer], wanted[layer])
        assert small.same_bits(frozen[layer], wanted[layer])
        assert not small.same_bits(tuned[layer], wanted[layer])
    assert not small.same_bits(start["fc3"], wanted["fc3"])


def test_its_accuracy_is_measured_where_a_dataset_has_its_classes(grids, origin, tmp_path):
    trained, there, path = origin
    network = small.network()
    base = imported_base(read_imported(path, network), network, EXACT, task=trained.task)
    store = grids.run(tmp_path, [base])
    (row,) = read_results(tmp_path / "results.csv")
    (written,) = read_results(there.workdir / "results.csv")
    assert (row.treatment, row.n, row.cell, row.steps) == ("imported", 0, "baseA", None)
    assert row.top1 == pytest.approx(written.top1) and row.top1_best_mean is None
    described = json.loads((store.cell_dir(base) / "cell.json").read_text())
    assert described["num_eval"] == 10 and described["imported"] == "base_a.safetensors"
    loaded, original = load_network(tmp_path, "baseA"), load_network(there.workdir, "baseA")
    images = grids.dataset.images("val", [0, 3])
    np.testing.assert_array_equal(loaded.view(images), original.view(images))


def test_a_base_of_unknown_classes_is_kept_without_an_accuracy(grids, weights, tmp_path):
    """Trained by nobody, found by name, and left alone by the next run though its file is gone."""
    copy = tmp_path / "five.npz"
    copy.write_bytes(weights.read_bytes())
    base = base_of(copy)
    store = grids.run(tmp_path / "workdir", [base, copied(grids, base)])
    rows = {row.cell: row for row in read_results(store.workdir / "results.csv")}
    assert rows["baseA"].top1 is None and not rows["baseA"].failed
    assert rows["A2B"].finished and rows["A2B"].treatment == "transfer_frozen"
    done = json.loads((store.cell_dir(base) / "done.json").read_text())
    assert done["imported from"] == "five.npz" and done["top1"] is None
    assert done["digest"] == base.imported.digest
    assert not (store.cell_dir(base) / "metrics.jsonl").exists()
    loaded = load_network(store.workdir, "baseA")
    expected = FIVE.init(jax.random.key(5))
    expected["conv1"]["kernel"] = expected["conv1"]["kernel"] * 64
    assert loaded.network == FIVE and small.same_bits(loaded.params, expected)
    np.testing.assert_array_equal(loaded.mean, MEAN)
    kept = (store.cell_dir(base) / "done.json").stat().st_mtime_ns
    copy.unlink()
    grids.run(store.workdir, [base, copied(grids, base)])
    assert (store.cell_dir(base) / "done.json").stat().st_mtime_ns == kept


def test_a_file_that_changes_after_it_was_planned_is_refused(grids, weights, tmp_path):
    copy = tmp_path / "five.npz"
    copy.write_bytes(weights.read_bytes())
    base = base_of(copy)
    save_weights(copy, FIVE, FIVE.init(jax.random.key(9)), mean=MEAN)
    with pytest.raises(ValueError, match=r"five.npz has changed since"):
        grids.run(tmp_path / "workdir", [base])
    assert Store(tmp_path / "workdir").outcome(base) is None


def test_a_scale_that_is_no_power_of_two_is_folded_in_up_to_rounding(grids, tmp_path):
    """What the network makes of its inputs stays the same."""
    network, params = small.network(), small.network().init(jax.random.key(1))
    path = tmp_path / "unscaled.npz"
    save_weights(path, network, params, mean=MEAN)
    imported = read_imported(path, network)
    x = grids.dataset.images("val", np.arange(4)).astype(np.float32) - MEAN
    expected = network.apply(params, x)
    for scale in (1 / 60, 0.5):
        found = network.apply(imported.params(network, scale), x * np.float32(scale))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_mean_of_a_trained_base_is_written_with_it(grids, origin):
    imported = read_imported(origin[2], small.network())
    np.testing.assert_array_equal(imported.mean, dataset_mean(grids.dataset, "channel"))


def test_a_base_needs_nothing_but_how_it_is_shown_images(weights):
    assert base_of(weights).recipe == Recipe(
        augmentation=EXACT.augmentation, mean="channel", pixel_scale=1 / 64
    )
    with pytest.raises(ValueError, match="copies from"):
        Cell(FIVE, base_of(weights).task, Treatment("A"), EXACT, 0, source=base_of(weights))
