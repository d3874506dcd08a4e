"""What tests/training/test_devices.py runs on one device and, as a program, on several."""

import dataclasses
import sys

import jax
import numpy as np

from tests import small
from transfer_jax.training import devices
from transfer_jax.training.evaluation_step import make_eval_step
from transfer_jax.training.step import (
    Program,
    initial_state,
    make_train_step,
)
from transfer_jax.transfer import Treatment

BATCH, STEPS = 16, 5
NET = small.network(num_classes=3)
RECIPE = dataclasses.replace(small.RECIPE, batch_size=BATCH, decay_every=3)
PROGRAM = Program(NET, RECIPE, (1, 2))


def train_and_evaluate() -> dict[str, np.ndarray]:
    """Losses, final params and evaluation of a group after some steps, as a flat dictionary."""
    base = NET.init(jax.random.key(0))
    params = tuple(
        Treatment("B", "A", n).initial_params(NET, jax.random.key(n), base) for n in PROGRAM.frozen
    )
    source = devices.replicate(small.source(24, num_classes=3))
    state, shared = devices.replicate(initial_state(PROGRAM, params))
    train = devices.map_over_devices(make_train_step(PROGRAM), donate=(0,), num_broadcast=1)
    order = np.random.default_rng(0).integers(0, 24, (STEPS, BATCH)).astype(np.int32)
    losses = []
    for indices in order:
        batch = devices.split_batch(indices)
        state, loss = train(state, shared, source, batch, jax.random.key(5))
        # One step at a time: virtual devices share the threads of one processor.
        losses.append(np.asarray(loss.addressable_shards[0].data[0]))
    mask = (np.arange(BATCH) < 11).astype(np.float32)
    evaluate = devices.map_over_devices(make_eval_step(PROGRAM))
    sums = evaluate(
        state.learned, shared, source, devices.split_batch(order[0]), devices.split_batch(mask)
    )
    learned = jax.tree.map(np.asarray, devices.unreplicate(state.learned))
    leaves = {
        f"cell {i}: {jax.tree_util.keystr(path)}": leaf
        for i, cell in enumerate(learned)
        for path, leaf in jax.tree_util.tree_leaves_with_path(cell)
    }
    sums = np.asarray(sums.addressable_shards[0].data[0])
    return {"losses": np.stack(losses), "sums": sums, **leaves}


def arrangement() -> dict[str, np.ndarray]:
    """How arrays are split over the devices, and what a replicated tree looks like."""
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.int32(7)}
    copies = devices.replicate(tree)
    back = devices.unreplicate(copies)
    try:
        devices.split_batch(np.zeros(devices.num_devices() + 1))
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    return {
        "rows": devices.split_batch(np.arange(48).reshape(24, 2)),
        "columns": devices.split_batch(np.arange(48).reshape(2, 24), axis=-1),
        "copies": np.asarray(copies["a"]),
        "round trip a": np.asarray(back["a"]),
        "round trip b": np.asarray(back["b"]),
        "refusal": np.array(refusal),
    }


if __name__ == "__main__":
    np.savez(sys.argv[1], devices=devices.num_devices(), **arrangement(), **train_and_evaluate())
