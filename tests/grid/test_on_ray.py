"""A whole run on a real Ray cluster of two nodes, one worker of which is killed in mid-cell."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.program import CELLS, command, environment, execute, logs, results
from transfer_jax.grid.on_ray import Ray, train_groups
from transfer_jax.training import Runtime

LONGER = ("--config.recipe.steps=60", "--config.recipe.eval_every=30")


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of two nodes with one core each, and its folder."""
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


def test_a_task_that_fits_on_no_node_is_refused(cluster, tmp_path):
    ray = Ray(cluster[0], num_gpus=1)
    with pytest.raises(ValueError, match=r"ray\.num_cpus=1, num_gpus=1: the cluster's nodes have"):
        train_groups(ray, None, tmp_path, [], Runtime(), None, None)


def test_a_killed_worker_changes_nothing(cluster, tmp_path):
    address, folder = cluster
    more = (*LONGER, "--config.executor=ray", f"--config.ray.address={address}")
    with open(tmp_path / "log", "w") as stderr:
        driver = subprocess.Popen(
            command(folder, tmp_path / "on_ray", *more, "--config.ray.num_gpus=0"),
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        kill_a_worker(tmp_path / "on_ray", driver)
        page, _ = driver.communicate(timeout=240)
    told = (tmp_path / "log").read_text()
    assert driver.returncode == 0, told[-4000:]
    assert page.strip().endswith("index.html")
    local = execute(folder, tmp_path / "local", *LONGER)
    assert local.returncode == 0, local.stderr
    assert [row["cell"] for row in results(tmp_path / "local")] == CELLS
    assert results(tmp_path / "on_ray") == results(tmp_path / "local")
    mine, theirs = logs(tmp_path / "on_ray"), logs(tmp_path / "local")
    assert {cell: len(lines) for cell, lines in mine.items()} == {
        cell: len(lines) for cell, lines in theirs.items()
    }
    assert not list((tmp_path / "on_ray").glob("groups/*"))


def kill_a_worker(workdir, driver):
    """Kills a worker of Ray while a group that it trains has a checkpoint."""
    while driver.poll() is None:
        if any(path.name.isdecimal() for path in workdir.glob("groups/*/checkpoints/*")):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if b"ray::_work" in path.read_bytes():
                        os.kill(int(path.parent.name), signal.SIGKILL)
                        return
                except (OSError, ProcessLookupError):
                    continue
        time.sleep(0.005)
    raise AssertionError((workdir.parent / "log").read_text()[-4000:])
