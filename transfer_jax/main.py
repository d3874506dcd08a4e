"""Runs a study: `python -m transfer_jax.main --config=configs/yosinski2014.py:demo --workdir=DIR`.

Killed at any moment and started again with the same command, it goes on where it was.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # What follows takes seconds to import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import contextlib
import importlib
import json
import logging
import os
import shlex
import sys
from pathlib import Path
from types import ModuleType

import jax
from absl import app, flags, logging as absl_logging
from ml_collections import ConfigDict, config_flags
from tqdm.contrib.logging import logging_redirect_tqdm

from transfer_jax.grid.cell import all_cells
from transfer_jax.grid.cost import dry_run
from transfer_jax.grid.run import GroupsFailedError, run_grid
from transfer_jax.grid.store import Store, WorkdirInUseError
from transfer_jax.report.frame import load, write_results_csv
from transfer_jax.report.page import write_report
from transfer_jax.seal import write_json
from transfer_jax.studies.settings import (
    build,
    check,
    dataset_opener,
    fit_to_network,
    planning_opener,
    ray_from,
)
from transfer_jax.training import Runtime, parallel

log = logging.getLogger("transfer_jax.main")
STUDIES = ("yosinski2014", "zeiler2013", "huh2016", "oquab2014", "azizpour2014")

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file of a study and its preset, `configs/yosinski2014.py:demo`."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for networks, results.csv and report/; made at need."
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be trained and its cost; stop.")
_ASSUMED_TFLOPS = flags.DEFINE_float(
    "assumed_tflops",
    None,
    "With --dry_run: plan for accelerators that sustain this many TFLOP/s; measure nothing.",
    lower_bound=1e-3,
)
_WORKERS = flags.DEFINE_integer(
    "workers", 1, "With --dry_run: plan for this many of them.", lower_bound=1
)
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


def study_of(name: str) -> ModuleType:
    """The module of a config's `study`."""
    if name not in STUDIES:
        raise ValueError(f"--config.study={name!r}: expected one of {STUDIES}")
    return importlib.import_module(f"transfer_jax.studies.{name}")


def run(config: ConfigDict, workdir: Path, command: str, *, retry_failed: bool = False) -> None:
    """Trains the cells of a config that the workdir lacks, and measures them. Processes that train
    together all call this; the first alone writes to the workdir. `command` is for the report."""
    study, store = study_of(config.study), Store(workdir)
    runtime, ray = build(Runtime, config.runtime, "runtime"), ray_from(config)
    if ray and jax.process_count() > 1:
        raise ValueError("--config.executor='ray' with several processes: expected one")
    with contextlib.ExitStack() as stack:
        if parallel.is_first():
            stack.enter_context(store.lock())
        parallel.barrier("the workdir is held")
        if jax.default_backend() != "cpu":
            # Kernels that were chosen by timing are chosen once, so that a resumed run has them.
            jax.config.update("jax_compilation_cache_dir", str(store.workdir / "compiled"))
        open_dataset = dataset_opener(config.data_dir, store.workdir)
        entries = study.entries(config, open_dataset)
        if parallel.is_first():
            about = {"study": config.study, "title": study.TITLE, "command": command}
            about["config"] = json.loads(config.to_json_best_effort())
            about["notes"] = list(config.notes)
            about["device"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
            about["files"] = {"entries.json": store.write_entries(entries)}
            # Those of another config are not this one's until they are asked for.
            before = store.about()
            same = before.get("config") == about["config"]
            about["measures"] = before.get("measures", []) if same else []
            write_json(store.workdir / "about.json", about, "about")
            cells = all_cells(cell for _, cell in entries)
            if adopted := store.adopt(cells, config.reuse):
                log.info("%d cells copied from %s", len(adopted), ", ".join(config.reuse))
        run_grid(
            entries,
            store,
            runtime,
            ray=ray,
            retry_failed=retry_failed,
            after_each=lambda: write_results_csv(load(store.workdir)),
        )
        if parallel.is_first() and hasattr(study, "measure"):
            study.measure(config, open_dataset, entries, store)
            about["measures"] = sorted(store.measured)
            write_json(store.workdir / "about.json", about, "about")
        parallel.barrier("everything is measured")


def report(workdir: Path) -> Path:
    """Draws the report from the workdir's files alone; returns the path of its page."""
    results = load(workdir)
    for remark in results.remarks:
        log.warning("%s", remark)
    write_results_csv(results)
    return write_report(study_of(results.about.get("study")), results)


def main(argv: list[str]) -> None:
    """The program."""
    config, workdir = _CONFIG.value, Path(_WORKDIR.value).expanduser().absolute()
    if config.executor == "ray":
        # The GPUs of this machine are for the tasks.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # At INFO, Orbax reports every step that it takes; at WARNING, TFDS every config.
    absl_logging.set_verbosity(absl_logging.ERROR)
    logger = logging.getLogger("transfer_jax")
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    command = f"python -m transfer_jax.main {shlex.join(sys.argv[1:])}"
    try:
        parallel.set_up(_COORDINATOR_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        logger.setLevel(logging.INFO if parallel.is_first() else logging.WARNING)
        if len(argv) > 1:
            raise ValueError(f"unexpected arguments {argv[1:]}: expected flags")
        for name in (*sys.argv, str(workdir)):
            if not name.isprintable():  # Bytes that are not UTF-8 cannot be shown on a page.
                raise ValueError(f"{name!r}: expected a name in UTF-8, on one line")
        if not _REPORT_ONLY.value:
            fit_to_network(config)
            check(config)
        if _DRY_RUN.value:
            study = study_of(config.study)
            opener, remarks = planning_opener(config.data_dir, workdir)
            entries = study.entries(config, opener)
            how = (_ASSUMED_TFLOPS.value, _WORKERS.value, config.reuse)
            text = dry_run(entries, Store(workdir), *how)
            print("\n".join([text, *remarks]))
            return
        if not _REPORT_ONLY.value:
            with logging_redirect_tqdm([logger]):
                run(config, workdir, command, retry_failed=_RETRY_FAILED.value)
        if parallel.is_first():
            print(f"report: {report(workdir)}")
    except (ValueError, OSError, ImportError, WorkdirInUseError, GroupsFailedError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def parse_flags(argv: list[str]) -> list[str]:
    """Reads the command line and the config file, and ends the program, with one line that says
    what is wrong, where they cannot be read."""
    try:
        rest = flags.FLAGS(argv)
        _ = _CONFIG.value.study  # A missing file is an error only when it is first looked into.
        return rest
    except Exception as error:  # whatever a config file raises
        while error.args and isinstance(error.args[0], Exception):
            error = error.args[0]
        # Errors of a config file come with their traceback, the error itself last.
        sys.exit(f"{type(error).__name__}: {str(error).strip().splitlines()[-1].strip()}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app.run(main, flags_parser=parse_flags)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
