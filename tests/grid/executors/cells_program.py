"""Trains a small grid twice: different groups on different devices, with notes when and where, and
one group after the other on one device."""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from tests import small
from tests.grid.small_grid import RUNTIME, Grids
from transfer_jax.grid import job
from transfer_jax.training import devices


def main(workdir: Path, one: Path, names: list[str]) -> None:
    train = job.train_group
    events = workdir / "events.jsonl"
    workdir.mkdir(exist_ok=True)
    events.unlink(missing_ok=True)

    def noted(*arguments, **options):
        used = [device.id for device in devices.local()]
        note({"begins": True, "devices": used})
        outcomes = train(*arguments, **options)
        note({"begins": False, "devices": used})
        return outcomes

    def note(event: dict) -> None:
        with events.open("a") as file:
            file.write(json.dumps(event) + "\n")

    job.train_group = noted
    with tempfile.TemporaryDirectory() as folder:
        pictures = small.dataset(Path(folder) / "some")
        other = small.dataset(Path(folder) / "other", ("elm", "fir", "oak", "yew"), seed=1000)
        runtime = dataclasses.replace(RUNTIME, placement="cells")
        Grids(pictures, other).run(workdir, names, runtime)
        job.train_group = train
        with devices.only(devices.local()[:1]):
            Grids(pictures, other).run(one, names, RUNTIME)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
