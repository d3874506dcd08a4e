import dataclasses
import json

import jax
import numpy as np
import pytest

from tests.training import small
from transfer_jax.training import trainer
from transfer_jax.training.metrics_log import MetricsLog, best_mean
from transfer_jax.training.progress import Progress
from transfer_jax.training.step import Program
from transfer_jax.training.trainer import Member, Runtime, train_group

RUNTIME = Runtime(checkpoint_every=4, log_every=3)


def train(folder, frozen=(0, 3), recipe=small.RECIPE, data=small.DATA, runtime=RUNTIME, seed=7):
    members = [
        Member(f"cell{i}", n, params, folder / f"cell{i}")
        for i, (n, params) in enumerate(zip(frozen, small.cell_params(frozen), strict=True))
    ]
    return train_group(
        Program(small.NET, recipe, frozen),
        members,
        data,
        stream_seed=seed,
        checkpoint_dir=folder / "checkpoints",
        runtime=runtime,
        progress=Progress.start(1),
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train(folder)


def without_times(folder):
    keys = ("step", "loss", "learning_rate", "top1", "top5", "val_loss")
    return [
        [
            {k: v for k, v in entry.items() if k in keys}
            for entry in MetricsLog(folder / f"cell{i}" / "metrics.jsonl").entries()
        ]
        for i in range(2)
    ]


def test_a_group_learns_and_says_how_well(uninterrupted):
    folder, outcomes = uninterrupted
    for outcome in outcomes:
        assert outcome.error is None and outcome.steps == 12 and outcome.num_eval == 40
        assert 0 <= outcome.top1 <= 1 and outcome.images_per_second > 0
    first, second = without_times(folder)
    assert [entry["step"] for entry in first if "loss" in entry] == [3, 6, 9, 12]
    assert [entry["step"] for entry in first if "top1" in entry] == [6, 12]
    assert outcomes[1].top1 == second[-1]["top1"]
    assert "conv3" not in outcomes[1].learned and "conv4" in outcomes[1].learned


@pytest.mark.parametrize("stop_after", [5, 8, 11])
def test_a_resumed_group_is_bit_identical(uninterrupted, tmp_path, monkeypatch, stop_after):
    calls = 0
    real = trainer.compiled_train_step

    def stopping(program, scanned):
        step = real(program, scanned)

        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == stop_after:
                raise KeyboardInterrupt
            return step(*arguments)

        return call

    monkeypatch.setattr(trainer, "compiled_train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    # A kill in mid-write leaves a torn line.
    with (tmp_path / "cell0" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')
    resumed = train(tmp_path)
    folder, expected = uninterrupted
    for mine, theirs in zip(resumed, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, mine.learned, theirs.learned)
        assert (mine.top1, mine.top1_best_mean) == (theirs.top1, theirs.top1_best_mean)
    assert without_times(tmp_path) == without_times(folder)


def test_streamed_images_train_as_resident_ones_do(uninterrupted, tmp_path):
    streamed = train(tmp_path, data=dataclasses.replace(small.DATA, resident=False))
    for mine, theirs in zip(streamed, uninterrupted[1], strict=True):
        assert mine.top1 == theirs.top1
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            mine.learned,
            theirs.learned,
        )


def test_another_seed_trains_to_other_weights(uninterrupted, tmp_path):
    other = train(tmp_path, seed=8)
    assert not np.array_equal(
        other[0].learned["fc8"]["kernel"], uninterrupted[1][0].learned["fc8"]["kernel"]
    )


def test_a_loss_that_is_not_finite_fails_its_cell_and_no_other(tmp_path, monkeypatch):
    params = small.cell_params((0, 3))
    broken = jax.tree.map(lambda leaf: leaf * np.inf, params[0]["fc8"])
    monkeypatch.setattr(
        small, "cell_params", lambda frozen: ({**params[0], "fc8": broken}, params[1])
    )
    bad, good = train(tmp_path)
    assert bad.top1 is None and bad.top1_best_mean is None
    assert "cell0" in bad.error and "step 0" in bad.error and "Recipe(" in bad.error
    assert good.error is None and good.steps == 12


def test_a_group_of_failed_cells_stops_early(tmp_path):
    recipe = dataclasses.replace(small.RECIPE, learning_rate=1e30, steps=24)
    (outcome,) = train(tmp_path, frozen=(0,), recipe=recipe)
    assert "not finite" in outcome.error
    steps = [e["step"] for e in MetricsLog(tmp_path / "cell0" / "metrics.jsonl").entries()]
    assert max(steps) == 6


def test_tensorboard_events_are_written_on_request(uninterrupted, tmp_path):
    train(tmp_path, runtime=dataclasses.replace(RUNTIME, tensorboard=True))
    assert list((tmp_path / "cell0" / "events").glob("events*"))
    assert not (uninterrupted[0] / "cell0" / "events").exists()


def test_calls_of_several_steps_end_where_the_loop_looks(tmp_path, uninterrupted):
    outcomes = train(tmp_path, runtime=Runtime(checkpoint_every=4, log_every=2, steps_per_call=4))
    steps = [e["step"] for e in MetricsLog(tmp_path / "cell0" / "metrics.jsonl").entries()]
    assert steps == [2, 4, 6, 6, 8, 10, 12, 12]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        outcomes[0].learned,
        uninterrupted[1][0].learned,
    )


def test_metrics_log_keeps_whole_lines_only(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.entries() == []
    for step in (1, 2, 3):
        log.append({"step": step, "top1": step / 10})
    log.path.write_text(log.path.read_text() + '{"step": 4, "top')
    assert [entry["step"] for entry in log.entries()] == [1, 2, 3]
    log.keep_until(2)
    lines = log.path.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_best_mean():
    assert best_mean([0.1, 0.5, 0.3], 2) == pytest.approx(0.4)
    assert best_mean([0.2], 10) == 0.2
    with pytest.raises(ValueError, match="no evaluations"):
        best_mean([], 3)


@pytest.mark.parametrize("field", ["checkpoint_every", "log_every", "keep_checkpoints"])
def test_bad_runtime_is_named(field):
    with pytest.raises(ValueError, match=rf"runtime\.{field}=0"):
        Runtime(**{field: 0})
    with pytest.raises(ValueError, match="data_mode"):
        Runtime(data_mode="disk")
