"""A detector is trained as every cell is: it learns its images, and may be killed at any moment."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import small
from tests.detection import scenes
from transfer_jax.data.dataset import Dataset
from transfer_jax.detection.evaluate import average_precisions, detect, judged
from transfer_jax.detection.network import detector
from transfer_jax.detection.objective import Detection, detection_task
from transfer_jax.detection.proposals import SelectiveSearch, proposals
from transfer_jax.grid.cell import Cell, from_json, group_hash, to_json
from transfer_jax.grid.run import run_grid
from transfer_jax.grid.store import Store
from transfer_jax.networks import alexnet_mini
from transfer_jax.training import SMALL_IMAGES, Runtime, train
from transfer_jax.transfer import Treatment
from transfer_jax.world import scene_arrays


@pytest.mark.slow
def test_ten_scenes_are_learned_by_heart():
    drawn = scene_arrays(size=48, train_per_class=1, val_per_class=0)
    ten = np.arange(10)
    data = Dataset.from_arrays(
        drawn["images"][:10],
        drawn["labels"][:10],
        drawn["class_names"],
        boxes=drawn["boxes"][:10],
        splits={"train": ten, "val": ten},
    )
    task = detection_task("A", data, proposals(data, SelectiveSearch(side=96)))
    widths = {"conv1": 16, "conv2": 32, "conv3": 32, "conv4": 32, "conv5": 32, "fc6": 64, "fc7": 64}
    net = detector(alexnet_mini(4, widths=widths, input_size=24, dropout=0.0), 40, canvas=48)
    fast = {"solver": "adamw", "nesterov": False, "weight_decay": 0.0, "learning_rate": 0.002}
    recipe = dataclasses.replace(SMALL_IMAGES, steps=700, eval_every=700, batch_size=2, **fast)
    params, row = train(net, task, recipe)
    found = detect(net, params, recipe, task.mean("channel"), task)
    for rule in ("voc2007", "area"):
        each = average_precisions(found, judged(found, data.boxes), data.boxes, 40, rule)
        assert np.nanmean(each) > 0.95
    assert row["regions_right"] > 0.95


RECIPE = dataclasses.replace(small.RECIPE, batch_size=2, steps=12, eval_every=6)
RUNTIME = Runtime(checkpoint_every=2, log_every=3)


def entries():
    """A classifier, and a detector on its layers."""
    (base,) = small.cells("baseA")
    how = Treatment.parse("A3B+1")
    copy = Cell(scenes.network(), scenes.task(), how, RECIPE, source=base)
    return [({"experiment": "e"}, base), ({"experiment": "e"}, copy)]


def run(workdir):
    store = Store(workdir)
    store.write_entries(entries())
    run_grid(entries(), store, RUNTIME)
    return store


PROGRAM = "import sys; from tests.detection.test_training import run; run(sys.argv[1])"


def test_a_detector_killed_in_training_ends_with_the_same_bits(tmp_path):
    whole, (base, copy) = run(tmp_path / "whole"), [cell for _, cell in entries()]
    path = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "cut")], env=path)
    saved = tmp_path / "cut" / "groups" / group_hash((copy,)) / "checkpoints"
    until = time.monotonic() + 120
    while process.poll() is None and not any(p.name.isdecimal() for p in saved.glob("*")):
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cut = run(tmp_path / "cut")
    for _, cell in entries():
        assert small.same_bits(whole.params(cell), cut.params(cell))
        rows = [json.loads((s.folder(cell) / "done.json").read_text()) for s in (whole, cut)]
        for row in rows:
            # The log of a run holds its speed, and the seal the digest of the log.
            for name in ("seconds", "images_per_second", "files", "seal"):
                del row[name]
        assert rows[0] == rows[1]
    # What is held stands still, what is copied learns.
    source, params = whole.params(base), whole.params(copy)
    assert small.same_bits(params["conv1"], source["conv1"])
    assert not small.same_bits(params["conv2"], source["conv2"])
    start = copy.init_params(source)
    assert all(small.same_bits(start[name], source[name]) for name in ("conv2", "fc3"))


def test_detectors_and_their_tasks_are_known_by_their_content():
    net, task = scenes.network(), scenes.task()
    assert from_json(json.loads(json.dumps(to_json(net)))) == net
    assert scenes.task().digest == task.digest
    moved, fewer = scenes.task(), dataclasses.replace(task, objective=Detection(8))
    moved.train[1]["proposals"][0, 0, 0] += 0.25
    assert len({task.digest, moved.digest, fewer.digest}) == 3
