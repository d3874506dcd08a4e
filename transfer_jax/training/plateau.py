"""The plateau schedule: the learning rate drops when the validation error stops falling.

Zeiler & Fergus (2013, section 3.1) lowered it by hand; here optax.contrib.reduce_on_plateau
decides. Its state, one for each cell of a group, is part of the train state, so checkpoints hold it
and a resumed run goes on with it. The trainer moves it at evaluations; between them the steps only
read its scale.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from transfer_jax.training.recipe import Recipe


def initial_plateau(recipe: Recipe, cells: int) -> Any:
    """State before the first evaluation: optax's, each leaf with a leading axis of cells.

    An empty tuple for recipes of another schedule.
    """
    if recipe.schedule != "plateau":
        return ()
    one = _tracker(recipe).init(jnp.zeros((), jnp.float32))
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * cells), one)


def observe(recipe: Recipe, plateau: Any, errors: np.ndarray, learning: np.ndarray) -> Any:
    """State after an evaluation.

    Args:
      recipe: of the plateau schedule.
      plateau: as `initial_plateau` gives it.
      errors: (cells,) top-1 error of each cell, as a share of the validation images.
      learning: (cells,) bool; the state of the other cells, whose training has failed, stays.
    """
    return _observe(recipe)(plateau, np.asarray(errors, np.float32), np.asarray(learning, bool))


def rate_scales(plateau: Any, cells: int) -> np.ndarray:
    """(cells,) factors of the learning rate; 1 for recipes of another schedule."""
    return np.asarray(plateau.scale) if plateau else np.ones(cells)


def _tracker(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    return optax.contrib.reduce_on_plateau(
        factor=recipe.decay_factor,
        patience=recipe.plateau_patience,
        rtol=recipe.plateau_rtol,
        atol=recipe.plateau_atol,
    )


@functools.lru_cache(maxsize=32)
def _observe(recipe: Recipe):
    tracker = _tracker(recipe)

    def one(state, error, learning):
        moved = tracker.update((), state, value=error)[1]
        return jax.tree.map(lambda new, old: jnp.where(learning, new, old), moved, state)

    return jax.jit(jax.vmap(one))
