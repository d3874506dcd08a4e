"""The program as two processes that train together, one of them killed, both started again."""

import os
import signal
import socket
import subprocess
import time

import pytest

from tests.program import CELLS, command, environment, logs, results

LIMIT = 600


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def begin(folder, workdir, devices, *more):
    """Starts one process; its output goes to a file beside the workdir."""
    index = more[-1].rpartition("=")[2] if more else "0"
    with open(folder / f"{workdir.name} output {index}", "a") as output:
        return subprocess.Popen(
            command(folder, workdir, *more),
            env=environment(folder, devices),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def pair(folder, workdir):
    address = f"--coordinator_address=localhost:{free_port()}"
    return [
        begin(folder, workdir, 4, address, "--num_processes=2", f"--process_id={index}")
        for index in range(2)
    ]


def wait_for_checkpoint(workdir, running):
    """Until a second group has a complete checkpoint."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        assert all(process.poll() is None for process in running), "ended before it was killed"
        done = list(workdir.glob("cells/*/done.json"))
        if done and any(path.name.isdecimal() for path in workdir.glob("groups/*/checkpoints/*")):
            return
        time.sleep(0.02)
    raise AssertionError("no checkpoint in time")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_two_processes_one_killed_end_with_the_results_of_one(tmp_path, victim):
    """One process of eight devices, two of four: the same metrics, to a relative 1e-4."""
    one, two = tmp_path / "one", tmp_path / "two"
    alone = begin(tmp_path, one, 8)
    assert alone.wait(LIMIT) == 0, (tmp_path / "one output 0").read_text()[-4000:]
    running = pair(tmp_path, two)
    try:
        wait_for_checkpoint(two, running)
        os.kill(running[victim].pid, signal.SIGKILL)
        assert running[victim].wait(LIMIT) == -signal.SIGKILL
        # Within the time after which a silent process counts as dead.
        assert running[1 - victim].wait(120) not in (0, None)
        assert 0 < len(list(two.glob("cells/*/done.json"))) < len(CELLS)
        running = pair(tmp_path, two)
        for index, process in enumerate(running):
            output = tmp_path / f"two output {index}"
            assert process.wait(LIMIT) == 0, output.read_text()[-4000:]
    finally:
        for process in running:
            process.kill()
    assert results(two) == results(one)
    mine, theirs = logs(two), logs(one)
    assert list(mine) == list(theirs) and len(mine) == len(CELLS)
    for cell, lines in theirs.items():
        assert len(mine[cell]) == len(lines)
        for found, expected in zip(mine[cell], lines, strict=True):
            assert found == pytest.approx(expected, rel=1e-4)
    assert list((two / "report").glob("*.html"))
