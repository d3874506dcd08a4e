"""What a plan will come to before it is run: its cost and its schedule, as text and as a page."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence

from transfer_jax.grid.cost import Cost, Decoding, Speed, TaskImages, cost_of
from transfer_jax.grid.estimate import assumed, measure, measure_decoding, task_images
from transfer_jax.grid.plan import Group
from transfer_jax.grid.schedule import Turn, schedule
from transfer_jax.grid.supply import DataSupply
from transfer_jax.training.runtime import Runtime

LISTED_TURNS = 12
"""A schedule of at most this many groups is listed whole."""


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A plan with its cost and the numbers that this was reckoned from.

    Attributes:
      plan: from `build_plan`.
      names: 'experiment split' of each cell, by its hash.
      cost: what it takes.
      speed: of one worker.
      decoding: of stored images; None where nothing is streamed.
      images: of each group, by its hash.
      turns: which workers train which group when.
      workers: how many there are.
      remarks: what a reader must know of the data, a sentence each.
    """

    plan: tuple[Group, ...]
    names: Mapping[str, str]
    cost: Cost
    speed: Speed
    decoding: Decoding | None
    images: Mapping[str, TaskImages]
    turns: tuple[Turn, ...]
    workers: int
    remarks: tuple[str, ...] = ()

    @property
    def makespan(self) -> float:
        """Seconds until the last worker is done."""
        return max(turn.end for turn in self.turns)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the cost: what it is about, its value, and where that comes from."""

    title: str
    value: str
    origin: str


def forecast(
    plan: Sequence[Group],
    supply: DataSupply,
    runtime: Runtime,
    names: Mapping[str, str] | None = None,
    *,
    snapshots: Mapping[str, Sequence[int]] | None = None,
    assumed_tflops: float | None = None,
    workers: int = 1,
    width: Callable[[Group], int] = lambda group: 1,
    remarks: Sequence[str] = (),
) -> Forecast:
    """Reckons what a plan will cost, from a short measurement.

    Args:
      plan: from `build_plan`, not empty.
      supply: knows each cell's dataset; no image is read.
      runtime: decides how many checkpoints and snapshots lie on disk.
      names: what to call the cells, by their hash, see `run.labels`.
      snapshots: hash of a cell -> updates after which its weights are kept.
      assumed_tflops: the speed that one worker sustains, in 10**12 operations a second. Nothing is
        trained or compiled then. None measures this machine.
      workers: how many of them share the groups: accelerators, or what else the speed is of.
      width: how many of them train a group together.
      remarks: what a reader must know of the data, a sentence each.

    Raises:
      ValueError: when the supply cannot serve a cell, or a number is out of range.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}: expected at least 1")
    images = task_images(plan, supply)
    first = images[plan[0].hash]
    if assumed_tflops is None:
        speed = measure(plan[0], first.shape)
    else:
        speed = assumed(assumed_tflops)
    streamed = [each for each in images.values() if each.streamed]
    decoding = measure_decoding(max(each.shape[0] for each in streamed)) if streamed else None
    cost = cost_of(
        plan,
        images,
        speed,
        runtime,
        decoding=decoding,
        names=names,
        snapshots=snapshots,
        groups_at_a_time=workers // min(map(width, plan)),
    )
    seconds = [
        each.seconds / width(group) + compilation
        for group, each, compilation in zip(
            plan, cost.group_costs, cost.compile_seconds, strict=True
        )
    ]
    turns = tuple(schedule(plan, seconds, workers, width))
    return Forecast(
        tuple(plan), names or {}, cost, speed, decoding, images, turns, workers, tuple(remarks)
    )


def text_of(forecast: Forecast, whole_schedule: bool = False) -> str:
    """A forecast as text: the groups, what they depend on and share, the cost, the schedule.

    Of each network the weights and the operations of one training step for one image are listed.

    Args:
      forecast: of the plan.
      whole_schedule: whether all groups of a long schedule are listed, not only the first and last.
    """
    width = max(4, *(len(_name(forecast, group)) for group in forecast.plan))
    lines = [
        f"{'group':<18} {'of':<{width}} {'needs':<8} {'shares':<26} {'params':>11} "
        f"{'GFLOP/image':>11} {'TFLOP':>10} {'minutes':>8}"
    ]
    seconds = {turn.group.hash: turn.end - turn.start for turn in forecast.turns}
    for group in forecast.plan:
        of = f"{_name(forecast, group):<{width}}"
        lines.append(_describe_group(group, seconds[group.hash], of))
    lines.append("")
    for row in rows(forecast):
        lines.append(f"{row.title:<19} {row.value}  [{row.origin}]")
    lines += ["", *schedule_lines(forecast, whole_schedule)]
    lines += [f"note: {remark}" for remark in forecast.remarks]
    return "\n".join(lines)


def rows(forecast: Forecast) -> list[Row]:
    """The cost, line by line, each with where its number comes from."""
    cost, speed = forecast.cost, forecast.speed
    total = cost.train_flops + cost.evaluation_flops
    hours = cost.seconds / 3600
    programs = f"{cost.programs} program{'s' if cost.programs != 1 else ''} to compile"
    found = [
        Row("cells to train", f"{cost.networks} in {cost.groups} groups, {programs}", "counted"),
        Row("training", f"{cost.train_flops / 1e12:,.1f} TFLOP", "counted"),
        Row("evaluation", f"{cost.evaluation_flops / 1e12:,.1f} TFLOP", "counted"),
    ]
    found += [
        Row(
            f"  {each.name}",
            f"{each.networks} networks, {each.flops / 1e12:,.1f} TFLOP ({each.flops / total:.1%})",
            "counted",
        )
        for each in cost.experiments
    ]
    utilisation = ""
    if speed.utilisation is not None:
        utilisation = f", {speed.utilisation:.0%} of a large matrix product's rate"
    compilation = f"; compilation {speed.compile_seconds:.1f} s" if speed.compile_seconds else ""
    found += [
        Row(
            f"{speed.origin.split(' ')[0]} speed",
            f"{_rate(speed.flops_per_second)} of {speed.worker}, {speed.how}"
            f"{utilisation}{compilation}",
            speed.origin,
        ),
        Row("one worker's time", f"{hours:,.1f} hours of {speed.worker}", "FLOPs / speed"),
        *_image_rows(forecast),
        Row(
            "disk",
            f"{(cost.weight_bytes + cost.note_bytes) / 2**20:,.0f} MiB of results "
            f"({cost.weight_bytes / 2**20:,.0f} of weights, frozen layers once), and up to "
            f"{cost.checkpoint_bytes / 2**20:,.0f} MiB of checkpoints at a time",
            "counted",
        ),
        Row("host memory", f"{_bytes(cost.host_bytes)} a worker, beside the program", "counted"),
        Row(
            "estimated time",
            f"{duration(forecast.makespan)} with {_workers(forecast.workers)}",
            "schedule",
        ),
    ]
    return found


def schedule_lines(forecast: Forecast, whole: bool = False) -> list[str]:
    """The schedule: what each worker does, and the groups in turn: all of them where they are few
    or the whole is wanted, else the first and last."""
    busy = [0.0] * forecast.workers
    counts = [0] * forecast.workers
    for turn in forecast.turns:
        for worker in turn.workers:
            busy[worker] += turn.end - turn.start
            counts[worker] += 1
    used = sum(busy) / (forecast.makespan * forecast.workers)
    lines = [f"schedule of {_workers(forecast.workers)}: {used:.0%} of their time is used"]
    for worker, (seconds, count) in enumerate(zip(busy, counts, strict=True)):
        lines.append(f"  worker {worker:<3} {count:>4} groups {duration(seconds):>18}")
    turns = sorted(forecast.turns, key=lambda turn: (turn.start, turn.workers))
    half = LISTED_TURNS // 2
    shown = turns if whole or len(turns) <= LISTED_TURNS else [*turns[:half], None, *turns[-half:]]
    for turn in shown:
        if turn is None:
            lines.append(f"  ... {len(turns) - 2 * half} more groups ...")
            continue
        first, last = turn.workers[0], turn.workers[-1]
        by = f"worker {first}" if first == last else f"workers {first}..{last}"
        lines.append(
            f"  {duration(turn.start):>14} to {duration(turn.end):>14}  {by:<13} "
            f"{cells_of(turn.group)} ({_name(forecast, turn.group)})"
        )
    return lines


def cells_of(group: Group) -> str:
    """A group by its cells: 'A1B..A7B'."""
    cells = group.cells
    return cells[0].name if len(cells) == 1 else f"{cells[0].name}..{cells[-1].name}"


def duration(seconds: float) -> str:
    """A time in minutes, hours or days."""
    if seconds < 2 * 3600:
        return f"{seconds / 60:.1f} minutes"
    hours = seconds / 3600
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"


def _image_rows(forecast: Forecast) -> list[Row]:
    cost, decoding = forecast.cost, forecast.decoding
    if decoding is None:
        kept = "kept on the device, decoded once"
        return [Row("images", kept, "by their size")]
    hungriest = forecast.plan[cost.hungriest]
    most = f"{cells_of(hungriest)} ({_name(forecast, hungriest)})"
    datasets = {each.dataset: each.records for each in forecast.images.values() if each.streamed}
    count, each = sum(datasets.values()), decoding.bytes_per_image / 1000
    return [
        Row(
            "images",
            f"{cost.decoded_images:,} decoded in all; a worker consumes "
            f"{cost.images_per_second:,.0f} a second in training on average, and up to "
            f"{cost.most_images_per_second:,.0f} with {most}",
            "speed / FLOPs per image",
        ),
        Row(
            "decoding",
            f"{decoding.images_per_second:,.0f} images/s on one CPU core: {decoding.how}",
            "measured here",
        ),
        Row(
            "CPU cores",
            f"{cost.cores:,.1f} for each worker on average, {math.ceil(cost.most_cores):,} at "
            f"most; this machine has {os.cpu_count()}",
            "images/s / decoding",
        ),
        Row(
            "prepared images",
            f"{_bytes(cost.prepared_bytes)}: {count:,} images of {', '.join(sorted(datasets))}, "
            f"{each:.1f} kB each",
            "counted x measured here",
        ),
    ]


def _describe_group(group: Group, seconds: float, of: str) -> str:
    cells, deepest = group.cells, group.program.num_shared
    needs = ", ".join(sorted(cell.name for cell in group.depends_on)) or "-"
    network = cells[0].network
    shares = "-"
    if len(cells) > 1 and deepest:
        names = network.layer_names
        shares = f"forward of {names[0]}..{names[deepest - 1]}"
    elif len(cells) > 1:
        shares = "batches"
    per_image = network.train_flops(group.program.frozen[0]) / 1e9
    return (
        f"{cells_of(group):<18} {of} {needs:<8} {shares:<26} {network.num_params:>11,} "
        f"{per_image:>11.4f} {group.train_flops / 1e12:>10,.2f} {seconds / 60:>8.1f}"
    )


def _name(forecast: Forecast, group: Group) -> str:
    return forecast.names.get(group.cells[0].hash, group.cells[0].task.name)


def _rate(flops_per_second: float) -> str:
    if flops_per_second >= 1e12:
        return f"{flops_per_second / 1e12:,.1f} TFLOP/s"
    return f"{flops_per_second / 1e9:,.1f} GFLOP/s"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _bytes(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"
