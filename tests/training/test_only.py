"""Threads on devices of their own: eight virtual devices, three sets of them, at the same time."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from tests.training.groups import train
from tests.training.only_program import SEEDS, SETS
from transfer_jax.training import devices, processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What three threads left behind."""
    path = tmp_path_factory.mktemp("only")
    subprocess.run(
        [sys.executable, "-m", "tests.training.only_program", str(path)],
        env={
            **os.environ,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "JAX_PLATFORMS": "cpu",
        },
        check=True,
        timeout=300,
    )
    return path


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "found.json").read_text())


def test_threads_train_on_their_devices_as_one_device_does(folder, params, data, tmp_path):
    """To a relative 1e-5, as on any number of devices; each thread has seeds of its own."""
    seeds = {seed + place for seed in SEEDS for place in range(len(SETS))}
    alone = {
        seed: jax.tree.leaves(
            [o.learned for o in train(tmp_path / f"{seed}", params, data, seed=seed)]
        )
        for seed in seeds
    }
    for place in range(len(SETS)):
        for seed in SEEDS:
            leaves = np.load(folder / f"{place} {seed}.npz")
            for name, expected in zip(leaves.files, alone[seed + place], strict=True):
                np.testing.assert_allclose(leaves[name], expected, rtol=1e-5, atol=1e-6)


def test_each_set_of_devices_compiles_once(found):
    assert sorted(found["traced"]) == sorted(map(list, SETS))


def test_data_live_on_the_devices_that_use_them(found):
    assert [thread["used"] for thread in found["found"]] == list(map(list, SETS))
    assert [thread["default"] for thread in found["found"]] == [chosen[0] for chosen in SETS]


def test_data_are_read_once_for_all_devices(found):
    assert sorted(found["loaded"]) == ["train", "val"]


def test_nothing_is_narrowed_outside(found):
    assert found["outside"] == 8


def test_only_holds_for_the_thread_that_asks():
    (device,) = jax.local_devices()
    with devices.only([device]), ThreadPoolExecutor(1) as thread:
        assert devices._CHOSEN.get() == (device,)
        assert thread.submit(devices._CHOSEN.get).result() is None
    assert devices._CHOSEN.get() is None


def test_inside_only_a_process_works_alone(monkeypatch):
    monkeypatch.setattr(processes.jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(processes.jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes.jax, "process_index", lambda: 1)
    assert (processes.index(), processes.count(), processes.is_first()) == (1, 2, False)
    assert devices.axis_size() == 2 and devices.own_part(8) == (4, 8)
    with devices.only(jax.local_devices()):
        assert (processes.index(), processes.count(), processes.is_first()) == (0, 1, True)
        assert devices.axis_size() == 1 and devices.own_part(8) == (0, 8)
        processes.barrier("alone")
        assert processes.broadcast("alone", 5) == 5


@pytest.mark.parametrize(
    "chosen, message",
    [
        (lambda device: [], "at least one"),
        (lambda device: [device, device], "none twice"),
        (lambda device: ["another"], "expected some of"),
    ],
)
def test_devices_that_are_not_ours_are_refused(chosen, message):
    with pytest.raises(ValueError, match=message), devices.only(chosen(jax.local_devices()[0])):
        pass


def test_cached_results_are_made_once_and_bounded():
    made, ready = [], threading.Barrier(4)

    @devices.cached(maxsize=2)
    def square(x):
        made.append(x)
        return x * x

    def ask(_):
        ready.wait()
        return square(3)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(4))) == [9] * 4
    assert made == [3]
    assert [square(x) for x in (4, 5, 3)] == [16, 25, 9]
    assert made == [3, 4, 5, 3]
