"""One of several processes that train a group together; see tests/training/test_processes.py.

Arguments: folder, coordinator, number of processes, which of them, devices of each, and the step
before which the process kills itself, or -1.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np

from tests import small
from tests.training.groups import NET, PROGRAM, train
from transfer_jax.data.tasks import Task
from transfer_jax.training import checkpoint, devices, processes, trainer
from transfer_jax.training.evaluation import class_probabilities
from transfer_jax.training.feed import TaskData
from transfer_jax.transfer import Treatment

DEAD_AFTER = 10


def task_data(folder):
    """The data that all processes read."""
    dataset = small.dataset(folder)
    task = Task("B", dataset.name, (0, -1, -1, 1))
    return TaskData(dataset, task, np.array([120.0, 110.0, 100.0], np.float32), resident=True)


def initial_params():
    """Of A1B and A2B."""
    base = NET.init(jax.random.key(0))
    treatments = (Treatment("B", "A", n) for n in PROGRAM.frozen)
    return [t.initial_params(NET, jax.random.key(t.n), base) for t in treatments]


def kill_self_at(step):
    """Death by SIGKILL before the batch of a step is used; earlier checkpoints are complete.

    Returns:
      the steps at which trainings began, as they do.
    """
    began = []
    batches, save = trainer.training_batches, checkpoint.save

    def until(data, order, start, *arguments):
        began.append(start)
        for at, batch in enumerate(batches(data, order, start, *arguments), start):
            if at == step:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    def save_and_wait(checkpoints, *arguments):
        save(checkpoints, *arguments)
        checkpoints.wait_until_finished()

    trainer.training_batches, checkpoint.save = until, save_and_wait
    return began


def main(folder, coordinator, count, index, devices_each, dies_at):
    devices.set_up_host(devices_each)
    processes.start(coordinator, count, index, dead_after=DEAD_AFTER)
    began = kill_self_at(dies_at)
    assert (processes.index(), processes.count()) == (index, count)
    assert (devices.num_devices(), devices.axis_size()) == (devices_each, count * devices_each)
    data, params = task_data(folder), initial_params()
    found = {"resident": train(folder / "resident", params, data)}
    streamed = dataclasses.replace(data, resident=False)
    found["streamed"] = train(folder / "streamed", params, streamed)
    own = folder / f"process {index}"
    own.mkdir(parents=True)
    for name, outcomes in found.items():
        figures = [{**vars(outcome), "learned": None} for outcome in outcomes]
        (own / f"{name}.json").write_text(json.dumps(figures))
        np.savez(own / f"{name}.npz", *jax.tree.leaves([o.learned for o in outcomes]))
    if processes.is_first():
        learned = {**params[0], **found["resident"][0].learned}
        probabilities, _ = class_probabilities(NET, PROGRAM.recipe, learned, data)
        np.save(own / "probabilities.npy", probabilities)
    told = processes.broadcast("a value", {"from": index, "text": "é"})
    (own / "told.json").write_text(json.dumps({**told, "began": began}))
    processes.barrier("end")


if __name__ == "__main__":
    folder, coordinator, *numbers = sys.argv[1:]
    main(Path(folder), coordinator, *map(int, numbers))
