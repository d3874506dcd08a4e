"""The training step: a pure function for one device with a named batch axis.

A step trains the cells of one *group* side by side. All cells of a group see the same batch; those
with frozen lower layers share one forward pass of them, and each trains its own suffix on the
activations. A group of one is an ordinary training step. Per-example random keys come from the
step's number and the example's place in the whole batch, so neither the number of devices nor the
company in the group changes what a cell sees.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from transfer_jax.data.augment import train_view
from transfer_jax.networks import Network, layers
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

    @property
    def train_flops(self) -> int:
        """Floating-point operations of one training step for one image, shared layers counted once.

        Two for each multiply-add of the layers, see `Network.train_flops`.
        """
        forward = [2 * count for count in self.network.multiply_adds.values()]
        own = sum(self.network.train_flops(n) - sum(forward[:n]) for n in self.frozen)
        return own + sum(forward[: self.num_shared])

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


def make_train_step(
    program: Program, parts: int | None = None, side_by_side: str = "unroll"
) -> Callable:
    """The pure training step of a group.

    Args:
      program: the group's program.
      parts: equal parts that a device's batch is computed in; their gradients are averaged. None
        chooses, see `batch_parts`.
      side_by_side: form of the cells' own layers: 'unroll' writes the cells one after another,
        'vmap' computes them as one batch over parameters. The latter needs cells with equally many
        frozen layers; others are unrolled.

    Returns:
      step(state, shared, source, indices, key) -> (state, losses), to be mapped over devices:
      `shared` as `initial_state` gives it, `source` a `Source`, `indices` (local batch,) int32
      places in the source's images, key the group's stream key (the same on all devices). losses
      is (cells,) float32: softmax cross-entropy, in nats, averaged over the whole batch.

    Raises:
      ValueError: for another form; when the step is traced, for a batch that `parts` do not divide.
    """
    if side_by_side not in FORMS:
        raise ValueError(f"side_by_side={side_by_side!r}: expected one of {FORMS}")
    network, recipe = program.network, program.recipe
    dtype = DTYPES[recipe.dtype]
    vmapped = side_by_side == "vmap" and len(program.frozen) > 1 and len(set(program.frozen)) == 1

    def part_of_batch(shared, source: Source, indices, keys):
        """Frozen activations by depth, targets and dropout keys of some images of a batch."""
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
        return taps_of(program, shared, x, dtype, dropout_keys), labels, dropout_keys

    def update(n: int, tx, batch: list, full, opt_state, rate_scale):
        """One cell's (what it learned, optimiser's state, loss) after a step."""

        def loss_and_gradient(taps, labels, dropout_keys):
            def loss_of(full):
                logits = network.apply_range(
                    cast(full, dtype), taps[n], n, None, train=True, rng=dropout_keys
                )
                return optax.softmax_cross_entropy(logits.astype(jnp.float32), labels).mean()

            return jax.value_and_grad(loss_of)(full)

        loss, gradients = _mean([loss_and_gradient(*part) for part in batch])
        mean_gradients = lax.pmean(
            {name: gradients[name] for name in network.layer_names[n:]}, BATCH_AXIS
        )
        drops = {} if rate_scale is None else {"rate_scale": rate_scale}
        updates, opt_state = tx.update({**gradients, **mean_gradients}, opt_state, full, **drops)
        updated = optax.apply_updates(full, updates)
        return {name: updated[name] for name in network.layer_names[n:]}, opt_state, loss

    def step(state: TrainState, shared, source: Source, indices, key):
        count = indices.shape[0]
        keys = example_keys(jax.random.fold_in(key, state.step), count)
        pieces = batch_parts(program, count) if parts is None else parts
        batch = [part_of_batch(shared, source, *part) for part in _split((indices, keys), pieces)]
        cells = list(
            zip(
                full_params(program, shared, state.learned),
                state.opt_state,
                state.plateau.scale if state.plateau else (None,) * len(program.frozen),
                strict=True,
            )
        )
        transformations = program.transformations()
        if vmapped:
            one_cell = functools.partial(update, program.frozen[0], transformations[0], batch)
            results = _unstack(jax.vmap(one_cell)(*_stack(cells)), len(cells))
        else:
            results = [
                update(n, tx, batch, *cell)
                for n, tx, cell in zip(program.frozen, transformations, cells, strict=True)
            ]
        learned, opt_states, losses = zip(*results, strict=True)
        losses = lax.pmean(jnp.stack(losses), BATCH_AXIS)
        first_bad = (state.bad_step < 0) & ~jnp.isfinite(losses)
        bad_step = jnp.where(first_bad, state.step, state.bad_step)
        return TrainState(state.step + 1, learned, opt_states, bad_step, state.plateau), losses

    return step


def batch_parts(program: Program, batch_size: int) -> int:
    """Equal parts that one device's batch is computed in, within one compiled step.

    XLA:CPU runs most convolutions on one core and their kernel gradients in a form that costs up to
    three times as much an image at 128 images as at 32; parts are independent, so that they fill
    the cores, and stay in the cache. Measured with alexnet_mini on two cores, beside other work:
    1.17 times as fast at batch 32 in two parts, 1.0 to 1.2 times at 64, 1.1 to 1.25 times at 128
    and 256 in parts of 32, and at 128 another 1.08 times in parts of 16; a third of its operations
    at batch 32 is 0.9 times as fast in two parts. Seven frozen cells side by side gain nothing at
    64, and 1.18 times at 128 in parts of 64.

    Args:
      program: a group's.
      batch_size: images of one device.

    Returns:
      1 wherever the layers do not take their form for XLA:CPU, or where it would not pay.
    """
    if layers.implementation() != "cpu":
        return 1
    affordable = program.train_flops * batch_size // _LEAST_FLOPS_OF_A_PART
    images = 16 if batch_size >= 128 else 32
    wanted = -(-batch_size // images) if len(program.frozen) == 1 else batch_size // 64
    if len(program.frozen) == 1:
        wanted = max(wanted, 2)
    most = max(1, min(affordable, wanted, 8))
    return max(parts for parts in range(1, most + 1) if batch_size % parts == 0)


FORMS = ("unroll", "vmap")
_LEAST_FLOPS_OF_A_PART = 1_400_000_000


def _split(tree, parts: int) -> list:
    """The tree's arrays cut along their first axis into equal parts, in order."""
    size, rest = divmod(jax.tree.leaves(tree)[0].shape[0], parts)
    if rest:
        raise ValueError(f"a batch of {size * parts + rest} cannot be cut into {parts} parts")
    return [
        jax.tree.map(lambda leaf, i=i: leaf[i * size : (i + 1) * size], tree) for i in range(parts)
    ]


def _mean(trees: list):
    """Mean of trees of arrays, leaf by leaf."""
    if len(trees) == 1:
        return trees[0]
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *trees)


def _stack(cells: list):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *cells)


def _unstack(tree, count: int) -> list:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(count)]


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


def taps_of(program: Program, shared, x, dtype, dropout_keys) -> dict[int, jax.Array]:
    """Depth n -> what leaves the n frozen lower layers, for the depths that the group needs."""
    shared, train = cast(shared, dtype), dropout_keys is not None
    taps = {0: x}
    for n in range(program.num_shared):
        x = program.network.apply_range(shared, x, n, n + 1, train=train, rng=dropout_keys)
        taps[n + 1] = x
    return taps


def cast(tree, dtype):
    """The tree with its arrays in another type."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
