"""Runs a study: `python -m transfer_jax.main --config=configs/yosinski2014.py:demo --workdir=DIR`.

Killed at any moment and started again with the same command, it goes on where it was.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags
from tqdm.contrib.logging import logging_redirect_tqdm

from transfer_jax.data.prepare import is_full_disk
from transfer_jax.grid.estimate import describe_plan
from transfer_jax.grid.plan import all_cells, build_plan
from transfer_jax.grid.run import DataSupply, Entry, labels, run_grid
from transfer_jax.grid.store import Store, WorkdirInUseError, write_json
from transfer_jax.studies import STUDIES, Study
from transfer_jax.studies.settings import (
    dataset_opener,
    network_from,
    recipe_from,
    runtime_from,
)
from transfer_jax.training import devices
from transfer_jax.training.trainer import Runtime, check_batch

log = logging.getLogger(__name__)

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file of a study and its preset, `configs/yosinski2014.py:demo`."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for checkpoints, results.csv and report/; made at need."
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print the plan with its cost, from a short measured warm-up, and stop."
)
_REPORT_ONLY = flags.DEFINE_bool(
    "report_only", False, "Draw the report from what the workdir holds, and train nothing."
)
_RETRY_FAILED = flags.DEFINE_bool("retry_failed", False, "Train cells again that failed before.")


def run(config: ConfigDict, workdir: Path, command: str, *, retry_failed: bool = False) -> Path:
    """Trains the cells of a config that the workdir lacks, and draws the report.

    Args:
      config: of a study, see configs/.
      workdir: where everything goes.
      command: what the user typed, for the report.
      retry_failed: train cells again that failed before.

    Returns:
      path of the report's page.

    Raises:
      WorkdirInUseError: when another run holds the workdir.
    """
    study, runtime = _checked(config)
    store = Store(workdir)
    with store.lock():
        write_json(workdir / "config.json", config.to_dict())
        network = config[study.networks[0]].name
        title = f"{config.study}: {network} on {config.dataset.kind}"
        about = {"study": config.study, "title": title, "notes": notes(config, command)}
        write_json(workdir / "about.json", about)
        open_dataset = dataset_opener(config.data_dir, workdir)
        work = study.plan(config, open_dataset)
        write_plan(workdir, work.entries)
        supply = DataSupply(work.datasets, runtime)
        cells = all_cells(cell for _, _, cell in work.entries)
        if adopted := store.adopt(cells, config.reuse):
            log.info("%d cells copied from %s", len(adopted), ", ".join(config.reuse))
        run_grid(
            work.entries,
            store,
            supply,
            runtime,
            retry_failed=retry_failed,
            snapshots=work.snapshots,
        )
        if study.analyse is not None:
            study.analyse(config, open_dataset, store, work.datasets)
        return report(workdir)


def report(workdir: Path) -> Path:
    """Draws the report from the workdir's files alone; returns the path of its page.

    Raises:
      FileNotFoundError: when no run was ever started in this workdir.
    """
    path = workdir / "about.json"
    if not path.exists():
        raise FileNotFoundError(f"workdir {workdir} holds no run to report: {path} is missing")
    about = json.loads(path.read_text())
    study = STUDIES[about["study"]]
    return study.write_report(workdir, title=about["title"], notes=about["notes"])


def dry_run(config: ConfigDict, workdir: Path) -> str:
    """What `run` would train, and what it would cost, as text."""
    study, runtime = _checked(config)
    work = study.plan(config, dataset_opener(config.data_dir, workdir))
    store = Store(workdir)
    cells = all_cells(cell for _, _, cell in work.entries)
    finished = [cell.hash for cell in cells if store.outcome(cell) is not None]
    plan = build_plan(cells, finished, store.opened_groups())
    return describe_plan(plan, DataSupply(work.datasets, runtime), runtime, labels(work.entries))


def write_plan(workdir: Path, entries: Sequence[Entry]) -> None:
    """Writes plan.json, by which a report of an unfinished grid knows what is missing."""
    keys = ("experiment", "split", "cell")
    rows = [(experiment, split, cell.name) for experiment, split, cell in entries]
    write_json(workdir / "plan.json", [dict(zip(keys, row, strict=True)) for row in rows])


def notes(config: ConfigDict, command: str) -> list[str]:
    """What a reader must know to make the figures again: command, recipe, machine, versions."""
    recipe, kinds = config.recipe, jax.local_devices()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")}
    return [
        f"Command: {command}",
        f"Recipe: {recipe.steps} steps of {recipe.batch_size} images, {recipe.solver}, learning "
        f"rate {recipe.learning_rate} ({recipe.schedule}), weight decay {recipe.weight_decay}; an "
        f"evaluation every {recipe.eval_every} steps.",
        f"Machine: {len(kinds)} x {kinds[0].device_kind}, {os.cpu_count()} cores, "
        f"{platform.machine()}.",
        "Versions: Python "
        + platform.python_version()
        + "".join(f", {name} {version}" for name, version in versions.items())
        + ".",
    ]


def _checked(config: ConfigDict) -> tuple[Study, Runtime]:
    """Builds what a config describes as far as that goes without data, whose preparation is long:
    what is wrong should come out before."""
    if config.study not in STUDIES:
        raise ValueError(f"config.study={config.study!r}: expected one of {sorted(STUDIES)}")
    check_batch(recipe_from(config.recipe))
    study = STUDIES[config.study]
    for field in study.networks:
        network_from(config[field], num_classes=2)
    return study, runtime_from(config.runtime)


def parse_flags(argv: list[str]) -> list[str]:
    """Reads the command line and the config file, and ends the program, with one line that says
    what is wrong, where they cannot be read."""
    try:
        rest = flags.FLAGS(argv)
        _ = _CONFIG.value.study  # A missing file is an error only when it is first looked into.
        return rest
    except (flags.Error, AttributeError, KeyError, OSError) as error:
        if os.environ.get("TRANSFER_JAX_TRACEBACK"):
            raise
        if isinstance(error, flags.Error | OSError):
            # Errors of a config file come with their traceback, the error itself last.
            sys.exit(str(error).strip().splitlines()[-1].strip())
        while isinstance(error.args[0], Exception):
            error = error.args[0]
        sys.exit(f"unknown config field {' '.join(str(error.args[0]).split())}")


def main(argv: list[str]) -> None:
    """The program."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    config, workdir = _CONFIG.value, Path(_WORKDIR.value).expanduser()
    devices.set_up_host(config.runtime.cpu_devices)
    # At INFO, Orbax and Grain report every step that they take; at WARNING, TFDS every config.
    absl_logging.set_verbosity(absl_logging.ERROR)
    logger = logging.getLogger("transfer_jax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    try:
        if _DRY_RUN.value:
            print(dry_run(config, workdir))
            return
        if _REPORT_ONLY.value:
            page = report(workdir)
        else:
            with logging_redirect_tqdm([logger]):
                page = run(config, workdir, _command(), retry_failed=_RETRY_FAILED.value)
    except (ValueError, OSError, ImportError, WorkdirInUseError) as error:
        if os.environ.get("TRANSFER_JAX_TRACEBACK"):
            raise
        if is_full_disk(error) and "full" not in str(error):
            error = OSError(
                f"{error}: make room on the disk of workdir {workdir} or of data_dir "
                f"{config.data_dir} and start the same command again"
            )
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"report: {page}")


def _command() -> str:
    return "python -m transfer_jax.main " + shlex.join(sys.argv[1:])


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
