"""Bytes of optimiser state by frozen layers, compiled memory by batch, and the largest batch."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from transfer_jax.bench import options as common
from transfer_jax.bench.page import table
from transfer_jax.bench.training import SyntheticData, recipe_for, train_loop
from transfer_jax.networks import Network
from transfer_jax.training import devices
from transfer_jax.training.step import Program, Source, initial_state, make_train_step

GRAIN = 32
"""Batches of the search are multiples of this for each device."""


@dataclasses.dataclass(frozen=True)
class StateBytes:
    """What one cell keeps from step to step.

    Attributes:
      frozen: number of frozen lower layers.
      learned: bytes of params that learn.
      optimiser: bytes of their optimiser's state.
      shared: bytes of frozen params, one copy for all cells of a group.
    """

    frozen: int
    learned: int
    optimiser: int
    shared: int


@dataclasses.dataclass(frozen=True)
class StepBytes:
    """What XLA says that a compiled step needs on one device.

    Attributes:
      batch_size: images of the device.
      arguments: bytes of state and batch.
      temporaries: bytes of everything that lives inside the step only.
      outputs: bytes of results that take no argument's place.
    """

    batch_size: int
    arguments: int
    temporaries: int
    outputs: int

    @property
    def peak(self) -> int:
        """Bytes while the step runs, at most."""
        return self.arguments + self.temporaries + self.outputs


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `python -m transfer_jax.bench memory`."""
    common.add_network(parser, "caffenet")
    parser.add_argument(
        "--solver", choices=("sgd", "adamw"), default="sgd", help="whose state is counted"
    )
    common.add_batches(parser, 16, 32, 64)


def run(options: argparse.Namespace) -> str:
    """The benchmark's page."""
    network, dtype = options.network, options.dtype
    by_depth = [state_bytes(network, n, options.solver) for n in range(len(network.layers))]
    by_batch = [step_bytes(network, batch, dtype, options.solver) for batch in options.batch]
    limit = device_limit()
    largest = None
    if limit is not None:
        largest = largest_batch(
            limit,
            lambda batch: step_bytes(network, batch, dtype, options.solver).peak,
            lambda batch: runs(network, batch, dtype, options.solver),
        )
    return report(network, options.solver, dtype, by_depth, by_batch, limit, largest)


def state_bytes(network: Network, frozen: int, solver: str = "sgd") -> StateBytes:
    """Counts the leaves of the trainer's own initial state; nothing is computed.

    Args:
      network: of the cell.
      frozen: number of its frozen lower layers.
      solver: the recipe's.
    """
    program = _program(network, 32, "float32", solver, frozen)
    state, shared = _shapes(program)
    return StateBytes(frozen, *(_bytes(t) for t in (state.learned, state.opt_state, shared)))


def step_bytes(
    network: Network, batch_size: int, dtype: str = "float32", solver: str = "sgd"
) -> StepBytes:
    """Compiles one device's train step for streamed images and asks XLA what it needs.

    Args:
      network: all of its layers learn.
      batch_size: images of the device.
      dtype: of activations and products.
      solver: the recipe's.
    """
    program = _program(network, batch_size, dtype, solver)
    state, shared = _shapes(program)
    data = SyntheticData.draw(network, 1).source
    images = jax.ShapeDtypeStruct((batch_size, *data.images.shape[1:]), np.uint8)
    labels = jax.ShapeDtypeStruct((batch_size,), np.int32)
    source = Source(images, labels, jax.ShapeDtypeStruct((3,), np.float32))
    key = jax.eval_shape(lambda: jax.random.key(0))
    leading = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype),
        (state, shared, source, labels),
    )
    # One device with a named axis, as `devices.map_over_devices` maps it.
    mapped = jax.vmap(make_train_step(program), (0, 0, 0, 0, None), axis_name=devices.BATCH_AXIS)
    compiled = jax.jit(mapped, donate_argnums=0).lower(*leading, key).compile()
    found = compiled.memory_analysis()
    return StepBytes(
        batch_size,
        found.argument_size_in_bytes,
        found.temp_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
    )


def device_limit() -> int | None:
    """Bytes that JAX may take on the first device, where the backend tells."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit")


def runs(network: Network, batch_size: int, dtype: str, solver: str) -> bool:
    """Whether two steps on images of the device's own batch run to their end."""
    program = _program(network, batch_size, dtype, solver)
    data = SyntheticData.draw(network, batch_size)
    try:
        params = network.init(jax.random.key(0))
        train_loop(program, (params,), data).run(2)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return False
    return True


def largest_batch(
    limit: int, peak: Callable[[int], int], fits: Callable[[int], bool], grain: int = GRAIN
) -> int:
    """The largest batch that fits one device: bisected by the compiler's word, then run.

    Args:
      limit: bytes of the device.
      peak: batch -> bytes that its step needs by analysis.
      fits: batch -> whether it really runs.
      grain: batches are multiples of this.

    Returns:
      the largest batch that ran; 0 when not even one grain does. Where the analysis was too
      hopeful, an eighth less is tried each time.
    """
    low, high = 0, 1
    while peak(high * grain) <= limit:
        low, high = high, 2 * high
    while high - low > max(1, low // 32):
        middle = (low + high) // 2
        low, high = (middle, high) if peak(middle * grain) <= limit else (low, middle)
    while low and not fits(low * grain):
        low = min(low - 1, low * 7 // 8)
    return low * grain


def report(
    network: Network,
    solver: str,
    dtype: str,
    by_depth: Sequence[StateBytes],
    by_batch: Sequence[StepBytes],
    limit: int | None,
    largest: int | None,
) -> str:
    """The numbers as Markdown."""
    depth_rows = [
        [str(s.frozen), *(f"{b:,}" for b in (s.learned, s.optimiser, s.shared))] for s in by_depth
    ]
    batch_rows = [
        [str(s.batch_size), *(f"{b / 2**20:,.0f}" for b in (s.arguments, s.temporaries, s.peak))]
        for s in by_batch
    ]
    lines = [
        f"# Memory of {network.name}",
        "",
        f"## Kept from step to step, {solver}",
        "",
        "Bytes of the state that the trainer makes for one cell with n frozen layers; frozen "
        "layers carry no optimiser state.",
        "",
        table(["n", "params that learn", "optimiser", "frozen params"], depth_rows),
        "",
        f"## A compiled step, {dtype}, {solver}",
        "",
        "By XLA's analysis, for one device and images that arrive with the batch; MiB.",
        "",
        table(["batch", "state and batch", "temporaries", "together"], batch_rows),
        "",
    ]
    if largest is None:
        lines.append(
            f"The largest batch was not searched: {jax.default_backend()} tells no memory limit."
        )
    else:
        lines.append(
            f"Largest batch that fits {limit / 2**30:.1f} GiB, found by bisection on that analysis "
            f"and then run for two steps: {largest} (searched to 3 %, in multiples of {GRAIN})."
        )
    return "\n".join(lines)


def _program(
    network: Network, batch_size: int, dtype: str, solver: str, frozen: int = 0
) -> Program:
    recipe = recipe_for(network, batch_size, dtype)
    changes = {} if solver == "sgd" else {"solver": solver, "nesterov": False}
    return Program(network, dataclasses.replace(recipe, **changes), (frozen,))


def _shapes(program: Program):
    """What `initial_state` gives, as shapes."""
    return jax.eval_shape(
        lambda: initial_state(program, (program.network.init(jax.random.key(0)),))
    )


def _bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
