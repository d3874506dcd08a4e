"""What a plan will cost, before it is run: FLOPs, disk and time from a short measured warm-up."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from transfer_jax.data.pipeline import BatchOrder
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.plan import Group
from transfer_jax.grid.supply import DataSupply
from transfer_jax.training import devices
from transfer_jax.training.evaluation import evaluate
from transfer_jax.training.feed import TaskData, training_batches
from transfer_jax.training.runtime import Runtime
from transfer_jax.training.step import initial_state
from transfer_jax.training.trainer import compiled_train_step

BYTES_PER_WEIGHT = 4


@dataclasses.dataclass(frozen=True)
class Warmup:
    """A short measurement of one group's steps.

    Attributes:
      compile_seconds: from the first call to its result.
      flops_per_second: of training steps, by the network's own count of operations.
      evaluation_seconds: one evaluation of one cell.
    """

    compile_seconds: float
    flops_per_second: float
    evaluation_seconds: float


def measure(group: Group, data: TaskData, steps: int = 10) -> Warmup:
    """Trains a group's first cell for a few steps from random weights, and times it."""
    cell = group.cells[0]
    program = dataclasses.replace(group.program, frozen=(0,))
    params = (cell.network.init(jax.random.key(0)),)
    state, shared = devices.replicate(initial_state(program, params))
    step = compiled_train_step(program, False)
    key = jax.random.key_data(jax.random.key(0))
    order = BatchOrder(data.num_records("train"), cell.recipe.batch_size, 0)
    times = []
    for source, indices in training_batches(data, order, 0, steps + 1, 1):
        start = time.perf_counter()
        state, losses = step(state, shared, source, indices, key)
        np.asarray(losses.addressable_shards[0].data)
        times.append(time.perf_counter() - start)
    evaluate(program, state.learned, shared, data)
    start = time.perf_counter()
    evaluate(program, state.learned, shared, data)
    evaluation = time.perf_counter() - start
    per_step = cell.network.train_flops() * cell.recipe.batch_size
    return Warmup(times[0], per_step / min(times[1:]), evaluation)


def describe_plan(
    plan: Sequence[Group],
    supply: DataSupply,
    runtime: Runtime,
    names: Mapping[str, str] | None = None,
) -> str:
    """A plan as text: its groups, what they depend on and share, and what they will cost.

    Of each network the weights and the operations of one training step for one image are listed.

    Args:
      plan: from `build_plan`.
      supply: gives each cell's task its images; those of the first group serve the warm-up.
      runtime: decides how many checkpoints and snapshots lie on disk.
      names: what to call the cells, by their hash, see `run.labels`.

    Returns:
      lines of text; the last ones hold totals, with the time that the measured speed leads to.
    """
    if not plan:
        return "nothing to train: every cell is finished"
    first = plan[0].cells[0]
    warmup = measure(plan[0], supply(first))
    names = names or {}
    width = max([4, *(len(names.get(cell.hash, "")) for group in plan for cell in group.cells)])
    header = (
        f"{'group':<18} {'of':<{width}} {'needs':<8} {'shares':<26} {'params':>11} "
        f"{'GFLOP/image':>11} {'TFLOP':>10} {'minutes':>8}"
    )
    lines = [header]
    for group in plan:
        of = names.get(group.cells[0].hash, group.cells[0].task.name)
        lines.append(_describe_group(group, warmup, f"{of:<{width}}"))
    cells = [cell for group in plan for cell in group.cells]
    flops = sum(group.train_flops for group in plan)
    seconds = sum(_seconds(group, warmup) for group in plan)
    programs = len({group.program for group in plan})
    seconds += programs * warmup.compile_seconds
    stored = sum(_stored_bytes(cell) * (1 + _snapshots(cell, runtime)) for cell in cells)
    # A checkpoint holds the weights that learn and one momentum buffer for each.
    running = max(2 * sum(map(_stored_bytes, group.cells)) for group in plan)
    lines += [
        "",
        f"cells to train      {len(cells)} in {len(plan)} groups, {programs} programs to compile",
        f"training            {flops / 1e12:,.1f} TFLOP",
        f"measured speed      {warmup.flops_per_second / 1e9:,.1f} GFLOP/s on "
        f"{devices.num_devices()} {jax.devices()[0].device_kind}, base cell {first.name}; "
        f"compilation {warmup.compile_seconds:.1f} s",
        f"disk                {stored / 2**20:,.0f} MiB of results, and up to "
        f"{running * runtime.keep_checkpoints / 2**20:,.0f} MiB of checkpoints at a time",
        f"estimated time      {_duration(seconds)}",
    ]
    return "\n".join(lines)


def _describe_group(group: Group, warmup: Warmup, of: str) -> str:
    cells, deepest = group.cells, group.program.num_shared
    name = cells[0].name if len(cells) == 1 else f"{cells[0].name}..{cells[-1].name}"
    needs = ", ".join(sorted(cell.name for cell in group.depends_on)) or "-"
    shares = "-"
    if len(cells) > 1:
        names = cells[0].network.layer_names
        shares = f"forward of {names[0]}..{names[deepest - 1]}"
    network = cells[0].network
    per_image = network.train_flops(group.program.frozen[0]) / 1e9
    return (
        f"{name:<18} {of} {needs:<8} {shares:<26} {network.num_params:>11,} {per_image:>11.4f} "
        f"{group.train_flops / 1e12:>10,.2f} {_seconds(group, warmup) / 60:>8.1f}"
    )


def _seconds(group: Group, warmup: Warmup) -> float:
    recipe = group.cells[0].recipe
    evaluations = math.ceil(recipe.steps / recipe.eval_every) * len(group.cells)
    training = group.train_flops / warmup.flops_per_second
    return training + evaluations * warmup.evaluation_seconds


def _stored_bytes(cell: Cell) -> int:
    """Weights that the cell learned; frozen layers lie with its base."""
    frozen = cell.treatment.frozen_layers(cell.network)
    shapes = cell.network.kernel_shapes
    return BYTES_PER_WEIGHT * sum(
        math.prod(shape) + shape[-1] for name, shape in shapes.items() if name not in frozen
    )


def _snapshots(cell: Cell, runtime: Runtime) -> int:
    return sum(step <= cell.recipe.steps for step in runtime.snapshot_steps)


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} minutes" if minutes < 120 else f"{hours:,.1f} hours"
