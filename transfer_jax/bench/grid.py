"""Time of cells trained together against the same cells trained one by one."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Sequence

import jax

from transfer_jax.bench import options as common
from transfer_jax.bench import trained
from transfer_jax.bench.page import table
from transfer_jax.bench.timing import STATISTICS, Timing, interleave
from transfer_jax.bench.training import (
    SyntheticData,
    TrainLoop,
    default_steps_per_call,
    recipe_for,
    train_loop,
)
from transfer_jax.data.tasks import Task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.plan import Group, build_plan
from transfer_jax.networks import Network
from transfer_jax.training.recipe import Recipe
from transfer_jax.transfer import Treatment

TARGET = 0.7


@dataclasses.dataclass(frozen=True)
class GroupResult:
    """One compiled group.

    Attributes:
      name: its cells' names.
      num_frozen: most frozen layers of a cell.
      timing: seconds a step of the whole group.
      compile_seconds: from Python to the executable.
      xla_flops: of a step over all devices, by XLA.
      counted_flops: of a step over all devices, by the network's own count.
    """

    name: str
    num_frozen: int
    timing: Timing
    compile_seconds: float
    xla_flops: float
    counted_flops: float


@dataclasses.dataclass(frozen=True)
class GridResult:
    """Cells alone, and together.

    Attributes:
      batch_size: images a step, over all devices.
      base: the cell without frozen layers, for comparison; no part of the sums.
      alone: the frozen cells, each a group of one.
      together: the same cells as one group.
    """

    batch_size: int
    base: GroupResult
    alone: tuple[GroupResult, ...]
    together: GroupResult

    def alone_seconds(self, statistic: str) -> float:
        """Sum over the cells alone of their 'minimum' or 'median' seconds a step."""
        return sum(getattr(cell.timing, statistic) for cell in self.alone)

    def ratio(self, statistic: str) -> float:
        """Time together divided by time alone; below 1 is a gain."""
        return getattr(self.together.timing, statistic) / self.alone_seconds(statistic)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `python -m transfer_jax.bench grid`."""
    common.add_network(parser)
    common.add_batches(parser, 64)
    common.add_rounds(parser)
    parser.add_argument(
        "--cells",
        type=common.positive,
        nargs="+",
        default=[2, 4, 8],
        help="cells without frozen layers side by side",
    )


def run(options: argparse.Namespace) -> str:
    """The benchmark's page."""
    how = {**common.rounds(options), "dtype": options.dtype}
    network, sections = options.network, []
    for batch in options.batch:
        frozen = measure(network, batch, **how)
        learning = trained.measure(network, batch, options.cells, **how)
        sections.append((frozen, learning))
    return f"{report(network, sections, options.dtype)}\n\n{common.describe_rounds(options)}"


def frozen_cells(network: Network, recipe: Recipe) -> tuple[Cell, list[Cell]]:
    """The base of task A, and A1B, A2B, ... up to all layers but the last."""
    classes = tuple(range(network.num_classes))
    tasks = {name: Task(name, f"synthetic {name}", classes) for name in "AB"}
    base = Cell(network, tasks["A"], Treatment.parse("baseA"), recipe, 0)
    names = [f"A{n}B" for n in range(1, len(network.layers))]
    cells = [Cell(network, tasks["B"], Treatment.parse(n), recipe, 0, base) for n in names]
    return base, cells


def measure(
    network: Network,
    batch_size: int,
    *,
    repeats: int,
    steps: int,
    steps_per_call: int = 0,
    dtype: str = "float32",
) -> GridResult:
    """Times a step of the frozen cells of one base, all together by turns with each alone.

    Args:
      network: with at least two layers.
      batch_size: images a step, over all devices.
      repeats: rounds of all contenders.
      steps: steps of each contender in a round.
      steps_per_call: steps compiled into one call; 0 does as the trainer does.
      dtype: of activations and products.
    """
    recipe = recipe_for(network, batch_size, dtype)
    data = SyntheticData.draw(network, batch_size)
    base, cells = frozen_cells(network, recipe)
    base_params = network.init(jax.random.key(base.init_seed))
    chunk = steps_per_call or default_steps_per_call()
    (together,) = build_plan(cells, finished={base.hash}, largest_group=len(cells))
    groups = [Group((base,)), *(Group((cell,)) for cell in cells), together]
    loops: dict[str, TrainLoop] = {}
    for group in groups:
        params = [
            cell.treatment.initial_params(network, jax.random.key(cell.init_seed), base_params)
            for cell in group.cells
        ]
        loops[_name(group)] = train_loop(group.program, params, data, steps_per_call=chunk)
    contenders = {name: loop.run for name, loop in loops.items()}
    timings = interleave(contenders, repeats=repeats, steps=-(-steps // chunk))
    first, *singles, last = [
        GroupResult(
            _name(group),
            group.program.num_shared,
            Timing(tuple(s / chunk for s in timings[_name(group)].seconds)),
            loops[_name(group)].compile_seconds,
            loops[_name(group)].flops,
            group.train_flops / recipe.steps,
        )
        for group in groups
    ]
    return GridResult(batch_size, first, tuple(singles), last)


def report(
    network: Network,
    results: Sequence[tuple[GridResult, Sequence[trained.SideBySide]]],
    dtype: str = "float32",
) -> str:
    """The measurements, frozen cells and learning ones for each batch size, as Markdown."""
    lines = [
        f"# Cells of {network.name}, together and alone",
        "",
        f"Synthetic uint8 images of {network.input_size} pixels, resident on the device; {dtype}. "
        "XLA counts the operations of the optimised program; the other count is two for each "
        "multiply-add of the layers.",
    ]
    for frozen, learning in results:
        lines += ["", f"## Batch {frozen.batch_size}", "", *_section(frozen), ""]
        lines += trained.section(learning)
    return "\n".join(lines)


def _section(result: GridResult) -> list[str]:
    sums = [
        f"sum of {len(result.alone)} alone",
        "",
        *(f"{1e3 * result.alone_seconds(s):.1f}" for s in STATISTICS),
        *(
            f"{sum(getattr(cell, field) for cell in result.alone) / scale:.{digits}f}"
            for field, scale, digits in _COLUMNS
        ),
    ]
    rows = [_row(cell) for cell in (result.base, *result.alone)]
    rows += [sums, _row(result.together)]
    header = [
        "trained",
        "n",
        "ms a step, fastest",
        "median",
        "compilation, s",
        "XLA GFLOP a step",
        "counted GFLOP",
    ]
    minimum, median = (result.ratio(s) for s in STATISTICS)
    verdict = "met" if minimum <= TARGET else "missed"
    return [
        table(header, rows),
        "",
        f"together / alone: {minimum:.2f} (fastest), {median:.2f} (median); at most {TARGET} "
        f"wanted: {verdict}.",
        _flops_line(result),
    ]


_COLUMNS = (("compile_seconds", 1, 1), ("xla_flops", 1e9, 3), ("counted_flops", 1e9, 3))


def _row(group: GroupResult) -> list[str]:
    return [
        group.name,
        str(group.num_frozen),
        *(f"{1e3 * getattr(group.timing, s):.1f}" for s in STATISTICS),
        *(f"{getattr(group, field) / scale:.{digits}f}" for field, scale, digits in _COLUMNS),
    ]


def _flops_line(result: GridResult) -> str:
    flops = [cell.xla_flops for cell in (result.base, *result.alone)]
    falls = all(a > b for a, b in itertools.pairwise(flops))
    verdict = "falls with every frozen layer" if falls else "does not fall with every frozen layer"
    shares = ", ".join(f"{flop / flops[0]:.2f}" for flop in flops)
    return f"The step's cost by XLA {verdict}; relative to n = 0: {shares}."


def _name(group: Group) -> str:
    names: Sequence[str] = [cell.name for cell in group.cells]
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} together"
