"""The store: what a reader finds, whatever happened while it was written."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.grid.run import with_snapshots
from transfer_jax.grid.store import Store, WorkdirInUseError, load_network
from transfer_jax.networks.weights import load_weights, save_weights

BASE_A, BASE_B, A1B, A2B = small.cells("baseA", "baseB", "A1B", "A2B")
ROW = {"top1": 0.8, "steps": 10, "right": np.arange(10) < 8}


def finished(workdir, *cells):
    store = Store(workdir)
    for cell in cells:
        params = cell.init_params(BASE_A.init_params() if cell.source else None)
        store.describe(cell)
        store.finish(cell, params, ROW)
    store.write_entries([({"split": "0", "condition": cell.kind}, cell) for cell in cells])
    return store


def test_what_is_stored_comes_back(tmp_path):
    store = finished(tmp_path, BASE_A, A1B)
    assert small.same_bits(store.params(A1B), A1B.init_params(BASE_A.init_params()))
    assert tuple(store.params(A1B)) == A1B.network.layer_names
    images, right = store.right(A1B)
    assert store.outcome(A1B) == {"top1": 0.8, "steps": 10}
    assert store.outcome(A2B) is None
    np.testing.assert_array_equal(right, ROW["right"])
    with np.load(tmp_path / "images" / f"{images}.npz") as file:
        np.testing.assert_array_equal(file["rows"], A1B.task.val[0])
    trained = store.trained(A1B)
    images = A1B.task.dataset.read(A1B.task.val[0])
    expected = (images.astype(np.float32) - A1B.mean()) / 60
    np.testing.assert_allclose(trained.view(images), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(trained.pixels(images), images)


def test_networks_are_found_by_name_and_exported(tmp_path):
    finished(tmp_path, BASE_A, A1B)
    trained = load_network(tmp_path, "A1B")
    assert trained.hash == A1B.hash and trained.network == A1B.network
    assert trained.recipe == A1B.recipe
    assert load_network(tmp_path, A1B.hash[:6]).hash == A1B.hash
    with pytest.raises(ValueError, match="2 networks are called '0'; there are 0 baseA"):
        load_network(tmp_path, "0")
    how = {"mean": trained.mean, "pixel_scale": trained.recipe.pixel_scale}
    save_weights(tmp_path / "out.safetensors", trained.network, trained.params, **how)
    weights = load_weights(tmp_path / "out.safetensors", A1B.network)
    np.testing.assert_array_equal(weights.mean, A1B.mean())
    images = A1B.task.dataset.read(A1B.task.val[0])
    ours = A1B.network.apply(trained.params, trained.view(images))
    theirs = A1B.network.apply(weights.params, images - weights.mean)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)


def test_a_cell_is_done_once_the_snapshots_asked_for_are_there(tmp_path):
    store = finished(tmp_path, BASE_A)
    assert store.outcome(BASE_A) and store.outcome(with_snapshots(BASE_A, [4])) is None


def test_cells_are_adopted_whole_and_only_where_they_are_the_same(tmp_path):
    finished(tmp_path / "other", BASE_A, A1B)
    store = Store(tmp_path / "mine")
    assert store.adopt([A1B, A2B], [tmp_path / "other"]) == [A1B]
    # A cell holds all of its weights: its base need not come along.
    assert small.same_bits(store.params(A1B), A1B.init_params(BASE_A.init_params()))
    assert store.adopt([A1B], [tmp_path / "other"]) == []
    with pytest.raises(FileNotFoundError, match=r"config\.reuse.*nothing"):
        store.adopt([A1B], [tmp_path / "nothing"])


def test_failed_cells_are_not_adopted_but_give_way_and_can_be_tried_again(tmp_path):
    other = Store(tmp_path / "other")
    other.describe(A1B)
    other.finish(A1B, {}, {"error": "too fast", "steps": 3})
    store = Store(tmp_path / "mine")
    assert store.adopt([A1B], [other.workdir]) == []
    assert other.outcome(A1B)["error"] == "too fast"
    finished(tmp_path / "third", BASE_A, A1B)
    store.describe(A1B)
    store.finish(A1B, {}, {"error": "too fast", "steps": 3})
    assert store.adopt([A1B], [tmp_path / "third"]) == [A1B] and store.finished(A1B)
    other.forget_failure(A1B)
    assert other.outcome(A1B) is None


def test_one_run_holds_a_workdir_and_a_dead_one_does_not(tmp_path):
    holder = (
        "import os, sys; from transfer_jax.grid.store import Store\n"
        f"with Store({str(tmp_path)!r}).lock(): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with (
        pytest.raises(WorkdirInUseError, match=f"in use by process {process.pid}"),
        Store(tmp_path).lock(),
    ):
        pass
    process.kill()
    process.wait()
    with Store(tmp_path).lock():
        pass


def test_measures_are_computed_once_for_their_inputs(tmp_path):
    store, calls = Store(tmp_path), []

    def compute():
        calls.append(1)
        return [{"measure": "svm", "value": 0.5, "layer": "conv1"}], {"curve": np.arange(3)}

    for inputs, version in (([1], 1), ([1], 1), ([2], 1), ([2], 2), ([2], 2)):
        rows, arrays = store.measure("svm/zfnet", inputs, compute, version=version)
        assert rows[0]["value"] == 0.5 and arrays["curve"].tolist() == [0, 1, 2]
    assert len(calls) == 3
    (tmp_path / "measures" / "svm" / "zfnet.npz").write_bytes(b"torn")
    assert store.measure("svm/zfnet", [2], compute, version=2)[0] == rows and len(calls) == 4


def test_weights_are_bit_identical_after_the_disk(tmp_path):
    odd = jax.tree.map(np.array, BASE_A.init_params())
    odd["conv1"]["bias"][:] = [-0.0, np.inf, 1e-42, np.nan]
    store = Store(tmp_path)
    store.describe(BASE_A)
    store.finish(BASE_A, odd, dataclasses.asdict(BASE_A.recipe.augmentation))
    assert small.same_bits(store.params(BASE_A), odd)
