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
from transfer_jax.training import devices


def main() -> None:
    """The program."""
    options = parse(sys.argv[1:])
    devices.set_up_host(options.cpu_devices)
    try:
        page = run(options, alexnet_mini())
    except ValueError as error:
        sys.exit(f"ValueError: {error}")
    print(page, end="")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(page)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of a benchmark from the words of its command line; says what is wrong and exits."""
    options = _parser().parse_args(arguments)
    options.command = shlex.join(["python", "-m", "transfer_jax.bench", *arguments])
    return options


def run(options: argparse.Namespace, network: Network) -> str:
    """Measures.

    Args:
      options: from `parse`.
      network: what is trained.

    Returns:
      the page to print.

    Raises:
      ValueError: when a batch cannot be split over the devices.
    """
    counts = {name: getattr(options, name) for name in ("repeats", "steps", "steps_per_call")}
    remarks = []
    if options.benchmark == "step":
        contests = [step.measure(network, batch, **counts) for batch in options.batch]
        text = step.report(network, contests)
        remarks = [] if torch_training.why_not() else [torch_training.describe()]
    else:
        results = [grid.measure(network, batch, **counts) for batch in options.batch]
        text = grid.report(network, results)
    rounds = f"{options.repeats} rounds of {options.steps} steps or more, contenders by turns."
    return f"{text}\n\n{rounds}\n\n{provenance(options.command, remarks)}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transfer_jax.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    for name, batches in (("step", [64, 128]), ("grid", [64])):
        one = benchmarks.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        one.add_argument(
            "--batch",
            type=_positive,
            nargs="+",
            default=batches,
            help="images a step, over all devices",
        )
        one.add_argument("--repeats", type=_positive, default=10, help="rounds")
        one.add_argument(
            "--steps",
            type=_positive,
            default=10,
            help="steps of each contender in a round, rounded up to whole calls",
        )
        one.add_argument(
            "--steps_per_call",
            type=_not_negative,
            default=0,
            help="steps compiled into one call; 0 does as the trainer does on this backend",
        )
        one.add_argument(
            "--cpu_devices",
            type=_not_negative,
            default=0,
            help="devices that the CPU is shown as; 0 does as studies do",
        )
        one.add_argument("--output", type=Path, help="file for the page")
    return parser


def _positive(text: str) -> int:
    return _at_least(1, text)


def _not_negative(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value < least:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer of at least {least}")
    return value


if __name__ == "__main__":
    main()
