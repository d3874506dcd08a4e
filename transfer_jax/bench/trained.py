"""Time of cells without frozen layers side by side against one alone, unrolled and vmapped."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax

from transfer_jax.bench.page import table
from transfer_jax.bench.timing import STATISTICS, Timing, interleave
from transfer_jax.bench.training import (
    SyntheticData,
    default_steps_per_call,
    recipe_for,
    train_loop,
)
from transfer_jax.networks import Network
from transfer_jax.training.step import FORMS, Program


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """Some cells in one step.

    Attributes:
      cells: how many.
      form: 'unroll' or 'vmap'; 'alone' for one cell.
      timing: seconds a step of all of them.
      compile_seconds: from Python to the executable.
    """

    cells: int
    form: str
    timing: Timing
    compile_seconds: float

    def per_cell(self, statistic: str) -> float:
        """Seconds a step and cell."""
        return getattr(self.timing, statistic) / self.cells


def measure(
    network: Network,
    batch_size: int,
    counts: Sequence[int],
    *,
    repeats: int,
    steps: int,
    steps_per_call: int = 0,
    dtype: str = "float32",
) -> list[SideBySide]:
    """Times one cell alone by turns with groups of cells that see the same batches.

    Args:
      network: what each cell trains, all of its layers.
      batch_size: images a step, over all devices.
      counts: how many cells side by side; each is timed in both forms.
      repeats, steps, steps_per_call: as in `grid.measure`.
      dtype: of activations and products.

    Returns:
      the cell alone, then the groups.
    """
    recipe = recipe_for(network, batch_size, dtype)
    data = SyntheticData.draw(network, batch_size)
    chunk = steps_per_call or default_steps_per_call()
    plans = [(1, "alone"), *((count, form) for count in counts for form in FORMS)]
    loops = {}
    for count, form in plans:
        params = [network.init(jax.random.key(i)) for i in range(count)]
        loops[count, form] = train_loop(
            Program(network, recipe, (0,) * count),
            params,
            data,
            steps_per_call=chunk,
            side_by_side="unroll" if form == "alone" else form,
        )
    contenders = {f"{count} {form}": loop.run for (count, form), loop in loops.items()}
    timings = interleave(contenders, repeats=repeats, steps=-(-steps // chunk))
    return [
        SideBySide(
            count,
            form,
            Timing(tuple(s / chunk for s in timings[f"{count} {form}"].seconds)),
            loop.compile_seconds,
        )
        for (count, form), loop in loops.items()
    ]


def section(results: Sequence[SideBySide]) -> list[str]:
    """The measurements as lines of Markdown."""
    alone, *groups = results
    header = [
        "cells that learn everything",
        "form",
        "ms a step and cell, fastest",
        "median",
        "together / alone, fastest",
        "median",
        "compilation, s",
        "steps that pay for it",
    ]
    rows = [_row(each, alone) for each in results]
    best = min(groups, key=lambda each: each.per_cell("minimum"))
    share = best.per_cell("minimum") / alone.per_cell("minimum")
    return [
        table(header, rows),
        "",
        f"Best together: {best.cells} cells, {best.form}, {share:.2f} of the time alone.",
    ]


def _row(each: SideBySide, alone: SideBySide) -> list[str]:
    gain = each.cells * (alone.per_cell("minimum") - each.per_cell("minimum"))
    pays = f"{math.ceil(each.compile_seconds / gain):,}" if gain > 0 else "never"
    ratios = [f"{each.per_cell(s) / alone.per_cell(s):.2f}" for s in STATISTICS]
    return [
        str(each.cells),
        each.form,
        *(f"{1e3 * each.per_cell(s):.1f}" for s in STATISTICS),
        *(["", ""] if each is alone else ratios),
        f"{each.compile_seconds:.1f}",
        "" if each is alone else pays,
    ]
