"""The training and evaluation steps against plain loops, alone and in groups."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from transfer_jax.data.views import eval_view, ten_crop_view, train_view
from transfer_jax.networks import alexnet_mini
from transfer_jax.training import parallel
from transfer_jax.training.step import (
    Source,
    batch_parts,
    cast,
    initial_state,
    make_eval_fn,
    make_update_fn,
)
from transfer_jax.transfer import Treatment

BATCH, STEPS, KEY = 4, 3, jax.random.key(11)
NET = small.network()
RECIPE = dataclasses.replace(small.RECIPE, batch_size=BATCH, decay_every=2)
ORDER = np.random.default_rng(1).integers(0, 24, (STEPS, BATCH)).astype(np.int32)


def random_source(num_classes=2, count=24, size=small.SIZE):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, num_classes, count).astype(np.int32)
    return Source(images, labels, np.array([120.0, 110.0, 100.0], np.float32))


SOURCE = random_source()


@functools.cache
def update_fn(network, recipe, frozen, **form):
    return make_update_fn(network, recipe, frozen, **form)


def train(params, frozen, network=NET, recipe=RECIPE, source=SOURCE, **form):
    """(full params of each cell, losses (steps, cells)) after a step for each row of ORDER."""
    state, shared = parallel.replicate(initial_state(network, recipe, frozen, params))
    rates, losses = np.ones(len(frozen), np.float32), []
    for indices in ORDER:
        batch = parallel.split_batch(indices)
        state, loss = update_fn(network, recipe, frozen, **form)(
            state, shared, parallel.replicate(source), batch, rates, jax.random.key_data(KEY)
        )
        losses.append(np.asarray(loss[0]))
    state, shared = parallel.unreplicate(state), parallel.unreplicate(shared)
    whole = [{n: {**shared, **mine}[n] for n in network.layer_names} for mine in state.learned]
    return whole, np.array(losses), state


def transfers(network, depths):
    """Initial params of cells that share a base's lower layers."""
    base = network.init(jax.random.key(0))
    cells = [(n, jax.random.key(100 + n)) for n in depths]
    return [
        Treatment("B", "A", n).init_params(network, key, base) if n else network.init(key)
        for n, key in cells
    ]


def assert_close(one, other, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max() + 1e-7),
        one,
        other,
    )


# Frozen at every depth, alone and together.

MINI = alexnet_mini(
    5, widths=dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"), 4),
    input_size=16,
)  # fmt: skip
MINI_RECIPE = dataclasses.replace(
    RECIPE, augmentation=dataclasses.replace(RECIPE.augmentation, size=16)
)
MINI_SOURCE = random_source(5, size=16)
DEPTHS = (2, 7)


@pytest.fixture(scope="module")
def alone():
    """n -> (start, trained params, losses) of a cell trained alone, n = 0 a base."""
    found = {}
    for n, start in zip((0, *DEPTHS), transfers(MINI, (0, *DEPTHS)), strict=True):
        (full,), losses, _ = train([start], (n,), MINI, MINI_RECIPE, MINI_SOURCE)
        found[n] = (start, full, losses[:, 0])
    return found


def test_frozen_layers_are_bit_identical_and_all_others_move(alone):
    for n, (start, trained, _) in alone.items():
        for i, name in enumerate(MINI.layer_names):
            for entry in ("kernel", "bias"):
                same = small.same_bits(start[name][entry], trained[name][entry])
                assert same == (i < n), (n, name, entry)


def test_a_group_trains_its_cells_as_if_each_were_alone(alone):
    starts = transfers(MINI, DEPTHS)
    together, losses, _ = train(starts, DEPTHS, MINI, MINI_RECIPE, MINI_SOURCE)
    for i, n in enumerate(DEPTHS):
        np.testing.assert_allclose(losses[:, i], alone[n][2], rtol=1e-5)
        assert_close(together[i], alone[n][1])


def test_a_frozen_prefix_costs_no_backward_pass_and_no_optimiser_state():
    flops = []
    for n, start in zip((0, *DEPTHS), transfers(MINI, (0, *DEPTHS)), strict=True):
        state, shared = initial_state(MINI, MINI_RECIPE, (n,), [start])
        learned = sum(leaf.size for leaf in jax.tree.leaves(state.learned))
        momentum = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
        assert momentum == learned
        assert learned + sum(leaf.size for leaf in jax.tree.leaves(shared)) == MINI.num_params
        arguments = parallel.replicate((state, shared, MINI_SOURCE))
        rest = (parallel.split_batch(ORDER[0]), np.ones(1, np.float32), jax.random.key_data(KEY))
        step = update_fn(MINI, MINI_RECIPE, (n,)).lower(*arguments, *rest).compile()
        analysis = step.cost_analysis()
        flops.append((analysis[0] if isinstance(analysis, list) else analysis)["flops"])
    assert all(more > less for more, less in itertools.pairwise(flops)), flops
    assert flops[-1] < 0.6 * flops[0]


# The small network against a loop without groups, freezing, optax or pmap.


@jax.jit
def keys_of(step):
    """Keys of the views and of dropout, as documented: by step, purpose, place in the batch."""
    key, places = jax.random.fold_in(KEY, step), jnp.arange(BATCH)
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return fold(jax.random.fold_in(key, 0), places), fold(jax.random.fold_in(key, 1), places)


def view_of(recipe, step):
    view = jax.jit(train_view, static_argnums=(2, 5))
    images, how = SOURCE.images[ORDER[step]], (SOURCE.mean, recipe.pixel_scale, recipe.crops)
    return view(images, keys_of(step)[0], recipe.augmentation, *how)


def plain_training(recipe, params):
    """Caffe's update, dropout, and the limit of filters, in NumPy around one jax.grad."""
    velocity, losses = jax.tree.map(np.zeros_like, params), []

    def loss_of(params, x, labels, rng):
        logits = NET.apply(params, x, train=True, rng=rng)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    gradients_of = jax.jit(jax.value_and_grad(loss_of))
    for step in range(STEPS):
        labels, rng = SOURCE.labels[ORDER[step]], keys_of(step)[1]
        loss, gradients = gradients_of(params, view_of(recipe, step), labels, rng)
        losses.append(float(loss))
        rate = recipe.learning_rate * recipe.decay_factor ** (step // recipe.decay_every)
        for name, layer in gradients.items():
            for entry, gradient in layer.items():
                kernel = entry == "kernel"
                decay = recipe.weight_decay * params[name][entry] if kernel else 0.0
                velocity[name][entry] = recipe.momentum * velocity[name][entry] + (
                    rate * (1 if kernel else 2) * (np.asarray(gradient) + decay)
                )
        params = jax.tree.map(lambda w, v: np.array(w) - np.asarray(v), params, velocity)
        for name in ("conv1", "conv2") if recipe.max_filter_rms else ():
            for o in range(params[name]["kernel"].shape[-1]):
                rms = np.sqrt((params[name]["kernel"][..., o] ** 2).mean())
                params[name]["kernel"][..., o] *= min(1, recipe.max_filter_rms / rms)
    return np.array(losses), params


@pytest.mark.parametrize("crops, limit", [("random", None), ("ten", 0.27)])
def test_training_equals_a_plain_loop(crops, limit):
    recipe = dataclasses.replace(RECIPE, crops=crops, max_filter_rms=limit)
    params = NET.init(jax.random.key(0))
    losses, expected = plain_training(recipe, params)
    (full,), mine, state = train([params], (0,), recipe=recipe)
    np.testing.assert_allclose(mine[:, 0], losses, rtol=1e-5)
    assert_close(full, expected, 1e-4)
    assert int(state.step) == STEPS and int(state.bad_step[0]) == -1


def test_smoothed_labels_spread_a_share_of_the_target():
    recipe = dataclasses.replace(RECIPE, label_smoothing=0.2)
    params = NET.init(jax.random.key(0))
    _, losses, _ = train([params], (0,), recipe=recipe)
    logits = NET.apply(params, view_of(recipe, 0), train=True, rng=keys_of(0)[1])
    log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
    right = log_p[np.arange(BATCH), SOURCE.labels[ORDER[0]]]
    expected = -(0.9 * right + 0.1 * (log_p.sum(1) - right)).mean()
    assert losses[0, 0] == pytest.approx(expected, rel=1e-5)


def test_bfloat16_keeps_params_logits_and_loss_in_float32():
    recipe = dataclasses.replace(RECIPE, precision="bfloat16")
    params = NET.init(jax.random.key(0))
    (full,), losses, _ = train([params], (0,), recipe=recipe)
    _, exact_losses, _ = train([params], (0,))
    assert {leaf.dtype for leaf in jax.tree.leaves(full)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(losses, exact_losses, rtol=0.02)
    assert (losses != exact_losses).any()
    half = cast(NET, params, "bfloat16")
    x = jnp.zeros((2, *NET.input_shape), jnp.bfloat16)
    assert NET.apply_range(half, x, None, "fc4").dtype == jnp.bfloat16
    logits = NET.apply(half, x)
    assert logits.dtype == jnp.float32
    below = NET.apply_range(half, x, None, "fc4").astype(jnp.float32)
    np.testing.assert_allclose(logits, below @ params["fc4"]["kernel"] + params["fc4"]["bias"])


def test_the_step_keeps_what_gpus_need_for_exact_float32_and_resume():
    """Products of float32 are asked for in full, and nothing scatters: GPUs do so in any order."""
    params = NET.init(jax.random.key(0))
    arguments = parallel.replicate((*initial_state(NET, RECIPE, (0,), [params]), SOURCE))
    rest = (parallel.split_batch(ORDER[0]), np.ones(1, np.float32), jax.random.key_data(KEY))
    asked = {}
    for precision in ("float32", "tf32"):
        recipe = dataclasses.replace(RECIPE, precision=precision)
        asked[precision] = update_fn(NET, recipe, (0,)).lower(*arguments, *rest).as_text()
        assert "select_and_scatter" not in asked[precision]
    products = small.products(asked["float32"])
    assert products and all("HIGHEST" in line for line in products)
    assert "HIGHEST" not in asked["tf32"]


def test_parts_scans_and_company_change_no_more_than_rounding():
    starts = transfers(NET, (1, 2))
    expected, losses, _ = train(starts, (1, 2))
    found, in_parts, _ = train(starts, (1, 2), parts=2)
    np.testing.assert_allclose(in_parts, losses, rtol=1e-5)
    assert_close(found, expected, 1e-4)
    state, shared = parallel.replicate(initial_state(NET, RECIPE, (1, 2), starts))
    source, indices = parallel.replicate(SOURCE), parallel.split_batch(ORDER, axis=-1)
    rates, key = np.ones(2, np.float32), jax.random.key_data(KEY)
    scanned = make_update_fn(NET, RECIPE, (1, 2), scanned=True)
    state, last = scanned(state, shared, source, indices, rates, key)
    np.testing.assert_allclose(last[0], losses[-1], rtol=1e-5)
    learned = parallel.unreplicate(state).learned
    for mine, theirs in zip(learned, expected, strict=True):
        assert_close(mine, {name: theirs[name] for name in mine}, 1e-4)


def test_a_cell_that_diverges_is_marked_and_its_neighbour_untouched():
    healthy, broken = transfers(NET, (1, 2))
    broken["fc4"] = {**broken["fc4"], "bias": jnp.full(2, jnp.inf)}
    found, losses, state = train([healthy, broken], (1, 2))
    assert [int(bad) for bad in state.bad_step] == [-1, 0]
    assert np.isfinite(losses[:, 0]).all() and not np.isfinite(losses[:, 1]).any()
    beside, _, _ = train(transfers(NET, (1, 2)), (1, 2))
    assert small.same_bits(found[0], beside[0])


def test_only_cpus_compute_batches_in_parts(monkeypatch):
    mini = alexnet_mini(100)
    parts = [batch_parts(mini, (0,), batch) for batch in (8, 32, 96, 128, 256)]
    assert parts == [1, 2, 3, 8, 8]
    assert all(batch_parts(mini, (0,), batch) == 1 for batch in (33, 7))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert batch_parts(mini, (0,), 256) == 1


# Evaluation.

CLASSES = 8
EVAL_NET, EVAL_SOURCE = small.network(CLASSES), random_source(CLASSES, 9)
INDICES = np.array([4, 0, 7, 7, 2, 8, 0, 0], np.int32)


def evaluate(cells, frozen, recipe=RECIPE):
    state, shared = parallel.replicate(initial_state(EVAL_NET, recipe, frozen, cells))
    function = make_eval_fn(EVAL_NET, recipe, frozen)
    source, batch = parallel.replicate(EVAL_SOURCE), parallel.split_batch(INDICES)
    return np.asarray(function(state.learned, shared, source, batch)[0])


def expected_figures(likelihood):
    """Hit, hit among five and cross-entropy of each image, by loops."""
    found = []
    for row, label in zip(likelihood, EVAL_SOURCE.labels[INDICES], strict=True):
        ahead = sum(row[c] >= row[label] for c in range(CLASSES) if c != label)
        found.append([ahead < 1, ahead < 5, -row[label]])
    return np.array(found)


def eval_cells():
    cells = transfers(EVAL_NET, (1, 2))
    for params in cells:
        params["fc4"]["kernel"] = params["fc4"]["kernel"] * 8
    return cells


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("ten_crop", [False, True])
def test_evaluation_equals_numpy(ten_crop):
    recipe = dataclasses.replace(RECIPE, ten_crop=ten_crop)
    figures = evaluate(eval_cells(), (1, 2), recipe)
    view = ten_crop_view if ten_crop else eval_view
    images = EVAL_SOURCE.images[INDICES]
    x = view(images, recipe.augmentation, EVAL_SOURCE.mean, recipe.pixel_scale)
    x = np.moveaxis(x, 1, 0) if ten_crop else x[None]
    for mine, params in zip(figures, eval_cells(), strict=True):
        p = np.mean([np.exp(log_softmax(EVAL_NET.apply(params, crop))) for crop in x], axis=0)
        np.testing.assert_allclose(mine, expected_figures(np.log(p)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_ties_and_logits_that_are_not_numbers_are_misses(value):
    cells = eval_cells()
    for params in cells:
        kernel = jnp.zeros_like(params["fc4"]["kernel"])
        params["fc4"] = {"kernel": kernel, "bias": jnp.full((CLASSES,), value)}
    assert (evaluate(cells, (1, 2))[..., :2] == 0).all()
