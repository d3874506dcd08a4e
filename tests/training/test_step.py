"""The training and evaluation steps against plain computations and against each other."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import small
from transfer_jax.data.augment import Augmentation, eval_view, ten_crop_view, train_view
from transfer_jax.networks import alexnet_mini, layers
from transfer_jax.training import devices
from transfer_jax.training.evaluation_step import make_eval_step
from transfer_jax.training.step import (
    Program,
    TrainState,
    batch_parts,
    full_params,
    initial_state,
    make_scanned_step,
    make_train_step,
    smooth_labels,
)
from transfer_jax.transfer import Treatment

KEY = jax.random.key(11)
BATCH, STEPS = 4, 3
SOURCE = small.source(24, num_classes=2)
ORDER = np.random.default_rng(1).integers(0, 24, (STEPS, BATCH)).astype(np.int32)


@functools.cache
def compiled(program, scanned=False, source=SOURCE._fields):
    """The compiled training step, as `jax.pmap` maps it over one device."""
    del source
    step = make_train_step(program)
    run = make_scanned_step(step) if scanned else step
    return jax.pmap(run, axis_name=devices.BATCH_AXIS, in_axes=(0, 0, 0, 0, None))


def train(program, params, source=SOURCE, order=ORDER):
    """(state, shared, losses of each step) after a step for each row of order."""
    state, shared = devices.replicate(initial_state(program, params))
    losses = []
    for indices in order:
        state, loss = compiled(program)(
            state, shared, devices.replicate(source), devices.split_batch(indices), KEY
        )
        losses.append(np.asarray(loss[0]))
    return devices.unreplicate(state), devices.unreplicate(shared), np.array(losses)


@jax.jit
def keys_of(step):
    """Keys of the views and of dropout, as the step's documentation defines them."""
    key, places = jax.random.fold_in(KEY, step), jnp.arange(BATCH)
    view, dropout = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return fold(view, places), fold(dropout, places)


def view_of(recipe, source, indices, step):
    keys, _ = keys_of(step)
    view = jax.jit(train_view, static_argnums=2, static_argnames="crops")
    images, how = source.images[indices], (recipe.augmentation, source.mean, recipe.pixel_scale)
    return view(images, keys, *how, crops=recipe.crops)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """What is compared does not depend on how hard XLA optimises, and this file compiles much."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# One network, frozen at every depth: alone, and all of them together.

MINI = alexnet_mini(5, widths=small.WIDTHS, input_size=16)
MINI_RECIPE = dataclasses.replace(
    small.RECIPE, batch_size=BATCH, augmentation=Augmentation(16, pad=2), decay_every=2
)
MINI_SOURCE = small.source(24, num_classes=5, size=16)
DEPTHS = tuple(range(1, 8))


@pytest.fixture(scope="module")
def cells():
    """Initial params of A0B (a base, for comparison), A1B, ..., A7B: each has its own draw."""
    base = MINI.init(jax.random.key(0))
    draw = lambda n: MINI.init(jax.random.key(100 + n))  # noqa: E731
    spliced = [
        Treatment("B", "A", n).initial_params(MINI, jax.random.key(100 + n), base) for n in DEPTHS
    ]
    return [draw(0), *spliced]


@pytest.fixture(scope="module")
def alone(cells):
    """For n = 0..7 the trained cell, and the FLOPs of its compiled step."""
    found = []
    for n, params in enumerate(cells):
        program = Program(MINI, MINI_RECIPE, (n,))
        state, shared = devices.replicate(initial_state(program, (params,)))
        source = devices.replicate(MINI_SOURCE)
        step = None
        losses = []
        for indices in ORDER:
            arguments = (state, shared, source, devices.split_batch(indices), KEY)
            step = step or compiled(program).lower(*arguments).compile()
            state, loss = step(*arguments)
            losses.append(np.asarray(loss[0, 0]))
        analysis = step.cost_analysis()
        analysis = analysis[0] if isinstance(analysis, list) else analysis
        state, shared = devices.unreplicate(state), devices.unreplicate(shared)
        (trained,) = full_params(program, shared, state.learned)
        found.append((trained, np.array(losses), analysis["flops"]))
    return found


def test_a_group_trains_its_cells_as_if_each_were_alone(cells, alone):
    """To a relative 1e-5 of the largest weight: XLA fuses and orders sums differently."""
    program = Program(MINI, MINI_RECIPE, DEPTHS)
    state, shared, losses = train(program, tuple(cells[1:]), MINI_SOURCE)
    for i, n in enumerate(DEPTHS):
        trained, losses_alone, _ = alone[n]
        np.testing.assert_allclose(losses[:, i], losses_alone, rtol=1e-5)
        together = full_params(program, shared, state.learned)[i]
        assert list(together) == list(MINI.layer_names)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()),
            together,
            trained,
        )


def test_frozen_layers_are_bit_identical_and_all_others_move(cells, alone):
    for n, (start, (trained, _, _)) in enumerate(zip(cells, alone, strict=True)):
        for i, name in enumerate(MINI.layer_names):
            for entry in ("kernel", "bias"):
                same = small.same_bits(start[name][entry], trained[name][entry])
                assert same == (i < n), (n, name, entry)


def test_compiled_steps_get_cheaper_with_every_frozen_layer(alone):
    flops = [flops for _, _, flops in alone]
    assert len(flops) == 8
    assert all(more > less for more, less in itertools.pairwise(flops)), flops
    assert flops[7] < 0.6 * flops[0]


def test_frozen_layers_have_no_optimiser_state(cells):
    for n, params in enumerate(cells):
        state, shared = initial_state(Program(MINI, MINI_RECIPE, (n,)), (params,))
        learning = sum(leaf.size for leaf in jax.tree.leaves(state.learned))
        momentum = [leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
        assert sum(momentum) == learning
        assert learning + sum(leaf.size for leaf in jax.tree.leaves(shared)) == MINI.num_params


def test_cells_of_a_group_must_share_their_frozen_layers(cells):
    stranger = MINI.init(jax.random.key(9))
    with pytest.raises(ValueError, match=r"differ in their frozen layer 'conv1'"):
        initial_state(Program(MINI, MINI_RECIPE, (1, 2)), (stranger, cells[2]))


# The small network against plain computations.

NET, RECIPE = small.network(), dataclasses.replace(small.RECIPE, batch_size=BATCH, decay_every=2)


def plain_training(network, recipe, params, source=SOURCE):
    """Losses and params of a loop without groups, freezing, optax or pmap: Caffe's formula."""
    velocity = jax.tree.map(np.zeros_like, params)

    def loss_of(params, x, labels, rng):
        logits = network.apply(params, x, train=True, rng=rng)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    losses, loss_and_gradients = [], jax.jit(jax.value_and_grad(loss_of))
    for step, indices in enumerate(ORDER):
        rng = keys_of(step)[1]
        x, labels = view_of(recipe, source, indices, step), source.labels[indices]
        loss, gradients = loss_and_gradients(params, x, labels, rng)
        losses.append(float(loss))
        rate = recipe.learning_rate * recipe.decay_factor ** (step // recipe.decay_every)
        for name, layer in gradients.items():
            for entry, gradient in layer.items():
                weight = entry == "kernel"
                decay = recipe.weight_decay * params[name][entry] if weight else 0.0
                velocity[name][entry] = recipe.momentum * velocity[name][entry] + (
                    rate * (1 if weight else 2) * (np.asarray(gradient) + decay)
                )
        params = jax.tree.map(lambda w, v: np.asarray(w) - np.asarray(v), params, velocity)
        for name in ("conv1", "conv2") if recipe.max_filter_rms else ():
            for o in range(params[name]["kernel"].shape[-1]):
                rms = np.sqrt((params[name]["kernel"][..., o] ** 2).mean())
                params[name]["kernel"][..., o] *= min(1, recipe.max_filter_rms / rms)
    return np.array(losses), params


# Filters start with an RMS of about 0.27 and 0.33.
AS_ZEILER_FERGUS = dataclasses.replace(RECIPE, crops="ten", max_filter_rms=0.27)


@pytest.mark.parametrize("recipe", [RECIPE, AS_ZEILER_FERGUS], ids=["caffe", "zeiler_fergus"])
def test_training_with_dropout_equals_a_plain_loop(recipe):
    """To a relative 1e-5."""
    params = NET.init(jax.random.key(0))
    losses, expected = plain_training(NET, recipe, params)
    program = Program(NET, recipe, (0,))
    state, _, mine = train(program, (params,))
    np.testing.assert_allclose(mine[:, 0], losses, rtol=1e-5)
    for name in NET.layer_names:
        for entry, wanted in expected[name].items():
            np.testing.assert_allclose(state.learned[0][name][entry], wanted, 1e-4, 1e-6)
    assert int(state.step) == STEPS and int(state.bad_step[0]) == -1


SMOOTH = dataclasses.replace(RECIPE, label_smoothing=0.2)
SURE = small.network(dropout=0.0)


@pytest.fixture(scope="module")
def smoothed():
    params = SURE.init(jax.random.key(0))
    return params, train(Program(SURE, SMOOTH, (0,)), (params,))


def test_losses_equal_numpys_cross_entropy_with_smoothed_labels(smoothed):
    params, (_, _, losses) = smoothed
    log_likelihood = log_softmax(SURE.apply(params, view_of(SMOOTH, SOURCE, ORDER[0], 0)))
    right = log_likelihood[np.arange(BATCH), SOURCE.labels[ORDER[0]]]
    wrong = log_likelihood.sum(axis=1) - right
    assert losses[0, 0] == pytest.approx(-(0.9 * right + 0.1 * wrong).mean(), rel=1e-5)
    assert losses[0, 0] != pytest.approx(-right.mean(), rel=1e-3)


def test_smoothed_labels_by_hand():
    labels = smooth_labels(jnp.array([2, 0]), 4, 0.2)
    np.testing.assert_allclose(labels, [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]], 1e-6)


def test_bfloat16_computes_nearby_and_keeps_float32_params(smoothed):
    params, (state, _, losses) = smoothed
    recipe = dataclasses.replace(SMOOTH, dtype="bfloat16")
    program = Program(SURE, recipe, (0,))
    rough, _, rough_losses = train(program, (params,))
    assert {leaf.dtype for leaf in jax.tree.leaves(rough.learned)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(rough_losses, losses, rtol=0.02)
    assert (rough_losses != losses).any()
    for name in SURE.layer_names:
        kernel, start = state.learned[0][name]["kernel"], params[name]["kernel"]
        moved, rough_move = kernel - start, rough.learned[0][name]["kernel"] - start
        difference = jnp.linalg.norm((moved - rough_move).ravel())
        assert 0 < difference < 0.15 * jnp.linalg.norm(moved.ravel()), name


def test_scanned_steps_equal_single_steps():
    """To a relative 1e-5."""
    params = NET.init(jax.random.key(0))
    program = Program(NET, RECIPE, (0,))
    single, shared, losses = train(program, (params,))
    state, shared = devices.replicate(initial_state(program, (params,)))
    indices = devices.split_batch(ORDER, axis=-1)
    scanned, last = compiled(program, scanned=True)(
        state, shared, devices.replicate(SOURCE), indices, KEY
    )
    scanned = devices.unreplicate(scanned)
    np.testing.assert_allclose(last[0], losses[-1], rtol=1e-5)
    assert int(scanned.step) == STEPS
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), scanned.learned, single.learned
    )


# Evaluation.

CLASSES = 8
EVAL_NET = small.network(num_classes=CLASSES)
EVAL_SOURCE = small.source(9, num_classes=CLASSES)
INDICES = np.array([4, 0, 7, 7, 2, 8, 0, 0], np.int32)
MASK = np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32)


@functools.cache
def compiled_eval(program):
    return devices.map_over_devices(make_eval_step(program))


def evaluate(program, params, source=EVAL_SOURCE):
    state, shared = devices.replicate(initial_state(program, params))
    sums = compiled_eval(program)(
        state.learned,
        shared,
        devices.replicate(source),
        devices.split_batch(INDICES),
        devices.split_batch(MASK),
    )
    return np.asarray(sums[0])


def numpy_sums(likelihood):
    """Hits among the first and the first five, and cross-entropy, over unmasked examples."""
    top1 = top5 = loss = 0.0
    for row, place, counts in zip(likelihood, INDICES, MASK, strict=True):
        if counts:
            label = EVAL_SOURCE.labels[place]
            ahead = [c for c in range(CLASSES) if c != label and row[c] >= row[label]]
            top1, top5 = top1 + (len(ahead) < 1), top5 + (len(ahead) < 5)
            loss -= row[label]
    return [top1, top5, loss]


def eval_cells():
    """Two cells that share two frozen layers; large weights, so that the classes differ."""
    base = EVAL_NET.init(jax.random.key(0))
    fresh = [EVAL_NET.init(jax.random.key(seed)) for seed in (1, 2)]
    for params in fresh:
        params["fc4"]["kernel"] = params["fc4"]["kernel"] * 8
    return tuple(
        {**params, **{name: base[name] for name in EVAL_NET.layer_names[:n]}}
        for n, params in zip((1, 2), fresh, strict=True)
    )


def test_evaluation_equals_numpy_on_the_centre_crop():
    program = Program(EVAL_NET, RECIPE, (1, 2))
    sums = evaluate(program, eval_cells())
    x = eval_view(
        EVAL_SOURCE.images[INDICES], RECIPE.augmentation, EVAL_SOURCE.mean, RECIPE.pixel_scale
    )
    for mine, params in zip(sums, eval_cells(), strict=True):
        expected = numpy_sums(log_softmax(EVAL_NET.apply(params, x)))
        np.testing.assert_allclose(mine, expected, rtol=1e-5)
        assert 0 < expected[1] < MASK.sum()
    assert not np.array_equal(sums[0], sums[1])


def test_ten_crops_average_probabilities():
    recipe = dataclasses.replace(RECIPE, ten_crop=True)
    cell = eval_cells()[0]
    sums = evaluate(Program(EVAL_NET, recipe, (0,)), (cell,))
    crops = ten_crop_view(
        EVAL_SOURCE.images[INDICES], recipe.augmentation, EVAL_SOURCE.mean, recipe.pixel_scale
    )
    crops = jnp.moveaxis(crops, 1, 0)
    likelihood = np.mean([np.exp(log_softmax(EVAL_NET.apply(cell, x))) for x in crops], axis=0)
    np.testing.assert_allclose(sums[0], numpy_sums(np.log(likelihood)), rtol=1e-5)
    single = evaluate(Program(EVAL_NET, RECIPE, (1, 2)), eval_cells())
    assert sums[0, 2] != pytest.approx(single[0, 2], rel=1e-3)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_ties_and_logits_that_are_not_numbers_are_misses(value):
    """A network that says the same for every class knows nothing."""
    cells = eval_cells()
    for cell in cells:
        cell["fc4"] = {
            "kernel": jnp.zeros_like(cell["fc4"]["kernel"]),
            "bias": jnp.full((CLASSES,), value),
        }
    sums = evaluate(Program(EVAL_NET, RECIPE, (1, 2)), cells)
    assert (sums[:, :2] == 0).all()


def test_state_counts_the_first_bad_step_of_each_cell():
    """A cell whose weights overflow is marked; the cell beside it is not touched by it."""
    base = NET.init(jax.random.key(0))
    healthy = Treatment("B", "A", 1).initial_params(NET, jax.random.key(1), base)
    broken = Treatment("B", "A", 2).initial_params(NET, jax.random.key(2), base)
    broken["fc4"] = {**broken["fc4"], "bias": jnp.full(2, jnp.inf)}
    program = Program(NET, RECIPE, (1, 2))
    state, _, losses = train(program, (healthy, broken))
    assert isinstance(state, TrainState)
    assert state.bad_step.tolist() == [-1, 0]
    assert np.isfinite(losses[:, 0]).all() and not np.isfinite(losses[:, 1]).any()
    twin = Treatment("B", "A", 2).initial_params(NET, jax.random.key(2), base)
    beside, _, _ = train(program, (healthy, twin))
    assert small.same_bits(state.learned[0], beside.learned[0])


def test_transformations_freeze_the_lower_layers():
    program = Program(NET, RECIPE, (0, 2))
    params = NET.init(jax.random.key(0))
    for tx, frozen in zip(program.transformations(), ((), ("conv1", "conv2")), strict=True):
        ones = jax.tree.map(jnp.ones_like, params)
        updates, _ = tx.update(ones, tx.init(params), params)
        moved = optax.apply_updates(params, updates)
        still = {name for name in params if small.same_bits(params[name], moved[name])}
        assert still == set(frozen)


def other_form(program, params, **form):
    """(state, losses) after the steps of ORDER, in another form than `train`'s."""
    step = make_train_step(program, **form)
    step = jax.pmap(step, axis_name=devices.BATCH_AXIS, in_axes=(0, 0, 0, 0, None))
    state, shared = devices.replicate(initial_state(program, params))
    losses = []
    for indices in ORDER:
        batch = devices.split_batch(indices)
        state, loss = step(state, shared, devices.replicate(SOURCE), batch, KEY)
        losses.append(np.asarray(loss[0]))
    return devices.unreplicate(state), np.array(losses)


def assert_alike(one, other):
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def trained_cells():
    return tuple(NET.init(jax.random.key(n)) for n in (1, 2))


@pytest.fixture(scope="module")
def two_that_learn():
    """(state, losses) of two cells without frozen layers, unrolled."""
    state, _, losses = train(Program(NET, RECIPE, (0, 0)), trained_cells())
    return state, losses


def test_a_batch_in_parts_trains_as_a_whole_one_does():
    """With random views and dropout on, and a shared frozen pass."""
    base = NET.init(jax.random.key(0))
    params = tuple(
        Treatment("B", "A", n).initial_params(NET, jax.random.key(n), base) for n in (1, 2)
    )
    program = Program(NET, RECIPE, (1, 2))
    whole, _, losses = train(program, params)
    parts, part_losses = other_form(program, params, parts=2)
    assert not small.same_bits(whole.learned, parts.learned)
    np.testing.assert_allclose(part_losses, losses, rtol=1e-5)
    assert_alike(parts, whole)


def test_cells_that_learn_everything_are_alone_side_by_side(two_that_learn):
    state, losses = two_that_learn
    for i, params in enumerate(trained_cells()):
        alone, _, alone_losses = train(Program(NET, RECIPE, (0,)), (params,))
        np.testing.assert_allclose(losses[:, i], alone_losses[:, 0], rtol=1e-5)
        assert_alike(state.learned[i], alone.learned[0])


def test_vmap_over_cells_trains_as_unrolling_does(two_that_learn):
    state, losses = two_that_learn
    program = Program(NET, RECIPE, (0, 0))
    found, found_losses = other_form(program, trained_cells(), side_by_side="vmap")
    np.testing.assert_allclose(found_losses, losses, rtol=1e-5)
    assert_alike(found, state)
    assert jax.tree.structure(found) == jax.tree.structure(state)


def test_vmap_is_one_computation_over_the_cells():
    program = Program(NET, RECIPE, (0, 0))
    state, shared = devices.replicate(initial_state(program, trained_cells()))
    arguments = (state, shared, devices.replicate(SOURCE), devices.split_batch(ORDER[0]), KEY)

    def products(**form):
        step = make_train_step(program, **form)
        mapped = jax.vmap(step, (0, 0, 0, 0, None), axis_name=devices.BATCH_AXIS)
        return str(jax.make_jaxpr(mapped)(*arguments)).count("dot_general")

    assert products(side_by_side="vmap") == products(side_by_side="unroll") / 2


def test_forms_and_parts_that_cannot_be_are_refused():
    program = Program(NET, RECIPE, (0,))
    with pytest.raises(ValueError, match="side_by_side='both'"):
        make_train_step(program, side_by_side="both")
    with pytest.raises(ValueError, match="a batch of 4 cannot be cut into 3 parts"):
        other_form(program, trained_cells()[:1], parts=3)


def test_batches_are_cut_where_that_pays():
    mini = alexnet_mini(100)
    parts = lambda batch, frozen=(0,), net=mini: batch_parts(  # noqa: E731
        Program(net, RECIPE, frozen), batch
    )
    assert [parts(batch) for batch in (8, 32, 64, 96, 128, 256, 1024)] == [1, 2, 2, 3, 8, 8, 8]
    assert parts(33) == 1 and parts(100) == 4
    assert [parts(batch, (1, 2, 3, 4, 5, 6, 7)) for batch in (64, 128)] == [1, 2]
    assert parts(64, net=MINI) == 1
    with layers.use_implementation("plain"):
        assert parts(128) == 1
