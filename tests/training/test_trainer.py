"""Training a group: resume, streams, scans, failures, what is logged."""

import dataclasses
import errno
import json
import re
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.training.groups import NET, PROGRAM, RECIPE, RUNTIME, CutOffError, cut_off, lines, train
from transfer_jax.training import checkpoint, devices, trainer
from transfer_jax.training.metrics_log import MetricsLog, best_mean
from transfer_jax.training.trainer import Runtime


def test_what_a_run_logs(whole):
    folder, outcomes = whole
    for name, outcome in zip(("A1B", "A2B"), outcomes, strict=True):
        found = lines(folder, name)
        assert [e["step"] for e in found if "loss" in e] == [2, 4, 6, 8, 10]
        evaluations = [e for e in found if "top1" in e]
        assert [e["step"] for e in evaluations] == [4, 8, 10]
        rates = [0.02, 0.02, 0.02, 0.002, 0.002]
        assert [e["learning_rate"] for e in found if "loss" in e] == pytest.approx(rates)
        assert all(0 <= e["top1"] <= e["top5"] == 1 and e["val_loss"] > 0 for e in evaluations)
        top1s = sorted(e["top1"] for e in evaluations)
        assert outcome.top1 == evaluations[-1]["top1"]
        assert outcome.top1_best_mean == pytest.approx(sum(top1s[-2:]) / 2)
        assert outcome.error is None and outcome.steps == 10 and outcome.num_eval == 10
        assert outcome.images_per_second == pytest.approx(10 * 8 / outcome.seconds)
    assert list(outcomes[1].learned) == ["fc3", "fc4"]


def test_evaluation_is_of_the_trained_params(whole, params, data):
    """The last val_loss, from `Network.apply` on every validation image of the task."""
    folder, outcomes = whole
    places, labels = data.task.select(data.dataset.labels("val"), limit=False)
    x = (data.dataset.images("val", places).astype(np.float32) - data.mean) / 60
    for n, full, outcome in zip(PROGRAM.frozen, params, outcomes, strict=True):
        logits = NET.apply({**full, **outcome.learned}, jnp.asarray(x))
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
        last = [e for e in lines(folder, f"A{n}B") if "top1" in e][-1]
        assert last["val_loss"] == pytest.approx(-float(chosen.mean()), rel=1e-5)
        assert last["top1"] == pytest.approx(float((logits.argmax(1) == labels).mean()))


@pytest.mark.parametrize("cut", [2, 4, 8, 10])
def test_a_cut_run_resumes_to_the_same_bits(cut, whole, params, data, tmp_path, monkeypatch):
    """Cut before the first checkpoint, after it, between checkpoint and evaluation, at the end."""
    with cut_off(monkeypatch, cut), pytest.raises(CutOffError):
        train(tmp_path, params, data)
    starts, batches = [], trainer.training_batches

    def noted(data, order, start, *arguments):
        starts.append(start)
        return batches(data, order, start, *arguments)

    monkeypatch.setattr(trainer, "training_batches", noted)
    outcomes = train(tmp_path, params, data)
    folder, expected = whole
    assert starts == [{2: 0, 4: 3, 8: 6, 10: 9}[cut]]
    for name, mine, theirs in zip(("A1B", "A2B"), outcomes, expected, strict=True):
        assert small.same_bits(mine.learned, theirs.learned)
        assert (mine.top1, mine.top1_best_mean) == (theirs.top1, theirs.top1_best_mean)
        assert lines(tmp_path, name) == lines(folder, name)


def test_streamed_images_train_as_resident_ones(whole, params, data, tmp_path):
    """To a relative 1e-6: the same batches, through another compiled program."""
    streamed = train(tmp_path, params, dataclasses.replace(data, resident=False))
    for mine, theirs in zip(streamed, whole[1], strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-7), mine.learned, theirs.learned
        )
        assert mine.top1 == theirs.top1
    for mine, theirs in zip(lines(tmp_path), lines(whole[0]), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)


def test_several_steps_in_one_call_train_as_single_steps(whole, params, data, tmp_path):
    """To a relative 1e-5. Calls end where the loop logs, evaluates and saves."""
    runtime = Runtime(checkpoint_every=4, log_every=2, steps_per_call=5)
    for mine, theirs in zip(train(tmp_path, params, data, runtime), whole[1], strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), mine.learned, theirs.learned
        )
    found = lines(tmp_path)
    assert [entry["step"] for entry in found] == [entry["step"] for entry in lines(whole[0])]
    for mine, theirs in zip(found, lines(whole[0]), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    "wanted, first, expected", [(50, 0, 50), (3, 0, 2), (50, 75, 25), (50, 30, 10), (7, 0, 5)]
)
def test_calls_end_where_the_loop_looks(wanted, first, expected):
    recipe = dataclasses.replace(RECIPE, steps=1000, eval_every=200)
    runtime = Runtime(checkpoint_every=400, log_every=100, steps_per_call=wanted)
    assert trainer._steps_per_call(runtime, recipe, True, first) == expected
    assert trainer._steps_per_call(runtime, recipe, False, first) == 1


def test_a_loss_that_is_not_finite_stops_its_cell_alone(whole, params, data, tmp_path):
    broken = {**params[1], "fc4": {**params[1]["fc4"], "bias": jnp.full(2, jnp.nan)}}
    healthy, failed = train(tmp_path, [params[0], broken], data)
    assert small.same_bits(healthy.learned, whole[1][0].learned)
    assert healthy.error is None and healthy.top1 == whole[1][0].top1
    assert failed.top1 is None and failed.top1_best_mean is None and failed.steps == 0
    assert "cell A2B" in failed.error and "at step 0" in failed.error
    assert repr(RECIPE) in failed.error

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    for line in (tmp_path / "A2B" / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line, parse_constant=refuse)
        assert entry.get("loss") is None and entry.get("top1", 0) == 0


def test_another_seed_shows_other_batches(whole, params, data, tmp_path):
    for other, outcome in zip(train(tmp_path, params, data, seed=4), whole[1], strict=True):
        assert not small.same_bits(other.learned, outcome.learned)


def test_a_full_disk_is_told_before_anything_is_written(params, data, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"the disk is full: .*params takes .* 1\.00 MiB are free"):
        checkpoint.save_params(tmp_path / "params", params[0])
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="the disk is full") as raised:
        train(tmp_path, params, data)
    assert raised.value.errno == errno.ENOSPC


def test_a_group_of_failed_cells_stops_early(params, data, tmp_path):
    broken = [{**p, "fc4": {**p["fc4"], "bias": jnp.full(2, jnp.inf)}} for p in params]
    outcomes = train(tmp_path, broken, data)
    assert all(outcome.error for outcome in outcomes)
    assert max(entry["step"] for entry in lines(tmp_path)) == RECIPE.eval_every


def test_an_uneven_batch_is_refused_before_training(params, data, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "num_devices", lambda: 3)
    with pytest.raises(ValueError, match=r"recipe\.batch_size=8: expected a multiple .* 3"):
        train(tmp_path, params, data)


def events(path):
    """The (step, tag, value) of a TensorBoard event file, read by its published format."""
    from tensorboardX.proto.event_pb2 import Event

    content, found = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[12 + size + 4 :]
    return found


def test_tensorboard_events_on_request(whole, params, data, tmp_path):
    assert not (whole[0] / "A1B" / "events").exists()
    train(tmp_path, params, data, dataclasses.replace(RUNTIME, tensorboard=True))
    for name in ("A1B", "A2B"):
        (path,) = (tmp_path / name / "events").iterdir()
        written = {(step, tag): value for step, tag, value in events(path)}
        logged = {
            (entry["step"], tag): value
            for entry in lines(tmp_path, name)
            for tag, value in entry.items()
            if tag != "step"
        }
        shown = {key: value for key, value in written.items() if key[1] != "images_per_second"}
        assert shown == pytest.approx(logged, rel=1e-6)
        assert len(written) == len(shown) + 5


def test_metrics_log_passes_over_a_torn_line_and_forgets_later_ones(tmp_path):
    log = MetricsLog(tmp_path / "cell" / "metrics.jsonl")
    assert log.entries() == []
    for step in (1, 2, 3):
        log.append({"step": step, "top1": step / 10, "loss": float("nan")})
    with log.path.open("a") as file:
        file.write('{"step": 4, "top')
    assert [entry["step"] for entry in log.entries()] == [1, 2, 3]
    assert log.entries()[0]["loss"] is None
    log.keep_until(2)
    log.append({"step": 3, "loss": 0.5})
    assert [entry["step"] for entry in log.entries()] == [1, 2, 3]
    assert [entry["top1"] for entry in log.evaluations()] == [0.1, 0.2]


def test_best_mean():
    assert best_mean([0.1, 0.4, 0.3, 0.2], 2) == pytest.approx(0.35)
    assert best_mean([0.1, 0.3], 10) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no evaluations"):
        best_mean([], 10)


def test_stored_params_come_back(tmp_path, params):
    checkpoint.save_params(tmp_path / "params", params[0])
    back = checkpoint.load_params(tmp_path / "params")
    assert {name: set(layer) for name, layer in back.items()} == {
        name: {"kernel", "bias"} for name in NET.layer_names
    }
    assert all(small.same_bits(back[name], params[0][name]) for name in NET.layer_names)
    checkpoint.save_params(tmp_path / "params", params[1])
    assert small.same_bits(checkpoint.load_params(tmp_path / "params")["fc4"], params[1]["fc4"])
    with pytest.raises(FileNotFoundError, match="nothing"):
        checkpoint.load_params(tmp_path / "nothing")


def test_only_the_last_checkpoints_are_kept(tmp_path):
    checkpoints = checkpoint.manager(tmp_path, keep=2)
    assert checkpoint.restore(checkpoints, {"w": np.zeros(2)}) is None
    for step in (3, 6, 9):
        checkpoint.save(checkpoints, step, {"w": np.full(2, step, np.float32)}, {"seconds": step})
    checkpoints.wait_until_finished()
    state, position = checkpoint.restore(checkpoints, {"w": np.zeros(2, np.float32)})
    assert state["w"].tolist() == [9, 9] and position == {"seconds": 9}
    assert checkpoints.all_steps() == [6, 9]
    checkpoints.close()


@pytest.mark.parametrize(
    "field, value",
    [
        ("checkpoint_every", 0),
        ("keep_checkpoints", 0),
        ("log_every", 0),
        ("steps_per_call", -1),
        ("workers", -1),
        ("cpu_devices", -1),
        ("data_mode", "disk"),
        ("snapshot_steps", (3, -1)),
        ("snapshot_steps", (2.0,)),
        ("snapshot_steps", ("1",)),
    ],
)
def test_bad_runtimes_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"runtime\.{field}={re.escape(repr(value))}: exp"):
        Runtime(**{field: value})
