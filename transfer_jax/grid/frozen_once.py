"""What leaves frozen layers, computed once an image and kept in the workdir for the layers above
(Oquab et al. 2014 train two layers on the features of all patches)."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transfer_jax.data.dataset import Dataset
from transfer_jax.data.records import Arrays, digest
from transfer_jax.data.seals import kept_array
from transfer_jax.data.tasks import Task
from transfer_jax.data.views import eval_view
from transfer_jax.grid.cell import Cell, to_json
from transfer_jax.readout.features import map_images
from transfer_jax.training import parallel
from transfer_jax.training.objective import Classification
from transfer_jax.training.step import MATMUL, frozen_activations


def frozen_once(folder: Path, cell: Cell, params: Any) -> Task:
    """The cell's task with images replaced by what leaves its frozen layers, in the evaluation's
    view and without dropout.

    Args:
      folder: where the activations are kept, named by all that they depend on: images, view,
        frozen weights, precision, backend.
      cell: with frozen layers, of a classification.
      params: its initial params.
    """
    task, recipe, network, depth = cell.task, cell.recipe, cell.network, cell.frozen
    rows, where = np.unique(np.concatenate([task.train[0], task.val[0]]), return_inverse=True)
    shared = {name: params[name] for name in network.layer_names[:depth]}
    mean = np.asarray(cell.mean(), np.float32)
    view = [to_json(recipe.augmentation), recipe.pixel_scale, recipe.precision]
    seen = [task.dataset.name, rows, *map(str, view), mean, jax.default_backend()]
    layers = [str(to_json(layer)) for layer in network.layers[:depth]]
    weights = [np.asarray(leaf) for leaf in jax.tree.leaves(shared)]
    key = digest(seen, layers, weights)

    @jax.jit
    def run(images):
        with jax.default_matmul_precision(MATMUL[recipe.precision]):
            x = eval_view(images, recipe.augmentation, mean, recipe.pixel_scale)
            below = frozen_activations(network, shared, x, [depth], recipe.precision)
            return below[depth].astype(jnp.float32)

    for first in (True, False):
        if parallel.is_first() == first:
            compute = functools.partial(map_images, run, task.dataset.read, rows)
            features = kept_array(folder / f"{key}.npy", key, compute)
        parallel.barrier(f"features {key} {first}")
    name, shape = f"features/{key}", features.shape[1:]
    source = Dataset(name, (), np.zeros(0), {}, Arrays(features), image_shape=shape)
    train, val = np.split(where, [len(task.train[0])])
    return dataclasses.replace(
        task,
        dataset=source,
        train=(train, task.train[1]),
        val=(val, task.val[1]),
        objective=Classification(start=depth),
    )
