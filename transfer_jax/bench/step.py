"""Images a second of the train step: ours, the plain form of the layers, and PyTorch."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

import jax

from transfer_jax.bench import matmul, torch_training
from transfer_jax.bench import options as common
from transfer_jax.bench.page import table
from transfer_jax.bench.timing import STATISTICS, Timing, interleave
from transfer_jax.bench.training import (
    SyntheticData,
    default_steps_per_call,
    recipe_for,
    train_loop,
)
from transfer_jax.networks import Network, layers
from transfer_jax.training import devices
from transfer_jax.training.step import Program

OURS, PLAIN, TORCH, COMPILED = "ours", "plain lax", "PyTorch", "PyTorch compiled"
RATIO_ON_CPU, RATIO_ON_GPU, UTILISATION_ON_GPU = 0.8, 1.2, 0.4


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

    def torch_ratio(self, statistic: str) -> float | None:
        """Our speed divided by that of the fastest form of PyTorch; None where there is none."""
        forms = [name for name in (TORCH, COMPILED) if name in self.timings]
        return min((self.ratio(name, statistic) for name in forms), default=None)

    def utilisation(
        self, name: str, statistic: str, network: Network, flops_per_second: float
    ) -> float:
        """Share of some rate of operations that a contender's counted operations reach."""
        return network.train_flops() * self.images_per_second(name, statistic) / flops_per_second


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `python -m transfer_jax.bench step`."""
    common.add_network(parser)
    common.add_batches(parser, 64, 128)
    common.add_rounds(parser)
    parser.add_argument(
        "--no_plain", action="store_true", help="leave out the plain form, slow on CPUs"
    )


def run(options: argparse.Namespace) -> str:
    """The benchmark's page."""
    contests = [
        measure(
            options.network,
            batch,
            **common.rounds(options),
            dtype=options.dtype,
            plain=not options.no_plain,
        )
        for batch in options.batch
    ]
    rate = matmul.measure("float32" if jax.default_backend() == "cpu" else "bfloat16")
    text = report(options.network, contests, rate, options.dtype)
    return f"{text}\n\n{common.describe_rounds(options)}"


def remarks(options: argparse.Namespace) -> list[str]:
    """PyTorch's version, where it took part."""
    return [] if torch_training.why_not() else [torch_training.describe()]


def measure(
    network: Network,
    batch_size: int,
    *,
    repeats: int,
    steps: int,
    steps_per_call: int = 0,
    dtype: str = "float32",
    plain: bool = True,
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
      dtype: of activations and products; PyTorch's 'bfloat16' is its autocast.
      plain: also time the plain form of the layers, where ours is another.
    """
    recipe = recipe_for(network, batch_size, dtype)
    data = SyntheticData.draw(network, batch_size)
    params = network.init(jax.random.key(0))
    program = Program(network, recipe, (0,))
    chunk = steps_per_call or default_steps_per_call()
    forms = {OURS: "auto"}
    if plain and layers.implementation() != "plain":
        forms[PLAIN] = "plain"
    contenders, skipped = {}, {}
    for name, form in forms.items():
        loop = train_loop(program, (params,), data, implementation=form, steps_per_call=chunk)
        contenders[name] = loop.run
    if reason := torch_training.why_not():
        skipped[TORCH] = reason
    else:
        rivals = {TORCH: False}
        if torch_training.can_compile():
            rivals[COMPILED] = True
        for name, compiled in rivals.items():
            loop, _ = torch_training.train_loop(network, params, recipe, data, compiled=compiled)
            contenders[name] = lambda calls, loop=loop: loop(calls * chunk)
    calls = -(-steps // chunk)
    timings = {
        name: Timing(tuple(seconds / chunk for seconds in timing.seconds))
        for name, timing in interleave(contenders, repeats=repeats, steps=calls).items()
    }
    return Contest(batch_size, timings, skipped)


def report(
    network: Network,
    contests: Sequence[Contest],
    rate: matmul.MatmulRate,
    dtype: str = "float32",
) -> str:
    """The contests as Markdown.

    Args:
      network: what was trained.
      contests: one for each batch size.
      rate: of large matrix products on one device, which utilisation is a share of.
      dtype: of the contenders.
    """
    available = rate.flops_per_second * devices.num_devices()
    rows = []
    for contest in contests:
        for name, timing in contest.timings.items():
            share = contest.utilisation(name, "minimum", network, available)
            rows.append(
                [
                    name,
                    str(contest.batch_size),
                    f"{1e3 * timing.minimum:.1f}",
                    f"{1e3 * timing.median:.1f}",
                    *(f"{contest.images_per_second(name, s):,.0f}" for s in STATISTICS),
                    *("" if name == OURS else f"{contest.ratio(name, s):.2f}" for s in STATISTICS),
                    f"{100 * share:.1f} %",
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
        "utilisation, fastest",
    ]
    gflop = network.train_flops() / 1e9
    lines = [
        f"# Train step of {network.name}",
        "",
        f"{network.num_params:,} parameters, {gflop:.3f} GFLOP a training image, {dtype}; "
        f"synthetic uint8 images, resident on the device, cut to {network.input_size} pixels. "
        f"Utilisation: counted operations as a share of the best measured rate, {rate}.",
        "",
        table(header, rows),
    ]
    reasons = {(name, why): None for c in contests for name, why in c.skipped.items()}
    lines += [f"\n{name} was not measured: {why}." for name, why in reasons]
    found = [verdict for c in contests for verdict in verdicts(network, c, available)]
    return "\n".join([*lines, "", *found] if found else lines)


def verdicts(network: Network, contest: Contest, flops_per_second: float) -> list[str]:
    """Whether the project's targets for this backend are met, a line of Markdown each."""
    on_gpu = jax.default_backend() == "gpu"
    found = []
    wanted = RATIO_ON_GPU if on_gpu else RATIO_ON_CPU
    fastest, median = (contest.torch_ratio(s) for s in STATISTICS)
    if fastest is not None and (on_gpu or network.name == "alexnet_mini"):
        found.append(
            f"- batch {contest.batch_size}: ours / the fastest PyTorch {fastest:.2f} (fastest "
            f"rounds), {median:.2f} (median); at least {wanted} wanted: {_met(fastest >= wanted)}."
        )
    if on_gpu:
        share = contest.utilisation(OURS, "minimum", network, flops_per_second)
        found.append(
            f"- batch {contest.batch_size}: {100 * share:.1f} % of the measured matrix rate; at "
            f"least {100 * UTILISATION_ON_GPU:.0f} % wanted: {_met(share >= UTILISATION_ON_GPU)}."
        )
    return found


def _met(met: bool) -> str:
    return "met" if met else "missed"
