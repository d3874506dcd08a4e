"""Runs a benchmark: `python -m transfer_jax.bench step` or `python -m transfer_jax.bench grid`.

  step   images/s of the train step of alexnet_mini: ours, the plain form of the layers, PyTorch
  grid   seven frozen cells trained together against the seven trained alone

Each prints a page of Markdown; `--output PAGE.md` also writes it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from transfer_jax.bench import grid, step, torch_training
from transfer_jax.bench.page import provenance
from transfer_jax.networks import Network, alexnet_mini


def main(arguments: Sequence[str] | None = None, network: Network | None = None) -> str:
    """The program.

    Args:
      arguments: of the command line; None takes those of the process.
      network: what to measure; None for alexnet_mini with 100 classes.

    Returns:
      the page that was printed.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    network = network or alexnet_mini()
    parser = _parser()
    options = parser.parse_args(arguments)
    counts = {
        "repeats": options.repeats,
        "steps": options.steps,
        "steps_per_call": options.steps_per_call,
    }
    extra = []
    try:
        if options.benchmark == "step":
            contests = [step.measure(network, batch, **counts) for batch in options.batch]
            text = step.report(network, contests)
            extra = [] if torch_training.why_not() else [torch_training.describe()]
        else:
            text = grid.report(network, grid.measure(network, options.batch, **counts))
    except ValueError as error:
        parser.error(str(error))
    command = shlex.join(["python", "-m", "transfer_jax.bench", *arguments])
    rounds = f"{options.repeats} rounds of {options.steps} steps or more, contenders by turns."
    page = f"{text}\n\n{rounds}\n\n{provenance(command, extra)}\n"
    print(page)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(page)
    return page


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transfer_jax.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    for name, batch in (("step", {"nargs": "+", "default": [64, 128]}), ("grid", {"default": 64})):
        one = benchmarks.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        one.add_argument("--batch", type=_positive, help="images a step, over all devices", **batch)
        one.add_argument("--repeats", type=_positive, default=10, help="rounds")
        one.add_argument(
            "--steps",
            type=_positive,
            default=10,
            help="steps of each contender in a round, rounded up to whole calls",
        )
        one.add_argument(
            "--steps_per_call",
            type=int,
            default=0,
            help="steps compiled into one call; 0 does as the trainer does on this backend",
        )
        one.add_argument("--output", type=Path, help="file for the page")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected at least 1")
    return value


if __name__ == "__main__":
    main()
