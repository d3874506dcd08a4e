"""Accuracy and class probabilities of networks on a task's validation images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from transfer_jax.data.pipeline import select
from transfer_jax.networks import Network
from transfer_jax.training import devices
from transfer_jax.training.evaluation_step import make_eval_step, make_probability_step
from transfer_jax.training.feed import TaskData, evaluation_batches
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.step import Program

EVAL_BATCH = 256


def evaluate(program: Program, learned: Any, shared: Any, data: TaskData) -> list[dict]:
    """Accuracy of a group's cells on the task's validation images.

    Args:
      program: the group's program.
      learned: as in `TrainState`, with a device axis.
      shared: the group's frozen layers, with a device axis.
      data: the task's images.

    Returns:
      for each cell {'top1', 'top5', 'val_loss'}: shares of images, and nats.
    """
    step = _compiled_eval_step(program)
    total = 0.0
    for source, indices, mask in evaluation_batches(data, _batch_size()):
        sums = step(learned, shared, source, indices, mask)
        total = total + np.asarray(sums.addressable_shards[0].data[0], np.float64)
    means = total / data.num_records("val")
    return [
        {"top1": float(top1), "top5": float(top5), "val_loss": float(loss)}
        for top1, top5, loss in means
    ]


def class_probabilities(
    network: Network, recipe: Recipe, params: Any, data: TaskData
) -> tuple[np.ndarray, np.ndarray]:
    """What a network makes of each validation image of a task.

    Compiled once for each network and way to look at images, whatever the rest of the recipe.

    Args:
      network: any network whose logits are the task's classes.
      recipe: its augmentation, pixel_scale, ten_crop and dtype say how images are looked at.
      params: full params, `{'conv1': {'kernel', 'bias'}, ...}`.
      data: the task's images.

    Returns:
      probabilities, float32 (N, classes), in the order of records, averaged over the ten crops
      where the recipe asks for them; and labels, int32 (N,).

    Raises:
      ValueError: when the network has another number of logits than the task has classes.
    """
    if network.num_classes != data.task.num_classes:
        raise ValueError(
            f"network {network.name} has {network.num_classes} logits and task {data.task.name} "
            f"{data.task.num_classes} classes"
        )
    view = {name: getattr(recipe, name) for name in _VIEW_FIELDS}
    params = {name: params[name] for name in network.layer_names}
    found = []
    # Of several processes each that asks finds all of them by itself.
    with devices.only(devices.local()):
        step = _compiled_probability_step(network, Recipe(**view))
        copies = devices.replicate(params)
        for source, indices, mask in evaluation_batches(data, _batch_size()):
            probabilities = np.asarray(step(copies, source, indices))
            found.append(probabilities.reshape(-1, network.num_classes)[mask.reshape(-1) > 0])
    return np.concatenate(found), select(data.dataset, "val", data.task)[1]


_VIEW_FIELDS = ("augmentation", "pixel_scale", "ten_crop", "dtype")


def _batch_size() -> int:
    return math.ceil(EVAL_BATCH / devices.axis_size()) * devices.axis_size()


@devices.cached(maxsize=32)
def _compiled_eval_step(program: Program):
    return devices.map_over_devices(make_eval_step(program))


@devices.cached(maxsize=32)
def _compiled_probability_step(network: Network, recipe: Recipe):
    return devices.map_over_devices(make_probability_step(network, recipe))
