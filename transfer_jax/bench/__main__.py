"""Measures and prints a page in Markdown: `python -m transfer_jax.bench BENCHMARK`.

step  the training step of a network, images a second, against PyTorch's with --torch
grid  the frozen cells A1B .. A7B trained together, against one by one

python -m transfer_jax.bench step --network alexnet_mini --batch 32 64 128 256 --torch
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from transfer_jax.bench import grid, step
from transfer_jax.bench.timing import provenance
from transfer_jax.networks import build
from transfer_jax.training import parallel
from transfer_jax.training.recipe import CHOICES

BENCHMARKS = {"step": step, "grid": grid}


def main(arguments: Sequence[str]) -> None:
    """The program."""
    options, load = parser().parse_args(arguments), os.getloadavg()[0]
    # PyTorch needs a part of the memory as well.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    parallel.set_up()
    text, remarks = BENCHMARKS[options.benchmark].run(options)
    command = shlex.join(["python", "-m", "transfer_jax.bench", *arguments])
    print(f"{text}\n\n{provenance(command, load, *remarks)}")


def parser() -> argparse.ArgumentParser:
    """Options of all benchmarks."""
    whole = argparse.ArgumentParser(
        "python -m transfer_jax.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmarks = whole.add_subparsers(dest="benchmark", required=True)
    for name in BENCHMARKS:
        one = benchmarks.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        one.add_argument("--network", type=build, default="alexnet_mini", help="a built-in one")
        one.add_argument("--batch", type=int, nargs="+", default=[64], help="images a step")
        one.add_argument("--rounds", type=int, default=10, help="how often each rival runs")
        one.add_argument("--steps", type=int, help="of a round; by default as the backend needs")
        one.add_argument("--precision", choices=CHOICES["precision"], default="float32", help=" ")
        if name == "step":
            one.add_argument("--torch", action="store_true", help="PyTorch's step beside ours")
    return whole


if __name__ == "__main__":
    main(sys.argv[1:])
