"""The evaluation steps: pure functions for one device, as the training step is."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from transfer_jax.data.augment import eval_view, ten_crop_view
from transfer_jax.networks import Network
from transfer_jax.training.devices import BATCH_AXIS
from transfer_jax.training.recipe import DTYPES, Recipe
from transfer_jax.training.step import Program, Source, cast, full_params, taps_of


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
        taps = taps_of(program, shared, x.reshape(-1, *x.shape[-3:]), dtype, None)
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
    logits = program.network.apply_range(cast(full, DTYPES[program.recipe.dtype]), x, n, None)
    logits = logits.astype(jnp.float32).reshape(count, crops, -1)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=1) - jnp.log(crops)
