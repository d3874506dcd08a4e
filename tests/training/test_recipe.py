"""Solvers against NumPy loops written from their formulas, and schedules at computed points."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer_jax.training.recipe import Recipe, learning_rate_schedule, optimizer

STEPS = 14


def random_tree(rng):
    shapes = {"kernel": (3, 2), "bias": (2,)}
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        name: {entry: draw(shape) for entry, shape in shapes.items()} for name in ("conv1", "fc2")
    }


def gradients_of(step):
    return random_tree(np.random.default_rng(100 + step))


def ours(recipe):
    """Params after each of STEPS updates."""
    tx, params, history = optimizer(recipe), random_tree(np.random.default_rng(0)), []
    state = tx.init(params)
    update = jax.jit(tx.update)
    for step in range(STEPS):
        updates, state = update(gradients_of(step), state, params)
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history


def loop(recipe, rate, update):
    """The same in float64: `update(w, g, v, lr)` gives (w, v); v starts as None."""
    params, buffers, history = random_tree(np.random.default_rng(0)), {}, []
    for step in range(STEPS):
        gradients, moved = gradients_of(step), {}
        for name, layer in params.items():
            moved[name] = {}
            for entry, w in layer.items():
                g = gradients[name][entry].astype(np.float64)
                is_weight = entry == "kernel"
                lr = rate(step) * (1.0 if is_weight else recipe.bias_lr_multiplier)
                if is_weight:
                    g = g + recipe.weight_decay * w
                w, buffers[name, entry] = update(
                    w.astype(np.float64), g, buffers.get((name, entry)), lr
                )
                moved[name][entry] = w
        params = moved
        history.append(params)
    return history


def assert_equal_histories(one, other):
    for step, (mine, theirs) in enumerate(zip(one, other, strict=True)):
        jax.tree.map(
            lambda a, b, s=step: np.testing.assert_allclose(a, b, 2e-6, 2e-6, err_msg=f"step {s}"),
            mine,
            theirs,
        )


def largest_gap(one, other):
    gaps = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one, other)
    return max(jax.tree.leaves(gaps))


DROPPING = Recipe(learning_rate=0.1, decay_every=5, weight_decay=0.05, steps=STEPS)


def dropping_rate(step):
    return 0.1 * 0.1 ** (step // 5)


def test_caffe_solver_is_caffes_formula():
    def caffe(w, g, v, lr):
        v = (0.0 if v is None else 0.9 * v) + lr * g
        return w - v, v

    assert_equal_histories(ours(DROPPING), loop(DROPPING, dropping_rate, caffe))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_solver_is_pytorchs_formula(nesterov):
    recipe = dataclasses.replace(DROPPING, solver="sgd", nesterov=nesterov)

    def pytorch(w, g, v, lr):
        v = g if v is None else 0.9 * v + g
        return w - lr * (g + 0.9 * v if nesterov else v), v

    assert_equal_histories(ours(recipe), loop(recipe, dropping_rate, pytorch))


def test_the_two_conventions_part_at_a_drop_of_the_learning_rate():
    caffe, sgd = ours(DROPPING), ours(dataclasses.replace(DROPPING, solver="sgd"))
    before = max(largest_gap(caffe[step], sgd[step]) for step in range(5))
    assert before < 1e-6
    # In the first step after the drop Caffe still takes 0.9 of the old, ten times larger steps.
    assert largest_gap(caffe[5], sgd[5]) > 0.05


def test_adamw_is_its_formula():
    recipe = Recipe(
        solver="adamw", schedule="constant", learning_rate=0.01, momentum=0.8, weight_decay=0.1
    )
    params, moments, history = random_tree(np.random.default_rng(0)), {}, []
    for step in range(STEPS):
        gradients, moved = gradients_of(step), {}
        for name, layer in params.items():
            moved[name] = {}
            for entry, w in layer.items():
                g = gradients[name][entry].astype(np.float64)
                m, v = moments.get((name, entry), (0.0, 0.0))
                m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g * g
                moments[name, entry] = m, v
                m_hat, v_hat = m / (1 - 0.8 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                decay = 0.1 * w if entry == "kernel" else 0.0
                moved[name][entry] = w - 0.01 * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay)
        params = moved
        history.append(params)
    for mine, theirs in zip(ours(recipe), history, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), mine, theirs)


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


@pytest.mark.parametrize("schedule", ["step", "one_cycle", "cosine", "constant"])
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
