"""Trains one group of cells: the loop around the step, with evaluations, checkpoints and resume."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from transfer_jax.data.pipeline import BatchOrder
from transfer_jax.training import checkpoint, devices, processes
from transfer_jax.training.evaluation import evaluate
from transfer_jax.training.feed import TaskData, training_batches
from transfer_jax.training.outcome import Member, Outcome, Records, outcomes
from transfer_jax.training.plateau import observe, rate_scales
from transfer_jax.training.progress import Progress
from transfer_jax.training.recipe import Recipe, learning_rate_schedule
from transfer_jax.training.runtime import Runtime
from transfer_jax.training.step import (
    Program,
    TrainState,
    initial_state,
    make_scanned_step,
    make_train_step,
)

__all__ = ["Member", "Outcome", "Runtime", "check_batch", "compiled_train_step", "train_group"]


def train_group(
    program: Program,
    members: Sequence[Member],
    data: TaskData,
    *,
    stream_seed: int,
    checkpoint_dir: Path,
    runtime: Runtime,
    progress: Progress,
) -> list[Outcome]:
    """Trains the cells of one group from their initial params to the recipe's last step.

    A group whose training was cut off goes on from its last complete checkpoint, and ends with the
    same numbers and snapshots, bit for bit, as one that was not. Processes that train together all
    call this with the same arguments, share the work, and get the same outcomes.

    Args:
      program: network, recipe and frozen layers of the members.
      members: the cells, in the program's order.
      data: the task's images.
      stream_seed: seed of the order of images and of all that is random in a step. Cells that
        should see the same batches share it.
      checkpoint_dir: where the group's checkpoints are kept.
      runtime: how often to log and save, and how data travel.
      progress: bars to move.

    Returns:
      an Outcome for each member. A cell whose loss stops being finite fails, with an error that
      names cell, step and recipe; the others go on.

    Raises:
      ValueError: when the batch cannot be split over the devices, or the checkpoint belongs to
        another order of images.
    """
    recipe = program.recipe
    check_batch(recipe)
    order = BatchOrder(data.num_records("train"), recipe.batch_size, stream_seed)
    state, shared = initial_state(program, tuple(member.params for member in members))
    records = Records(members, runtime.tensorboard)

    checkpoints = checkpoint.manager(checkpoint_dir, runtime.keep_checkpoints)
    spent = 0.0
    if restored := checkpoint.restore(checkpoints, state._asdict()):
        _check_place(restored[1], order, checkpoint_dir)
        state, spent = TrainState(**restored[0]), restored[1]["seconds"]
    first = int(state.step)
    records.keep_until(first)
    if first == 0 and 0 in runtime.snapshot_steps:
        records.keep_snapshots(state.learned, 0)

    state, shared = devices.replicate(state), devices.replicate(shared)
    key = jax.random.key_data(jax.random.key(stream_seed))
    chunk = _steps_per_call(runtime, recipe, data.resident, first)
    train_step = compiled_train_step(program, chunk > 1, runtime.side_by_side)
    schedule = learning_rate_schedule(recipe)
    # Devices that share a CPU's threads can wait for each other for ever when a step is started
    # before the last one has ended.
    one_at_a_time = jax.default_backend() == "cpu" and devices.axis_size() > 1
    names = [member.name for member in members]
    started, since, step = time.perf_counter(), (time.perf_counter(), first), first
    before = None
    bar = progress.group(names, recipe.steps, first, recipe.batch_size)
    for source, indices in training_batches(data, order, first, recipe.steps, chunk):
        state, losses = train_step(state, shared, source, indices, key)
        if one_at_a_time:
            losses.block_until_ready()
        elif not data.resident:
            # One step runs and one waits; batches of steps further ahead would fill the memory.
            jax.block_until_ready(before)
            before = losses
        step = min(step + chunk, recipe.steps)
        last = step == recipe.steps
        if last or step % runtime.log_every == 0:
            values = np.asarray(losses.addressable_shards[0].data[0])
            now = time.perf_counter()
            speed = (step - since[1]) * recipe.batch_size / (now - since[0])
            since = (now, step)
            scales = rate_scales(devices.unreplicate(state.plateau), len(members))
            for i in range(len(members)):
                entry = {
                    "step": step,
                    "loss": float(values[i]),
                    "learning_rate": float(schedule(step - 1)) * float(scales[i]),
                    "images_per_second": speed,
                }
                records.append(i, entry)
            bar.update_to(step, loss=float(values.mean()))
        if last or step % recipe.eval_every == 0:
            accuracies = evaluate(program, state.learned, shared, data)
            for i, entry in enumerate(accuracies):
                records.append(i, {"step": step, **entry})
            learning = np.asarray(devices.unreplicate(state.bad_step)) < 0
            if not learning.any():
                break
            if state.plateau:
                errors = np.array([1 - entry["top1"] for entry in accuracies])
                plateau = observe(recipe, devices.unreplicate(state.plateau), errors, learning)
                state = state._replace(plateau=devices.replicate(plateau))
            since = (time.perf_counter(), step)
        if step in runtime.snapshot_steps:
            # Before the checkpoint of this step: a run that resumes from there has them.
            records.keep_snapshots(devices.unreplicate(state.learned), step)
        if not last and step % runtime.checkpoint_every == 0 and processes.is_first():
            seconds = spent + time.perf_counter() - started
            place = {**order.position(step), "seconds": seconds}
            checkpoint.save(checkpoints, step, devices.unreplicate(state)._asdict(), place)
    bar.close()
    checkpoints.wait_until_finished()
    checkpoints.close()
    records.close()
    seconds = spent + time.perf_counter() - started
    final = devices.unreplicate(state)
    return outcomes(program, members, final, records, seconds, data.num_records("val"))


def _check_place(position: dict, order: BatchOrder, folder: Path) -> None:
    try:
        order.step_at(position)
    except ValueError as error:
        raise ValueError(
            f"the checkpoint in {folder} cannot be gone on from: {error} Put the dataset back as "
            "it was, or remove that folder to train from the first step"
        ) from error


def check_batch(recipe: Recipe) -> None:
    """Refuses a batch that cannot be split evenly.

    Raises:
      ValueError: when the batch size is no multiple of the number of devices, those of all
        processes together.
    """
    if recipe.batch_size % devices.axis_size():
        raise ValueError(
            f"recipe.batch_size={recipe.batch_size}: expected a multiple of the number of devices, "
            f"{devices.axis_size()}"
        )


def _steps_per_call(runtime: Runtime, recipe: Recipe, resident: bool, first: int) -> int:
    """Steps in one call: a divisor of every interval, so that calls end where the loop looks."""
    snapshots = (step for step in runtime.snapshot_steps if step <= recipe.steps)
    wanted = runtime.steps_per_call or (1 if jax.default_backend() == "cpu" else 50)
    if not resident:
        return 1
    intervals = math.gcd(
        *(first, recipe.eval_every, runtime.log_every, runtime.checkpoint_every, recipe.steps),
        *snapshots,
    )
    return max(k for k in range(1, wanted + 1) if intervals % k == 0)


@devices.cached(maxsize=32)
def compiled_train_step(program: Program, scanned: bool, side_by_side: str = "unroll"):
    """A group's training step (or several, scanned), compiled and mapped over the devices."""
    step = make_train_step(program, side_by_side=side_by_side)

    def with_key_data(state, shared, source, indices, key_data):
        run = make_scanned_step(step) if scanned else step
        return run(state, shared, source, indices, jax.random.wrap_key_data(key_data))

    return devices.map_over_devices(with_key_data, donate=(0,), num_broadcast=1)
