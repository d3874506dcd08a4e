"""What a plan costs: arithmetic on counted operations and on measured or assumed speeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from transfer_jax.grid.cell import Cell
from transfer_jax.grid.plan import Group
from transfer_jax.training.runtime import Runtime

BYTES_PER_WEIGHT = 4
METRICS_LINE_BYTES = 110
"""Of a line of metrics.jsonl, about."""
WAITING_BATCHES = 2
"""Batches that each worker of a loader keeps ready."""
TEN_CROPS = 10


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast one worker trains.

    Attributes:
      flops_per_second: sustained, by `Network.train_flops`'s count of operations.
      worker: what that worker is, for instance '1 x NVIDIA H100'.
      origin: 'measured here' or 'assumed'.
      how: what was run for it, or by whom it was assumed.
      compile_seconds: from the first call of a program to its result.
      utilisation: share of the rate of a large matrix product, or None where none was measured.
    """

    flops_per_second: float
    worker: str
    origin: str
    how: str
    compile_seconds: float = 0.0
    utilisation: float | None = None


@dataclasses.dataclass(frozen=True)
class Decoding:
    """What stored images take.

    Attributes:
      images_per_second: decoded by one CPU core.
      bytes_per_image: mean size of a stored image.
      how: what was decoded.
    """

    images_per_second: float
    bytes_per_image: float
    how: str


@dataclasses.dataclass(frozen=True)
class TaskImages:
    """The images that a group of cells trains on.

    Attributes:
      num_val: validation images of the task.
      shape: (h, w, 3) of every image as it is stored.
      streamed: whether they are decoded as they are needed, rather than kept on the device.
      dataset: identity of the dataset, or of that which the images of a fold are drawn from.
      records: images of that dataset, all splits together.
    """

    num_val: int
    shape: tuple[int, int, int]
    streamed: bool
    dataset: str
    records: int


@dataclasses.dataclass(frozen=True)
class GroupCost:
    """What the training of one group takes on one worker.

    Attributes:
      train_flops: floating-point operations of all training steps, see `Group.train_flops`.
      evaluation_flops: of all evaluations.
      train_images, evaluation_images: that are looked at; cells of a group look at one batch.
      streamed: whether each of them is decoded.
      seconds: of training and evaluation, without compilation.
    """

    train_flops: int
    evaluation_flops: int
    train_images: int
    evaluation_images: int
    streamed: bool
    seconds: float

    @property
    def train_seconds(self) -> float:
        """The part of `seconds` that is training."""
        return self.seconds * self.train_flops / (self.train_flops + self.evaluation_flops)

    @property
    def images_per_second(self) -> float:
        """Training images that a worker consumes while it trains this group."""
        return self.train_images / self.train_seconds


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A part of the plan.

    Attributes:
      name: of the experiment, as in results.csv; a network that several want counts for the first.
      networks: to train.
      flops: of training and evaluation.
    """

    name: str
    networks: int
    flops: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a plan takes; see `cost_of`.

    Attributes:
      networks, groups, programs: to train, that share batches and frozen layers, to compile.
      group_costs: of each group, in the plan's order.
      compile_seconds: of each group: of its program where that comes first, else 0.
      experiments: the same by experiment.
      decoded_images: over the whole grid, evaluations included.
      images_per_second: that one worker consumes while it trains on streamed images, averaged over
        its time; 0 where nothing is streamed.
      most_images_per_second: the same while it trains the group that is hungriest.
      hungriest: position of that group in the plan, or None where nothing is streamed.
      cores, most_cores: CPU cores that decode as many images a second; None where no decoding was
        measured.
      prepared_bytes: stored images of the datasets that are streamed; None like cores.
      weight_bytes: parameters and snapshots in the store; frozen layers lie with their base.
      note_bytes: means, first filters and metrics in the store.
      checkpoint_bytes: of the groups in training, at most.
      host_bytes: that one worker holds in the memory of its host, at most: batches that wait,
        weights, and a checkpoint on its way to disk.
    """

    networks: int
    groups: int
    programs: int
    group_costs: tuple[GroupCost, ...]
    compile_seconds: tuple[float, ...]
    experiments: tuple[Experiment, ...]
    decoded_images: int
    images_per_second: float
    most_images_per_second: float
    hungriest: int | None
    cores: float | None
    most_cores: float | None
    prepared_bytes: int | None
    weight_bytes: int
    note_bytes: int
    checkpoint_bytes: int
    host_bytes: int

    @property
    def train_flops(self) -> int:
        """Floating-point operations of all training steps."""
        return sum(each.train_flops for each in self.group_costs)

    @property
    def evaluation_flops(self) -> int:
        """Floating-point operations of all evaluations."""
        return sum(each.evaluation_flops for each in self.group_costs)

    @property
    def seconds(self) -> float:
        """That one worker needs for everything."""
        return sum(each.seconds for each in self.group_costs) + sum(self.compile_seconds)


def cost_of(
    plan: Sequence[Group],
    images: Mapping[str, TaskImages],
    speed: Speed,
    runtime: Runtime,
    *,
    decoding: Decoding | None = None,
    names: Mapping[str, str] | None = None,
    snapshots: Mapping[str, Sequence[int]] | None = None,
    groups_at_a_time: int = 1,
) -> Cost:
    """What a plan costs.

    Evaluations count as forward passes at the speed of training. A worker is taken to get its
    images in time: `Cost.cores` says what that takes.

    Args:
      plan: from `build_plan`, not empty.
      images: for each group, by its hash.
      speed: of one worker.
      runtime: decides how many checkpoints and snapshots lie on disk.
      decoding: of a stored image; None where nothing is streamed.
      names: 'experiment split' of each cell, by its hash.
      snapshots: hash of a cell -> updates after which its weights are kept, beside the runtime's.
      groups_at_a_time: how many are in training at a time, at most.
    """
    costs = tuple(_group_cost(group, images[group.hash], speed) for group in plan)
    streaming = [place for place, each in enumerate(costs) if each.streamed]
    trained = sum(costs[i].train_images for i in streaming)
    average = trained / sum(costs[i].train_seconds for i in streaming) if streaming else 0.0
    hungriest = max(streaming, key=lambda i: costs[i].images_per_second, default=None)
    most = 0.0 if hungriest is None else costs[hungriest].images_per_second
    rate = decoding.images_per_second if decoding else None
    stored = {each.dataset: each.records for each in images.values() if each.streamed}
    checkpoints = sorted((_checkpoint_bytes(group) for group in plan), reverse=True)
    cells = [cell for group in plan for cell in group.cells]
    return Cost(
        networks=len(cells),
        groups=len(plan),
        programs=len({group.program for group in plan}),
        group_costs=costs,
        compile_seconds=tuple(_compile_seconds(plan, speed)),
        experiments=_experiments(plan, costs, names or {}),
        decoded_images=trained + sum(costs[i].evaluation_images for i in streaming),
        images_per_second=average,
        most_images_per_second=most,
        hungriest=hungriest,
        cores=average / rate if rate else None,
        most_cores=most / rate if rate else None,
        prepared_bytes=round(sum(stored.values()) * decoding.bytes_per_image) if decoding else None,
        weight_bytes=sum(
            stored_bytes(c) * (1 + _num_snapshots(c, runtime, snapshots or {})) for c in cells
        ),
        note_bytes=sum(
            _note_bytes(cell, images[group.hash], runtime) for group in plan for cell in group.cells
        ),
        # The one before the last goes when the new one is complete.
        checkpoint_bytes=sum(checkpoints[:groups_at_a_time]) * (runtime.keep_checkpoints + 1),
        host_bytes=max(_host_bytes(group, images[group.hash], runtime) for group in plan),
    )


def stored_bytes(cell: Cell) -> int:
    """Bytes of the weights that a cell learns; its frozen layers lie with its base."""
    return BYTES_PER_WEIGHT * sum(
        math.prod(shape) + shape[-1]
        for name, shape in cell.network.kernel_shapes.items()
        if name not in cell.treatment.frozen_layers(cell.network)
    )


def evaluation_flops(group: Group, num_val: int) -> int:
    """Floating-point operations of all evaluations of a group: forward passes, of the shared
    layers once, for each crop of each validation image."""
    recipe, frozen = group.cells[0].recipe, group.program.frozen
    forward = [2 * count for count in group.cells[0].network.multiply_adds.values()]
    per_view = sum(sum(forward[n:]) for n in frozen) + sum(forward[: max(frozen)])
    return per_view * (TEN_CROPS if recipe.ten_crop else 1) * num_val * _evaluations(recipe)


def _group_cost(group: Group, images: TaskImages, speed: Speed) -> GroupCost:
    recipe = group.cells[0].recipe
    train, evaluation = group.train_flops, evaluation_flops(group, images.num_val)
    return GroupCost(
        train_flops=train,
        evaluation_flops=evaluation,
        train_images=recipe.steps * recipe.batch_size,
        evaluation_images=images.num_val * _evaluations(recipe),
        streamed=images.streamed,
        seconds=(train + evaluation) / speed.flops_per_second,
    )


def _evaluations(recipe) -> int:
    return math.ceil(recipe.steps / recipe.eval_every)


def _compile_seconds(plan: Sequence[Group], speed: Speed) -> Iterator[float]:
    compiled = set()
    for group in plan:
        yield 0.0 if group.program in compiled else speed.compile_seconds
        compiled.add(group.program)


def _experiments(
    plan: Sequence[Group], costs: Sequence[GroupCost], names: Mapping[str, str]
) -> tuple[Experiment, ...]:
    found: dict[str, tuple[int, int]] = {}
    for group, each in zip(plan, costs, strict=True):
        name = names.get(group.cells[0].hash, group.cells[0].task.name).split(" ")[0]
        networks, flops = found.get(name, (0, 0))
        flops += each.train_flops + each.evaluation_flops
        found[name] = (networks + len(group.cells), flops)
    return tuple(Experiment(name, *totals) for name, totals in found.items())


def _num_snapshots(cell: Cell, runtime: Runtime, snapshots: Mapping[str, Sequence[int]]) -> int:
    wanted = {*runtime.snapshot_steps, *snapshots.get(cell.hash, ())}
    return sum(step <= cell.recipe.steps for step in wanted)


def _note_bytes(cell: Cell, images: TaskImages, runtime: Runtime) -> int:
    recipe = cell.recipe
    lines = recipe.steps // runtime.log_every + _evaluations(recipe)
    mean = math.prod(images.shape) if recipe.mean == "image" else 3
    first = math.prod(next(iter(cell.network.kernel_shapes.values())))
    return METRICS_LINE_BYTES * lines + BYTES_PER_WEIGHT * (mean + first)


def _checkpoint_bytes(group: Group) -> int:
    # The weights that learn and what the optimiser remembers of each: a momentum, or two moments.
    copies = 3 if group.cells[0].recipe.solver == "adamw" else 2
    return copies * sum(map(stored_bytes, group.cells))


def _host_bytes(group: Group, images: TaskImages, runtime: Runtime) -> int:
    cell, bases = group.cells[0], len(group.depends_on)
    weights = (len(group.cells) + bases) * BYTES_PER_WEIGHT * cell.network.num_params
    batch = cell.recipe.batch_size * math.prod(images.shape)
    waiting = WAITING_BATCHES * max(1, runtime.workers) + 1 if images.streamed else 0
    resident = 0 if images.streamed else images.records * math.prod(images.shape)
    return weights + _checkpoint_bytes(group) + waiting * batch + resident
