"""How the time of a train step grows: with cells side by side, image size, width and classes."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from transfer_jax.bench import options as common
from transfer_jax.bench.page import table
from transfer_jax.bench.timing import Timing, interleave
from transfer_jax.bench.training import SyntheticData, recipe_for, train_loop
from transfer_jax.networks import Network, build
from transfer_jax.report import figures
from transfer_jax.training.step import Program

CELLS, SIZE, WIDTH, CLASSES = "cells side by side", "image side (pixels)", "width", "classes"
LEARNING, FROZEN = "all layers learn", "A1B, A2B, ... share a frozen pass"
NETWORK = "network"


@dataclasses.dataclass(frozen=True)
class Point:
    """One measured train step.

    Attributes:
      axis: what is varied, one of CELLS, SIZE, WIDTH and CLASSES.
      series: which curve of that axis.
      value: its value.
      program: what was compiled.
      timing: seconds a step; None until it is measured.
    """

    axis: str
    series: str
    value: float
    program: Program
    timing: Timing | None = None

    @property
    def flops(self) -> int:
        """Counted operations of a step."""
        return self.program.train_flops * self.program.recipe.batch_size


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `python -m transfer_jax.bench growth`."""
    parser.add_argument("--batch", type=common.positive, default=32, help="images a step")
    parser.add_argument("--repeats", type=common.positive, default=4, help="rounds")
    parser.add_argument("--steps", type=common.positive, default=2, help="steps in a round")
    for name, values, kind, what in (
        ("cells", (1, 2, 4, 7), common.positive, "numbers of cells side by side"),
        ("sizes", (32, 48, 64, 96), common.positive, "image sides in pixels"),
        ("widths", (0.5, 1.0, 2.0), float, "factors of all widths"),
        ("classes", (10, 100, 1000, 10000), common.positive, "numbers of classes"),
    ):
        parser.add_argument(f"--{name}", type=kind, nargs="+", default=list(values), help=what)


def run(options: argparse.Namespace) -> str:
    """The benchmark's page; its plot is written beside it."""
    points = measure(
        plan(
            options.batch,
            cells=options.cells,
            sizes=options.sizes,
            widths=options.widths,
            classes=options.classes,
        ),
        repeats=options.repeats,
        steps=options.steps,
    )
    picture = None
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        picture = draw(points, options.batch, options.output.with_suffix(".png"))
    return f"{report(points, options.batch, picture)}\n\n{common.describe_rounds(options)}"


def plan(
    batch_size: int,
    *,
    cells: Sequence[int],
    sizes: Sequence[int],
    widths: Sequence[float],
    classes: Sequence[int],
) -> list[Point]:
    """The points to measure, not measured yet: one thing varies, the rest is `alexnet_mini`'s.

    Args:
      batch_size: images a step.
      cells: numbers of cells; those with frozen layers stop at depth 7.
      sizes: image sides in pixels.
      widths: factors of the widths of conv1 .. fc7, rounded to multiples of 4.
      classes: numbers of classes.

    Raises:
      ValueError: for a factor that leaves a layer no unit, or an image that is too small.
    """

    def point(axis, series, value, network: Network, frozen=(0,)):
        return Point(axis, series, value, Program(network, recipe_for(network, batch_size), frozen))

    base = build("alexnet_mini")
    depths = tuple(range(1, len(base.layers)))
    learning = [point(CELLS, LEARNING, n, base, (0,) * n) for n in cells]
    frozen = [point(CELLS, FROZEN, n, base, depths[:n]) for n in cells if n <= len(depths)]
    by_size = [point(SIZE, NETWORK, size, build("alexnet_mini", input_size=size)) for size in sizes]
    by_width = [point(WIDTH, NETWORK, factor, _scaled(base, factor)) for factor in widths]
    by_class = [point(CLASSES, NETWORK, n, build("alexnet_mini", num_classes=n)) for n in classes]
    return [*learning, *frozen, *by_size, *by_width, *by_class]


def _scaled(network: Network, factor: float) -> Network:
    widths = {layer.name: 4 * round(factor * layer.features / 4) for layer in network.layers[:-1]}
    return build("alexnet_mini", widths=widths)


def measure(points: Sequence[Point], *, repeats: int, steps: int) -> list[Point]:
    """The points with their timings; all take turns, so that they meet the same machine.

    Args:
      points: from `plan`; equal programs are measured once.
      repeats: rounds of all points.
      steps: steps of each in a round.
    """
    loops = {}
    for point in points:
        program = point.program
        if program not in loops:
            base = program.network.init(jax.random.key(0))
            data = SyntheticData.draw(program.network, program.recipe.batch_size)
            loops[program] = train_loop(program, (base,) * len(program.frozen), data).run
    names = {program: str(number) for number, program in enumerate(loops)}
    contenders = {names[program]: run for program, run in loops.items()}
    timings = interleave(contenders, repeats=repeats, steps=steps)
    return [dataclasses.replace(point, timing=timings[names[point.program]]) for point in points]


def series(points: Sequence[Point], axis: str) -> Mapping[str, list[Point]]:
    """The curves of one axis, each in ascending order."""
    found: dict[str, list[Point]] = {}
    for point in sorted((p for p in points if p.axis == axis), key=lambda p: p.value):
        found.setdefault(point.series, []).append(point)
    return found


def report(points: Sequence[Point], batch_size: int, picture: Path | None = None) -> str:
    """The measurements as Markdown.

    Args:
      points: measured.
      batch_size: images a step.
      picture: of `draw`, beside the page.
    """
    header = ["varied", "value", "ms a step, fastest", "median", "GFLOP a step", "exponent"]
    rows = []
    for axis in (CELLS, SIZE, WIDTH, CLASSES):
        for name, curve in series(points, axis).items():
            label = axis if name == NETWORK else f"{axis}, {name}"
            for before, point in itertools.zip_longest([None, *curve[:-1]], curve):
                rows.append(
                    [
                        label,
                        f"{point.value:g}",
                        f"{1e3 * point.timing.minimum:.1f}",
                        f"{1e3 * point.timing.median:.1f}",
                        f"{point.flops / 1e9:.2f}",
                        "" if before is None else f"{exponent(before, point):.2f}",
                    ]
                )
    lines = [
        "# How the time of a train step grows",
        "",
        f"alexnet_mini at batch {batch_size}, 32 pixels, 100 classes and width 1, unless varied. "
        "The exponent p says that time grew as value to the power p since the row above, by the "
        "fastest rounds. Operations are counted, two for each multiply-add; what a group shares "
        "counts once.",
        "",
        table(header, rows),
    ]
    if picture is not None:
        lines += ["", f"![Time of a train step by cells, size, width and classes]({picture.name})"]
    return "\n".join(lines)


def exponent(before: Point, point: Point) -> float:
    """p of time ~ value ** p between two points, by their fastest rounds."""
    times = math.log(point.timing.minimum / before.timing.minimum)
    return times / math.log(point.value / before.value)


def draw(points: Sequence[Point], batch_size: int, path: Path) -> Path:
    """Draws the four panels, log-log, with the slope of proportional growth for comparison.

    Args:
      points: measured.
      batch_size: images a step.
      path: PNG to write.
    """
    colours = [figures.COLOURS[name] for name in ("blue", "vermilion")]
    with figures.style():
        figure = figures.new_figure(9.6, 7.2)
        for axes, axis in zip(
            figure.subplots(2, 2).flat, (CELLS, SIZE, WIDTH, CLASSES), strict=True
        ):
            curves = series(points, axis)
            for (name, curve), colour, marker in zip(curves.items(), colours, "os", strict=False):
                values = [point.value for point in curve]
                times = [1e3 * point.timing.minimum for point in curve]
                axes.plot(values, times, marker=marker, color=colour, label=name)
            every = [point for curve in curves.values() for point in curve]
            if not every:
                figures.not_run(axes)
                continue
            first = min(every, key=lambda point: point.value)
            last = max(point.value for point in every)
            start = 1e3 * first.timing.minimum
            grey = {"color": figures.COLOURS["grey"], "linestyle": (0, (4, 3)), "linewidth": 1.2}
            if len(every) > 1 and axis != CLASSES:
                ends = [start, start * last / first.value]
                axes.plot([first.value, last], ends, label="proportional", zorder=1, **grey)
            axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="time of a step (ms)")
            axes.set_title(_TITLES[axis])
            _plain_ticks(axes, sorted({point.value for point in every}))
            axes.legend() if len(curves) > 1 or axis == SIZE else None
        figure.suptitle(
            f"alexnet_mini, batch {batch_size}, {jax.local_devices()[0].device_kind}", fontsize=11
        )
        return figures.save(figure, path)


_TITLES = {CELLS: "Cells", SIZE: "Image size", WIDTH: "Width", CLASSES: "Classes"}


def _plain_ticks(axes, values: Sequence[float]) -> None:
    """Ticks at the measured values, and plain numbers instead of powers of ten."""
    axes.set_xticks(values, [f"{value:,g}" for value in values], minor=False)
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()
    steps = [m * 10**e for e in range(-2, 6) for m in (1, 2, 5)]
    # From a tick to a tick, so that there are two at least.
    low = max(step for step in steps if step <= max(low, steps[0]))
    high = min(step for step in steps if step >= min(high, steps[-1]))
    axes.set_ylim(low, high)
    axes.set_yticks([step for step in steps if low <= step <= high])
    axes.set_yticks([], minor=True)
