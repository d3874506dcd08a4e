"""Images a second of the training step, ours and PyTorch's, on the same images by turns."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import jax
import numpy as np

from transfer_jax.bench import torch_reference
from transfer_jax.bench.timing import best_matmul, interleave, table
from transfer_jax.grid.cost import step_loop, steps_per_call
from transfer_jax.networks import Network
from transfer_jax.training import Augmentation, Recipe
from transfer_jax.training.step import Source

OURS = "ours"


def recipe_for(network: Network, batch_size: int, precision: str) -> Recipe:
    """A recipe whose step does all the work of a study's: random crops and mirrors, dropout,
    Nesterov momentum, weight decay, a learning rate that changes at every step."""
    return Recipe(
        batch_size=batch_size,
        steps=100_000,
        solver="sgd",
        nesterov=True,
        schedule="cosine",
        bias_lr_multiplier=1.0,
        augmentation=Augmentation(network.input_size, pad=4 if network.input_size <= 64 else 0),
        mean="channel",
        pixel_scale=1 / 60,
        precision=precision,
    )


def noise(network: Network, batch_size: int) -> tuple[Source, np.ndarray]:
    """Images of noise, large enough for the recipe's crops (256 pixels for 227), with labels and
    mean; and 16 batches of places in them, int32 (16, batch_size)."""
    random, size = np.random.default_rng(0), network.input_size
    side = size if size <= 64 else size + 29
    count = min(4096, 2**27 // (3 * side**2))
    images = random.integers(0, 256, (count, side, side, 3), np.uint8)
    labels = random.integers(0, network.num_classes, count, np.int32)
    mean = np.full(3, 127.5, np.float32)
    return Source(images, labels, mean), random.integers(0, count, (16, batch_size), np.int32)


def whole_calls(steps: int | None) -> int:
    """Steps of a round, rounded up to whole calls; None is enough for this backend."""
    chunk = steps_per_call()
    return -(-(steps or max(10, 4 * chunk)) // chunk) * chunk


def run(options: argparse.Namespace) -> tuple[str, list[str]]:
    """The page's text, and what else its reader must know."""
    network, precision = options.network, options.precision
    params, rows = network.init(jax.random.key(0)), []
    why_not = torch_reference.why_not() if options.torch else "not asked for (--torch)"
    remark = f"no PyTorch: {why_not}" if why_not else torch_reference.describe()
    size, rate = best_matmul(precision)
    for batch_size in options.batch:
        recipe, data = recipe_for(network, batch_size, precision), noise(network, batch_size)
        rivals = {OURS: step_loop(network, recipe, (0,), (params,), data)}
        if not why_not:
            rivals |= torch_reference.loops(network, recipe, params, data)
        seconds = interleave(rivals, options.rounds, whole_calls(options.steps))
        rows += rows_of(network, batch_size, seconds, rate * jax.device_count())
    header = ["step", "batch", "ms, fastest", "median", "images/s, fastest", "median"]
    header += ["ours / this, fastest", "median", "of the matrix rate"]
    text = (
        f"# Training step of {network.name}, {precision}\n\n"
        f"{network.num_params:,} parameters, {network.train_flops() / 1e9:.3f} GFLOP a training "
        f"image. Images of noise lie on the device, uint8; a step gathers, crops, mirrors, trains. "
        f"The last column is the share, in the fastest round, of what a device's best product of "
        f"matrices reaches: {rate / 1e12:.3g} TFLOP/s, {precision}, {size} x {size}.\n\n"
        f"{table(header, rows)}"
    )
    return text, [remark]


def rows_of(
    network: Network, batch_size: int, seconds: Mapping[str, np.ndarray], flops_per_second: float
) -> list[list[str]]:
    """A row of the table for each rival, from its seconds a step in every round."""
    rows, ours = [], [np.min(seconds[OURS]), np.median(seconds[OURS])]
    for name, found in seconds.items():
        times = [np.min(found), np.median(found)]
        share = network.train_flops() * batch_size / times[0] / flops_per_second
        rows.append(
            [
                name,
                str(batch_size),
                *(f"{1e3 * t:.2f}" for t in times),
                *(f"{batch_size / t:,.1f}" for t in times),
                *(f"{t / o:.2f}" if name != OURS else "" for t, o in zip(times, ours, strict=True)),
                f"{100 * share:.1f} %",
            ]
        )
    return rows
