"""Trains one group of cells: the loop around the step, with evaluations, checkpoints and resume."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from transfer_jax.data.pipeline import BatchOrder
from transfer_jax.training import checkpoint, devices
from transfer_jax.training.evaluation import evaluate
from transfer_jax.training.feed import TaskData, training_batches
from transfer_jax.training.metrics_log import MetricsLog, best_mean
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


@dataclasses.dataclass(frozen=True)
class Member:
    """One cell of a group, as the trainer sees it.

    Attributes:
      name: for messages and bars, such as 'A3B'.
      frozen: number of frozen lower layers.
      params: its full initial params.
      directory: where its metrics and snapshots go.
    """

    name: str
    frozen: int
    params: Any
    directory: Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What training one cell came to.

    Attributes:
      learned: params of the layers that learned, as NumPy arrays.
      top1: share of validation images whose most likely class is right, at the last evaluation;
        None when training failed.
      top1_best_mean: mean over the best evaluations; None when training failed.
      steps: updates made.
      seconds: wall time of the group's training, evaluations included, divided by its cells.
      images_per_second: training images of this cell per second of that share.
      num_eval: number of validation images.
      error: why training failed, or None.
    """

    learned: Any
    top1: float | None
    top1_best_mean: float | None
    steps: int
    seconds: float
    images_per_second: float
    num_eval: int
    error: str | None


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
    same numbers and snapshots, bit for bit, as one that was not.

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
      ValueError: when the batch cannot be split over the devices.
    """
    recipe = program.recipe
    check_batch(recipe)
    order = BatchOrder(data.num_records("train"), recipe.batch_size, stream_seed)
    state, shared = initial_state(program, tuple(member.params for member in members))
    logs = [MetricsLog(member.directory / "metrics.jsonl") for member in members]
    events = _event_writers(members) if runtime.tensorboard else []

    checkpoints = checkpoint.manager(checkpoint_dir, runtime.keep_checkpoints)
    spent = 0.0
    if restored := checkpoint.restore(checkpoints, state._asdict()):
        state, spent = TrainState(**restored[0]), restored[1]["seconds"]
    first = int(state.step)
    for log in logs:
        log.keep_until(first)
    if first == 0 and 0 in runtime.snapshot_steps:
        _keep_snapshots(members, state.learned, 0)

    state, shared = devices.replicate(state), devices.replicate(shared)
    key = jax.random.key_data(jax.random.key(stream_seed))
    chunk = _steps_per_call(runtime, recipe, data.resident, first)
    train_step = compiled_train_step(program, chunk > 1)
    schedule = learning_rate_schedule(recipe)
    # Devices that share a CPU's threads can wait for each other for ever when a step is started
    # before the last one has ended.
    one_at_a_time = jax.default_backend() == "cpu" and devices.num_devices() > 1
    names = [member.name for member in members]
    started, since, step = time.perf_counter(), (time.perf_counter(), first), first
    bar = progress.group(names, recipe.steps, first, recipe.batch_size)
    for source, indices in training_batches(data, order, first, recipe.steps, chunk):
        state, losses = train_step(state, shared, source, indices, key)
        if one_at_a_time:
            losses.block_until_ready()
        step = min(step + chunk, recipe.steps)
        last = step == recipe.steps
        if last or step % runtime.log_every == 0:
            values = np.asarray(losses.addressable_shards[0].data[0])
            now = time.perf_counter()
            speed = (step - since[1]) * recipe.batch_size / (now - since[0])
            since = (now, step)
            scales = rate_scales(devices.unreplicate(state.plateau), len(members))
            for i, log in enumerate(logs):
                entry = {
                    "step": step,
                    "loss": float(values[i]),
                    "learning_rate": float(schedule(step - 1)) * float(scales[i]),
                    "images_per_second": speed,
                }
                log.append(entry)
                _write_events(events, i, entry)
            bar.update_to(step, loss=float(values.mean()))
        if last or step % recipe.eval_every == 0:
            accuracies = evaluate(program, state.learned, shared, data)
            for i, (log, entry) in enumerate(zip(logs, accuracies, strict=True)):
                log.append({"step": step, **entry})
                _write_events(events, i, {"step": step, **entry})
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
            _keep_snapshots(members, devices.unreplicate(state.learned), step)
        if not last and step % runtime.checkpoint_every == 0:
            position = {"step": step, "seconds": spent + time.perf_counter() - started}
            checkpoint.save(checkpoints, step, devices.unreplicate(state)._asdict(), position)
    bar.close()
    checkpoints.wait_until_finished()
    checkpoints.close()
    for writer in events:
        writer.close()
    seconds = (spent + time.perf_counter() - started) / len(members)
    final = jax.tree.map(np.asarray, devices.unreplicate(state))
    return [
        _outcome(program, member, log, final, i, seconds, data.num_records("val"))
        for i, (member, log) in enumerate(zip(members, logs, strict=True))
    ]


def check_batch(recipe: Recipe) -> None:
    """Refuses a batch that cannot be split evenly.

    Raises:
      ValueError: when the batch size is no multiple of the number of devices.
    """
    if recipe.batch_size % devices.num_devices():
        raise ValueError(
            f"recipe.batch_size={recipe.batch_size}: expected a multiple of the number of devices, "
            f"{devices.num_devices()}"
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


def _keep_snapshots(members: Sequence[Member], learned: Sequence[Any], step: int) -> None:
    for member, params in zip(members, learned, strict=True):
        checkpoint.save_snapshot(member.directory, step, params)


@functools.lru_cache(maxsize=32)
def compiled_train_step(program: Program, scanned: bool):
    """A group's training step (or several, scanned), compiled and mapped over the devices."""
    step = make_train_step(program)

    def with_key_data(state, shared, source, indices, key_data):
        run = make_scanned_step(step) if scanned else step
        return run(state, shared, source, indices, jax.random.wrap_key_data(key_data))

    return devices.map_over_devices(with_key_data, donate=(0,), num_broadcast=1)


def _outcome(program, member, log, final: TrainState, i, seconds, num_eval) -> Outcome:
    recipe, bad = program.recipe, int(final.bad_step[i])
    steps = int(final.step)
    speed = steps * recipe.batch_size / seconds if seconds else 0.0
    learned = final.learned[i]
    if bad >= 0:
        rate = float(learning_rate_schedule(recipe)(bad))
        rate *= float(rate_scales(final.plateau, len(program.frozen))[i])
        error = (
            f"cell {member.name}: the loss was not finite at step {bad} (learning rate "
            f"{rate:.4g}) with recipe {recipe}"
        )
        return Outcome(learned, None, None, bad, seconds, speed, num_eval, error)
    top1s = [entry["top1"] for entry in log.evaluations()]
    best = best_mean(top1s, recipe.best_evals)
    return Outcome(learned, top1s[-1], best, steps, seconds, speed, num_eval, None)


def _event_writers(members: Sequence[Member]) -> list:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "runtime.tensorboard=True needs the package tensorboardX: install "
            "transfer_jax[tensorboard]"
        ) from error
    return [SummaryWriter(str(member.directory / "events")) for member in members]


def _write_events(events: list, i: int, entry: dict) -> None:
    if events:
        for name, value in entry.items():
            if name != "step":
                events[i].add_scalar(name, value, entry["step"])
