"""The program on a small grid, as a user starts it, and what it leaves in its workdir."""

import csv
import json
import os
import subprocess
import sys

NARROW = {"conv1": 4, "conv2": 4, "conv5": 4, "fc6": 16, "fc7": 16}
CELLS = ["baseA", "baseB", "A2B", "A4B", "A2B+", "A4B+"]


def command(folder, workdir, *more):
    """Its arguments; `folder` holds what several runs share."""
    arguments = [
        *(sys.executable, "-m", "transfer_jax.main", "--config=configs/yosinski2014.py:demo"),
        f"--workdir={workdir}",
        f"--config.data_dir={folder / 'data'}",
        "--config.dataset.train_per_class=8",
        "--config.dataset.val_per_class=2",
        "--config.dataset.image_size=16",
        "--config.recipe.augmentation.size=16",
        "--config.network.input_size=16",
        "--config.network.remove=('conv3', 'conv4')",
        f"--config.network.widths={NARROW}",
        "--config.network.dropout=0.3",
        "--config.recipe.batch_size=8",
        "--config.recipe.steps=24",
        "--config.recipe.eval_every=12",
        "--config.runtime.checkpoint_every=3",
        "--config.runtime.log_every=3",
        "--config.experiments.random_halves.splits=(0,)",
        "--config.experiments.random_halves.seeds=(0,)",
        "--config.experiments.random_halves.long=False",
        "--config.experiments.man_natural.seeds=()",
        "--config.experiments.random_halves.targets=('B',)",
        "--config.experiments.random_halves.ns=(2, 4)",
        "--config.experiments.random_halves.fine_tuned_ns=()",
        "--config.experiments.random_halves.treatments=('transfer_frozen', 'transfer_finetuned')",
    ]
    given = {flag.partition("=")[0] for flag in more}
    return [*(flag for flag in arguments if flag.partition("=")[0] not in given), *more]


def environment(folder, devices=1):
    """Its environment: compiled programs are kept in the folder."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def execute(folder, workdir, *more):
    """Runs it to its end."""
    return subprocess.run(
        command(folder, workdir, *more),
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )


def results(workdir):
    """results.csv without the columns of time."""
    with open(workdir / "results.csv") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in rows]


def logs(workdir):
    """cell hash -> the lines of its metrics.jsonl, without speed."""
    found = {}
    for path in sorted(workdir.glob("cells/*/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = [{**line, "images_per_second": 0} for line in lines]
    return found
