"""The training and evaluation steps: pure functions for one device with a named batch axis.

A step trains the cells of one *group* side by side. All cells of a group see the same batch; those
with frozen lower layers share one forward pass of them, and each trains its own suffix on the
activations. A group of one is an ordinary training step. Per-example random keys come from the
step's number and the example's place in the whole batch, so neither the number of devices nor the
company in the group changes what a cell sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from transfer_jax.data.augment import eval_view, ten_crop_view, train_view
from transfer_jax.networks import Network
from transfer_jax.training.devices import BATCH_AXIS
from transfer_jax.training.plateau import initial_plateau
from transfer_jax.training.recipe import DTYPES, Recipe
from transfer_jax.training.solvers import optimizer
from transfer_jax.transfer import freeze, lower_layers


@dataclasses.dataclass(frozen=True)
class Program:
    """What decides a group's compiled steps, apart from array shapes.

    Attributes:
      network: the network that every cell of the group trains.
      recipe: how.
      frozen: for each cell the number of frozen lower layers. Cells with frozen layers share the
        values of those, as far as they reach.
    """

    network: Network
    recipe: Recipe
    frozen: tuple[int, ...]

    @property
    def num_shared(self) -> int:
        """Number of lower layers in the shared frozen stack."""
        return max(self.frozen)

    def transformations(self) -> tuple[optax.GradientTransformation, ...]:
        """The optimiser of each cell, its lower layers frozen."""
        tx = optimizer(self.recipe)
        return tuple(freeze(tx, lower_layers(self.network, n)) for n in self.frozen)


class TrainState(NamedTuple):
    """What changes from step to step, for all cells of a group.

    Attributes:
      step: int32, number of updates made.
      learned: for each cell, params of its layers that learn.
      opt_state: for each cell, its optimiser's state; none for frozen layers.
      bad_step: (cells,) int32, the first step whose loss was not finite, or -1.
      plateau: state of the plateau schedule, see `initial_plateau`; () for other schedules.
    """

    step: jax.Array
    learned: tuple[Any, ...]
    opt_state: tuple[Any, ...]
    bad_step: jax.Array
    plateau: Any


class Source(NamedTuple):
    """Where a step's images come from, and how they are normalised.

    Attributes:
      images: (n, h, w, 3) uint8: the whole dataset, resident on the device, or one batch.
      labels: (n,) int32.
      mean: (3,) channel means or (h, w, 3) mean image, in pixel values.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array


def initial_state(program: Program, params: tuple[Any, ...]) -> tuple[TrainState, Any]:
    """State before the first step, and the frozen layers that the group shares.

    Args:
      program: the group's program.
      params: full initial params of each cell.

    Returns:
      (state, shared): shared holds the lower layers of the cell with the most frozen ones.

    Raises:
      ValueError: when two cells' frozen layers do not hold the same arrays.
    """
    deepest = params[program.frozen.index(program.num_shared)]
    shared = {name: deepest[name] for name in lower_layers(program.network, program.num_shared)}
    learned, opt_states = [], []
    for n, full, tx in zip(program.frozen, params, program.transformations(), strict=True):
        for name in lower_layers(program.network, n):
            pairs = zip(jax.tree.leaves(full[name]), jax.tree.leaves(shared[name]), strict=True)
            if not all(mine is theirs or bool((mine == theirs).all()) for mine, theirs in pairs):
                raise ValueError(f"cells of one group differ in their frozen layer {name!r}")
        learned.append({name: full[name] for name in program.network.layer_names[n:]})
        opt_states.append(tx.init(full))
    bad = jnp.full((len(params),), -1, jnp.int32)
    plateau = initial_plateau(program.recipe, len(params))
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, tuple(learned), tuple(opt_states), bad, plateau), shared


def full_params(program: Program, shared: Any, learned: tuple[Any, ...]) -> tuple[dict, ...]:
    """Each cell's whole params, in network order: its frozen layers and those that it learned."""
    names = program.network.layer_names
    return tuple(
        {name: (shared if i < n else mine)[name] for i, name in enumerate(names)}
        for n, mine in zip(program.frozen, learned, strict=True)
    )


def make_train_step(program: Program) -> Callable:
    """The pure training step of a group.

    Returns:
      step(state, shared, source, indices, key) -> (state, losses), to be mapped over devices:
      `shared` as `initial_state` gives it, `source` a `Source`, `indices` (local batch,) int32
      places in the source's images, key the group's stream key (the same on all devices). losses
      is (cells,) float32: softmax cross-entropy, in nats, averaged over the whole batch.
    """
    network, recipe = program.network, program.recipe
    dtype = DTYPES[recipe.dtype]
    transformations = program.transformations()

    def step(state: TrainState, shared, source: Source, indices, key):
        keys = example_keys(jax.random.fold_in(key, state.step), indices.shape[0])
        view_keys, dropout_keys = keys
        x = train_view(
            source.images[indices],
            view_keys,
            recipe.augmentation,
            source.mean,
            recipe.pixel_scale,
            recipe.crops,
        ).astype(dtype)
        labels = smooth_labels(source.labels[indices], network.num_classes, recipe.label_smoothing)
        taps = _taps(program, shared, x, dtype, dropout_keys)
        params = full_params(program, shared, state.learned)

        learned, opt_states, losses = [], [], []
        for i, (n, full, tx, opt_state) in enumerate(
            zip(program.frozen, params, transformations, state.opt_state, strict=True)
        ):

            def loss_of(full, n=n):
                logits = network.apply_range(
                    _cast(full, dtype), taps[n], n, None, train=True, rng=dropout_keys
                )
                return optax.softmax_cross_entropy(logits.astype(jnp.float32), labels).mean()

            loss, gradients = jax.value_and_grad(loss_of)(full)
            mean_gradients = lax.pmean(
                {name: gradients[name] for name in network.layer_names[n:]}, BATCH_AXIS
            )
            drops = {"rate_scale": state.plateau.scale[i]} if state.plateau else {}
            updates, opt_state = tx.update(
                {**gradients, **mean_gradients}, opt_state, full, **drops
            )
            updated = optax.apply_updates(full, updates)
            learned.append({name: updated[name] for name in network.layer_names[n:]})
            opt_states.append(opt_state)
            losses.append(loss)
        losses = lax.pmean(jnp.stack(losses), BATCH_AXIS)
        first_bad = (state.bad_step < 0) & ~jnp.isfinite(losses)
        bad_step = jnp.where(first_bad, state.step, state.bad_step)
        state = TrainState(
            state.step + 1, tuple(learned), tuple(opt_states), bad_step, state.plateau
        )
        return state, losses

    return step


def make_scanned_step(step: Callable) -> Callable:
    """Several steps in one call: `indices` gains a leading axis of steps; the last losses return.

    On accelerators this hides the cost of dispatch; XLA:CPU runs convolutions inside a scan about
    ten times slower, so the trainer does not use it there.
    """

    def steps(state, shared, source, indices, key):
        def body(state, indices):
            return step(state, shared, source, indices, key)

        state, losses = lax.scan(body, state, indices)
        return state, losses[-1]

    return steps


def make_eval_step(program: Program) -> Callable:
    """The pure evaluation step of a group: centre crop (or ten crops), no mirror, no dropout.

    Returns:
      step(learned, shared, source, indices, mask) -> (cells, 3) float32 sums over the examples
      whose mask is 1 of: top-1 hits, top-5 hits, cross-entropy in nats.
    """
    dtype = DTYPES[program.recipe.dtype]

    def step(learned, shared, source: Source, indices, mask):
        labels = source.labels[indices]
        x = _evaluation_views(program.recipe, source, indices)
        taps = _taps(program, shared, x.reshape(-1, *x.shape[-3:]), dtype, None)
        sums = []
        for n, full in zip(program.frozen, full_params(program, shared, learned), strict=True):
            log_mean = _log_probabilities(program, full, taps[n], n, x.shape[:2])
            true = jnp.take_along_axis(log_mean, labels[:, None], axis=1)
            # A tie counts against the network: a class as likely as the true one ranks above it.
            # (Negated, so that a network whose logits are not numbers hits nothing.)
            rank = jnp.sum(~(log_mean < true), axis=1) - 1
            hits = jnp.stack([rank < 1, rank < 5, -true[:, 0]])
            sums.append(jnp.where(mask > 0, hits, 0).sum(axis=1))
        return lax.psum(jnp.stack(sums), BATCH_AXIS)

    return step


def make_probability_step(network: Network, recipe: Recipe) -> Callable:
    """The pure step that gives one network's class probabilities, in the evaluation's view.

    Returns:
      step(params, source, indices) -> (local batch, classes) float32, averaged over the ten crops
      where recipe.ten_crop asks for them; their argmax is what `make_eval_step` counts.
    """
    program = Program(network, recipe, (0,))

    def step(params, source: Source, indices):
        x = _evaluation_views(recipe, source, indices)
        images = x.reshape(-1, *x.shape[-3:])
        return jnp.exp(_log_probabilities(program, params, images, 0, x.shape[:2]))

    return step


def example_keys(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Keys of this device's examples, for their view and for dropout: two (count,) key arrays.

    Example i of the whole batch has the same keys on any number of devices.
    """
    places = lax.axis_index(BATCH_AXIS) * count + jnp.arange(count)
    fold = lambda purpose: jax.vmap(  # noqa: E731
        lambda place: jax.random.fold_in(jax.random.fold_in(key, purpose), place)
    )(places)
    return fold(0), fold(1)


def smooth_labels(labels: jax.Array, num_classes: int, smoothing: float) -> jax.Array:
    """One-hot targets (N, num_classes), `smoothing` of their mass spread over all classes."""
    return optax.smooth_labels(jax.nn.one_hot(labels, num_classes), smoothing)


def _evaluation_views(recipe: Recipe, source: Source, indices) -> jax.Array:
    """(N, views of an image, size, size, 3) in the recipe's dtype."""
    view = ten_crop_view if recipe.ten_crop else eval_view
    x = view(source.images[indices], recipe.augmentation, source.mean, recipe.pixel_scale)
    x = x.astype(DTYPES[recipe.dtype])
    return x if recipe.ten_crop else x[:, None]


def _log_probabilities(program: Program, full, x, n: int, views: tuple[int, int]) -> jax.Array:
    """(N, classes) logarithms of probabilities that are averaged over the views of each image.

    Args:
      program: its network and dtype.
      full: whole params of one cell.
      x: what leaves its n lower layers, for the views of all images.
      n: where to start.
      views: (number of images, views of each).
    """
    count, crops = views
    logits = program.network.apply_range(_cast(full, DTYPES[program.recipe.dtype]), x, n, None)
    logits = logits.astype(jnp.float32).reshape(count, crops, -1)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=1) - jnp.log(crops)


def _taps(program: Program, shared, x, dtype, dropout_keys) -> dict[int, jax.Array]:
    """Depth n -> what leaves the n frozen lower layers, for the depths that the group needs."""
    shared, train = _cast(shared, dtype), dropout_keys is not None
    taps = {0: x}
    for n in range(program.num_shared):
        x = program.network.apply_range(shared, x, n, n + 1, train=train, rng=dropout_keys)
        taps[n + 1] = x
    return taps


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
