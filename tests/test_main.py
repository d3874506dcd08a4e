"""The program, as a user runs it."""

import csv
import glob
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from transfer_jax.grid.store import Store

NARROW = {"conv1": 4, "conv2": 4, "conv3": 4, "conv4": 4, "conv5": 4, "fc6": 16, "fc7": 16}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def command(workdir, data_dir, *more):
    return [
        *(sys.executable, "-m", "transfer_jax.main", "--config=configs/yosinski2014.py:demo"),
        f"--workdir={workdir}",
        f"--config.data_dir={data_dir}",
        "--config.dataset.train_per_class=8",
        "--config.dataset.val_per_class=2",
        *(f"--config.network.widths.{name}={width}" for name, width in NARROW.items()),
        "--config.recipe.batch_size=16",
        "--config.recipe.steps=60",
        "--config.recipe.eval_every=20",
        "--config.runtime.checkpoint_every=5",
        "--config.runtime.log_every=5",
        "--config.experiments.random_halves.ns=(2, 5)",
        "--config.experiments.random_halves.treatments=('transfer_frozen', 'transfer_finetuned')",
        *more,
    ]


def execute(*arguments, **options):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, **options
    )


def accuracies(workdir):
    with open(workdir / "results.csv") as file:
        keys = ("experiment", "split", "cell", "top1", "top1_best_mean", "steps", "hash")
        return [[row[key] for key in keys] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp("whole")
    ended = execute(workdir, data_dir)
    assert ended.returncode == 0, ended.stderr
    return workdir, ended


def test_a_run_trains_the_grid_and_draws_the_report(whole):
    workdir, ended = whole
    assert [row[2] for row in accuracies(workdir)] == [
        "baseA", "baseB", "A2B", "A5B", "A2B+", "A5B+"
    ]  # fmt: skip
    for name in ("index.html", "figure2.png", "figure3.png", "table1.csv", "claims.csv"):
        assert (workdir / "report" / name).stat().st_size > 0
    page = (workdir / "report" / "index.html").read_text()
    assert "--config.recipe.steps=60" in page and "http" not in page.replace(
        "http://www.w3.org", ""
    )
    assert "report: " in ended.stdout and "A5B on B: top-1" in ended.stderr


def test_killed_at_random_moments_it_ends_with_the_same_accuracies(whole, tmp_path, data_dir):
    moments = random.Random(3)
    for _ in range(2):
        process = subprocess.Popen(
            command(tmp_path, data_dir), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        # From the first checkpoint on, a little later each time.
        deadline = time.time() + 120
        while not glob.glob(f"{tmp_path}/groups/*/checkpoints/[0-9]*") and time.time() < deadline:
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 2))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    ended = execute(tmp_path, data_dir)
    assert ended.returncode == 0, ended.stderr
    assert accuracies(tmp_path) == accuracies(whole[0])


def test_dry_run_prints_the_plan_and_trains_nothing(tmp_path, data_dir):
    ended = execute(tmp_path, data_dir, "--dry_run")
    assert ended.returncode == 0, ended.stderr
    for words in (
        "A2B..A5B", "forward of conv1..conv5", "baseA", "TFLOP",
        "cells to train      6 in 5 groups", "measured speed", "MiB of results", "estimated time",
    ):  # fmt: skip
        assert words in ended.stdout, words
    assert not (tmp_path / "cells").exists()


def test_report_only_draws_again(whole, data_dir):
    workdir, _ = whole
    page = workdir / "report" / "index.html"
    page.unlink()
    ended = execute(workdir, data_dir, "--report_only")
    assert ended.returncode == 0 and page.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config.recipe.speed=3"], "speed"),
        (["--config.recipe.steps=many"], "steps"),
        (["--config.recipe.solver=lbfgs"], "ValueError: recipe.solver='lbfgs': expected one of"),
        (
            ["--config.experiments.random_halves.ns=(8,)"],
            "n=8 in treatment B8B|n=8 in treatment A8B",
        ),
        (["--config.experiments.random_halves.treatments=('x',)"], "treatment 'x' is unknown"),
        (["--config.network.name=resnet"], "network 'resnet' is unknown"),
        (["--config.study=nobody2024"], "config.study='nobody2024'"),
        (["--config=configs/yosinski2014.py:huge"], "preset 'huge' is unknown"),
        (["--config.dataset.image_size=0"], "image_size"),
        (
            ["--config.runtime.cpu_devices=3"],
            "recipe.batch_size=16: expected a multiple of the number of devices",
        ),
    ],
)
def test_bad_input_ends_with_its_name(tmp_path, data_dir, more, message):
    ended = execute(tmp_path, data_dir, *more)
    assert ended.returncode == 1
    assert any(part in ended.stderr for part in message.split("|")), ended.stderr


def test_a_workdir_in_use_is_refused_naming_the_holder(tmp_path, data_dir):
    with Store(tmp_path).lock():
        ended = execute(tmp_path, data_dir)
    assert ended.returncode == 1
    assert f"in use by process {os.getpid()}" in ended.stderr and "Traceback" not in ended.stderr
