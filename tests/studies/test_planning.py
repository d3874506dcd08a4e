"""Grids are planned where the images are not."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from absl import app, flags
from absl.testing import flagsaver
from ml_collections import ConfigDict

from tests.data.image_trees import image_folder
from transfer_jax import main
from transfer_jax.data.dataset_spec import DatasetSpec
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.outline import Outline
from transfer_jax.data.sources import open_dataset
from transfer_jax.grid.executors import LocalExecutor, RayExecutor
from transfer_jax.studies import STUDIES
from transfer_jax.studies.planning import PlanningOpener, planned
from transfer_jax.studies.settings import as_config
from transfer_jax.training.runtime import Runtime

# Nothing is decoded then.
KEPT = Runtime(data_mode="resident")
ROOT = Path(__file__).parents[2]
WNIDS = ("n01440764", "n02085620", "n04540053")


def imagenet(study, data_dir):
    """The preset, with its images as folders in data_dir."""
    config = runpy.run_path(str(ROOT / f"configs/{study}.py"))["get_config"]("imagenet")
    config.data_dir = str(data_dir)
    return config


def random_weights_alone(folder):
    """Two networks of it."""
    config = imagenet("yosinski2014", folder / "data")
    config.experiments.random_halves.splits = ()
    config.experiments.man_natural.targets = ()
    config.experiments.images_per_class.counts = ()
    config.experiments.random_weights.ns = (7,)
    return config


def spec(**fields):
    return as_config(DatasetSpec(**{"image_size": 16, **fields}))


def test_what_is_not_at_hand_is_outlined(tmp_path):
    opener = PlanningOpener(str(tmp_path / "data"), tmp_path / "workdir")
    wanted = spec(kind="tfds", name="imagenet2012")
    found = opener(wanted)
    assert isinstance(found, Outline) and opener(wanted) is found
    people = opener(spec(kind="voc_actions", path="VOCdevkit/VOC2012"), multilabel=True)
    assert len(people.class_names) == 10
    first, second = opener.remarks
    assert "imagenet2012 (outline)" in first and "1000 classes and 1,331,167 images" in first
    assert "10 classes" in second
    assert not list(tmp_path.rglob("*"))


def test_images_that_are_not_prepared_stay_so(tmp_path):
    """And those that are prepared are opened."""
    images = image_folder(tmp_path / "images", classes=WNIDS, train=2, val=1)
    wanted = spec(kind="ilsvrc2012", path=str(images))
    before = sorted(tmp_path.rglob("*"))
    opener = PlanningOpener(str(tmp_path / "data"), tmp_path / "workdir")
    assert isinstance(opener(wanted), Outline) and sorted(tmp_path.rglob("*")) == before
    described = DatasetSpec("ilsvrc2012", path=str(images), image_size=16)
    prepared = open_dataset(described, tmp_path / "data", progress=False)
    opener = PlanningOpener(str(tmp_path / "data"), tmp_path / "workdir")
    assert opener(wanted) == prepared and not opener.remarks
    # Of another size nothing is prepared.
    assert isinstance(opener(ConfigDict({**wanted.to_dict(), "image_size": 24})), Outline)


def test_other_datasets_are_opened_as_ever(tmp_path):
    images = image_folder(tmp_path / "images", classes=("ant", "bee"), train=2, val=1)
    opener = PlanningOpener(str(tmp_path / "data"), tmp_path / "workdir")
    assert isinstance(opener(spec(kind="folder", path=str(images))), Dataset)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opener(spec(kind="folder", path="nowhere"))


def test_the_grid_of_the_paper_is_planned_without_any_file(tmp_path):
    command = [
        *(sys.executable, "-m", "transfer_jax.main"),
        "--config=configs/yosinski2014.py:imagenet",
        *(f"--workdir={tmp_path / 'workdir'}", f"--config.data_dir={tmp_path / 'data'}"),
        *("--dry_run", "--assumed_tflops=300", "--workers=8"),
        f"--cost_page={tmp_path / 'pages' / 'cost.md'}",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "cells to train      268 in " in ended.stdout
    assert "300.0 TFLOP/s of 1 accelerator of 300 TFLOP/s" in ended.stdout
    assert "random_halves     232 networks" in ended.stdout
    assert "schedule of 8 workers" in ended.stdout and "with 8 workers" in ended.stdout
    assert "note: imagenet2012 (outline)" in ended.stdout
    page = (tmp_path / "pages" / "cost.md").read_text()
    assert "268 networks" in page.splitlines()[0] and " --assumed_tflops=300 " in page
    assert "| CPU cores | " in page and "imagenet2012 (outline)" in page
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cost.md", "pages"]


def test_who_trains_a_group_is_as_the_executor_says(tmp_path):
    config = random_weights_alone(tmp_path)

    def widths(executor, workers=None):
        study = STUDIES[config.study]
        found = planned(study, config, tmp_path, KEPT, executor, 300.0, workers)
        assert found.cost.networks == 2
        return found.workers, {len(turn.workers) for turn in found.turns}

    assert widths(LocalExecutor()) == (1, {1})
    assert widths(LocalExecutor(), 8) == (8, {1})
    assert widths(RayExecutor(num_gpus=2.0), 8) == (8, {2})
    assert widths(RayExecutor(num_gpus=0.0)) == (1, {1})


@pytest.mark.parametrize("option", [{"assumed_tflops": 300.0}, {"workers": 8}])
def test_options_of_plans_are_refused_in_runs(option):
    (name,) = option
    with flagsaver.flagsaver(**option):
        flags.FLAGS.mark_as_parsed()
        with pytest.raises(app.UsageError, match=f"--{name} .* expected --dry_run with it"):
            main.main(["main"])


@pytest.mark.parametrize(
    ("study", "networks", "datasets"),
    [
        ("zeiler2013", 48, ("imagenet2012", "caltech101", "caltech256", "voc/2012")),
        ("huh2016", 204, ("imagenet2012", "sun397 partition", "voc/2012 actions")),
    ],
)
def test_the_other_studies_too(study, networks, datasets, tmp_path):
    config = imagenet(study, tmp_path / "data")
    page = tmp_path / "cost.md"
    text = main.dry_run(config, tmp_path / "workdir", assumed_tflops=300.0, cost_page=page)
    assert f"cells to train      {networks} in " in text
    for name in datasets:
        assert f"note: {name} (outline): " in text
    assert f"What {study} costs" in page.read_text()
    assert list(tmp_path.iterdir()) == [page]


def test_finished_cells_need_no_forecast(tmp_path):
    """Their outcome is looked for, with the names that they have over an outline."""
    config = random_weights_alone(tmp_path)
    opener = PlanningOpener(config.data_dir, tmp_path)
    for _, _, cell in STUDIES[config.study].plan(config, opener).entries:
        done = tmp_path / "cells" / cell.hash / "done.json"
        done.parent.mkdir(parents=True)
        done.write_text(json.dumps({"top1": 0.5}))
    assert main.dry_run(config, tmp_path) == "nothing to train: every cell is finished"
