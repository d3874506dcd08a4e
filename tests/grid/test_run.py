"""The grid: killed and resumed, failing, on eight devices, and with bases from files."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.grid.cell import Cell, all_cells
from transfer_jax.grid.imported import read_imported
from transfer_jax.grid.run import run_grid
from transfer_jax.grid.store import Store
from transfer_jax.networks.weights import save_weights
from transfer_jax.training import Runtime
from transfer_jax.training.loop import evaluate
from transfer_jax.transfer import Treatment

RECIPE = dataclasses.replace(small.RECIPE, steps=30, eval_every=10)
NAMES = ("baseA", "baseB", "A1B", "A2B", "A2B+", "R1B")
RUNTIME = Runtime(checkpoint_every=2, log_every=5)


def entries():
    cells = small.cells(*NAMES, recipe=RECIPE)
    return [({"experiment": "e", "split": "0"}, cell) for cell in cells]


def run(workdir, wanted=None, **options):
    store, wanted = Store(workdir), wanted or entries()
    with store.lock():
        store.write_entries(wanted)
        run_grid(wanted, store, RUNTIME, **options)
    return store


PROGRAM = """
import logging, os, sys
from tests.grid.test_run import run
run(sys.argv[1])
"""


def program(workdir, devices=1):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(workdir)], env=environment, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


def same_run(one, other):
    for cell in all_cells(cell for _, cell in entries()):
        assert small.same_bits(one.params(cell), other.params(cell)), cell.treatment
        rows = [store.outcome(cell) for store in (one, other)]
        for row in rows:
            del row["seconds"], row["images_per_second"]
        assert rows[0] == rows[1]
        right = [(s.folder(cell) / "right.npz").read_bytes() for s in (one, other)]
        assert right[0] == right[1]


def test_a_grid_killed_five_times_ends_with_the_same_bits(whole, tmp_path):
    """SIGKILL as soon as the store has grown by a checkpoint or a cell."""
    for _ in range(5):
        before = marks(tmp_path)
        process = program(tmp_path)
        until = time.monotonic() + 120
        while marks(tmp_path) == before and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    same_run(run(tmp_path), whole)
    assert not list(tmp_path.glob("groups/*")) and not (tmp_path / "locks").exists()


def marks(workdir):
    done = {str(path) for path in workdir.glob("cells/*/done.json")}
    return done | {
        str(p) for p in workdir.glob("groups/*/checkpoints/[0-9]*") if p.name.isdecimal()
    }


def test_eight_devices_train_as_one_does(whole, tmp_path):
    process = program(tmp_path, devices=8)
    assert process.wait(300) == 0, process.stderr.read().decode()[-2000:]
    store = Store(tmp_path)
    for _, cell in entries():
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max() + 1e-6),
            store.params(cell),
            whole.params(cell),
        )


def test_frozen_layers_in_the_store_are_the_bases_bits(whole):
    by_name = {str(cell.treatment): whole.params(cell) for _, cell in entries()}
    for name, source, n in (("A1B", "baseA", 1), ("A2B", "baseA", 2)):
        for i, layer in enumerate(("conv1", "conv2", "fc3")):
            assert small.same_bits(by_name[name][layer], by_name[source][layer]) == (i < n)
    assert not small.same_bits(by_name["A2B+"]["conv1"], by_name["baseA"]["conv1"])


def test_what_a_failed_base_gives_fails_with_it_and_can_be_tried_again(tmp_path, whole):
    wild = dataclasses.replace(RECIPE, learning_rate=9e3)
    base, copy = small.cells("baseA", "A1B", recipe=wild)
    healthy = small.cells("baseB", recipe=RECIPE)[0]
    wanted = [({"experiment": "e"}, cell) for cell in (base, copy, healthy)]
    store = run(tmp_path, wanted)
    assert "not finite" in store.outcome(base)["error"]
    assert "its base baseA failed" in store.outcome(copy)["error"]
    assert small.same_bits(store.params(healthy), whole.params(healthy))
    before = (store.folder(base) / "failed.json").stat().st_mtime_ns
    run(tmp_path, wanted)
    assert (store.folder(base) / "failed.json").stat().st_mtime_ns == before
    run(tmp_path, wanted, retry_failed=True)
    assert (store.folder(base) / "failed.json").stat().st_mtime_ns > before


def test_a_network_from_a_file_is_a_base(tmp_path, whole):
    base, copy = small.cells("baseA", "A1B", recipe=RECIPE)
    path = tmp_path / "base.safetensors"
    trained = whole.trained(base)
    how = {"mean": trained.mean, "pixel_scale": trained.recipe.pixel_scale}
    save_weights(path, trained.network, trained.params, **how)
    imported = read_imported(path, base.network)
    none = (np.zeros(0, np.int64), np.zeros(0, np.int32))
    without_images = dataclasses.replace(base.task, train=none, val=none)
    known, stranger, elsewhere = (
        Cell(base.network, task, Treatment("A"), RECIPE, imported=imported)
        for task in (base.task, without_images, copy.task)
    )
    copied = dataclasses.replace(copy, source=known)
    store = run(tmp_path / "run", [({}, known), ({}, copied), ({}, elsewhere)])
    assert store.outcome(known)["top1"] == whole.outcome(base)["top1"]
    asked = (base.network, RECIPE, store.params(elsewhere), copy.task, elsewhere.mean(), RUNTIME)
    told = evaluate(*asked)["eval_loss"]
    assert store.outcome(elsewhere)["eval_loss"] == told != store.outcome(known)["eval_loss"]
    assert dataclasses.replace(copy, source=elsewhere).hash == copied.hash
    assert "top1" not in run(tmp_path / "other", [({}, stranger)]).outcome(stranger)
    for layer, entry in (("conv1", "kernel"), ("conv2", "bias")):
        one, other = store.params(known)[layer][entry], whole.params(base)[layer][entry]
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert small.same_bits(store.params(copied)["conv1"], store.params(known)["conv1"])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="damaged"):
        run(tmp_path / "again", [({}, known)])
