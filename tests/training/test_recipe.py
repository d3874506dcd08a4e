"""Schedules and solvers against loops written from their formulas."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st

from transfer_jax.training.recipe import (
    Recipe,
    as_long_as_both,
    learning_rate_schedule,
    limit_filter_rms,
    optimizer,
    plateau_scale,
)

STEPS = 14
DROPPING = Recipe(learning_rate=0.1, decay_every=5, weight_decay=0.05, steps=STEPS)


def random_tree(seed):
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (3, 2), "bias": (2,)}
    return {
        name: {e: rng.normal(size=s).astype(np.float32) for e, s in shapes.items()}
        for name in ("conv1", "fc2")
    }


def ours(recipe, scale=lambda step: 1.0):
    tx, params, history = optimizer(recipe), random_tree(0), []
    state, update = tx.init(params), jax.jit(tx.update)
    for step in range(STEPS):
        rate = np.float32(scale(step))
        updates, state = update(random_tree(100 + step), state, params, rate_scale=rate)
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history


def by_loop(recipe, rate, update, coupled_decay=True):
    """In float64: `update(w, g, memory, lr, step)` gives (w, memory)."""
    params, memory, history = random_tree(0), {}, []
    for step in range(STEPS):
        gradients, moved = random_tree(100 + step), {}
        for name, layer in params.items():
            moved[name] = {}
            for entry, w in layer.items():
                w, g = w.astype(np.float64), gradients[name][entry].astype(np.float64)
                kernel = entry == "kernel"
                lr = rate(step) * (1.0 if kernel else recipe.bias_lr_multiplier)
                decay = recipe.weight_decay * w if kernel else 0.0
                g = g + decay if coupled_decay else g
                new, memory[name, entry] = update(w, g, memory.get((name, entry)), lr, step)
                moved[name][entry] = new if coupled_decay else new - lr * decay
        params = moved
        history.append(params)
    return history


def assert_equal_histories(one, other, tolerance=2e-6):
    for mine, theirs in zip(one, other, strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), mine, theirs
        )


def dropping_rate(step):
    return 0.1 * 0.1 ** (step // 5)


def test_caffe_is_caffes_formula():
    def caffe(w, g, v, lr, step):
        v = (0.0 if v is None else 0.9 * v) + lr * g
        return w - v, v

    assert_equal_histories(ours(DROPPING), by_loop(DROPPING, dropping_rate, caffe))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_pytorchs_formula(nesterov):
    recipe = dataclasses.replace(DROPPING, solver="sgd", nesterov=nesterov)

    def pytorch(w, g, v, lr, step):
        v = g if v is None else 0.9 * v + g
        return w - lr * (g + 0.9 * v if nesterov else v), v

    assert_equal_histories(ours(recipe), by_loop(recipe, dropping_rate, pytorch))


def test_adamw_is_its_formula():
    recipe = dataclasses.replace(DROPPING, solver="adamw", momentum=0.8, bias_lr_multiplier=3.0)

    def adam(w, g, memory, lr, step):
        m, v = memory or (0.0, 0.0)
        m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g * g
        m_hat, v_hat = m / (1 - 0.8 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
        return w - lr * m_hat / (np.sqrt(v_hat) + 1e-8), (m, v)

    expected = by_loop(recipe, dropping_rate, adam, coupled_decay=False)
    assert_equal_histories(ours(recipe), expected, 1e-5)


@pytest.mark.parametrize("solver", ["caffe", "sgd", "adamw"])
def test_drops_of_a_plateau_act_as_those_of_a_schedule(solver):
    recipe = dataclasses.replace(DROPPING, solver=solver)
    plateau = dataclasses.replace(recipe, schedule="plateau")
    assert_equal_histories(ours(plateau, lambda step: 0.1 ** (step // 5)), ours(recipe), 1e-5)


@functools.cache
def reducing(patience):
    """The state before the first error, and the state after one more."""
    reduce = optax.contrib.reduce_on_plateau(0.1, patience, rtol=1e-4)
    after = jax.jit(lambda error, state: reduce.update((), state, value=error)[1])
    return reduce.init(0.0), after


@given(st.lists(st.sampled_from([0.2, 0.5, 0.50002, 0.501, 0.8]), max_size=12), st.integers(1, 4))
def test_a_plateau_drops_as_optax_reduces(errors, patience):
    recipe = dataclasses.replace(DROPPING, schedule="plateau", plateau_patience=patience)
    state, after = reducing(patience)
    for error in errors:
        state = after(error, state)
    assert plateau_scale(recipe, errors) == pytest.approx(float(state.scale), rel=1e-5)


def test_schedules_at_known_steps():
    rate = lambda step, **fields: float(  # noqa: E731
        learning_rate_schedule(dataclasses.replace(DROPPING, steps=100, **fields))(step)
    )
    assert [rate(s) for s in (0, 4, 5, 9, 10)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    cosine = [rate(s, schedule="cosine", warmup_fraction=0.2) for s in (0, 10, 20, 60, 100)]
    assert cosine == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-7)


def test_filters_beyond_the_limit_are_scaled_back_onto_it():
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, np.linspace(0.02, 0.15, 8), (3, 3, 2, 8)).astype(np.float32)
    params = {"conv1": {"kernel": kernel, "bias": np.ones(8)}, "fc2": {"kernel": np.ones((4, 4))}}
    updates = jax.tree.map(lambda leaf: np.asarray(0.05 * np.sign(leaf), np.float32), params)
    limited, _ = limit_filter_rms(0.12).update(updates, optax.EmptyState(), params)
    moved = np.asarray(optax.apply_updates(params, limited)["conv1"]["kernel"], np.float64)
    expected = (kernel + updates["conv1"]["kernel"]).astype(np.float64)
    over = 0
    for o in range(8):
        rms = np.sqrt((expected[..., o] ** 2).mean())
        over += rms > 0.12
        np.testing.assert_allclose(moved[..., o], expected[..., o] * min(1, 0.12 / rms), 1e-5)
    assert 0 < over < 8
    assert limited["fc2"]["kernel"] is updates["fc2"]["kernel"]


def test_activations_of_one_crop_are_not_tested_on_ten():
    with pytest.raises(ValueError, match=r"recipe\.ten_crop=True: .*frozen_once"):
        Recipe(ten_crop=True, frozen_once=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", True),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("momentum", 1.0),
        ("solver", "lbfgs"),
        ("precision", "float16"),
        ("init", "zeros"),
    ],
)
def test_values_that_no_recipe_has_are_named(field, value):
    with pytest.raises(ValueError, match=rf"recipe\.{field}={value!r}: expected"):
        Recipe(**{field: value})


def test_a_recipe_as_long_as_both_gives_each_rate_its_share_of_the_steps():
    recipe = Recipe(steps=100, schedule="step", decay_every=30)
    long = as_long_as_both(recipe, Recipe(steps=300))
    assert long.steps == 400
    one, other = learning_rate_schedule(recipe), learning_rate_schedule(long)
    assert [one(step) for step in range(100)] == [other(4 * step) for step in range(100)]
    cosine = Recipe(steps=100, schedule="cosine", decay_every=30)
    assert as_long_as_both(cosine, recipe).decay_every == 30
