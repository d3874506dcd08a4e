"""The program, as a user runs it."""

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.data.image_trees import image_folder
from tests.program import CELLS, CONFIG, NARROW, command, environment, execute, logs, results
from transfer_jax import main
from transfer_jax.grid.store import Store
from transfer_jax.training import checkpoint

KILLS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds what the runs share: the prepared data and the compiled programs."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("whole")
    ended = execute(folder, workdir)
    assert ended.returncode == 0, ended.stderr
    return workdir, ended


def test_a_run_trains_the_grid_and_draws_the_report(whole):
    workdir, ended = whole
    assert [row["cell"] for row in results(workdir)] == CELLS
    assert all(row["steps"] == "24" and row["split"] == "0" for row in results(workdir))
    for name in ("index.html", "figure2.png", "figure3.png", "table1.csv", "claims.csv"):
        assert (workdir / "report" / name).stat().st_size > 0
    page = (workdir / "report" / "index.html").read_text()
    assert "--config.recipe.steps=24" in page
    assert ended.stdout.endswith(f"report: {workdir / 'report' / 'index.html'}\n")
    assert "A4B (random_halves 0): top-1" in ended.stderr and "Warning" not in ended.stderr
    config = json.loads((workdir / "config.json").read_text())
    assert config["network"]["widths"] == NARROW and config["network"]["dropout"] == 0.3
    planned = json.loads((workdir / "plan.json").read_text())
    assert [cell["cell"] for cell in planned] == CELLS


def test_killed_at_random_moments_it_ends_with_the_same_results(folder, whole, tmp_path):
    """Accuracies, logs and weights are identical to the last bit."""
    total = sum(map(len, logs(whole[0]).values()))
    moments = sorted(random.SystemRandom().uniform(0, 0.85) for _ in range(KILLS))
    print(f"killed after {moments} of the {total} lines of metrics")

    def lines_written():
        return sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("cells/*/metrics.j*l"))

    for moment in moments:
        process = subprocess.Popen(
            command(folder, tmp_path), env=environment(folder), stderr=subprocess.DEVNULL
        )
        while lines_written() <= moment * total and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/done.json")}
    ended = execute(folder, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert results(tmp_path) == results(whole[0])
    assert logs(tmp_path) == logs(whole[0])
    for cell in (whole[0] / "cells").iterdir():
        mine, theirs = (
            checkpoint.load_params(workdir / "cells" / cell.name / "params")
            for workdir in (tmp_path, whole[0])
        )
        for name, layer in theirs.items():
            for entry, leaf in layer.items():
                np.testing.assert_array_equal(mine[name][entry], leaf)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert not list((tmp_path / "groups").iterdir())


def test_dry_run_prints_the_plan_and_trains_nothing(folder, whole, tmp_path):
    ended = execute(folder, tmp_path, "--dry_run")
    assert ended.returncode == 0, ended.stderr
    lines = {line.split()[0]: line for line in ended.stdout.splitlines() if line}
    assert "baseA" in lines["A2B..A4B"] and "forward of conv1..fc6" in lines["A2B..A4B"]
    assert "baseA" in lines["A2B+"]
    assert "cells to train      6 in 5 groups, 2 programs" in ended.stdout
    for words in ("TFLOP", "measured speed", "MiB of results", "estimated time"):
        assert words in ended.stdout
    assert not tmp_path.exists() or not list(tmp_path.iterdir())


def test_report_only_draws_what_the_workdir_holds(folder, whole):
    """With the run's own notes, whatever the command line says now."""
    workdir, _ = whole
    page = workdir / "report" / "index.html"
    before = page.read_text()
    page.unlink()
    ended = execute(folder, workdir, "--report_only", "--config.recipe.steps=7")
    assert ended.returncode == 0, ended.stderr
    assert page.read_text() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config.recipe.stepz=3"], "unknown config field 'stepz' Did you mean \"steps\""),
        (["--config.recipe.steps=many"], "flag --config.recipe.steps=many: invalid literal"),
        ([f"--config={CONFIG}:huge"], "preset 'huge' is unknown; expected one of ['demo'"),
        (["--config=configs/nowhere.py"], "No such file or directory: 'configs/nowhere.py'"),
        (["--config.experiments.random_halves.ns=(8,)"], "n=8 in treatment A8B: n is the number"),
        (["--config.recipe.steps=0"], "ValueError: recipe.steps=0: expected an integer"),
        (
            ["--config.runtime.cpu_devices=3"],
            "recipe.batch_size=8: expected a multiple of the number of devices, 3",
        ),
    ],
)
def test_bad_flags_end_in_one_clear_line(folder, tmp_path, more, message):
    ended = execute(folder, tmp_path, *more)
    assert ended.returncode == 1 and ended.stdout == ""
    assert message in ended.stderr and ended.stderr.count("\n") == 1, ended.stderr


def test_a_workdir_in_use_is_refused_naming_the_holder(folder, tmp_path):
    with Store(tmp_path).lock():
        ended = execute(folder, tmp_path)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert f"in use by process {os.getpid()} on" in ended.stderr
    assert not (tmp_path / "config.json").exists()


# What does not need a process of its own.


def get_config(preset="demo", **changes):
    config = runpy.run_path(str(Path(__file__).parents[1] / CONFIG))["get_config"](preset)
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe.solver": "lbfgs"}, r"recipe\.solver='lbfgs': expected one of"),
        ({"recipe.augmentation.pad": -1}, r"pad is -1"),
        ({"runtime.placement": "both"}, r"runtime\.placement='both': expected"),
        ({"executor": "dask"}, r"config\.executor='dask': expected 'local' or 'ray'"),
        ({"executor": "ray", "ray.num_cpus": 0.0}, r"ray\.num_cpus=0\.0: expected a positive"),
        ({"executor": "ray", "ray.num_gpus": 1.5}, r"ray\.num_gpus=1\.5: expected a whole"),
        ({"executor": "ray", "ray.max_retries": -2}, r"ray\.max_retries=-2: expected an integer"),
        ({"runtime.data_mode": "disk"}, r"runtime\.data_mode='disk': expected"),
        ({"network.name": "resnet"}, "network 'resnet' is unknown; expected one of"),
        ({"network.remove": ("conv9",)}, "has no layer 'conv9'; its layers are"),
        ({"study": "nobody2024"}, r"config\.study='nobody2024': expected one of"),
        ({"dataset.kind": "video"}, "dataset kind must be one of world"),
        ({"dataset.image_size": 0}, "image_size must lie in 1"),
    ],
)
@pytest.mark.parametrize("run", [main.dry_run, lambda *a: main.run(*a, "command")])
def test_bad_configs_are_refused_before_data_are_prepared(run, change, message, tmp_path):
    config = get_config(**change)
    config.data_dir = str(tmp_path / "data")
    with pytest.raises(ValueError, match=message):
        run(config, tmp_path / "workdir")
    assert not list(tmp_path.glob("data/*"))


def broken_jpeg(images):
    path = images / "train" / "dog" / "1.JPEG"
    path.write_bytes(path.read_bytes()[:100])


def empty_class(images):
    for path in (images / "train" / "dog").iterdir():
        path.unlink()


def missing_split(images):
    for path in (images / "val").rglob("*.JPEG"):
        path.unlink()
    for path in sorted((images / "val").rglob("*"), reverse=True):
        path.rmdir()
    (images / "val").rmdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_jpeg, "broken image train/dog/1.JPEG in"),
        (empty_class, "train/dog is empty"),
        (missing_split, "lacks the split val/"),
    ],
)
def test_damaged_folders_are_refused_naming_the_place(damage, message, tmp_path):
    images = image_folder(tmp_path / "images")
    damage(images)
    config = get_config("imagenet", data_dir=str(images), **{"dataset.kind": "folder"})
    with pytest.raises((ValueError, OSError), match=message):
        main.run(config, tmp_path / "workdir", "command")


@pytest.mark.parametrize("preset", ["tiny_imagenet", "imagenet"])
def test_a_missing_data_dir_is_named_and_not_made(preset, tmp_path):
    config = get_config(preset, data_dir=str(tmp_path / "typo"))
    with pytest.raises(FileNotFoundError, match=r"config\.data_dir=.*typo: expected the folder"):
        main.run(config, tmp_path / "workdir", "command")
    assert not (tmp_path / "typo").exists()


def test_a_report_needs_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run to report"):
        main.report(tmp_path)


def test_ray_is_asked_for_only_where_it_is_needed(tmp_path, monkeypatch):
    """Before data are prepared, and naming what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    config = get_config(data_dir=str(tmp_path / "data"), executor="ray")
    with pytest.raises(ImportError, match=r"needs the package ray: install transfer_jax\[ray\]"):
        main.run(config, tmp_path / "workdir", "command")
    assert not list(tmp_path.glob("data/*"))
