"""The project's own compiled train step on synthetic images, as something that can be timed."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from transfer_jax.data.augment import Augmentation
from transfer_jax.networks import Network, layers
from transfer_jax.training import devices
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.step import Program, Source, initial_state
from transfer_jax.training.trainer import compiled_train_step

NUM_IMAGES = 4096
NUM_BATCHES = 16
_SMALL_SIZE = 64
_MOST_BYTES = {"cpu": 2**27}
_MOST_BYTES_OF_ACCELERATORS = 2**30


def recipe_for(network: Network, batch_size: int, dtype: str = "float32") -> Recipe:
    """The recipe of the studies, at some batch size.

    Random crops (from 4 pixels of padding where images are small, as Caffe's from images 29 pixels
    larger elsewhere), mirroring, Nesterov momentum, weight decay and a one-cycle schedule, so that
    a step does all the work of a step in a study.
    """
    return Recipe(
        batch_size=batch_size,
        steps=100_000,
        solver="sgd",
        nesterov=True,
        schedule="one_cycle",
        bias_lr_multiplier=1.0,
        augmentation=Augmentation(size=network.input_size, pad=_pad(network), mirror=True),
        mean="channel",
        pixel_scale=1 / 60,
        dtype=dtype,
    )


def _pad(network: Network) -> int:
    return 4 if network.input_size <= _SMALL_SIZE else 0


@dataclasses.dataclass(frozen=True)
class SyntheticData:
    """Uniform noise for images, and batches of it.

    Attributes:
      source: NUM_IMAGES images and their labels, on the host; fewer where they are large.
      batches: (NUM_BATCHES, batch size) int32 places in them.
    """

    source: Source
    batches: np.ndarray

    @classmethod
    def draw(cls, network: Network, batch_size: int) -> SyntheticData:
        """Images to cut the network's from and labels of its classes, the same in every run."""
        random = np.random.default_rng(0)
        side = network.input_size if _pad(network) else network.input_size + 29
        most = _MOST_BYTES.get(jax.default_backend(), _MOST_BYTES_OF_ACCELERATORS)
        count = min(NUM_IMAGES, most // (3 * side**2))
        images = random.integers(0, 256, (count, side, side, 3), np.uint8)
        labels = random.integers(0, network.num_classes, count, np.int32)
        mean = np.full(3, 127.5, np.float32)
        batches = random.integers(0, count, (NUM_BATCHES, batch_size), np.int32)
        return cls(Source(images, labels, mean), batches)


@dataclasses.dataclass(frozen=True)
class TrainLoop:
    """A compiled train step with its state.

    Attributes:
      run: run(calls) updates the state that many times the steps of one call, and returns when
        that is done.
      losses: the loss of each cell at the last step of each call so far, in nats.
      steps_per_call: updates in one call.
      compile_seconds: from Python to the executable.
      flops: floating-point operations of one step over all devices, by XLA's `cost_analysis`.
      text: the program that XLA was given, as StableHLO.
      optimised: the program that runs, as HLO.
    """

    run: Callable[[int], None]
    losses: Callable[[], np.ndarray]
    steps_per_call: int
    compile_seconds: float
    flops: float
    text: str
    optimised: Callable[[], str]


def default_steps_per_call() -> int:
    """As many steps in one call as the trainer makes on this backend."""
    return 1 if jax.default_backend() == "cpu" else 50


def train_loop(
    program: Program,
    params: Sequence[Any],
    data: SyntheticData,
    *,
    implementation: str = "auto",
    steps_per_call: int = 1,
    side_by_side: str = "unroll",
) -> TrainLoop:
    """Compiles a group's train step, as the trainer does, for the images of `data`.

    Args:
      program: the group.
      params: full initial params of each of its cells.
      data: images, resident on the devices while the loop lives.
      implementation: form of the layers, see `layers.use_implementation`.
      steps_per_call: more than 1 compiles that many steps into one call.
      side_by_side: form of several cells, see `step.make_train_step`.

    Raises:
      ValueError: when the batch cannot be split over the devices.
    """
    state, shared = devices.replicate(initial_state(program, tuple(params)))
    source = devices.replicate(data.source)
    key = jax.random.key_data(jax.random.key(0))
    calls = [_indices(data, call, steps_per_call) for call in range(NUM_BATCHES)]

    with layers.use_implementation(implementation):
        started = time.perf_counter()
        lowered = _lower(
            program, steps_per_call > 1, side_by_side, (state, shared, source, calls[0], key)
        )
        one = compiled = lowered.compile()
        compile_seconds = time.perf_counter() - started
        if steps_per_call > 1:  # XLA does not count the turns of a loop
            arguments = (state, shared, source, _indices(data, 0, 1), key)
            one = _lower(program, False, side_by_side, arguments).compile()

    turns, history = itertools.cycle(calls), []

    def run(count: int) -> None:
        nonlocal state
        for indices in itertools.islice(turns, count):
            state, losses = compiled(state, shared, source, indices, key)
            history.append(losses)
        jax.block_until_ready(state)

    def losses() -> np.ndarray:
        return np.stack([np.asarray(loss)[0] for loss in history])

    flops = one.cost_analysis()["flops"] * devices.num_devices()
    text = lowered.as_text()
    return TrainLoop(run, losses, steps_per_call, compile_seconds, flops, text, compiled.as_text)


def _lower(program: Program, scanned: bool, side_by_side: str, arguments: tuple):
    step = compiled_train_step(program, scanned, side_by_side)
    return jax.jit(step, donate_argnums=0).lower(*arguments)


def _indices(data: SyntheticData, call: int, steps: int) -> np.ndarray:
    rows = (call * steps + np.arange(steps)) % NUM_BATCHES
    if steps == 1:
        return devices.split_batch(data.batches[rows[0]])
    return devices.split_batch(data.batches[rows], axis=-1)
