import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from transfer_jax.training.recipe import Recipe, learning_rate_schedule, optimizer

STEP = Recipe(learning_rate=0.1, decay_every=3, decay_factor=0.1, weight_decay=0.01, steps=8)


def train(recipe, gradients):
    """Params after each update of one layer of two weights and one bias."""
    params = {"conv1": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}}
    tx = optimizer(recipe)
    state, found = tx.init(params), []
    for g in gradients:
        grads = {"conv1": {"kernel": jnp.array([g, -g]), "bias": jnp.array([g])}}
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        found.append(np.concatenate([params["conv1"]["kernel"], params["conv1"]["bias"]]))
    return np.array(found)


def reference(recipe, gradients, inside, nesterov=False):
    """The same in plain NumPy; `inside` puts the learning rate into the momentum buffer."""
    w = np.array([1.0, -2.0, 0.5])
    v, found = np.zeros(3), []
    decay = recipe.weight_decay * np.array([1, 1, 0])
    times = np.array([1, 1, recipe.bias_lr_multiplier])
    for step, g in enumerate(gradients):
        lr = recipe.learning_rate * recipe.decay_factor ** (step // recipe.decay_every)
        gradient = (np.array([g, -g, g]) + decay * w) * times
        if inside:
            v = recipe.momentum * v + lr * gradient
            w = w - v
        else:
            v = recipe.momentum * v + gradient
            w = w - lr * (gradient + recipe.momentum * v if nesterov else v)
        found.append(w)
    return np.array(found)


GRADIENTS = [0.3, -0.1, 0.7, 0.2, 0.2, -0.5, 0.1, 0.4]


def test_caffe_keeps_the_learning_rate_inside_the_momentum_buffer():
    np.testing.assert_allclose(
        train(STEP, GRADIENTS), reference(STEP, GRADIENTS, inside=True), rtol=1e-5
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_applies_the_learning_rate_to_the_buffer(nesterov):
    recipe = dataclasses.replace(STEP, solver="sgd", nesterov=nesterov)
    expected = reference(recipe, GRADIENTS, inside=False, nesterov=nesterov)
    np.testing.assert_allclose(train(recipe, GRADIENTS), expected, rtol=1e-5)


def test_the_two_conventions_differ_just_after_a_drop_and_not_before():
    caffe, sgd = (train(dataclasses.replace(STEP, solver=s), GRADIENTS) for s in ("caffe", "sgd"))
    np.testing.assert_allclose(caffe[:3], sgd[:3], rtol=1e-5)
    assert np.abs(caffe[3] - sgd[3]).max() > 0.01


def test_adamw_decays_kernels_only():
    recipe = Recipe(solver="adamw", schedule="constant", learning_rate=0.1, weight_decay=0.5)
    moved = train(recipe, [0.0])[0]
    np.testing.assert_allclose(moved, [1 - 0.05, -2 + 0.1, 0.5], rtol=1e-5)


def test_the_papers_schedule_drops_every_hundred_thousand_steps():
    schedule = learning_rate_schedule(Recipe())
    for step, expected in [(0, 1e-2), (99_999, 1e-2), (100_000, 1e-3), (449_999, 1e-6)]:
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4)


def test_one_cycle_peaks_where_the_warm_up_ends():
    recipe = Recipe(schedule="one_cycle", learning_rate=0.5, steps=1000, warmup_fraction=0.3)
    rates = [float(learning_rate_schedule(recipe)(step)) for step in range(1001)]
    assert np.argmax(rates) == 300 and max(rates) == pytest.approx(0.5)
    assert rates[0] == pytest.approx(0.5 / 25) and rates[-1] < 1e-4


def test_cosine_rises_and_falls_to_zero():
    recipe = Recipe(schedule="cosine", learning_rate=0.4, steps=100, warmup_fraction=0.1)
    schedule = learning_rate_schedule(recipe)
    assert float(schedule(5)) == pytest.approx(0.2)
    assert float(schedule(10)) == pytest.approx(0.4)
    assert float(schedule(55)) == pytest.approx(0.2)
    assert float(schedule(100)) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("steps", 1.5),
        ("solver", "lbfgs"),
        ("schedule", "linear"),
        ("learning_rate", -1),
        ("learning_rate", float("nan")),
        ("momentum", 1.1),
        ("weight_decay", -0.1),
        ("dtype", "float16"),
        ("mean", "median"),
        ("label_smoothing", 2),
        ("eval_every", 0),
    ],
)
def test_bad_values_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=rf"recipe\.{field}="):
        Recipe(**{field: value})


def test_nesterov_is_not_caffes():
    with pytest.raises(ValueError, match="nesterov"):
        optimizer(Recipe(nesterov=True))
