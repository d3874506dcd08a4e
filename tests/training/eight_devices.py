"""Trains a small group for a few steps and saves losses and params: run with any device count."""

import sys

import jax
import numpy as np

from tests.training import small
from transfer_jax.training import devices
from transfer_jax.training.step import full_params
from transfer_jax.training.trainer import compiled_train_step, evaluate

program, state, shared = small.start((0, 3))
step = compiled_train_step(program, False)
losses = []
for i in range(4):
    indices = (np.arange(16, dtype=np.int32) * 3 + i) % 64
    batch = devices.split_batch(indices)
    state, loss = step(state, shared, small.source(), batch, small.key_data())
    losses.append(np.asarray(loss)[0])
metrics = evaluate(program, state.learned, shared, small.DATA)
learned = devices.unreplicate(state).learned
params = full_params(program, devices.unreplicate(shared), learned)
values = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(params)]
top1 = [entry["top1"] for entry in metrics]
np.savez(
    sys.argv[1],
    count=devices.num_devices(),
    losses=losses,
    params=np.concatenate(values),
    top1=top1,
)
