"""Options that several benchmarks have, and how their values are read."""

from __future__ import annotations

import argparse

from transfer_jax.networks import Network, build
from transfer_jax.networks.architectures import BUILT_IN
from transfer_jax.training.recipe import DTYPES


def positive(text: str) -> int:
    """An integer of at least 1, for argparse."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """An integer of at least 0, for argparse."""
    return _at_least(0, text)


def network(text: str) -> Network:
    """A built-in network at its default size, for argparse."""
    if text not in BUILT_IN:
        raise argparse.ArgumentTypeError(f"{text!r}: expected one of {sorted(BUILT_IN)}")
    return build(text)


def add_network(parser: argparse.ArgumentParser, default: str = "alexnet_mini") -> None:
    """--network and --dtype."""
    parser.add_argument("--network", type=network, default=default, help="what is trained")
    parser.add_argument(
        "--dtype", choices=sorted(DTYPES), default="float32", help="of activations and products"
    )


def add_batches(parser: argparse.ArgumentParser, *default: int) -> None:
    """--batch, one or several."""
    parser.add_argument(
        "--batch",
        type=positive,
        nargs="+",
        default=list(default),
        help="images a step, over all devices",
    )


def add_rounds(parser: argparse.ArgumentParser, repeats: int = 10, steps: int = 10) -> None:
    """--repeats, --steps and --steps_per_call."""
    parser.add_argument("--repeats", type=positive, default=repeats, help="rounds")
    parser.add_argument(
        "--steps",
        type=positive,
        default=steps,
        help="steps of each contender in a round, rounded up to whole calls",
    )
    parser.add_argument(
        "--steps_per_call",
        type=not_negative,
        default=0,
        help="steps compiled into one call; 0 does as the trainer does on this backend",
    )


def rounds(options: argparse.Namespace) -> dict[str, int]:
    """What `add_rounds` added, as keyword arguments."""
    return {name: getattr(options, name) for name in ("repeats", "steps", "steps_per_call")}


def describe_rounds(options: argparse.Namespace) -> str:
    """How many measurements there were, as a sentence."""
    return f"{options.repeats} rounds of {options.steps} steps or more, contenders by turns."


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value < least:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer of at least {least}")
    return value
