"""What a study's grid would cost: networks, operations, disk, time. No image is needed."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

from transfer_jax.grid.cell import Cell, Entry, Group, all_cells, depth, groups
from transfer_jax.grid.store import Store, stores
from transfer_jax.networks import Network
from transfer_jax.training import Recipe, parallel, step
from transfer_jax.training.objective import CLASSIFICATION, Classification
from transfer_jax.wording import size_text, time_text


def train_flops(group: Group) -> int:
    """Floating-point operations of a group's whole training, shared frozen layers counted once."""
    first, frozen = group[0], [cell.frozen for cell in group]
    of_image = step.group_flops(first.network, frozen)
    images, below = first.recipe.batch_size * first.recipe.steps, _once(first)
    kept = len(first.task.train[0]) + len(first.task.val[0])
    return (of_image - below) * images + below * kept


def eval_flops(cell: Cell) -> int:
    """Floating-point operations of all evaluations of a cell."""
    views = len(cell.task.val[0]) * (10 if cell.recipe.ten_crop else 1)
    evaluations = -(-cell.recipe.steps // cell.recipe.eval_every)
    of_view = 2 * sum(cell.network.multiply_adds.values()) - _once(cell)
    return of_view * views * evaluations


def _once(cell: Cell) -> int:
    """Operations of the frozen layers on an image, where each image passes them once."""
    counts = list(cell.network.multiply_adds.values())
    return 2 * sum(counts[: cell.frozen]) if cell.recipe.frozen_once else 0


def steps_per_call() -> int:
    """How many steps the trainer compiles into one call on this backend."""
    return 1 if jax.default_backend() == "cpu" else 50


def step_loop(
    network: Network,
    recipe: Recipe,
    frozen: tuple[int, ...],
    params: Sequence[Any],
    data: tuple[step.Source, np.ndarray],
    objective: Classification = CLASSIFICATION,
) -> Callable[[int], np.ndarray]:
    """The trainer's step for a group of cells, on images that lie on the devices: run(steps) makes
    a multiple of `steps_per_call()` updates, waits for them, and returns the cells' losses in the
    last one. `data` are the images, and places in them, int32 (batches, batch_size), taken in turn.
    """
    chunk = steps_per_call()
    update = step.make_update_fn(network, recipe, frozen, objective=objective, scanned=chunk > 1)
    state, shared = parallel.replicate(step.initial_state(network, recipe, frozen, params))
    source, batches = step.Source(*parallel.replicate(data[0])), data[1]
    rates, key = np.ones(len(frozen), np.float32), jax.random.key_data(jax.random.key(0))
    done = 0

    def run(steps: int) -> np.ndarray:
        nonlocal state, done
        for _ in range(steps // chunk):
            indices = batches[(done + np.arange(chunk)) % len(batches)]
            indices = parallel.split_batch(indices if chunk > 1 else indices[0], axis=-1)
            state, losses = update(state, shared, source, indices, rates, key)
            done += chunk
        jax.block_until_ready(state)
        return np.asarray(losses[0])

    return run


def measured_rate(cell: Cell) -> float:
    """Operations a second of the training step of a cell on this machine's devices, from a few
    steps on empty images after those that compile."""
    network, task, devices = cell.network, cell.task, jax.device_count()
    # Of large networks a few images, so that a plan is there within seconds.
    images = min(cell.recipe.batch_size // devices, 32, 20_000_000_000 // network.train_flops())
    batch = devices * max(1, images)
    recipe = dataclasses.replace(cell.recipe, batch_size=batch)
    pixels = np.zeros((batch, *task.dataset.image_shape), np.uint8)
    places = np.arange(batch, dtype=np.int32)
    labels = jax.tree.map(lambda leaf: leaf[places % len(leaf)], task.train[1])
    data = step.Source(pixels, labels, np.zeros(3, np.float32)), places[None]
    params, objective = network.init(jax.random.key(0)), task.objective or CLASSIFICATION
    run = step_loop(network, recipe, (0,), [params], data, objective)
    chunk, steps = steps_per_call(), 0
    run(chunk)
    started = time.perf_counter()
    while time.perf_counter() - started < 1.0 or steps < 2:
        run(chunk)
        steps += chunk
    return step.group_flops(network, (0,)) * batch * steps / (time.perf_counter() - started)


def dry_run(
    entries: Sequence[Entry],
    store: Store,
    assumed_tflops: float | None = None,
    workers: int = 1,
    reuse: Sequence[str] = (),
) -> str:
    """What a run would train and what it would cost, as text; the sum first. Nothing is written.

    Cells that the store, or a workdir of `reuse`, has finished are left out. `assumed_tflops` is
    what each of `workers` sustains, 10**12 operations a second; None measures the most expensive
    network's step on this machine.
    """
    cells, others = all_cells(cell for _, cell in entries), stores(reuse)
    finished = [
        cell.hash
        for cell in cells
        if store.outcome(cell) is not None or any(other.finished(cell) for other in others)
    ]
    plan = groups(cells, finished, store.opened_groups())
    if not plan:
        return f"nothing to train: all {len(cells)} networks are finished"
    left = [cell for group in plan for cell in group]
    training, evaluation = sum(map(train_flops, plan)), sum(map(eval_flops, left))
    if assumed_tflops is None:
        rate, origin = measured_rate(max(plan, key=train_flops)[0]), "measured here"
    else:
        rate, origin = assumed_tflops * 1e12, "assumed"
    levels = defaultdict(list)  # Groups of one depth wait for those below, not for each other.
    for group in plan:
        seconds = (train_flops(group) + sum(map(eval_flops, group))) / rate
        levels[depth(group[0])].append(seconds)
    seconds = sum(max(sum(times) / workers, max(times)) for times in levels.values())
    disk = sum(4 * cell.network.num_params * (1 + len(cell.snapshots)) for cell in left)
    # Weights and moments, in the checkpoint that is written and the two before it.
    copies = [3 if group[0].recipe.solver == "adamw" else 2 for group in plan]
    state = max(
        4 * count * len(group) * group[0].network.num_params
        for count, group in zip(copies, plan, strict=True)
    )
    images = sum(cell.recipe.steps * cell.recipe.batch_size for cell in left)
    lines = [
        f"networks  {len(left)} to train in {len(plan)} groups, {len(finished)} finished",
        f"time      {time_text(seconds)} on {workers} x {rate / 1e12:.3g} TFLOP/s, {origin}",
        f"training  {training / 1e12:,.1f} TFLOP, and {evaluation / 1e12:,.1f} of evaluation",
        f"images    {images:,} training views",
        f"disk      {size_text(disk)} of weights, up to {size_text(3 * state)} of checkpoints",
    ]
    table = pd.DataFrame(
        {
            "experiment": tags.get("experiment", ""),
            "network": cell.network.name,
            "millions of parameters": cell.network.num_params / 1e6,
            "steps": cell.recipe.steps,
            "batch": cell.recipe.batch_size,
            "networks": 1,
            "TFLOP": train_flops((cell,)) / 1e12,
            "hash": cell.hash,
        }
        for tags, cell in entries
    ).drop_duplicates(["experiment", "hash"])
    keys = ["experiment", "network", "steps", "batch"]
    sums = {"networks": "sum", "millions of parameters": "mean", "TFLOP": "sum"}
    counted = table.groupby(keys, sort=False).agg(sums).round(2).reset_index()
    return "\n".join([*lines, "", counted.to_string(index=False)])
