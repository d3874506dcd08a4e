"""Trains one group of cells: the loop around the step, with evaluations, checkpoints and resume."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from transfer_jax.data.batches import BatchOrder
from transfer_jax.data.tasks import Task
from transfer_jax.networks import Network
from transfer_jax.training import feed, parallel
from transfer_jax.training.checkpoint import CellLog, Checkpoints
from transfer_jax.training.objective import CLASSIFICATION
from transfer_jax.training.recipe import Recipe, learning_rate_schedule, plateau_scale
from transfer_jax.training.step import State, initial_state, make_eval_fn, make_update_fn
from transfer_jax.transfer import Treatment


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How a run is carried out; nothing here changes what a network learns.

    Attributes:
      checkpoint_every: steps between checkpoints of a group in training.
      log_every: steps between lines of loss and speed in metrics.jsonl.
      resident_bytes: images of a task that fit into so many bytes are kept on every device; others
        are streamed.
    """

    checkpoint_every: int = 1000
    log_every: int = 100
    resident_bytes: int = 4 * 2**30

    def __post_init__(self):
        for name in ("checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"runtime.{name}={getattr(self, name)}: expected at least 1")


def train(
    network: Network,
    task: Task,
    recipe: Recipe,
    treatment: str = "baseA",
    base: Any = None,
    *,
    seed: int = 0,
) -> tuple[dict, dict]:
    """Trains one network in memory, for notebooks.

    Args:
      network: as many logits as the task has classes.
      task: what it learns, see `data.tasks`.
      recipe: how, for instance `SMALL_IMAGES`.
      treatment: the paper's notation, such as 'A3B+'.
      base: trained params that the lower layers are copied from.
      seed: of weights, order of images, views and dropout.

    Returns:
      (params, row): params in network order, and what came of it: 'top1', 'top5', 'eval_loss' on
      the validation images, 'train_loss', 'right' (bool, one a validation image), 'seconds'.

    Example:
      >>> base, _ = train(net, task_a, SMALL_IMAGES)                          # doctest: +SKIP
      >>> params, row = train(net, task_b, SMALL_IMAGES, 'A3B', base)         # doctest: +SKIP
    """
    how = Treatment.parse(treatment)
    if network.num_classes != task.num_outputs:
        raise ValueError(
            f"network {network.name} has {network.num_classes} outputs and task {task.name} "
            f"takes {task.num_outputs}: build it with num_classes={task.num_outputs}"
        )
    if not len(task.val[0]):
        raise ValueError(f"task {task.name}: {task.dataset.name} has no images for testing ('val')")
    params = how.init_params(network, jax.random.key(seed), base, recipe.init)
    (result,) = train_group(
        network, recipe, [how], [params], task, task.mean(recipe.mean), stream_seed=seed
    )
    if "error" in result[1]:
        raise FloatingPointError(result[1]["error"])
    return result


def train_group(
    network: Network,
    recipe: Recipe,
    treatments: Sequence[Treatment],
    params: Sequence[Any],
    task: Task,
    mean: np.ndarray,
    *,
    stream_seed: int,
    folder: Path | None = None,
    cell_folders: Sequence[Path] = (),
    snapshots: Sequence[Sequence[int]] = (),
    runtime: Runtime = Runtime(),
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> list[tuple[dict, dict]]:
    """Trains cells of one network, recipe and task side by side, to the recipe's last step.

    One whose training was cut off goes on from its last checkpoint and ends with the same numbers,
    bit for bit, as one that was not. Processes that train together all call this with the same
    arguments, share the work, and get the same results.

    Args:
      network, recipe, task: of all cells.
      treatments: of each cell; frozen layers that several have are the same arrays.
      params: full initial params of each cell.
      mean: subtracted from every image, (3,) or (h, w, 3).
      stream_seed: of the order of images and all that is random in a step.
      folder: for checkpoints; None keeps none.
      cell_folders: of each cell, for metrics.jsonl and snapshots.
      snapshots: for each cell, numbers of updates after which its params are kept for good.
      runtime: how often to log and save.
      told: called with the step and the mean loss at every log line.

    Returns:
      for each cell (params, row) as `train` does; a cell whose loss stops being finite has a row
      with 'error', and the others go on. 'files' are the digests of what is in its folder.
    """
    frozen = tuple(len(treatment.frozen_layers(network)) for treatment in treatments)
    order = BatchOrder(len(task.train[0]), recipe.batch_size, stream_seed)
    state, shared = initial_state(network, recipe, frozen, params)
    resident = feed.is_resident(task, runtime.resident_bytes)
    logs = [CellLog(path) for path in cell_folders] if parallel.is_first() else []
    kept = {step for steps in snapshots for step in steps}

    history: list[list[float]] = [[] for _ in treatments]
    spent, train_losses = 0.0, [math.nan] * len(treatments)
    checkpoints = Checkpoints(folder) if folder else None
    if checkpoints and (found := checkpoints.restore(state._asdict(), logs)):
        state, spent, history = State(**found[0]), found[1]["seconds"], found[1]["history"]
    else:
        for log in logs:
            log.begin()
    first = int(state.step)

    def whole(learned) -> list[dict]:
        return [
            {name: (shared if i < n else mine)[name] for i, name in enumerate(network.layer_names)}
            for n, mine in zip(frozen, learned, strict=True)
        ]

    def keep_snapshots(state, step):
        for log, steps, full in zip(logs, snapshots, whole(state.learned), strict=bool(logs)):
            if step in steps:
                log.snapshot(step, full)

    if 0 in kept and first == 0:
        keep_snapshots(state, 0)
    shared_there, mean_there = parallel.replicate((shared, np.asarray(mean, np.float32)))
    state, key = parallel.replicate(state), jax.random.key_data(jax.random.key(stream_seed))
    chunk = _steps_per_call(runtime, recipe, resident, first, kept)
    objective = task.objective or CLASSIFICATION
    update = _update_fn(network, recipe, frozen, objective=objective, scanned=chunk > 1)
    evaluate = _eval_fn(network, recipe, frozen, objective)
    schedule = learning_rate_schedule(recipe)
    # Devices that share a CPU's threads can wait for each other for ever when a step is started
    # before the last one has ended; streamed batches of steps further ahead would fill the memory.
    wait = not resident or (jax.default_backend() == "cpu" and jax.device_count() > 1)
    started, since, step = time.perf_counter(), (time.perf_counter(), first), first

    with checkpoints or contextlib.nullcontext():
        for source, indices in feed.train_batches(
            task, mean_there, order, first, recipe.steps, chunk, resident
        ):
            rates = np.array([plateau_scale(recipe, [1 - score for score in h]) for h in history])
            state, losses = update(
                state, shared_there, source, indices, rates.astype(np.float32), key
            )
            if wait:
                losses.block_until_ready()
            step = min(step + chunk, recipe.steps)
            last = step == recipe.steps
            if last or step % runtime.log_every == 0:
                train_losses = np.asarray(losses.addressable_shards[0].data[0]).tolist()
                now = time.perf_counter()
                speed, since = (step - since[1]) * recipe.batch_size / (now - since[0]), (now, step)
                for log, loss, rate in zip(logs, train_losses, rates, strict=False):
                    rate = float(schedule(step - 1)) * float(rate)
                    line = {"loss": loss, "learning_rate": rate, "images_per_second": speed}
                    log.line({"step": step, **line})
                told(step, float(np.mean(train_losses)))
            if last or step % recipe.eval_every == 0:
                evaluations, right = _evaluate(
                    evaluate, state.learned, shared_there, task, mean_there, recipe, resident
                )
                for i, found in enumerate(evaluations):
                    history[i].append(found[objective.measures[0]])
                    if logs:
                        logs[i].line({"step": step, **found})
                if all(int(bad) >= 0 for bad in parallel.unreplicate(state.bad_step)):
                    break
                since = (time.perf_counter(), step)
            if step in kept:
                # Before the checkpoint of this step: a run that resumes from there has them.
                keep_snapshots(parallel.unreplicate(state), step)
            if checkpoints and not last and step % runtime.checkpoint_every == 0:
                place = {"seconds": spent + time.perf_counter() - started}
                place["history"] = [list(h) for h in history]  # it is written while these grow
                checkpoints.save(step, parallel.unreplicate(state)._asdict(), place, logs)
    final = jax.tree.map(np.asarray, parallel.unreplicate(state))
    seconds = (spent + time.perf_counter() - started) / len(frozen)
    results = []
    for i, full in enumerate(whole(final.learned)):
        row = {"steps": int(final.step), "seconds": seconds, "num_eval": len(task.val[0])}
        if (bad := int(final.bad_step[i])) >= 0:
            rate = float(schedule(bad)) * plateau_scale(recipe, [1 - score for score in history[i]])
            row |= {"steps": bad, "error": _diverged(treatments[i], bad, rate)}
        else:
            best = sorted(history[i], reverse=True)[: recipe.best_evals]
            row |= {
                **evaluations[i],
                f"{objective.measures[0]}_best_mean": float(np.mean(best)),
                "train_loss": float(train_losses[i]),
                "images_per_second": recipe.steps * recipe.batch_size / seconds,
            }
            if right:
                row["right"] = right[i]
        if logs:
            row["files"] = logs[i].files()
        results.append((jax.tree.map(np.asarray, full), row))
    return results


def _diverged(treatment: Treatment, step: int, rate: float) -> str:
    return (
        f"cell {treatment}: the loss was not finite at step {step}, learning rate {rate:.4g}; try "
        f"--config.recipe.learning_rate={rate / 10:.2g} or --config.recipe.init=he"
    )


def _evaluate(evaluate, learned, shared, task: Task, mean, recipe: Recipe, resident: bool):
    """The objective's measures of each cell on the validation images, and which were right where
    these are top-1."""
    count, names = len(task.val[0]), (task.objective or CLASSIFICATION).measures
    found = [
        np.asarray(evaluate(learned, shared, source, indices).addressable_shards[0].data[0])
        for source, indices in feed.val_batches(task, mean, recipe.batch_size, resident)
    ]
    found = np.concatenate(found, axis=1)[:, :count]
    means = found.mean(axis=1, dtype=np.float64)
    figures = [dict(zip(names, m.tolist(), strict=True)) for m in means]
    return figures, [of_cell[:, 0] > 0 for of_cell in found] if names[0] == "top1" else []


def evaluate(
    network: Network, recipe: Recipe, params: Any, task: Task, mean: np.ndarray, runtime: Runtime
) -> dict:
    """'top1', 'top5', 'eval_loss' and 'right' of a network on a task's validation images."""
    resident = feed.is_resident(task, runtime.resident_bytes)
    learned, mean = parallel.replicate(((params,), np.asarray(mean, np.float32)))
    function = _eval_fn(network, recipe, (0,), CLASSIFICATION)
    (figures,), (right,) = _evaluate(function, learned, {}, task, mean, recipe, resident)
    return {**figures, "right": right}


def _steps_per_call(runtime, recipe, resident: bool, first: int, kept: set[int]) -> int:
    """Steps in one call: a divisor of every interval, so that calls end where the loop looks.

    XLA:CPU runs convolutions inside a scan ten times slower; elsewhere it hides the dispatch.
    """
    if jax.default_backend() == "cpu" or not resident:
        return 1
    every = (recipe.eval_every, runtime.log_every, runtime.checkpoint_every, recipe.steps)
    common = math.gcd(first, *every, *(step for step in kept if step <= recipe.steps))
    return max(k for k in range(1, 51) if common % k == 0)


# Cells of one network and recipe follow each other: their programs are compiled once.
_update_fn = functools.lru_cache(maxsize=32)(make_update_fn)
_eval_fn = functools.lru_cache(maxsize=32)(make_eval_fn)
