"""The program from a shell: a run, its report, what it does when started again, bad input."""

import csv
import json
import os
import signal
import subprocess
import sys
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


def test_the_papers_grid_is_planned_without_its_images(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "transfer_jax.main", f"--workdir={tmp_path / 'none'}"),
            "--config=configs/yosinski2014.py:imagenet",
            f"--config.data_dir={tmp_path}",
            *("--dry_run", "--assumed_tflops=100", "--workers=8"),
        ],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "imagenet2012 (outline)" in done.stdout and "60,965,224" not in done.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.recipe.stepz=3", "stepz"),
        ("--config.recipe.steps=0", "recipe.steps=0: expected an integer of at least 1"),
        ("--config.network.name=resnet", "resnet"),
        ("--config.executor=slurm", "config.executor='slurm'"),
        ("--config.recipe.batch_size=7", "8 devices"),
        ("--config.experiments.random_halves.targets=('C',)", "'C'"),
        ("--config.imported.path=nothing.npz", "config.imported.path=nothing.npz"),
        ("--config.reuse=(3,)", "config.reuse=(3,)"),
        ("--config.data_dir=\udcff", "expected a name in UTF-8"),
    ],
)
def test_bad_input_is_one_line(flag, message, tmp_path, ran):
    devices = 8 if "batch_size" in flag else 1
    done = subprocess.run(
        command(ran[0], tmp_path / "none", flag),
        env=environment(ran[0], devices),
        capture_output=True,
        text=True,
        timeout=200,
    )
    lines = [line for line in done.stderr.splitlines() if "Error" in line or message in line]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(lines) == 1 and (message in lines[0] or message == "8 devices"), done.stderr


def test_a_damaged_workdir_is_one_line_where_no_report_can_be_drawn(ran, tmp_path):
    (tmp_path / "about.json").write_text('{"study": ')
    done = execute(ran[0], tmp_path, "--report_only")
    path = tmp_path / "about.json"
    message = f"DamagedError: {path} is not what was written there: a run writes it anew"
    assert done.returncode == 1 and done.stderr.splitlines() == [message]


def test_an_unknown_preset_is_named(tmp_path, ran):
    arguments = command(ran[0], tmp_path / "none", "--config=configs/yosinski2014.py:demoo")
    done = subprocess.run(arguments, env=environment(ran[0]), capture_output=True, text=True)
    assert done.returncode == 1 and "demoo" in done.stderr and "Traceback" not in done.stderr


def _stamps(workdir):
    return {
        str(path): path.stat().st_mtime_ns for path in workdir.glob("cells/*/params.safetensors")
    }


def test_about_says_how_the_run_was_made(ran):
    about = json.loads((ran[0] / "run" / "about.json").read_text())
    assert about["study"] == "yosinski2014" and about["config"]["recipe"]["steps"] == 24
    assert about["command"].startswith("python -m transfer_jax.main --config=")
