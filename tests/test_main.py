"""The program from a shell: a run, its report, what it does when started again, bad input."""

import csv
import json
import os
import signal
import subprocess
import time

import pytest

from tests.program import CELLS, command, environment, execute, logs, results


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    done = execute(folder, folder / "run")
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, done


def test_a_run_leaves_results_and_a_page(ran):
    folder, done = ran
    workdir = folder / "run"
    assert done.stdout.strip().endswith(f"report: {workdir / 'report' / 'index.html'}")
    rows = results(workdir)
    assert [row["cell"] for row in rows] == CELLS
    for row in rows:
        assert 0 <= float(row["top1"]) <= 1 and row["experiment"] == "random_halves"
    page = (workdir / "report" / "index.html").read_text()
    assert "<html" in page and "http://" not in page.replace("http://www.w3.org", "")
    with open(workdir / "report" / "claims.csv") as file:
        claims = list(csv.DictReader(file))
    assert {"number", "claim", "verdict", "effect", "low", "high", "units"} <= set(claims[0])
    assert {row["verdict"] for row in claims} == {"undecided"}
    about = json.loads((workdir / "about.json").read_text())
    assert about["study"] == "yosinski2014" and about["config"]["recipe"]["steps"] == 24
    assert about["command"].startswith("python -m transfer_jax.main --config=")


def test_a_second_run_trains_nothing_and_says_the_same(ran):
    folder, _ = ran
    before, stamps = results(folder / "run"), _stamps(folder / "run")
    again = execute(folder, folder / "run")
    assert again.returncode == 0 and "0 groups to train" in again.stderr
    assert results(folder / "run") == before and _stamps(folder / "run") == stamps


def test_a_report_is_drawn_from_the_files_alone(ran):
    folder, _ = ran
    (folder / "run" / "results.csv").unlink()
    done = execute(folder, folder / "run", "--report_only", "--config.data_dir=/nowhere")
    assert done.returncode == 0, done.stderr
    assert [row["cell"] for row in results(folder / "run")] == CELLS


def test_finished_networks_of_another_run_are_taken_over(ran):
    folder, _ = ran
    more = ("--config.experiments.random_halves.ns=(2,)", f"--config.reuse=('{folder / 'run'}',)")
    done = execute(folder, folder / "other", *more)
    assert done.returncode == 0, done.stderr
    assert "4 cells copied" in done.stderr and "0 groups to train" in done.stderr


def test_a_killed_program_goes_on_and_ends_the_same(ran, tmp_path):
    folder, _ = ran
    for signum, mark in ((signal.SIGINT, "groups/*/checkpoints/*.json"),
                         (signal.SIGKILL, "cells/*/done.json")):  # fmt: skip
        process = subprocess.Popen(
            command(folder, tmp_path), env=environment(folder), stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 200
        while not list(tmp_path.glob(mark)):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        os.kill(process.pid, signum)
        lines = process.communicate()[1].splitlines()
        if signum == signal.SIGINT:
            assert process.returncode == 130 and lines[-1].startswith("interrupted: the same comm")
            assert not any("Traceback" in line or "Error" in line for line in lines)
    partial = execute(folder, tmp_path, "--report_only")
    assert partial.returncode == 0, partial.stderr
    assert execute(folder, tmp_path).returncode == 0
    assert results(tmp_path) == results(folder / "run")
    assert logs(tmp_path) == logs(folder / "run")


def test_a_dry_run_counts_and_writes_nothing(ran, tmp_path):
    folder, _ = ran
    done = execute(folder, tmp_path / "none", "--dry_run", "--assumed_tflops=1")
    assert done.returncode == 0, done.stderr
    assert "6 to train" in done.stdout and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.recipe.stepz=3", "stepz"),
        ("--config.recipe.steps=0", "recipe.steps=0: expected an integer of at least 1"),
        ("--config.data_dir=\udcff", "expected a name in UTF-8"),
        ("--config=configs/yosinski2014.py:demoo", "demoo"),
    ],
)
def test_bad_input_is_one_line(flag, message, tmp_path, ran):
    done = execute(ran[0], tmp_path / "none", flag)
    lines = [line for line in done.stderr.splitlines() if "Error" in line or message in line]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(lines) == 1 and message in lines[0], done.stderr


def _stamps(workdir):
    return {
        str(path): path.stat().st_mtime_ns for path in workdir.glob("cells/*/params.safetensors")
    }
