"""Two real processes of four devices against one of eight, and a death between them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.training.groups import lines
from transfer_jax.data.pipeline import BatchOrder
from transfer_jax.training import devices, processes
from transfer_jax.training.feed import evaluation_batches, training_batches

LIMIT = 240


def begin(folder, port, count, index, devices_each, dies_at=-1):
    """Starts one process of a run; its output goes to a file."""
    folder.mkdir(exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    numbers = (count, index, devices_each, dies_at)
    with open(folder / f"output {index}", "w") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.training.processes_program"),
                *(str(folder), f"localhost:{port}", *map(str, numbers)),
            ],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def end(process, folder, index, code=0):
    try:
        process.wait(LIMIT)
    finally:
        process.kill()
    assert process.returncode == code, (folder / f"output {index}").read_text()[-4000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders: of one process, and of two, of which the second was killed and both restarted."""
    folder = tmp_path_factory.mktemp("processes")
    one, two = folder / "one", folder / "two"
    whole = begin(one, 0, 1, 0, 8)
    port = free_port()
    pair = [begin(two, port, 2, 0, 4), begin(two, port, 2, 1, 4, dies_at=5)]
    try:
        end(pair[1], two, 1, -signal.SIGKILL)
        died = time.monotonic()
        # The other one is not left waiting.
        end(pair[0], two, 0, -signal.SIGABRT)
        waited = time.monotonic() - died
        end(whole, one, 0)
        assert "another task died" in (two / "output 0").read_text()
        assert waited < 60
        port = free_port()
        pair = [begin(two, port, 2, index, 4) for index in range(2)]
        for index, process in enumerate(pair):
            end(process, two, index)
    finally:
        for process in (whole, *pair):
            process.kill()
    return one, two


def told(folder, index):
    return json.loads((folder / f"process {index}" / "told.json").read_text())


@pytest.mark.slow
def test_restarted_processes_go_on_from_the_checkpoint(runs):
    one, two = runs
    assert told(one, 0)["began"] == [0, 0]
    assert told(two, 0)["began"] == told(two, 1)["began"] == [3, 0]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["resident", "streamed"])
def test_two_processes_train_as_one_does(runs, way):
    """To a relative 1e-5: only the order of sums differs, the images and all keys are the same."""
    one, two = runs
    for name in ("A1B", "A2B"):
        mine, theirs = lines(two / way, name), lines(one / way, name)
        assert len(mine) == len(theirs)
        for found, expected in zip(mine, theirs, strict=True):
            assert found == pytest.approx(expected, rel=1e-5)
    mine, theirs = (np.load(f / "process 0" / f"{way}.npz") for f in (two, one))
    assert len(mine.files) == len(theirs.files) == 2 * (3 + 2)
    for name in theirs.files:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["resident", "streamed"])
def test_processes_come_to_the_same_outcomes(runs, way):
    first, second = (runs[1] / f"process {index}" for index in range(2))
    assert (first / f"{way}.json").read_text() == (second / f"{way}.json").read_text()
    mine, theirs = (np.load(f / f"{way}.npz") for f in (first, second))
    for name in theirs.files:
        np.testing.assert_array_equal(mine[name], theirs[name])
    expected = json.loads((runs[0] / "process 0" / f"{way}.json").read_text())
    for mine, theirs in zip(json.loads((first / f"{way}.json").read_text()), expected, strict=True):
        assert (mine["top1"], mine["top1_best_mean"]) == (theirs["top1"], theirs["top1_best_mean"])


@pytest.mark.slow
def test_the_first_process_can_evaluate_alone(runs):
    found, expected = (np.load(f / "process 0" / "probabilities.npy") for f in reversed(runs))
    assert found.shape == (10, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert not (runs[1] / "process 1" / "probabilities.npy").exists()


@pytest.mark.slow
def test_a_value_of_the_first_process_reaches_all(runs):
    for index in range(2):
        found = told(runs[1], index)
        assert (found["from"], found["text"]) == (0, "é")


def test_a_process_by_itself_is_the_first_of_one(monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_NTASKS", "8")  # As in a shell that an allocation has opened.
    processes.start()
    processes.start("nowhere:1", 1, 0)
    assert not jax.distributed.is_initialized()
    assert (processes.index(), processes.count(), processes.is_first()) == (0, 1, True)
    processes.barrier("nobody")
    assert processes.broadcast("value", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("localhost:1", 0, 0), "num_processes is 0: expected at least 1"),
        (("localhost:1", 2, -1), "process_id is -1: expected at least 0"),
        (("localhost:1", 2, 2), "process_id is 2: expected less than num_processes=2"),
        (("localhost", 2, 0), r"coordinator is 'localhost': expected 'host:port'"),
        ((None, 2, 0), r"coordinator=None, num_processes=2, .* all three where no launcher"),
        (("localhost:1", None, 0), r"num_processes=None, process_id=0: expected all three"),
        (("localhost:1", 2, None), r"process_id=None: expected all three"),
    ],
)
def test_wrong_arguments_are_refused_by_name(monkeypatch, arguments, message):
    """Before anything is opened: JAX itself would refuse here, for its devices are in use."""
    from jax._src import distributed

    monkeypatch.setattr(jax.distributed, "initialize", distributed.global_state.initialize)
    with pytest.raises(ValueError, match=message):
        processes.start(*arguments)
    assert not jax.distributed.is_initialized()


@pytest.mark.parametrize("launcher", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_a_launcher_of_many_is_asked(monkeypatch, launcher):
    asked = []

    def initialize(*arguments, **options):
        asked.append((arguments, options["cluster_detection_method"]))
        raise ValueError("incomplete variables")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setenv(launcher, "2")
    with pytest.raises(ValueError, match="incomplete variables"):
        processes.start()
    assert asked == [((None, None, None), None)]


@pytest.mark.parametrize("resident", [True, False])
def test_each_process_feeds_its_part_of_every_batch(data, monkeypatch, resident):
    """Two processes' parts, put together, are the batches of one."""
    import dataclasses

    data = dataclasses.replace(data, resident=resident)
    order = BatchOrder(data.num_records("train"), 8, seed=1)

    def fed(index, count):
        monkeypatch.setattr(processes, "index", lambda: index)
        monkeypatch.setattr(processes, "count", lambda: count)
        monkeypatch.setattr(devices, "axis_devices", devices.local)
        training = [
            np.asarray(source.images[0])[indices[0]]
            for source, indices in training_batches(data, order, 2, 6, 1)
        ]
        evaluation = [
            (np.asarray(source.labels[0])[indices[0]], mask[0])
            for source, indices, mask in evaluation_batches(data, 8)
        ]
        return [(image, *pair) for image, pair in zip(training, evaluation, strict=False)]

    whole, *parts = fed(0, 1), fed(0, 2), fed(1, 2)
    assert [len(batch[0]) for batch in parts[0]] == [4, 4]
    for one, first, second in zip(whole, *parts, strict=True):
        for expected, *pieces in zip(one, first, second, strict=True):
            np.testing.assert_array_equal(np.concatenate(pieces), expected)
    with pytest.raises(ValueError, match=r"8.* 3 processes"):
        fed(0, 3)
