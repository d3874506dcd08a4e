"""The plateau schedule: when it drops, and that a group's cells each keep their own."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from tests.training.groups import PROGRAM, RECIPE, CutOffError, cut_off, lines, train
from transfer_jax.training import trainer
from transfer_jax.training.plateau import initial_plateau, observe, rate_scales
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.trainer import Runtime

STEPS = RECIPE.steps


def scales_of(recipe, errors):
    """The factor after each evaluation of one cell."""
    state, found = initial_plateau(recipe, 1), []
    for error in errors:
        state = observe(recipe, state, np.array([error]), np.array([True]))
        found.append(float(rate_scales(state, 1)[0]))
    return found


def test_a_plateau_by_hand():
    recipe = Recipe(
        schedule="plateau", decay_factor=0.5, plateau_patience=2, plateau_rtol=0, plateau_atol=0.05
    )
    # 0.9, 0.8 improve; 0.76 does not, by 0.04, nor 0.75, by 0.05 exactly in decimals: a drop.
    # 0.7 improves on 0.8; then two that do not, and a drop; the count starts anew: two more.
    errors = [0.9, 0.8, 0.76, 0.751, 0.7, 0.7, 0.9, 0.7, 0.66, 0.4]
    assert scales_of(recipe, errors) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


@settings(max_examples=25)
@given(
    errors=st.lists(st.integers(0, 40), min_size=1, max_size=25),
    patience=st.sampled_from([1, 3]),
    rtol=st.sampled_from([0.01, 0.3]),
)
def test_a_plateau_is_a_plain_loop(errors, patience, rtol):
    errors = [error / 40 for error in errors]
    lowest, waited, scale, expected = np.inf, 0, 1.0, []
    for error in errors:
        if error < (1 - rtol) * lowest:
            lowest, waited = error, 0
        else:
            waited += 1
        if waited == patience:
            scale, waited = scale * 0.1, 0
        expected.append(scale)
    recipe = Recipe(
        schedule="plateau", decay_factor=0.1, plateau_patience=patience, plateau_rtol=rtol
    )
    assert scales_of(recipe, errors) == pytest.approx(expected, rel=1e-5)


def test_cells_keep_their_own_state_and_failed_ones_stay():
    recipe = Recipe(schedule="plateau", plateau_patience=1)
    state = initial_plateau(recipe, 3)
    for errors in ([0.5, 0.5, 0.5], [0.4, 0.5, 0.5], [0.3, 0.5, 0.5]):
        state = observe(recipe, state, np.array(errors), np.array([True, True, False]))
    np.testing.assert_allclose(rate_scales(state, 3), [1, 0.01, 1], rtol=1e-6)


def test_other_schedules_have_no_such_state():
    assert initial_plateau(Recipe(), 2) == ()
    assert rate_scales((), 2).tolist() == [1, 1]


# In training. The recipe of the other tests, which drops at step 6, with a plateau instead.

PLATEAU = dataclasses.replace(RECIPE, schedule="plateau", plateau_patience=1, eval_every=2)
GROUP = dataclasses.replace(PROGRAM, recipe=PLATEAU)


@pytest.fixture
def scripted(monkeypatch):
    """Evaluations that say what a test wants: A1B's error falls until step 4, A2B's for ever."""

    evaluated = itertools.count(2, 2)

    def evaluate(*arguments):
        step = next(evaluated)
        tops = (min(step, 4) / 20, step / 20)
        return [{"top1": top, "top5": 1.0, "val_loss": 1.0} for top in tops]

    monkeypatch.setattr(trainer, "evaluate", evaluate)


def rates(folder, name):
    return [e["learning_rate"] for e in lines(folder, name) if "loss" in e]


def test_each_cell_of_a_group_drops_when_it_should(params, data, whole, scripted, tmp_path):
    """A1B does not improve at steps 6 and 8, so that its first drop is that of the step schedule;
    before the second one, at step 8, it is the cell of that schedule. A2B never drops."""
    outcomes = train(tmp_path, params, data, program=GROUP)
    expected = [0.02, 0.02, 0.02, 0.002, 0.0002]
    assert rates(tmp_path, "A1B") == pytest.approx(expected, rel=1e-5)
    assert rates(tmp_path, "A2B") == [0.02] * 5
    assert outcomes[0].error is None and outcomes[0].steps == STEPS
    losses, step_losses = (
        [e["loss"] for e in lines(folder) if "loss" in e] for folder in (tmp_path, whole[0])
    )
    assert losses[:4] == pytest.approx(step_losses[:4], rel=1e-5)
    beside, step_beside = (
        [e["loss"] for e in lines(folder, "A2B") if "loss" in e] for folder in (tmp_path, whole[0])
    )
    assert beside[:3] == pytest.approx(step_beside[:3], rel=1e-5)
    assert beside[4] != pytest.approx(step_beside[4], rel=1e-4)


@pytest.fixture(scope="module")
def uncut(tmp_path_factory, params, data):
    folder = tmp_path_factory.mktemp("plateau")
    return folder, train(folder, params, data, program=GROUP)


def test_logged_rates_follow_from_logged_accuracies(uncut):
    dropped = 0
    for name in ("A1B", "A2B"):
        lowest, scale, expected = np.inf, 1.0, []
        for entry in lines(uncut[0], name):
            if "loss" in entry:
                expected.append(0.02 * scale)
            elif 1 - entry["top1"] < (1 - PLATEAU.plateau_rtol) * lowest:
                lowest = 1 - entry["top1"]
            else:
                scale *= PLATEAU.decay_factor
        assert rates(uncut[0], name) == pytest.approx(expected, rel=1e-5)
        dropped += scale < 1
    assert dropped


@pytest.mark.parametrize("cut", [5, 8])
def test_a_cut_run_resumes_with_its_drops(cut, uncut, params, data, tmp_path, monkeypatch):
    with cut_off(monkeypatch, cut), pytest.raises(CutOffError):
        train(tmp_path, params, data, program=GROUP)
    for name, mine, theirs in zip(
        ("A1B", "A2B"), train(tmp_path, params, data, program=GROUP), uncut[1], strict=True
    ):
        assert small.same_bits(mine.learned, theirs.learned)
        assert lines(tmp_path, name) == lines(uncut[0], name)


def test_scanned_steps_drop_as_single_ones(uncut, params, data, tmp_path):
    runtime = Runtime(checkpoint_every=4, log_every=2, steps_per_call=2)
    train(tmp_path, params, data, runtime, program=GROUP)
    for name in ("A1B", "A2B"):
        assert rates(tmp_path, name) == rates(uncut[0], name)
