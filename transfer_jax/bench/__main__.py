"""Runs a benchmark: `python -m transfer_jax.bench step`, and so on.

  step      images/s of the train step of a network: ours, the plain form of the layers, PyTorch
  grid      cells trained together against the same cells trained alone
  growth    time of a step by number of cells, image size, width and classes
  memory    optimiser state by frozen layers, compiled memory by batch, the largest batch that fits
  profile   a profiler's trace of the step, by kind of operation
  decode    images/s of decoders and loaders on photographs, torch's DataLoader among them
  stream    a step that streams its images against one on a batch that is on the device
  workdir   networks a minute and utilisation of a finished run

Each prints a page of Markdown; `--output PAGE.md` also writes it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from transfer_jax.bench import (
    decode,
    grid,
    growth,
    memory,
    options,
    profile,
    step,
    stream,
    workdir,
)
from transfer_jax.bench.page import provenance
from transfer_jax.training import devices

# Each module has add_options(parser) and run(options) -> Markdown; one with remarks(options) also
# tells what else a reader must know of the versions that it measured.
BENCHMARKS = {
    "step": step,
    "grid": grid,
    "growth": growth,
    "memory": memory,
    "profile": profile,
    "decode": decode,
    "stream": stream,
    "workdir": workdir,
}


def main() -> None:
    """The program."""
    chosen = parse(sys.argv[1:])
    devices.set_up_host(chosen.cpu_devices)
    try:
        page = run(chosen)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(page, end="")
    if chosen.output:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(page)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of a benchmark from the words of its command line; says what is wrong and exits."""
    chosen = _parser().parse_args(arguments)
    chosen.command = shlex.join(["python", "-m", "transfer_jax.bench", *arguments])
    return chosen


def run(chosen: argparse.Namespace) -> str:
    """Measures.

    Args:
      chosen: from `parse`.

    Returns:
      the page to print.

    Raises:
      ValueError: when a batch cannot be split over the devices.
    """
    module = BENCHMARKS[chosen.benchmark]
    text = module.run(chosen)
    remarks = module.remarks(chosen) if hasattr(module, "remarks") else ()
    return f"{text}\n\n{provenance(chosen.command, remarks)}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transfer_jax.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    for name, module in BENCHMARKS.items():
        one = benchmarks.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        module.add_options(one)
        one.add_argument(
            "--cpu_devices",
            type=options.not_negative,
            default=0,
            help="devices that the CPU is shown as; 0 does as studies do",
        )
        one.add_argument("--output", type=Path, help="file for the page")
    return parser


if __name__ == "__main__":
    main()
