"""Time of a training step that streams its images against one on a batch that is on the device."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from transfer_jax.bench.loaders import add_reading, cores
from transfer_jax.bench.options import (
    add_batches,
    add_network,
    describe_rounds,
    positive,
)
from transfer_jax.bench.page import table
from transfer_jax.bench.photographs import photographs, written
from transfer_jax.bench.timing import STATISTICS, Timing, interleave
from transfer_jax.bench.training import recipe_for
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.pipeline import BatchOrder
from transfer_jax.data.records import RecordSource
from transfer_jax.data.tasks import Task
from transfer_jax.networks import Network
from transfer_jax.training import devices
from transfer_jax.training.feed import TaskData, training_batches
from transfer_jax.training.step import Program, initial_state
from transfer_jax.training.trainer import compiled_train_step

REPEATED = "one repeated batch, on the device"
STREAMED = "streamed from memory"
DECODED = "streamed from prepared records"
READ = "no step: the stream from memory alone"
READ_DECODED = "no step: the stream from prepared records alone"
_TRAINING = (REPEATED, STREAMED, DECODED)
TARGET = 1.05
"""Most that a step may take with a loader that is fast enough, over one on a repeated batch."""

SMALL = 64
_ENDLESS = 10**9


class MemoryRecords:
    """A `RecordSource` whose images are decoded already."""

    def __init__(self, images: np.ndarray):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"image": self.images[index]}

    def read_image(self, index: int) -> np.ndarray:
        return self.images[index]


@dataclasses.dataclass(frozen=True)
class MemoryDataset:
    """A dataset whose training images are read from memory instead of from its records."""

    base: Dataset
    images: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.base.name} in memory"

    def labels(self, split: str) -> np.ndarray:
        return self.base.labels(split)

    def record_source(self, split: str) -> RecordSource:
        return MemoryRecords(self.images)


@dataclasses.dataclass(frozen=True)
class Contest:
    """One batch size's contenders: seconds a step, or a batch where no step is made."""

    batch_size: int
    timings: Mapping[str, Timing]

    def ratio(self, name: str, statistic: str) -> float:
        """Time of a contender divided by that of the repeated batch, 'minimum' or 'median'."""
        one, other = self.timings[name], self.timings[REPEATED]
        return getattr(one, statistic) / getattr(other, statistic)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options to its parser."""
    add_network(parser)
    add_batches(parser, 64)
    add_reading(parser, photographs=512)
    parser.add_argument("--repeats", type=positive, default=8, help="rounds")
    parser.add_argument("--steps", type=positive, default=30, help="of each contender in a round")


def run(options: argparse.Namespace) -> str:
    """Measures; the page as Markdown."""
    network = options.network
    contests = measure(
        network,
        options.batch,
        repeats=options.repeats,
        steps=options.steps,
        workers=options.workers,
        count=options.photographs,
        dtype=options.dtype,
    )
    return f"{report(network, contests)}\n\n{describe_rounds(options)}"


def measure(
    network: Network,
    batches: Sequence[int],
    *,
    repeats: int,
    steps: int,
    workers: int = 0,
    count: int = 512,
    dtype: str = "float32",
) -> list[Contest]:
    """Times the contenders by turns, for each batch size.

    Args:
      network: what is trained. Its images are 256 pixels wide, and those of a network for less
        than `SMALL` pixels as wide as its input.
      batches: images a step, over all devices.
      repeats: rounds of all contenders.
      steps: of each contender in a round. Streams run on from round to round and may be a few
        batches ahead when one begins, which many steps make up for.
      workers: processes that read records; 0 reads in threads. The stream from memory is read in
        threads always.
      count: photographs to make.
      dtype: of activations and products.

    Raises:
      ValueError: when a batch cannot be split over the devices.
    """
    files = photographs(count)
    size = network.input_size if network.input_size <= SMALL else 256
    with written(files, size) as (_, dataset):
        images = dataset.images("train", np.arange(count))
        return [
            _contest(
                Program(network, recipe_for(network, batch, dtype), (0,)),
                dataset,
                images,
                workers,
                repeats=repeats,
                steps=steps,
            )
            for batch in batches
        ]


def report(network: Network, contests: Sequence[Contest]) -> str:
    """The measurements as Markdown."""
    shared = (
        "which the steps use too" if jax.default_backend() == "cpu" else "and steps run elsewhere"
    )
    lines = [
        f"# Streaming into the train step of {network.name}",
        "",
        "What streams from memory takes the same way as what streams from disk (the batch's order, "
        "threads, Grain, the transfer), but its images are decoded already: this is a loader that "
        f"is fast enough. Reading has {cores()} cores, {shared}. A batch without a step shows what "
        "reading takes by itself.",
    ]
    for contest in contests:
        lines += ["", f"## Batch {contest.batch_size}", "", *_section(contest)]
    return "\n".join(lines)


def _contest(
    program: Program, dataset: Dataset, images: np.ndarray, workers: int, **counts: int
) -> Contest:
    batch_size = program.recipe.batch_size
    memory = _task_data(MemoryDataset(dataset, images), workers=0)
    records = _task_data(dataset, workers)
    order = BatchOrder(len(images), batch_size, seed=0)
    step = _Step(program)
    with contextlib.ExitStack() as stack:

        def endless(data: TaskData) -> Iterator:
            stream = training_batches(data, order, 0, _ENDLESS, 1)
            return stack.enter_context(contextlib.closing(stream))

        first = jax.block_until_ready(_on_devices(next(endless(memory))))
        contenders = {
            REPEATED: step.over(itertools.repeat(first)),
            STREAMED: step.over(endless(memory)),
            DECODED: step.over(endless(records)),
            READ: _reading(endless(memory)),
            READ_DECODED: _reading(endless(records)),
        }
        return Contest(batch_size, interleave(contenders, **counts))


class _Step:
    """The trainer's compiled step and its state, which all contenders go on from."""

    def __init__(self, program: Program):
        params = program.network.init(jax.random.key(0))
        state, shared = initial_state(program, (params,))
        self.state, self.shared = devices.replicate(state), devices.replicate(shared)
        self.key = jax.random.key_data(jax.random.key(0))
        self.train_step = compiled_train_step(program, False)
        # As the trainer does: see there.
        self.one_at_a_time = jax.default_backend() == "cpu" and devices.num_devices() > 1

    def over(self, batches: Iterator) -> Callable[[int], None]:
        """run(steps): that many steps, one running while one waits, as the trainer does."""

        def run(steps: int) -> None:
            before = None
            for source, indices in itertools.islice(batches, steps):
                self.state, losses = self.train_step(
                    self.state, self.shared, source, indices, self.key
                )
                jax.block_until_ready(losses if self.one_at_a_time else before)
                before = losses
            jax.block_until_ready(self.state)

        return run


def _reading(batches: Iterator) -> Callable[[int], None]:
    def run(count: int) -> None:
        for batch in itertools.islice(batches, count):
            jax.block_until_ready(batch)

    return run


def _on_devices(batch):
    source, indices = batch
    return devices.put((source, indices))


def _task_data(dataset, workers: int) -> TaskData:
    task = Task("all", dataset.name, (0,))
    mean = np.full(3, 127.5, np.float32)
    return TaskData(dataset, task, mean, resident=False, workers=workers)


def _section(contest: Contest) -> list[str]:
    rows = []
    for name, timing in contest.timings.items():
        fastest, median = (getattr(timing, s) for s in STATISTICS)
        over = (
            ""
            if name.startswith("no step")
            else f"{100 * (contest.ratio(name, 'minimum') - 1):+.1f}"
        )
        rate = f"{contest.batch_size / fastest:.0f}"
        rows.append([name, f"{1e3 * fastest:.2f}", f"{1e3 * median:.2f}", rate, over])
    minimum, median = (contest.ratio(STREAMED, s) for s in STATISTICS)
    verdict = "met" if minimum <= TARGET else "missed"
    decoding = contest.ratio(DECODED, "minimum") - contest.ratio(STREAMED, "minimum")
    return [
        table(["", "ms, fastest", "median", "images/s", "over the repeated batch, %"], rows),
        "",
        f"streamed from memory / repeated: {minimum:.3f} (fastest), {median:.3f} (median); at most "
        f"{TARGET} wanted: {verdict}. Decoding adds {100 * decoding:.1f} % of a step to that.",
    ]
