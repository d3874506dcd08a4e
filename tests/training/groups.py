"""A small group, A1B and A2B, and runs of it that are cut off."""

import contextlib
import json

from tests import small
from transfer_jax.training import checkpoint
from transfer_jax.training.metrics_log import MetricsLog
from transfer_jax.training.progress import Progress
from transfer_jax.training.step import Program
from transfer_jax.training.trainer import Member, Runtime, train_group

NET, RECIPE = small.network(), small.RECIPE
PROGRAM = Program(NET, RECIPE, (1, 2))
RUNTIME = Runtime(checkpoint_every=3, log_every=2)


def train(folder, params, data, runtime=RUNTIME, seed=3, program=PROGRAM):
    """The outcomes of the group's cells; their folders are those of their names."""
    members = [
        Member(f"A{n}B", n, full, folder / f"A{n}B")
        for n, full in zip(program.frozen, params, strict=True)
    ]
    return train_group(
        program,
        members,
        data,
        stream_seed=seed,
        checkpoint_dir=folder / "checkpoints",
        runtime=runtime,
        progress=Progress.start(1),
    )


def lines(folder, name="A1B"):
    """metrics.jsonl without what differs from run to run."""
    text = (folder / name / "metrics.jsonl").read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in entry.items() if k != "images_per_second"} for entry in entries]


class CutOffError(Exception):
    """Stands for a kill."""


@contextlib.contextmanager
def cut_off(monkeypatch, step):
    """Training ends as A1B's first line of `step` or later is written; checkpoints are complete."""
    append, save = MetricsLog.append, checkpoint.save

    def append_or_cut(log, entry):
        append(log, entry)
        if entry["step"] >= step and log.path.parent.name == "A1B":
            raise CutOffError

    def save_and_wait(checkpoints, *arguments):
        save(checkpoints, *arguments)
        checkpoints.wait_until_finished()

    with monkeypatch.context() as patched:
        patched.setattr(MetricsLog, "append", append_or_cut)
        patched.setattr(checkpoint, "save", save_and_wait)
        yield
