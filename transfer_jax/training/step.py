"""The compiled steps: pure functions for one device, mapped over all of them.

A step trains the cells of one *group* side by side: networks of one shape on the same batches.
Those with frozen lower layers share one forward pass of them, and each trains its own upper layers
on the activations; a group of one is an ordinary training step. Random keys come from the step's
number and the example's place in the whole batch, so neither the number of devices nor the company
in the group changes what a cell sees.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from transfer_jax.networks import Network
from transfer_jax.training.objective import CLASSIFICATION, Classification
from transfer_jax.training.parallel import AXIS
from transfer_jax.training.recipe import Recipe, optimizer
from transfer_jax.transfer import freeze, lower_layers


class State(NamedTuple):
    """What changes from step to step, a tuple over the cells in all but `step`.

    Attributes:
      step: int32, number of updates made.
      learned: params of each cell's layers that learn.
      opt_state: of each cell's optimiser; none for frozen layers.
      bad_step: int32, the first step whose loss was not finite, or -1.
    """

    step: jax.Array
    learned: tuple[Any, ...]
    opt_state: tuple[Any, ...]
    bad_step: tuple[jax.Array, ...]


class Source(NamedTuple):
    """Where a step's images come from.

    Attributes:
      images: (n, h, w, 3) uint8: a whole task, resident on the device, or one batch; or what left
        frozen layers.
      labels: (n,) int32, or what else the objective takes, arrays with a leading axis n.
      mean: (3,) or (h, w, 3) float32, subtracted from every image, in pixel values.
    """

    images: jax.Array
    labels: Any
    mean: jax.Array

    def take(self, indices: jax.Array) -> tuple[jax.Array, Any]:
        """Images and labels at these places."""
        return self.images[indices], jax.tree.map(lambda leaf: leaf[indices], self.labels)


def cast(network: Network, params: Any, precision: str) -> Any:
    """Params as the layers compute in them: under bfloat16 all but the last layer's, so that logits
    are float32 always."""
    if precision != "bfloat16":
        return params
    last = network.layer_names[-1]
    half = functools.partial(jax.tree.map, lambda leaf: leaf.astype(jnp.bfloat16))
    return {name: layer if name == last else half(layer) for name, layer in params.items()}


def initial_state(
    network: Network, recipe: Recipe, frozen: Sequence[int], params: Sequence[Any]
) -> tuple[State, Any]:
    """State before the first step, and the frozen layers that the group shares. For each cell
    `frozen` is how many of its lower layers are frozen, the same arrays where these overlap, and
    `params` its full initial params."""
    names, tx = network.layer_names, optimizer(recipe)
    deepest = params[max(range(len(frozen)), key=frozen.__getitem__)]
    shared = {name: deepest[name] for name in names[: max(frozen)]}
    return State(
        jnp.zeros((), jnp.int32),
        tuple({name: p[name] for name in names[n:]} for n, p in zip(frozen, params, strict=True)),
        tuple(freeze(tx, names[:n]).init(p) for n, p in zip(frozen, params, strict=True)),
        tuple(jnp.full((), -1, jnp.int32) for _ in frozen),
    ), shared


def frozen_activations(
    network, shared, x, depths, precision, start=0, **dropout
) -> dict[int, jax.Array]:
    """Depth n -> what leaves the n frozen lower layers, one forward pass for all depths; x is what
    left the lowest `start`."""
    x = x.astype(jnp.bfloat16) if precision == "bfloat16" else x
    shared, found = cast(network, shared, precision), {start: x}
    for n in range(start, max(depths)):
        found[n + 1] = network.apply_range(shared, found[n], n, n + 1, **dropout)
    return found


def make_update_fn(
    network: Network,
    recipe: Recipe,
    frozen: tuple[int, ...],
    *,
    objective: Classification = CLASSIFICATION,
    scanned: bool = False,
    parts: int | None = None,
) -> Callable:
    """One training step of a group, mapped over the devices.

    Args:
      network, recipe, frozen: as in `initial_state`.
      objective: what is learned, see `training.objective`.
      scanned: several steps a call: `indices` gains an axis of steps behind that of devices.
      parts: equal parts that a device's batch is computed in; None leaves it to `batch_parts`.

    Returns:
      update(state, shared, source, indices, rates, key data) -> (state, losses). All but the last
      two have a leading axis of devices; indices are int32 places in source.images; rates are the
      plateau's factors and losses the batch's mean losses, (cells,) float32.
    """
    names, tx = network.layer_names, optimizer(recipe)
    optimizers = [freeze(tx, lower_layers(network, n)) for n in frozen]
    if parts is None:
        parts = batch_parts(network, frozen, recipe.batch_size // jax.device_count())

    def losses_of(params, shared, mean, batch):
        (images, labels), view_keys, drop_keys = batch
        x, labels = objective.train_view(recipe, images, labels, view_keys, mean)
        dropout = {"train": True, "rng": drop_keys}
        frozen_part = network, shared, x, frozen, recipe.precision, objective.start
        below = frozen_activations(*frozen_part, **dropout)
        losses = []
        for n, full in zip(frozen, params, strict=True):
            full = cast(network, full, recipe.precision)
            losses.append(objective.loss(network, recipe, full, below[n], n, labels, drop_keys))
        # No cell's loss depends on another's params: the gradient of the sum is that of each.
        return sum(losses), jnp.stack(losses)

    gradients_of = in_parts(jax.grad(losses_of, has_aux=True), parts)

    def update(state: State, shared, source: Source, indices, rates, key):
        view_keys, drop_keys = example_keys(jax.random.fold_in(key, state.step), indices.shape[0])
        batch = (source.take(indices), view_keys, drop_keys)
        params = tuple({**shared, **learned} for learned in state.learned)
        gradients, losses = lax.pmean(gradients_of(params, shared, source.mean, batch), AXIS)
        learned, opt_states, bad = [], [], []
        for i, (n, full, opt) in enumerate(zip(frozen, params, state.opt_state, strict=True)):
            updates, opt = optimizers[i].update(gradients[i], opt, full, rate_scale=rates[i])
            full = optax.apply_updates(full, updates)
            learned.append({name: full[name] for name in names[n:]})
            opt_states.append(opt)
            first_bad = (state.bad_step[i] < 0) & ~jnp.isfinite(losses[i])
            bad.append(jnp.where(first_bad, state.step, state.bad_step[i]))
        return State(state.step + 1, tuple(learned), tuple(opt_states), tuple(bad)), losses

    def call(state, shared, source, indices, rates, key_data):
        key = jax.random.wrap_key_data(key_data)
        with jax.default_matmul_precision(MATMUL[recipe.precision]):
            if not scanned:
                return update(state, shared, source, indices, rates, key)
            body = lambda state, row: update(state, shared, source, row, rates, key)  # noqa: E731
            state, losses = lax.scan(body, state, indices)
            return state, losses[-1]

    return jax.pmap(call, AXIS, in_axes=(0, 0, 0, 0, None, None), donate_argnums=0)


MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}


def make_eval_fn(
    network: Network,
    recipe: Recipe,
    frozen: tuple[int, ...],
    objective: Classification = CLASSIFICATION,
) -> Callable:
    """One evaluation step of a group: no mirror, no dropout.

    Returns:
      evaluate(learned, shared, source, indices) -> (devices, cells, batch, measures) float32: the
      objective's measures for every image of the whole batch.
    """

    def evaluate(learned, shared, source: Source, indices):
        with jax.default_matmul_precision(MATMUL[recipe.precision]):
            x, labels = objective.eval_view(recipe, *source.take(indices), source.mean)
            frozen_part = network, shared, x, frozen, recipe.precision, objective.start
            below, found = frozen_activations(*frozen_part), []
            for n, mine in zip(frozen, learned, strict=True):
                full = cast(network, {**shared, **mine}, recipe.precision)
                found.append(objective.score(network, full, below[n], n, labels))
        return lax.all_gather(jnp.stack(found), AXIS, axis=1, tiled=True)

    return jax.pmap(evaluate, AXIS)


def example_keys(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """(count,) keys of this device's examples for their views, and as many for dropout.

    Example i of the whole batch has the same keys on any number of devices.
    """
    places = lax.axis_index(AXIS) * count + jnp.arange(count)
    of_purpose = [jax.random.fold_in(key, purpose) for purpose in (0, 1)]
    return tuple(jax.vmap(jax.random.fold_in, (None, 0))(k, places) for k in of_purpose)


def in_parts(function: Callable, parts: int) -> Callable:
    """`function(..., batch)` as the mean of its results over equal parts of the batch, in order."""
    if parts == 1:
        return function

    def mean_of_parts(*arguments):
        *others, batch = arguments
        size = jax.tree.leaves(batch)[0].shape[0] // parts
        results = [
            function(*others, jax.tree.map(lambda a, i=i: a[i * size : (i + 1) * size], batch))
            for i in range(parts)
        ]
        return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / parts, *results)

    return mean_of_parts


def batch_parts(network: Network, frozen: Sequence[int], batch_size: int) -> int:
    """Equal parts in which XLA:CPU computes one device's batch fastest; 1 on other backends.

    It runs most convolutions on one core, and their kernel gradients cost up to three times as much
    an image at 128 images as at 32: parts fill the cores and stay in the cache. Figures are in
    results/benchmarks.
    """
    if jax.default_backend() != "cpu":
        return 1
    images = 16 if batch_size >= 128 else 32
    alone = len(frozen) == 1
    wanted = max(2, -(-batch_size // images)) if alone else batch_size // 64
    most = max(1, min(group_flops(network, frozen) * batch_size // 1_400_000_000, wanted, 8))
    return max(parts for parts in range(1, most + 1) if batch_size % parts == 0)


def group_flops(network: Network, frozen: Sequence[int]) -> int:
    """Floating-point operations of a group's training step for one image, shared layers once."""
    forward = [2 * count for count in network.multiply_adds.values()]
    own = sum(network.train_flops(n) - sum(forward[:n]) for n in frozen)
    return own + sum(forward[: max(frozen)])
