"""The frozen cells A1B, A2B, ... of one base: trained together against one by one."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import jax
import numpy as np

from transfer_jax.bench.step import noise, recipe_for, whole_calls
from transfer_jax.bench.timing import interleave, table
from transfer_jax.grid.cost import step_loop
from transfer_jax.networks import Network
from transfer_jax.training.step import group_flops
from transfer_jax.transfer import Treatment

ALONE, TOGETHER = "one by one", "together"


def run(options: argparse.Namespace) -> tuple[str, list[str]]:
    """The page's text; nothing else that its reader must know."""
    sections = [f"# Frozen cells of {options.network.name}, {options.precision}"]
    for batch_size in options.batch:
        seconds = measure(
            options.network, batch_size, options.precision, options.rounds, options.steps
        )
        sections.append(section(options.network, batch_size, seconds))
    return "\n\n".join(sections), []


def measure(
    network: Network, batch_size: int, precision: str, rounds: int, steps: int | None
) -> dict[str, np.ndarray]:
    """Seconds a step, (rounds,), of each cell alone and, under TOGETHER, of all in one step."""
    recipe, data = recipe_for(network, batch_size, precision), noise(network, batch_size)
    base, ns = network.init(jax.random.key(0)), range(1, len(network.layers))
    params = {n: Treatment("B", "A", n).init_params(network, jax.random.key(n), base) for n in ns}
    loops = {f"A{n}B": step_loop(network, recipe, (n,), (params[n],), data) for n in ns}
    loops[TOGETHER] = step_loop(network, recipe, tuple(ns), tuple(params.values()), data)
    return interleave(loops, rounds, whole_calls(steps))


def section(network: Network, batch_size: int, seconds: Mapping[str, np.ndarray]) -> str:
    """The measurements of one batch size: every cell, their sum, and all of them together."""
    cells, ns = [name for name in seconds if name != TOGETHER], range(1, len(network.layers))
    flops = {name: group_flops(network, (n,)) for name, n in zip(cells, ns, strict=True)}
    flops |= {ALONE: sum(flops.values()), TOGETHER: group_flops(network, tuple(ns))}
    seconds = {**seconds, ALONE: sum(seconds[name] for name in cells)}
    rows = [
        [
            name,
            f"{1e3 * np.min(seconds[name]):.2f}",
            f"{1e3 * np.median(seconds[name]):.2f}",
            f"{flops[name] * batch_size / 1e9:.3f}",
        ]
        for name in (*cells, ALONE, TOGETHER)
    ]
    fastest, median = (f(seconds[TOGETHER]) / f(seconds[ALONE]) for f in (np.min, np.median))
    return (
        f"## Batch {batch_size}\n\n"
        f"{table(['trained', 'ms a step, fastest', 'median', 'GFLOP a step'], rows)}\n\n"
        f"{TOGETHER} / {ALONE}: {fastest:.2f} (fastest rounds), {median:.2f} (median); by their "
        f"operations {flops[TOGETHER] / flops[ALONE]:.2f}."
    )
