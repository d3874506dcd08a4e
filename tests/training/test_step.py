import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import small
from transfer_jax.data.augment import eval_view, ten_crop_view, train_view
from transfer_jax.networks import alexnet_mini
from transfer_jax.training import devices
from transfer_jax.training.step import (
    Program,
    full_params,
    initial_state,
    make_eval_step,
    make_train_step,
)
from transfer_jax.training.trainer import compiled_train_step, evaluate
from transfer_jax.transfer import lower_layers

STEPS = 3


def train(frozen, recipe=small.RECIPE, network=small.NET, steps=STEPS, scanned=False):
    """Full params and losses of a group after a few steps, on one device."""
    program, state, shared = small.start(frozen, recipe, network)
    step = compiled_train_step(program, scanned)
    batches = np.arange(steps * recipe.batch_size, dtype=np.int32) % 64
    batches = batches.reshape(steps, recipe.batch_size)
    losses = []
    calls = [batches] if scanned else batches
    for batch in calls:
        state, loss = step(
            state,
            shared,
            small.source(),
            devices.split_batch(batch, axis=-1),
            small.key_data(),
        )
        losses.append(np.asarray(loss)[0])
    done = devices.unreplicate(state)
    return full_params(program, devices.unreplicate(shared), done.learned), np.array(losses), done


@pytest.fixture(scope="module")
def together():
    return train((1, 2, 3, 4, 5, 6, 7))


@pytest.mark.parametrize("n", [1, 4, 7])
def test_a_group_equals_its_cells_trained_alone(together, n):
    # Dropout, augmentation, momentum and weight decay are on. The sums are compiled differently,
    # so the last bits may differ.
    (alone,), losses, _ = train((n,))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        alone,
        together[0][n - 1],
    )
    np.testing.assert_allclose(losses[:, 0], together[1][:, n - 1], rtol=1e-5)


def test_frozen_layers_are_bit_identical_and_the_others_moved(together):
    frozen = (1, 2, 3, 4, 5, 6, 7)
    for n, before, after in zip(frozen, small.cell_params(frozen), together[0], strict=True):
        for name in small.NET.layer_names:
            same = np.array_equal(before[name]["kernel"], after[name]["kernel"])
            assert same == (name in lower_layers(small.NET, n)), (n, name)


def test_frozen_layers_have_no_optimiser_state(together):
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
        for state in together[2].opt_state
    ]
    learned = [sum(leaf.size for leaf in jax.tree.leaves(params)) for params in together[2].learned]
    assert sizes == learned
    assert all(more > less for more, less in itertools.pairwise(sizes))


def test_the_compiled_step_gets_cheaper_as_more_layers_freeze():
    flops = []
    for n in range(8):
        program, state, shared = small.start((n,))
        step = make_train_step(program)
        mapped = jax.pmap(step, axis_name=devices.BATCH_AXIS)
        indices = devices.split_batch(np.arange(16, dtype=np.int32))
        keys = devices.replicate(jax.random.key(0))
        compiled = mapped.lower(state, shared, small.source(), indices, keys).compile()
        flops.append(compiled.cost_analysis()["flops"])
    assert all(more > less for more, less in itertools.pairwise(flops)), flops
    assert flops[7] < 0.6 * flops[0]


def test_the_loss_is_the_cross_entropy_of_the_augmented_batch():
    recipe = dataclasses.replace(small.RECIPE, label_smoothing=0.1)
    network = alexnet_mini(4, widths=small.WIDTHS, dropout=0.0)
    _, losses, _ = train((0,), recipe, network, steps=1)
    (params,) = small.cell_params((0,), network)
    step_key = jax.random.fold_in(jax.random.key(5), 0)
    view_key = jax.random.fold_in(step_key, 0)
    keys = jax.vmap(lambda i: jax.random.fold_in(view_key, i))(jnp.arange(16))
    images, labels = small.DATA.dataset.images("train", slice(16)), np.arange(16) % 4
    x = train_view(images, keys, recipe.augmentation, small.MEAN, recipe.pixel_scale)
    logits = np.asarray(network.apply(params, x), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = 0.9 * np.eye(4)[labels] + 0.1 / 4
    assert losses[0, 0] == pytest.approx(-(target * log_p).sum(axis=1).mean(), rel=1e-4)


def test_scanned_steps_equal_single_ones():
    (single,), _, _ = train((2,))
    (scanned,), _, _ = train((2,), scanned=True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), single, scanned
    )


def test_bfloat16_computes_near_float32_and_keeps_float32_params():
    recipe = dataclasses.replace(small.RECIPE, dtype="bfloat16")
    (params,), losses, _ = train((2,), recipe, steps=2)
    (_,), expected, _ = train((2,), steps=2)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    np.testing.assert_allclose(losses, expected, rtol=0.05)
    assert not np.array_equal(losses, expected)


def test_cells_of_a_group_must_freeze_the_same_values():
    params = (small.NET.init(jax.random.key(0)), small.NET.init(jax.random.key(1)))
    with pytest.raises(ValueError, match="'conv1'"):
        initial_state(Program(small.NET, small.RECIPE, (1, 2)), params)


def numpy_metrics(logits, labels):
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    if log_p.ndim == 3:
        log_p = np.log(np.exp(log_p).mean(axis=1))
    order = np.argsort(-log_p, axis=1)
    hits = order == labels[:, None]
    loss = -log_p[np.arange(len(labels)), labels].mean()
    return {"top1": hits[:, 0].mean(), "top5": hits[:, :5].any(axis=1).mean(), "val_loss": loss}


@pytest.mark.parametrize("ten_crop", [False, True])
def test_evaluation_equals_numpy_and_padding_does_not_count(ten_crop):
    # 40 validation images in batches of 256: most of the batch is padding.
    recipe = dataclasses.replace(small.RECIPE, ten_crop=ten_crop)
    program, state, shared = small.start((0, 3), recipe)
    found = evaluate(program, state.learned, shared, small.DATA)
    images, labels = small.DATA.dataset.images("val", slice(None)), np.arange(40) % 4
    for metrics, params in zip(found, small.cell_params((0, 3)), strict=True):
        if ten_crop:
            x = ten_crop_view(images, recipe.augmentation, small.MEAN, recipe.pixel_scale)
            logits = small.NET.apply(params, x.reshape(-1, 32, 32, 3)).reshape(40, 10, 4)
        else:
            x = eval_view(images, recipe.augmentation, small.MEAN, recipe.pixel_scale)
            logits = small.NET.apply(params, x)
        expected = numpy_metrics(np.asarray(logits, np.float64), labels)
        for name, value in expected.items():
            assert metrics[name] == pytest.approx(value, rel=1e-4), name


def test_a_tie_counts_against_the_network():
    program, state, shared = small.start((0,))
    learned = jax.tree.map(jnp.zeros_like, state.learned)
    step = jax.pmap(make_eval_step(program), axis_name=devices.BATCH_AXIS)
    indices = devices.split_batch(np.arange(16, dtype=np.int32))
    mask = devices.split_batch(np.ones(16, np.float32))
    sums = np.asarray(step(learned, shared, small.source(), indices, mask))[0, 0]
    assert sums[0] == 0 and sums[2] == pytest.approx(16 * np.log(4), rel=1e-5)
