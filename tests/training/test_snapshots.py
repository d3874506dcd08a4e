"""Snapshots: params kept at given numbers of updates, through kills."""

import dataclasses

import jax
import pytest

from tests import small
from tests.training.groups import PROGRAM, RECIPE, CutOffError, cut_off, train
from transfer_jax.training import checkpoint, trainer
from transfer_jax.training.trainer import Runtime

STEPS = (0, 3, 7, 10)
RUNTIME = Runtime(checkpoint_every=3, log_every=2, snapshot_steps=(10, 7, 99, 0, 3, 3))
NAMES = ("A1B", "A2B")


def snapshots(folder, name):
    """step -> params that were kept."""
    steps = checkpoint.snapshot_steps(folder / name)
    return {
        step: checkpoint.load_params(checkpoint.snapshot_path(folder / name, step))
        for step in steps
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory, params, data):
    folder = tmp_path_factory.mktemp("snapshots")
    return folder, train(folder, params, data, RUNTIME)


def test_snapshots_are_the_params_of_their_steps(kept, whole, params, data, tmp_path):
    """The first are the initial ones, the last the final ones, and those of step 7 what a recipe of
    seven steps ends with; the training is what it is without them."""
    folder, outcomes = kept
    short = dataclasses.replace(PROGRAM, recipe=dataclasses.replace(RECIPE, steps=7))
    ends = train(tmp_path, params, data, program=short)
    for i, name in enumerate(NAMES):
        found = snapshots(folder, name)
        assert tuple(found) == STEPS
        initial = {layer: params[i][layer] for layer in outcomes[i].learned}
        assert small.same_bits(found[0], initial)
        assert small.same_bits(found[7], ends[i].learned)
        assert small.same_bits(found[10], outcomes[i].learned)
        assert small.same_bits(outcomes[i].learned, whole[1][i].learned)
        assert not small.same_bits(found[3], found[7])


@pytest.mark.parametrize("cut", [2, 4, 8, 10])
def test_a_cut_run_ends_with_all_snapshots(cut, kept, params, data, tmp_path, monkeypatch):
    with cut_off(monkeypatch, cut), pytest.raises(CutOffError):
        train(tmp_path, params, data, RUNTIME)
    train(tmp_path, params, data, RUNTIME)
    for name in NAMES:
        mine, theirs = snapshots(tmp_path, name), snapshots(kept[0], name)
        assert tuple(mine) == STEPS and small.same_bits(mine, theirs)


def test_a_snapshot_cut_off_in_the_middle_is_none(kept, params, data, tmp_path, monkeypatch):
    """Orbax writes under another name, and a kill leaves that behind."""
    save = checkpoint.save_params

    def half(path, tree):
        if path.name != "7":
            return save(path, tree)
        save(path.with_name("whole"), tree)
        unfinished = path.with_name("7.orbax-checkpoint-tmp-1")
        path.with_name("whole").rename(unfinished)
        next(file for file in unfinished.rglob("*") if file.is_file()).unlink()
        raise CutOffError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_params", half)
        with pytest.raises(CutOffError):
            train(tmp_path, params, data, RUNTIME)
    assert checkpoint.snapshot_steps(tmp_path / "A1B") == (0, 3)
    train(tmp_path, params, data, RUNTIME)
    for name in NAMES:
        assert small.same_bits(snapshots(tmp_path, name), snapshots(kept[0], name))


def test_a_snapshot_has_its_name_only_when_it_is_complete(tmp_path, monkeypatch):
    """The real writer, stopped as it moves what it wrote to its place."""
    tree = {"conv1": {"kernel": jax.numpy.ones((3, 3, 3, 4))}}

    def stop(*arguments, **options):
        raise CutOffError

    with monkeypatch.context() as patched:
        patched.setattr("os.rename", stop)
        patched.setattr("os.replace", stop)
        patched.setattr("pathlib.Path.rename", stop)
        patched.setattr("pathlib.Path.replace", stop)
        with pytest.raises(CutOffError):
            checkpoint.save_snapshot(tmp_path, 5, tree)
    assert list((tmp_path / "snapshots").iterdir())
    assert checkpoint.snapshot_steps(tmp_path) == ()
    checkpoint.save_snapshot(tmp_path, 5, tree)
    assert checkpoint.snapshot_steps(tmp_path) == (5,)
    read = checkpoint.load_params(checkpoint.snapshot_path(tmp_path, 5))
    assert small.same_bits(read, tree)


@pytest.mark.parametrize(
    "steps, expected", [((), 50), ((0, 200, 1000), 50), ((30,), 10), ((77,), 1), ((5000,), 50)]
)
def test_calls_end_at_snapshots(steps, expected):
    recipe = dataclasses.replace(RECIPE, steps=1000, eval_every=200)
    runtime = Runtime(checkpoint_every=400, log_every=100, steps_per_call=50, snapshot_steps=steps)
    assert trainer._steps_per_call(runtime, recipe, True, 0) == expected


def test_nothing_is_kept_unasked(whole):
    assert [checkpoint.snapshot_steps(whole[0] / name) for name in NAMES] == [(), ()]
