"""Runs a study: `python -m transfer_jax.main --config=configs/yosinski2014.py:demo --workdir=DIR`.

Killed at any moment and started again with the same command, it goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags
from tqdm.contrib.logging import logging_redirect_tqdm

from transfer_jax.data.prepare import is_full_disk
from transfer_jax.grid.executors import Executor, LocalExecutor
from transfer_jax.grid.forecast import text_of
from transfer_jax.grid.forecast_page import page_of
from transfer_jax.grid.plan import all_cells
from transfer_jax.grid.run import DataSupply, GroupsFailedError, run_grid
from transfer_jax.grid.store import Store, WorkdirInUseError
from transfer_jax.studies import STUDIES, Study
from transfer_jax.studies.about import notes, write_about, write_plan
from transfer_jax.studies.planning import planned
from transfer_jax.studies.settings import (
    dataset_opener,
    executor_from,
    network_from,
    recipe_from,
    runtime_from,
)
from transfer_jax.training import devices, processes
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
_ASSUMED_TFLOPS = flags.DEFINE_float(
    "assumed_tflops",
    None,
    "With --dry_run: plan for workers that sustain this many TFLOP/s, and measure no training.",
)
_WORKERS = flags.DEFINE_integer(
    "workers", None, "With --dry_run: plan for this many accelerators, each with its own groups."
)
_COST_PAGE = flags.DEFINE_string(
    "cost_page", None, "With --dry_run: also write the cost to this file, as Markdown."
)
_WHOLE_SCHEDULE = flags.DEFINE_bool(
    "whole_schedule", False, "With --dry_run: list every group of a long schedule."
)
_OF_DRY_RUNS = ("assumed_tflops", "workers", "cost_page", "whole_schedule")
_REPORT_ONLY = flags.DEFINE_bool(
    "report_only", False, "Draw the report from what the workdir holds, and train nothing."
)
_RETRY_FAILED = flags.DEFINE_bool("retry_failed", False, "Train cells again that failed before.")
_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "'host:port' of the first of several processes that train together; Slurm, Open MPI and TPU "
    "pods tell this, and the next two, by themselves.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def run(
    config: ConfigDict, workdir: Path, command: str, *, retry_failed: bool = False
) -> Path | None:
    """Trains the cells of a config that the workdir lacks, and draws the report.

    Processes that train together all call this; the first alone writes to the workdir.

    Args:
      config: of a study, see configs/.
      workdir: where everything goes.
      command: what the user typed, for the report.
      retry_failed: train cells again that failed before.

    Returns:
      path of the report's page; None in other processes than the first.

    Raises:
      WorkdirInUseError: when another run holds the workdir.
      GroupsFailedError: when some cells could not be trained.
    """
    study, runtime, executor = _checked(config)
    store, is_first = Store(workdir), processes.is_first()
    with contextlib.ExitStack() as stack:
        if is_first:
            stack.enter_context(store.lock())
            write_about(config, config[study.networks[0]].name, workdir, command)
        processes.barrier("the workdir is held")
        with executor.session():
            open_dataset = dataset_opener(config.data_dir, workdir)
            work = study.plan(config, open_dataset)
            if is_first:
                write_plan(workdir, work.entries)
                cells = all_cells(cell for _, _, cell in work.entries)
                if adopted := store.adopt(cells, config.reuse):
                    log.info("%d cells copied from %s", len(adopted), ", ".join(config.reuse))
            run_grid(
                work.entries,
                store,
                DataSupply(work.datasets, runtime),
                runtime,
                executor=executor,
                retry_failed=retry_failed,
                snapshots=work.snapshots,
            )
        page = None
        if is_first:
            with processes.alone():
                if study.analyse is not None:
                    study.analyse(config, open_dataset, store)
                page = report(workdir)
        processes.barrier("the report is drawn")
        return page


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


def dry_run(
    config: ConfigDict,
    workdir: Path,
    *,
    assumed_tflops: float | None = None,
    workers: int | None = None,
    whole_schedule: bool = False,
    cost_page: Path | None = None,
    command: str = "",
) -> str:
    """What `run` would train, and what it would cost, as text. Datasets need not be there.

    Args:
      config: of a study, see configs/.
      workdir: whose finished cells are left out.
      assumed_tflops: speed that a worker sustains, in 10**12 operations a second; None measures it.
      workers: how many accelerators there are; None plans for the devices of this process, or for
        one task of Ray at a time.
      whole_schedule: whether every group of a long schedule is listed.
      cost_page: a file that the cost is written to as Markdown, or None.
      command: what the user typed, for that page.
    """
    study, runtime, executor = _checked(config)
    found = planned(study, config, workdir, runtime, executor, assumed_tflops, workers)
    if found is None:
        return "nothing to train: every cell is finished"
    if cost_page is not None:
        title = f"What {config.study} costs: {found.cost.networks} networks"
        cost_page.parent.mkdir(parents=True, exist_ok=True)
        cost_page.write_text(page_of(found, title, command, notes(config, command)[1:]))
    return text_of(found, whole_schedule)


def _checked(config: ConfigDict) -> tuple[Study, Runtime, Executor]:
    """Builds what a config describes as far as that goes without data, whose preparation is long:
    what is wrong should come out before."""
    if config.study not in STUDIES:
        raise ValueError(f"config.study={config.study!r}: expected one of {sorted(STUDIES)}")
    recipe, runtime = recipe_from(config.recipe), runtime_from(config.runtime)
    executor = executor_from(config)
    if executor == LocalExecutor():
        if runtime.placement != "cells":
            check_batch(recipe)
    elif processes.count() > 1:
        raise ValueError(
            f"config.executor={config.executor!r} with {processes.count()} processes: expected "
            "'local', or one process"
        )
    study = STUDIES[config.study]
    for field in study.networks:
        network_from(config[field], num_classes=2)
    return study, runtime, executor


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
    given = [name for name in _OF_DRY_RUNS if flags.FLAGS[name].value != flags.FLAGS[name].default]
    if given and not _DRY_RUN.value:
        raise app.UsageError(f"--{given[0]} is for plans alone: expected --dry_run with it")
    config, workdir = _CONFIG.value, Path(_WORKDIR.value).expanduser()
    if config.executor == "ray":
        # The GPUs of this machine are for the tasks.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    devices.set_up_host(config.runtime.cpu_devices)
    # At INFO, Orbax and Grain report every step that they take; at WARNING, TFDS every config.
    absl_logging.set_verbosity(absl_logging.ERROR)
    logger = logging.getLogger("transfer_jax")
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    try:
        processes.start(_COORDINATOR_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        logger.setLevel(logging.INFO if processes.is_first() else logging.WARNING)
        if _DRY_RUN.value:
            page = Path(_COST_PAGE.value).expanduser() if _COST_PAGE.value else None
            text = dry_run(
                config,
                workdir,
                assumed_tflops=_ASSUMED_TFLOPS.value,
                workers=_WORKERS.value,
                whole_schedule=_WHOLE_SCHEDULE.value,
                cost_page=page,
                command=_command(),
            )
            if processes.is_first():
                print(text)
            return
        if _REPORT_ONLY.value:
            page = report(workdir)
        else:
            with logging_redirect_tqdm([logger]):
                page = run(config, workdir, _command(), retry_failed=_RETRY_FAILED.value)
    except (ValueError, OSError, ImportError, WorkdirInUseError, GroupsFailedError) as error:
        if os.environ.get("TRANSFER_JAX_TRACEBACK"):
            raise
        if is_full_disk(error) and "full" not in str(error):
            error = OSError(
                f"{error}: make room on the disk of workdir {workdir} or of data_dir "
                f"{config.data_dir} and start the same command again"
            )
        sys.exit(f"{type(error).__name__}: {error}")
    if page is not None:
        print(f"report: {page}")


def _command() -> str:
    return "python -m transfer_jax.main " + shlex.join(sys.argv[1:])


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
