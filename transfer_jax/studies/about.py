"""What a workdir tells of its run, beside the cells: the config, how to make it again, the plan."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from transfer_jax.grid.run import Entry
from transfer_jax.grid.store import write_json


def write_about(config: ConfigDict, network: str, workdir: Path, command: str) -> None:
    """Writes config.json, and about.json, which a report is headed by.

    Args:
      config: of a study, see configs/.
      network: name of the network that it is about.
      workdir: of the run.
      command: what the user typed.
    """
    write_json(workdir / "config.json", config.to_dict())
    title = f"{config.study}: {network} on {config.dataset.kind}"
    about = {"study": config.study, "title": title, "notes": notes(config, command)}
    write_json(workdir / "about.json", about)


def write_plan(workdir: Path, entries: Sequence[Entry]) -> None:
    """Writes plan.json, by which a report of an unfinished grid knows what is missing."""
    keys = ("experiment", "split", "cell")
    rows = [(experiment, split, cell.name) for experiment, split, cell in entries]
    write_json(workdir / "plan.json", [dict(zip(keys, row, strict=True)) for row in rows])


def notes(config: ConfigDict, command: str) -> list[str]:
    """What a reader must know to make the figures again: command, recipe, machine, versions."""
    recipe, kinds = config.recipe, jax.devices()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")}
    driver = "Driver" if config.executor == "ray" else "Machine"
    return [
        f"Command: {command}",
        f"Recipe: {recipe.steps} steps of {recipe.batch_size} images, {recipe.solver}, learning "
        f"rate {recipe.learning_rate} ({recipe.schedule}), weight decay {recipe.weight_decay}; an "
        f"evaluation every {recipe.eval_every} steps.",
        f"{driver}: {len(kinds)} x {kinds[0].device_kind}, {os.cpu_count()} cores, "
        f"{platform.machine()}.",
        "Versions: Python "
        + platform.python_version()
        + "".join(f", {name} {version}" for name, version in versions.items())
        + ".",
    ]
