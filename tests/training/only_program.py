"""Threads that train different groups on different devices at once; see test_only.py.

Arguments: the folder for the runs. Eight virtual devices are expected.
"""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from tests.training.groups import PROGRAM, train
from tests.training.processes_program import initial_params, task_data
from transfer_jax.training import devices, feed, trainer

SETS = ((0,), (3,), (5, 6))
SEEDS = (3, 4)


def main(folder):
    chips = jax.local_devices()
    data, params = task_data(folder), initial_params()
    traced, loaded, lock = [], [], threading.Lock()
    make, load = trainer.make_train_step, feed.load_resident

    def noted_step(program, **options):
        step = make(program, **options)

        def noted(*arguments):
            traced.append([device.id for device in devices.axis_devices()])
            return step(*arguments)

        return noted

    def noted_load(dataset, split, task):
        loaded.append(split)
        return load(dataset, split, task)

    trainer.make_train_step, feed.load_resident = noted_step, noted_load
    together = threading.Barrier(len(SETS))

    def work(place):
        with devices.only([chips[i] for i in SETS[place]]):
            together.wait()
            step = trainer.compiled_train_step(PROGRAM, False)
            for seed in SEEDS:
                outcomes = train(folder / f"{place}" / f"{seed}", params, data, seed=seed + place)
                leaves = jax.tree.leaves([outcome.learned for outcome in outcomes])
                np.savez(folder / f"{place} {seed}.npz", *leaves)
            with lock:
                assert trainer.compiled_train_step(PROGRAM, False) is step
            source = feed._resident_source(feed._Split.of(data, "train"))
            used = sorted(device.id for device in source.images.devices())
            return {"used": used, "default": jax.numpy.zeros(1).device.id}

    with ThreadPoolExecutor(len(SETS)) as threads:
        found = list(threads.map(work, range(len(SETS))))
    outside = devices.num_devices()
    content = {"found": found, "traced": traced, "loaded": loaded, "outside": outside}
    (folder / "found.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
