"""Training a group: resume, streams, failures, what is logged."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from transfer_jax.data.batches import BatchOrder
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.tasks import whole_task
from transfer_jax.seal import digest_of
from transfer_jax.training import Runtime, feed, loop, train
from transfer_jax.training.checkpoint import CellLog, Checkpoints
from transfer_jax.transfer import Treatment

NET, RECIPE = small.network(), small.RECIPE
RUNTIME = Runtime(checkpoint_every=3, log_every=2)
TREATMENTS = [Treatment.parse("A1B"), Treatment.parse("A2B")]
TASK = small.tasks()[1]
MEAN = np.array([120.0, 110.0, 100.0], np.float32)


def initial_params():
    base = NET.init(jax.random.key(0))
    return [t.init_params(NET, jax.random.key(t.n), base) for t in TREATMENTS]


def train_both(folder, params=None, runtime=RUNTIME, seed=3):
    return loop.train_group(
        NET,
        RECIPE,
        TREATMENTS,
        params or initial_params(),
        TASK,
        MEAN,
        stream_seed=seed,
        folder=folder / "checkpoints",
        cell_folders=[folder / str(t) for t in TREATMENTS],
        snapshots=[(0, 4), (9,)],
        runtime=runtime,
    )


def lines(folder, name="A1B"):
    found = [json.loads(x) for x in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return [{**line, "images_per_second": None} for line in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train_both(folder)


class CutOffError(Exception):
    pass


def cut_off(monkeypatch, at, starts):
    """Ends the training before the batch of step `at`, and notes where trainings begin; without
    `at` they go on."""
    batches = feed.train_batches

    def until(task, mean, order, start, *rest):
        starts.append(start)
        for step, batch in enumerate(batches(task, mean, order, start, *rest), start):
            if step == at:
                raise CutOffError
            yield batch

    monkeypatch.setattr(feed, "train_batches", until)


@pytest.mark.parametrize("cut, resumed", [(2, 0), (4, 3), (8, 6), (9, 9)])
def test_a_cut_run_resumes_to_the_same_bits(cut, resumed, whole, tmp_path, monkeypatch):
    """Cut before the first checkpoint, after it, between checkpoint and evaluation, at the end."""
    starts, save = [], Checkpoints.save

    def save_and_wait(self, *arguments):
        save(self, *arguments)
        self._wait()

    monkeypatch.setattr(Checkpoints, "save", save_and_wait)
    with monkeypatch.context() as patch:
        cut_off(patch, cut, starts)
        with pytest.raises(CutOffError):
            train_both(tmp_path)
    cut_off(monkeypatch, None, starts)
    results = train_both(tmp_path)
    assert starts == [0, resumed]
    for treatment, mine, theirs in zip(TREATMENTS, results, whole[1], strict=True):
        assert small.same_bits(mine[0], theirs[0])
        assert (mine[1]["right"] == theirs[1]["right"]).all()
        assert {k: mine[1][k] for k in ("top1", "top1_best_mean", "train_loss")} == {
            k: theirs[1][k] for k in ("top1", "top1_best_mean", "train_loss")
        }
        name = str(treatment)
        assert lines(tmp_path, name) == lines(whole[0], name)
    kept = sorted(path.relative_to(tmp_path) for path in tmp_path.glob("*/snapshots/*"))
    assert [str(path) for path in kept] == [
        "A1B/snapshots/0.safetensors",
        "A1B/snapshots/4.safetensors",
        "A2B/snapshots/9.safetensors",
    ]
    for path in kept:
        assert (tmp_path / path).read_bytes() == (whole[0] / path).read_bytes()


def test_a_checkpoint_knows_no_evaluation_that_came_after_it(tmp_path, monkeypatch):
    """Even where it is written only when the next one is due: evaluations are after 4, 8 and 10."""

    class Late:
        def submit(self, write, *arguments):
            return SimpleNamespace(result=lambda: write(*arguments))

        def shutdown(self):
            pass

    def late(folder):
        found = Checkpoints(folder)
        found.thread = Late()
        return found

    monkeypatch.setattr(loop, "Checkpoints", late)
    train_both(tmp_path)
    for step, evaluations in ((6, 1), (9, 2)):
        place = json.loads((tmp_path / "checkpoints" / f"{step}.json").read_text())
        assert [len(of_cell) for of_cell in place["history"]] == [evaluations] * 2


def test_tasks_of_two_datasets_of_one_name_see_their_own_images():
    """As in a notebook that prepares its images anew."""
    labels = np.arange(8) % 2
    for grey in (0, 200):
        images = np.full((8, small.SIZE, small.SIZE, 3), grey, np.uint8)
        task = whole_task("A", Dataset.from_arrays(images, labels, val=(images, labels), name="me"))
        order = BatchOrder(8, 4, 0)
        source, _ = next(iter(feed.train_batches(task, MEAN, order, 0, 1, 1, True)))
        assert np.unique(np.asarray(source.images)).tolist() == [grey]


def test_what_a_run_logs(whole):
    folder, results = whole
    for treatment, (_, row) in zip(TREATMENTS, results, strict=True):
        found = lines(folder, str(treatment))
        assert [e["step"] for e in found if "loss" in e] == [2, 4, 6, 8, 10]
        rates = [0.02, 0.02, 0.02, 0.002, 0.002]
        assert [e["learning_rate"] for e in found if "loss" in e] == pytest.approx(rates)
        evaluations = [e for e in found if "top1" in e]
        assert [e["step"] for e in evaluations] == [4, 8, 10]
        assert row["top1"] == evaluations[-1]["top1"] == row["right"].mean()
        best = sorted(e["top1"] for e in evaluations)[-2:]
        assert row["top1_best_mean"] == pytest.approx(sum(best) / 2)


def test_the_row_says_what_the_trained_params_do(whole):
    rows, labels = TASK.select("val")
    x = (TASK.dataset.read(rows).astype(np.float32) - MEAN) / 60
    for params, row in whole[1]:
        logits = NET.apply(params, jnp.asarray(x))
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
        assert row["eval_loss"] == pytest.approx(-float(chosen.mean()), rel=1e-5)
        np.testing.assert_array_equal(row["right"], np.asarray(logits.argmax(1) == labels))


def test_streamed_images_train_as_resident_ones(whole, tmp_path):
    streamed = train_both(tmp_path, runtime=dataclasses.replace(RUNTIME, resident_bytes=0))
    for (mine, row), (theirs, expected) in zip(streamed, whole[1], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), mine, theirs)
        assert row["top1"] == expected["top1"]


def test_another_seed_shows_other_batches(whole, tmp_path):
    for (mine, _), (theirs, _) in zip(train_both(tmp_path, seed=4), whole[1], strict=True):
        assert not small.same_bits(mine["fc4"], theirs["fc4"])


def test_a_loss_that_is_not_finite_ends_its_cell_alone(whole, tmp_path):
    healthy, broken = initial_params()
    broken["fc4"] = {**broken["fc4"], "bias": jnp.full(2, jnp.nan)}
    (params, row), (_, failed) = train_both(tmp_path, [healthy, broken])
    assert small.same_bits(params, whole[1][0][0]) and row["top1"] == whole[1][0][1]["top1"]
    assert "A2B" in failed["error"] and "step 0" in failed["error"] and "top1" not in failed
    assert len(failed["error"].splitlines()) == 1
    for line in (tmp_path / "A2B" / "metrics.jsonl").read_text().splitlines():
        assert "NaN" not in line and json.loads(line).get("loss") is None


def test_calls_of_several_steps_end_where_the_loop_looks(monkeypatch):
    recipe = dataclasses.replace(RECIPE, steps=1000, eval_every=200)
    runtime = Runtime(checkpoint_every=400, log_every=100)
    per_call = lambda *rest: loop._steps_per_call(runtime, recipe, *rest)  # noqa: E731
    assert per_call(True, 0, set()) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [per_call(True, first, set()) for first in (0, 75, 30)] == [50, 25, 10]
    assert per_call(True, 0, {0, 15}) == 5 and per_call(False, 0, set()) == 1


def test_train_splices_and_freezes_in_memory():
    task_a, task_b = small.tasks()
    base, row = train(NET, task_a, RECIPE)
    assert row["right"].shape == (10,) and 0 <= row["top1"] <= 1
    params, _ = train(NET, task_b, RECIPE, "A2B", base)
    assert small.same_bits(params["conv2"], base["conv2"])
    tuned, _ = train(NET, task_b, RECIPE, "A2B+", base)
    assert not small.same_bits(tuned["conv2"], base["conv2"])
    with pytest.raises(ValueError, match="num_classes=2"):
        train(small.network(3), task_a, RECIPE)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train(NET, task_a, dataclasses.replace(RECIPE, learning_rate=9e3))


def test_lines_behind_a_mark_and_a_torn_one_are_dropped(tmp_path):
    log = CellLog(tmp_path)
    log.begin()
    marks = []
    for step in (1, 2, 3):
        log.line({"step": step, "loss": float("nan")})
        marks.append(log.mark())
    with log.path.open("a") as file:
        file.write('{"step": 2, "top')
    again = CellLog(tmp_path)
    again.begin(marks[1])
    again.line({"step": 3})
    assert [json.loads(line) for line in log.path.read_text().splitlines()] == [
        {"step": 1, "loss": None},
        {"step": 2, "loss": None},
        {"step": 3},
    ]
    assert again.files() == {"metrics.jsonl": digest_of(log.path)}


def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 2**10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"the disk is full.*make room"):
        train_both(tmp_path)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    with pytest.raises(ValueError, match=r"recipe\.batch_size=8: expected a multiple .* 3"):
        train_both(tmp_path)
