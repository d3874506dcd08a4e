"""Networks a minute and utilisation of a finished run, from the files of its workdir."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax

from transfer_jax.bench import matmul
from transfer_jax.bench.page import table
from transfer_jax.grid.load import from_json
from transfer_jax.report.results import read_results
from transfer_jax.training import devices


@dataclasses.dataclass(frozen=True)
class Trained:
    """One finished network.

    Attributes:
      experiment: which it belongs to.
      name: of its cell.
      flops: counted operations of its training as if it had been trained alone: evaluations left
        out, a frozen pass that a group shared counted for each cell.
      seconds: its share of its group's wall time, evaluations included.
      started, ended: when its files were first and last written, in seconds since 1970.
      dtype: of its activations and products.
    """

    experiment: str
    name: str
    flops: int
    seconds: float
    started: float
    ended: float
    dtype: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `python -m transfer_jax.bench workdir`."""
    parser.add_argument("workdir", type=Path, help="of a finished run")


def run(options: argparse.Namespace) -> str:
    """The benchmark's page."""
    trained = read(options.workdir)
    dtypes = {each.dtype for each in trained}
    dtype = "bfloat16" if "bfloat16" in dtypes and jax.default_backend() != "cpu" else "float32"
    return report(options.workdir, trained, matmul.measure(dtype))


def read(workdir: str | Path) -> list[Trained]:
    """Every network that a run has trained, each once.

    Args:
      workdir: holds results.csv and cells/.

    Raises:
      FileNotFoundError: when the workdir holds no results.
      ValueError: when no network is finished.
    """
    workdir = Path(workdir).expanduser()
    found = {}
    for row in read_results(workdir / "results.csv"):
        folder = workdir / "cells" / row.hash
        done = folder / "done.json"
        if row.hash in found or not row.seconds or not done.exists():
            continue
        content = json.loads((folder / "cell.json").read_text())["content"]
        network, recipe = from_json(content["network"]), from_json(content["recipe"])
        frozen = 0 if content["fine_tuned"] else content["copied_layers"]
        images = row.steps * recipe.batch_size
        written = [path.stat().st_mtime for path in folder.iterdir() if path.is_file()]
        found[row.hash] = Trained(
            row.experiment,
            row.cell,
            network.train_flops(frozen) * images,
            row.seconds,
            min(written),
            done.stat().st_mtime,
            recipe.dtype,
        )
    if not found:
        raise ValueError(f"workdir {workdir} holds no finished network")
    return list(found.values())


def report(workdir: Path, trained: Sequence[Trained], rate: matmul.MatmulRate) -> str:
    """What the run came to, as Markdown.

    Args:
      workdir: of the run.
      trained: its networks.
      rate: of large matrix products on one device of this machine, which must be the run's.
    """
    available = rate.flops_per_second * devices.num_devices()
    header = ["experiment", "networks", "minutes", "networks a minute", "TFLOP", "utilisation"]
    groups: dict[str, list[Trained]] = {}
    for each in trained:
        groups.setdefault(each.experiment, []).append(each)
    rows = [_row(name, members, available) for name, members in groups.items()]
    if len(groups) > 1:
        rows.append(_row("all", trained, available))
    elapsed = max(each.ended for each in trained) - min(each.started for each in trained)
    speed = 60 * len(trained) / elapsed if elapsed > 0 else float("nan")
    share = sum(each.flops for each in trained) / elapsed / available if elapsed > 0 else 0.0
    return "\n".join(
        [
            f"# The run in {workdir.name}",
            "",
            "Minutes of training are the networks' own, evaluations and compilation included. "
            "Operations are counted as if each network had been trained alone, two for each "
            "multiply-add of forward and backward passes; evaluations are left out. Utilisation is "
            f"their share of the best rate measured on this machine now: {rate}.",
            "",
            table(header, rows),
            "",
            f"From the first network's first file to the last network's last one: "
            f"{elapsed / 60:.1f} minutes, {speed:.2f} networks a minute, {100 * share:.1f} % "
            "utilisation (pauses between a kill and the next start included).",
        ]
    )


def _row(name: str, trained: Sequence[Trained], flops_per_second: float) -> list[str]:
    seconds, flops = (sum(getattr(each, f) for each in trained) for f in ("seconds", "flops"))
    return [
        name,
        str(len(trained)),
        f"{seconds / 60:.1f}",
        f"{60 * len(trained) / seconds:.2f}",
        f"{flops / 1e12:,.2f}",
        f"{100 * flops / seconds / flops_per_second:.1f} %",
    ]
