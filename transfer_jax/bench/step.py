"""Images a second of the train step: ours, the plain form of the layers, and PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax

from transfer_jax.bench import torch_training
from transfer_jax.bench.page import table
from transfer_jax.bench.timing import STATISTICS, Timing, interleave
from transfer_jax.bench.training import (
    SyntheticData,
    default_steps_per_call,
    recipe_for,
    train_loop,
)
from transfer_jax.networks import Network
from transfer_jax.training.step import Program

OURS, PLAIN, TORCH = "ours", "plain lax", "PyTorch"


@dataclasses.dataclass(frozen=True)
class Contest:
    """Contenders at one batch size.

    Attributes:
      batch_size: images a step, over all devices.
      timings: contender -> seconds a step.
      skipped: contender -> why it was not measured.
    """

    batch_size: int
    timings: Mapping[str, Timing]
    skipped: Mapping[str, str]

    def images_per_second(self, name: str, statistic: str) -> float:
        """Speed of a contender by the 'minimum' or the 'median' of its times."""
        return self.batch_size / getattr(self.timings[name], statistic)

    def ratio(self, name: str, statistic: str) -> float:
        """Our speed divided by that of another contender."""
        ours, theirs = self.timings[OURS], self.timings[name]
        return getattr(theirs, statistic) / getattr(ours, statistic)


def measure(
    network: Network, batch_size: int, *, repeats: int, steps: int, steps_per_call: int = 0
) -> Contest:
    """Times the train step of a network by turns with its rivals.

    All contenders do the same work on the same uint8 images, which lie on the device: gather,
    random crop, mirror, normalisation, forward with dropout, loss, backward, Nesterov momentum and
    weight decay at a scheduled learning rate.

    Args:
      network: what is trained, all of its layers.
      batch_size: images a step, over all devices.
      repeats: rounds of all contenders.
      steps: steps of each contender in a round.
      steps_per_call: of the JAX contenders; 0 does as the trainer does.
    """
    recipe, data = recipe_for(network, batch_size), SyntheticData.draw(network, batch_size)
    params = network.init(jax.random.key(0))
    program = Program(network, recipe, (0,))
    chunk = steps_per_call or default_steps_per_call()
    contenders = {}
    for name, form in ((OURS, "auto"), (PLAIN, "plain")):
        loop = train_loop(program, (params,), data, implementation=form, steps_per_call=chunk)
        contenders[name] = loop.run
    timings = {}
    skipped = {}
    if reason := torch_training.why_not():
        skipped[TORCH] = reason
    else:
        run, _ = torch_training.train_loop(network, params, recipe, data)
        contenders[TORCH] = lambda calls: run(calls * chunk)
    calls = -(-steps // chunk)
    for name, timing in interleave(contenders, repeats=repeats, steps=calls).items():
        timings[name] = Timing(tuple(seconds / chunk for seconds in timing.seconds))
    return Contest(batch_size, timings, skipped)


def report(network: Network, contests: Sequence[Contest]) -> str:
    """The contests as Markdown."""
    rows = []
    for contest in contests:
        for name, timing in contest.timings.items():
            rows.append(
                [
                    name,
                    str(contest.batch_size),
                    f"{1e3 * timing.minimum:.1f}",
                    f"{1e3 * timing.median:.1f}",
                    *(f"{contest.images_per_second(name, s):,.0f}" for s in STATISTICS),
                    *("" if name == OURS else f"{contest.ratio(name, s):.2f}" for s in STATISTICS),
                ]
            )
    header = [
        "contender",
        "batch",
        "ms a step, fastest",
        "median",
        "images/s, fastest",
        "median",
        "ours / this, fastest",
        "median",
    ]
    gflop = network.train_flops() / 1e9
    lines = [
        f"# Train step of {network.name}",
        "",
        f"{network.num_params:,} parameters, {gflop:.3f} GFLOP a training image; synthetic uint8 "
        f"images of {network.input_size} pixels, resident on the device.",
        "",
        table(header, rows),
    ]
    reasons = {(name, why): None for c in contests for name, why in c.skipped.items()}
    lines += [f"\n{name} was not measured: {why}." for name, why in reasons]
    return "\n".join(lines)
