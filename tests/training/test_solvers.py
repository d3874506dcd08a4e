"""Solvers against NumPy loops written from their formulas, and the limit of filters."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.solvers import limit_filter_rms, optimizer
from transfer_jax.transfer import freeze

STEPS = 14


def random_tree(rng):
    shapes = {"kernel": (3, 2), "bias": (2,)}
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        name: {entry: draw(shape) for entry, shape in shapes.items()} for name in ("conv1", "fc2")
    }


def gradients_of(step):
    return random_tree(np.random.default_rng(100 + step))


def ours(recipe, **scales):
    """Params after each of STEPS updates; scales are functions of the step."""
    tx, params, history = optimizer(recipe), random_tree(np.random.default_rng(0)), []
    state = tx.init(params)
    update = jax.jit(tx.update)
    for step in range(STEPS):
        drops = {name: np.float32(drop(step)) for name, drop in scales.items()}
        updates, state = update(gradients_of(step), state, params, **drops)
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
        solver="adamw",
        schedule="constant",
        learning_rate=0.01,
        momentum=0.8,
        weight_decay=0.1,
        bias_lr_multiplier=3.0,
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
                rate = 0.01 if entry == "kernel" else 0.03
                moved[name][entry] = w - rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay)
        params = moved
        history.append(params)
    for mine, theirs in zip(ours(recipe), history, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), mine, theirs)


@pytest.mark.parametrize("solver", ["caffe", "sgd", "adamw"])
def test_drops_of_a_plateau_act_as_those_of_a_schedule(solver):
    """To a relative 1e-5: for 'caffe' that is inside the momentum buffer."""
    recipe = dataclasses.replace(DROPPING, solver=solver)
    plateau = dataclasses.replace(recipe, schedule="plateau")
    dropped = ours(plateau, rate_scale=lambda step: 0.1 ** (step // 5))
    for mine, theirs in zip(dropped, ours(recipe), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), mine, theirs)
    never = ours(plateau, rate_scale=lambda step: 1.0)
    assert largest_gap(never[4], dropped[4]) == 0 < largest_gap(never[5], dropped[5])


def test_a_plateau_must_be_told_its_drops():
    with pytest.raises(TypeError, match="rate_scale"):
        ours(dataclasses.replace(DROPPING, schedule="plateau"))


# The limit of filters.


def limited_by_loops(kernel, max_rms):
    """Filter by filter, in float64."""
    kernel = kernel.astype(np.float64).copy()
    for o in range(kernel.shape[-1]):
        rms = np.sqrt((kernel[..., o] ** 2).sum() / kernel[..., o].size)
        if rms > max_rms:
            kernel[..., o] *= max_rms / rms
    return kernel


@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6)),
    max_rms=st.floats(1e-3, 10),
    size=st.floats(1e-2, 3),
    seed=st.integers(0, 2**31),
)
def test_filters_are_scaled_back_to_the_limit_and_no_further(shape, max_rms, size, seed):
    rng = np.random.default_rng(seed)
    # Around the limit, each filter by its own factor, so that some are above and some below.
    params, updates = (
        {
            "conv1": {
                "kernel": (
                    rng.normal(size=shape) * max_rms * size * rng.uniform(0.2, 2, shape[-1])
                ).astype(np.float32),
                "bias": rng.normal(size=shape[-1]).astype(np.float32),
            },
            "fc2": {"kernel": rng.normal(size=(6, 4)).astype(np.float32) * 100},
        }
        for _ in range(2)
    )
    tx = limit_filter_rms(max_rms)
    limited, _ = tx.update(updates, tx.init(params), params)
    before = params["conv1"]["kernel"] + updates["conv1"]["kernel"]
    after = np.asarray(optax.apply_updates(params, limited)["conv1"]["kernel"])
    largest = np.abs(params["conv1"]["kernel"]).max()
    np.testing.assert_allclose(
        after, limited_by_loops(before, max_rms), rtol=1e-5, atol=3e-7 * largest
    )
    rms = np.sqrt((before.astype(np.float64) ** 2).mean(axis=(0, 1, 2)))
    rms_after = np.sqrt((after.astype(np.float64) ** 2).mean(axis=(0, 1, 2)))
    assert (rms_after <= max_rms * (1 + 1e-5) + 3e-7 * largest).all()
    below = rms < max_rms * (1 - 1e-5)
    assert small.same_bits(after[..., below], before[..., below])
    for name, entry in (("conv1", "bias"), ("fc2", "kernel")):
        assert small.same_bits(limited[name][entry], updates[name][entry])


def test_the_limit_by_hand():
    kernel = np.zeros((1, 2, 1, 3), np.float32)
    kernel[0, :, 0, 0], kernel[0, :, 0, 1], kernel[0, :, 0, 2] = (3, 4), (0.3, 0.4), (-1, 0)
    params, tx = {"conv1": {"kernel": kernel}}, limit_filter_rms(0.5)
    updates, _ = tx.update(jax.tree.map(np.zeros_like, params), tx.init(params), params)
    moved = optax.apply_updates(params, updates)["conv1"]["kernel"]
    # (3, 4) has an RMS of 5 / sqrt(2), (-1, 0) one of 1 / sqrt(2).
    half = np.sqrt(0.5)
    wanted = [[3 * half / 5, 0.3, -half], [4 * half / 5, 0.4, 0.0]]
    np.testing.assert_allclose(moved[0, :, 0], wanted, rtol=1e-6)


@pytest.mark.parametrize("solver", ["caffe", "sgd", "adamw"])
def test_solvers_keep_filters_within_the_limit_and_frozen_ones_as_they_are(solver):
    recipe = Recipe(solver=solver, learning_rate=0.1, max_filter_rms=0.1)
    rng = np.random.default_rng(0)
    params = {
        name: {"kernel": rng.normal(size=shape).astype(np.float32)}
        for name, shape in (("conv1", (3, 3, 3, 4)), ("conv2", (3, 3, 4, 8)), ("fc3", (8, 2)))
    }
    start, tx = params, freeze(optimizer(recipe), ("conv1",))
    state = tx.init(params)
    for _ in range(3):
        gradients = jax.tree.map(lambda w: rng.normal(size=w.shape).astype(np.float32), params)
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        rms = np.sqrt(np.mean(np.square(params["conv2"]["kernel"]), axis=(0, 1, 2)))
        assert (rms <= 0.1 * (1 + 1e-5)).all()
    assert small.same_bits(params["conv1"], start["conv1"])
    assert np.sqrt(np.mean(np.square(params["fc3"]["kernel"]))) > 0.5


def test_the_limit_needs_params_and_a_positive_number():
    tx = limit_filter_rms(0.1)
    with pytest.raises(ValueError, match="looks at the params"):
        tx.update({}, tx.init({}))
    with pytest.raises(ValueError, match=r"max_rms=0: expected a number above 0"):
        limit_filter_rms(0)
