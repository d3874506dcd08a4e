"""What a study's grid would cost: networks, operations, disk, time. No image is needed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import jax
import numpy as np
import pandas as pd

from transfer_jax.grid.cell import Cell, Entry, Group, all_cells, depth, groups
from transfer_jax.grid.store import Store
from transfer_jax.training import parallel, step
from transfer_jax.wording import size_text, time_text


def train_flops(group: Group) -> int:
    """Floating-point operations of a group's whole training, shared frozen layers counted once."""
    first, frozen = group[0], [cell.frozen for cell in group]
    return step.group_flops(first.network, frozen) * first.recipe.batch_size * first.recipe.steps


def eval_flops(cell: Cell) -> int:
    """Floating-point operations of all evaluations of a cell."""
    views = len(cell.task.val[0]) * (10 if cell.recipe.ten_crop else 1)
    evaluations = -(-cell.recipe.steps // cell.recipe.eval_every)
    return 2 * sum(cell.network.multiply_adds.values()) * views * evaluations


def measured_rate(cell: Cell) -> float:
    """Operations a second of the training step of a cell on this machine's devices, from a few
    steps on empty images after the one that compiles."""
    network, recipe, frozen, devices = cell.network, cell.recipe, (0,), jax.device_count()
    # Of large networks a few images, so that a plan is there within seconds.
    images = min(recipe.batch_size // devices, 32, 20_000_000_000 // network.train_flops())
    batch = devices * max(1, images)
    state, shared = step.initial_state(network, recipe, frozen, [network.init(jax.random.key(0))])
    shape = cell.task.dataset.image_shape
    images, labels = np.zeros((batch, *shape), np.uint8), np.zeros(batch, np.int32)
    split = [parallel.split_batch(a) for a in (images, labels)]
    source = step.Source(*parallel.put(split), parallel.replicate(np.zeros(3, np.float32)))
    places = np.broadcast_to(np.arange(batch // devices, dtype=np.int32), split[1].shape)
    parts = step.batch_parts(network, frozen, batch // devices)
    update = step.make_update_fn(network, recipe, frozen, parts=parts)
    state, shared = parallel.replicate(state), parallel.replicate(shared)
    arguments = (shared, source, places, np.ones(1, np.float32), np.zeros(2, np.uint32))
    state, losses = update(state, *arguments)
    losses.block_until_ready()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < 1.0 or steps < 2:
        state, losses = update(state, *arguments)
        losses.block_until_ready()
        steps += 1
    return step.group_flops(network, frozen) * batch * steps / (time.perf_counter() - started)


def dry_run(
    entries: Sequence[Entry],
    store: Store,
    assumed_tflops: float | None = None,
    workers: int = 1,
    reuse: Sequence[str] = (),
) -> str:
    """What a run would train and what it would cost, as text; the sum first.

    Args:
      entries: of the study.
      store: whose finished cells are left out; nothing is written there.
      assumed_tflops: speed that a worker sustains, 10**12 operations a second; None measures the
        most expensive network's step on this machine.
      workers: how many there are, each with groups of its own.
      reuse: workdirs whose finished cells a run would copy.
    """
    cells, others = all_cells(cell for _, cell in entries), list(map(Store, reuse))
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
    levels = defaultdict(list)
    for group in plan:
        seconds = (train_flops(group) + sum(map(eval_flops, group))) / rate
        levels[depth(group[0])].append(seconds)
    seconds = sum(max(sum(times) / workers, max(times)) for times in levels.values())
    disk = sum(4 * cell.network.num_params for cell in left)
    state = max(8 * sum(cell.network.num_params for cell in group) for group in plan)
    images = sum(cell.recipe.steps * cell.recipe.batch_size for cell in left)
    rows = [
        ("networks", f"{len(left)} to train in {len(plan)} groups, {len(finished)} finished"),
        ("time", f"{time_text(seconds)} on {workers} x {rate / 1e12:.3g} TFLOP/s, {origin}"),
        ("training", f"{training / 1e12:,.1f} TFLOP, and {evaluation / 1e12:,.1f} of evaluation"),
        ("images", f"{images:,} training views"),
        (
            "disk",
            f"{size_text(disk)} of weights, up to {size_text(2 * state)} of checkpoints",
        ),
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
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {text}" for name, text in rows]
    return "\n".join([*lines, "", counted.to_string(index=False)])
