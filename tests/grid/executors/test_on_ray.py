"""A whole run on a real Ray cluster of two nodes, one worker of which is killed in mid-cell."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.program import CELLS, command, environment, execute, logs, results
from transfer_jax.grid.executors import RayExecutor

LONGER = ("--config.recipe.steps=60", "--config.recipe.eval_every=30")


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of two nodes with one core each, and its folder, which an
    environment variable names in all of its processes. None of them is left afterwards."""
    pytest.importorskip("ray")
    # Paths of sockets are limited to about a hundred characters.
    short = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)
    with short as folder, pytest.MonkeyPatch.context() as monkeypatch:
        os.makedirs(f"{folder}/ray")
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in environment(Path(folder)).items():
            monkeypatch.setenv(name, value)
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
        cluster = Cluster(True, head_node_args={**node, "include_dashboard": False})
        try:
            cluster.add_node(**node)
            yield cluster.address, Path(folder)
        finally:
            cluster.shutdown()
            deadline = time.monotonic() + 20
            while processes_of(folder) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not processes_of(folder)


def processes_of(mark):
    """Process ids whose environment has RAY_TMPDIR=mark, apart from this one's."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"RAY_TMPDIR={mark}".encode() in variables and path.parent.name != str(os.getpid()):
            found.append(int(path.parent.name))
    return found


def test_a_task_that_fits_on_no_node_is_refused(cluster):
    address, _ = cluster
    executor = RayExecutor(address, num_gpus=1)
    with (
        pytest.raises(ValueError, match=r"ray\.num_gpus=1: expected what one node has; those of"),
        executor.session(),
    ):
        pass


def test_a_killed_worker_changes_nothing(cluster, tmp_path):
    address, folder = cluster
    more = (*LONGER, "--config.executor=ray", f"--config.ray.address={address}")
    log = tmp_path / "log"
    with open(log, "w") as stderr:
        driver = subprocess.Popen(
            command(folder, tmp_path / "on_ray", *more, "--config.ray.num_gpus=0"),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        killed = kill_a_worker(tmp_path / "on_ray", driver, log)
        page, _ = driver.communicate(timeout=120)
    told = log.read_text()
    assert driver.returncode == 0, told
    assert page.endswith(f"report: {tmp_path / 'on_ray' / 'report' / 'index.html'}\n")

    local = execute(folder, tmp_path / "local", *LONGER)
    assert local.returncode == 0, local.stderr
    assert [row["cell"] for row in results(tmp_path / "local")] == CELLS
    assert results(tmp_path / "on_ray") == results(tmp_path / "local")
    mine, theirs = logs(tmp_path / "on_ray"), logs(tmp_path / "local")
    assert {hash: len(lines) for hash, lines in mine.items()} == {
        hash: len(lines) for hash, lines in theirs.items()
    }
    starts = [line for line in told.splitlines() if f"{killed}: from step" in line]
    steps = [int(line.split("from step ")[1].split()[0]) for line in starts]
    assert steps[0] == 0 and len(steps) == 2 and steps[1] >= 3, starts
    assert f"{CELLS[0]} (random_halves 0): top-1" in told
    for left in ("groups/*", "locks"):
        assert not list((tmp_path / "on_ray").glob(left))


def kill_a_worker(workdir, driver, log):
    """Kills the worker of a group that has a checkpoint, and returns the name of its cell."""
    while driver.poll() is None:
        for checkpoint in workdir.glob("groups/*/checkpoints/[0-9]*"):
            holder = workdir / "locks" / f"{checkpoint.parts[-3]}.json"
            if not checkpoint.name.isdecimal():
                continue  # It is not complete.
            (hash, *more) = json.loads((checkpoint.parents[1] / "group.json").read_text())
            done = workdir / "cells" / hash / "done.json"
            if more or done.exists():
                continue
            os.kill(json.loads(holder.read_text())["pid"], signal.SIGKILL)
            return json.loads((workdir / "cells" / hash / "cell.json").read_text())["cell"]
        time.sleep(0.005)
    raise AssertionError(log.read_text())
