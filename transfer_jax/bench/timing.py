"""Rivals timed by turns, the device's own best speed, and how a page shows both.

A machine that others use, or that heats up, is not equally fast from one minute to the next. Rivals
therefore take turns in every round, and are compared by their fastest round (what the code can do)
and by their median round (what it did).
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from transfer_jax.training.step import MATMUL

SIZES, LARGE_SIZES = {"cpu": (1024, 2048)}, (4096, 8192, 16384)  # the others are of accelerators
BUSY = 0.5
"""Load average before the start above which times on a CPU say nothing: PyTorch's threads wait for
each other at every operation, and a step of 8 ms was seen to take 1,348 beside other work."""


def interleave(
    rivals: Mapping[str, Callable[[int], object]], rounds: int, steps: int
) -> dict[str, np.ndarray]:
    """Times rivals by turns, in an order that turns around from round to round.

    Args:
      rivals: name -> run(steps), which returns when the work of that many steps is done. Each runs
        one round unmeasured, in which it may compile.
      rounds: how often each of them runs.
      steps: in one round.

    Returns:
      name -> seconds a step, (rounds,).
    """
    for run in rivals.values():
        run(steps)
    seconds, order = {name: [] for name in rivals}, list(rivals)
    for _ in tqdm(range(rounds), desc="rounds", leave=False, disable=None):
        for name in order:
            started = time.perf_counter()
            rivals[name](steps)
            seconds[name].append((time.perf_counter() - started) / steps)
        order.reverse()
    return {name: np.array(found) for name, found in seconds.items()}


def best_matmul(precision: str) -> tuple[int, float]:
    """(size, floating-point operations a second) of the fastest square matrix product on one
    device, in a recipe's precision; each size runs five times for at least 0.2 seconds."""
    rates, seconds = {}, 0.2
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    for size in SIZES.get(jax.default_backend(), LARGE_SIZES):
        one, other = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in (0, 1))
        product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=MATMUL[precision]))
        product(one, other).block_until_ready()
        best, calls = 0.0, 1
        for _ in range(5):
            while (spent := _spent(product, one, other, calls)) < seconds:
                calls = max(calls + 1, int(1.2 * calls * seconds / spent))
            best = max(best, 2 * size**3 * calls / spent)
        rates[size] = best
    size = max(rates, key=rates.get)
    return size, rates[size]


def _spent(product, one, other, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        result = product(one, other)
    result.block_until_ready()
    return time.perf_counter() - started


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def provenance(command: str, load: float, *more: str) -> str:
    """What was typed and what it ran on, as a Markdown list; `load` is the load average before."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "optax")]
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = re.search(r"model name\s*:\s*(.*)", cpuinfo)
    lines = [
        f"command: `{command}`",
        f"devices: {jax.device_count()} x {jax.devices()[0].device_kind}",
        f"host: {named[1] if named else platform.machine()}, {os.cpu_count()} cores, load average "
        f"{load:.1f} before the start",
        f"versions: {', '.join(versions)}, Python {platform.python_version()}",
        f"XLA_FLAGS: `{os.environ.get('XLA_FLAGS', '')}`",
        *more,
    ]
    if load > BUSY and jax.default_backend() == "cpu":
        lines.append("**the machine was busy: these times and ratios do not count**")
    return "\n".join(f"- {line}" for line in lines)
