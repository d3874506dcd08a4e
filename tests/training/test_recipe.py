"""Schedules at computed points, and what makes no recipe."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer_jax.data.augment import Augmentation
from transfer_jax.training.recipe import Recipe, learning_rate_schedule


def test_step_schedule_of_the_paper():
    schedule = learning_rate_schedule(Recipe())
    points = {0: 1e-2, 99_999: 1e-2, 100_000: 1e-3, 199_999: 1e-3, 200_000: 1e-4, 449_999: 1e-6}
    for step, rate in points.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)
        assert float(jax.jit(schedule)(step)) == pytest.approx(rate, rel=1e-5)


@settings(max_examples=60)
@given(decay_every=st.integers(1, 150_000), drops=st.integers(1, 5))
def test_step_schedule_drops_exactly_on_time_when_compiled(decay_every, drops):
    recipe = Recipe(decay_every=decay_every, decay_factor=0.5)
    schedule = learning_rate_schedule(recipe)
    around = jnp.arange(decay_every * drops - 1, decay_every * drops + 1, dtype=jnp.int32)
    before, after = np.asarray(jax.jit(jax.vmap(schedule))(around))
    assert before == pytest.approx(0.01 * 0.5 ** ((decay_every * drops - 1) // decay_every))
    assert after == pytest.approx(0.01 * 0.5**drops)


def test_one_cycle_peaks_where_the_warm_up_ends():
    recipe = Recipe(schedule="one_cycle", steps=1000, learning_rate=0.5, warmup_fraction=0.3)
    rates = np.array([float(learning_rate_schedule(recipe)(step)) for step in range(0, 1001, 10)])
    assert rates.argmax() == 30 and rates[30] == pytest.approx(0.5)
    assert rates[0] == pytest.approx(0.5 / 25)
    assert rates[15] == pytest.approx((0.5 + 0.5 / 25) / 2, rel=1e-4)
    assert (np.diff(rates[:31]) > 0).all() and (np.diff(rates[30:]) < 0).all()
    assert 0 <= rates[-1] < 1e-4 * 0.5


def test_cosine_rises_linearly_and_falls_to_nothing():
    recipe = Recipe(schedule="cosine", steps=1000, learning_rate=0.4, warmup_fraction=0.2)
    schedule = learning_rate_schedule(recipe)
    halfway = 0.4 * (1 + math.cos(math.pi * 200 / 800)) / 2
    points = {0: 0.0, 50: 0.1, 100: 0.2, 200: 0.4, 400: halfway, 600: 0.2, 1000: 0.0}
    for step, rate in points.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-4, abs=1e-7)


def test_constant_schedule():
    schedule = learning_rate_schedule(Recipe(schedule="constant", learning_rate=0.3))
    assert float(schedule(0)) == float(schedule(10**6)) == pytest.approx(0.3)


@pytest.mark.parametrize("schedule", ["step", "one_cycle", "cosine", "constant", "plateau"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_schedules_of_the_shortest_runs_are_finite(schedule, steps):
    rate = learning_rate_schedule(Recipe(schedule=schedule, steps=steps))
    assert all(0 <= float(rate(step)) <= 0.0101 for step in range(steps))


BAD_VALUES = {
    "batch_size": (0, -1, 2.5, True, "8"),
    "steps": (0, 1.0, None),
    "solver": ("adam", None),
    "learning_rate": (-0.1, math.nan, math.inf, "0.1"),
    "schedule": ("linear",),
    "decay_every": (0,),
    "decay_factor": (-1, math.inf),
    "warmup_fraction": (-0.1, 1),
    "momentum": (1, -0.9, True),
    "nesterov": (1, "yes"),
    "weight_decay": (-1e-4, math.nan),
    "bias_lr_multiplier": (-2,),
    "label_smoothing": (1.0, -0.1),
    "dtype": ("float16", jnp.float32),
    "augmentation": (32, None),
    "mean": ("pixel",),
    "pixel_scale": (-1, None),
    "eval_every": (0,),
    "best_evals": (0,),
    "ten_crop": (None,),
    "crops": ("five", None, 10),
    "plateau_patience": (0, 1.5),
    "plateau_rtol": (-0.1, 1),
    "plateau_atol": (-0.1, math.inf),
    "max_filter_rms": (0, -0.1, math.inf, "0.1"),
}


@pytest.mark.parametrize(
    "field, value", [(field, value) for field, values in BAD_VALUES.items() for value in values]
)
def test_bad_values_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"recipe\.{field}=.*expected"):
        Recipe(**{field: value})


def test_every_field_is_checked():
    assert set(BAD_VALUES) == {field.name for field in dataclasses.fields(Recipe)}


def test_caffe_has_no_nesterov_momentum():
    with pytest.raises(ValueError, match=r"recipe\.nesterov=True.*solver='caffe'"):
        Recipe(solver="caffe", nesterov=True)


def test_whole_numbers_make_the_same_recipe():
    one, other = (
        Recipe(weight_decay=0, learning_rate=1),
        Recipe(weight_decay=0.0, learning_rate=1.0),
    )
    assert repr(one) == repr(other)


@pytest.mark.parametrize("factor", [0.0, 1, 2.5])
def test_a_plateau_must_lower_the_rate(factor):
    assert Recipe(decay_factor=factor).decay_factor == factor
    with pytest.raises(ValueError, match=r"recipe\.decay_factor=.*between 0 and 1"):
        Recipe(schedule="plateau", decay_factor=factor)


def test_a_plateau_needs_a_tolerance():
    with pytest.raises(ValueError, match=r"recipe\.plateau_rtol=0\.0 and .*expected one above 0"):
        Recipe(schedule="plateau", plateau_rtol=0)
    assert Recipe(schedule="plateau", plateau_rtol=0, plateau_atol=0.01).plateau_rtol == 0


def test_the_recipe_of_zeiler_and_fergus_can_be_written_down():
    recipe = Recipe(
        batch_size=128,
        learning_rate=1e-2,
        momentum=0.9,
        schedule="plateau",
        weight_decay=0,
        bias_lr_multiplier=1,
        augmentation=Augmentation(size=224),
        crops="ten",
        ten_crop=True,
        max_filter_rms=1e-1,
    )
    assert float(learning_rate_schedule(recipe)(10**6)) == pytest.approx(1e-2)
