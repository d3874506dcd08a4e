"""Where the time of a train step goes: a profiler's trace, summed up by kind of operation."""

from __future__ import annotations

import argparse
import dataclasses
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from transfer_jax.bench import options as common
from transfer_jax.bench.page import table
from transfer_jax.bench.training import SyntheticData, TrainLoop, recipe_for, train_loop
from transfer_jax.networks import Network
from transfer_jax.training.step import Program

# Told by what an operation's computation holds, the first that fits.
_BY_OPERATION = (
    ("convolutions", r" convolution\(|__cudnn\$conv|conv_bias_activation"),
    ("matrix products", r" dot\(|__cublas|\$gemm|__triton_gemm"),
    ("max pooling, as one operation", r"select_and_scatter|reduce_window_max"),
    ("window sums of normalisation", r"reduce_window"),
)
# Told by the names that JAX gives what it traces.
_BY_NAME = (
    ("random numbers", r"threefry|random_bits|random_gamma|_bernoulli|_uniform"),
    ("forward and backward, elementwise", r"jvp\("),
)
_COPIES = r" (copy|transpose|bitcast-convert|concatenate|slice|dynamic-slice|gather|pad)\("
_CONTAINERS = r" (while|call|conditional)\("


@dataclasses.dataclass(frozen=True)
class Profile:
    """Some steps under the profiler.

    Attributes:
      name: of the implementation of the layers.
      seconds: wall time of a step, the profiler's own cost included.
      kinds: kind of operation -> (seconds a step summed over threads, operations a step).
      slowest: (operation, its seconds a step), the slowest first.
    """

    name: str
    seconds: float
    kinds: Mapping[str, tuple[float, float]]
    slowest: Sequence[tuple[str, float]]

    @property
    def busy(self) -> float:
        """Seconds a step that threads or streams spend in operations."""
        return sum(seconds for seconds, _ in self.kinds.values())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `python -m transfer_jax.bench profile`."""
    common.add_network(parser)
    parser.add_argument("--batch", type=common.positive, default=128, help="images a step")
    parser.add_argument("--steps", type=common.positive, default=4, help="steps in the trace")
    parser.add_argument(
        "--implementation",
        choices=("plain", "auto"),
        nargs="+",
        default=["plain", "auto"],
        help="forms of the layers, each with a trace of its own: before, after",
    )
    parser.add_argument("--trace", type=Path, help="folder to keep the traces in")


def run(options: argparse.Namespace) -> str:
    """The benchmark's page."""
    network = options.network
    program = Program(network, recipe_for(network, options.batch, options.dtype), (0,))
    data = SyntheticData.draw(network, options.batch)
    params = network.init(jax.random.key(0))
    profiles = []
    for name in options.implementation:
        loop = train_loop(program, (params,), data, implementation=name)
        profiles.append(measure(name, loop, options.steps, options.trace))
    return report(network, options.batch, options.dtype, profiles)


def measure(name: str, loop: TrainLoop, steps: int, folder: Path | None = None) -> Profile:
    """Traces some steps and sums the trace up.

    Args:
      name: of the form of the layers.
      loop: compiled with one step in a call.
      steps: how many.
      folder: where the trace is kept, for TensorBoard or Perfetto; None drops it.

    Raises:
      ValueError: when the trace names no operation of the program.
    """
    loop.run(2)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) if folder is None else folder / name
        with jax.profiler.trace(target):
            started = time.perf_counter()
            loop.run(steps)
            seconds = (time.perf_counter() - started) / steps
        newest = max(target.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
        durations, counts = operation_seconds(jax.profiler.ProfileData.from_file(str(newest)))
    if not durations:
        raise ValueError(f"the profiler's trace names no operation on {jax.default_backend()}")
    kind_of = kinds_of(loop.optimised())
    kinds: dict[str, tuple[float, float]] = {}
    for operation, total in durations.items():
        kind = kind_of.get(operation, "other")
        if kind is not None:
            sums = kinds.get(kind, (0.0, 0.0))
            kinds[kind] = (sums[0] + total / steps, sums[1] + counts[operation] / steps)
    single = [(name, total / steps) for name, total in durations.most_common() if kind_of.get(name)]
    return Profile(name, seconds, kinds, single[:5])


def operation_seconds(trace) -> tuple[Counter, Counter]:
    """(seconds, times run) of each operation of a trace, by its name in the program.

    Args:
      trace: `jax.profiler.ProfileData`. On accelerators only the lines of streams are counted;
        others tell the same time again.
    """
    durations, counts = Counter(), Counter()
    for plane in trace.planes:
        for line in plane.lines:
            if plane.name.startswith("/device:") and not line.name.startswith("Stream"):
                continue
            for event in line.events:
                operation = dict(event.stats).get("hlo_op")
                if operation is not None:
                    durations[operation] += event.duration_ns / 1e9
                    counts[operation] += 1
    return durations, counts


def kinds_of(program: str) -> dict[str, str | None]:
    """Operation -> its kind, of a program's HLO text; None for those that only hold others.

    A fusion is what its computation holds: a convolution with its bias counts as a convolution.
    """
    bodies: dict[str, list[str]] = {}
    lines: dict[str, str] = {}
    for line in program.splitlines():
        if start := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            body = bodies.setdefault(start.group(1), [])
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = ", line):
            lines[found.group(1)] = line
            body.append(line)
    return {name: _kind(line, bodies) for name, line in lines.items()}


def _kind(line: str, bodies: Mapping[str, list[str]]) -> str | None:
    if re.search(_CONTAINERS, line):
        return None
    text = "\n".join([line, *_inside(line, bodies)])
    for kind, pattern in _BY_OPERATION:
        if re.search(pattern, text):
            return kind
    names = "\n".join(re.findall(r'op_name="([^"]*)"', text))
    if re.search(_BY_NAME[0][1], names):
        return _BY_NAME[0][0]
    if re.search(_COPIES, line) or re.search(r"%?(transpose_)?copy[\w]*_fusion", line):
        return "copies and changes of layout"
    return _BY_NAME[1][0] if re.search(_BY_NAME[1][1], names) else "other: views, optimiser"


def _inside(line: str, bodies: Mapping[str, list[str]]) -> list[str]:
    """Lines of the computations that an operation calls, and of those that they call."""
    found = []
    for called in re.findall(r"(?:calls|fusion)=%?([\w.\-]+)", line):
        for inner in bodies.get(called, ()):
            found += [inner, *_inside(inner, bodies)]
    return found


def report(network: Network, batch_size: int, dtype: str, profiles: Sequence[Profile]) -> str:
    """The profiles as Markdown, side by side."""
    kinds = {kind for profile in profiles for kind in profile.kinds}
    total = {kind: sum(p.kinds.get(kind, (0, 0))[0] for p in profiles) for kind in kinds}
    header = ["kind of operation"]
    for profile in profiles:
        header += [f"{profile.name}: ms a step", "share", "operations"]
    rows = []
    for kind in sorted(kinds, key=total.get, reverse=True):
        row = [kind]
        for profile in profiles:
            seconds, count = profile.kinds.get(kind, (0.0, 0.0))
            row += [f"{1e3 * seconds:.1f}", f"{100 * seconds / profile.busy:.0f} %", f"{count:.0f}"]
        rows.append(row)
    sums = ["all, summed over threads"]
    walls = ["a step, wall time under the profiler"]
    for profile in profiles:
        sums += [f"{1e3 * profile.busy:.1f}", "100 %", ""]
        walls += [f"{1e3 * profile.seconds:.1f}", f"{100 * profile.seconds / profile.busy:.0f} %"]
        walls += [""]
    lines = [
        f"# Where a train step of {network.name} spends its time",
        "",
        f"Batch {batch_size}, {dtype}; {jax.default_backend()}. Operations of several threads run "
        "at the same time, so that wall time is less than their sum.",
        "",
        table(header, [*rows, sums, walls]),
    ]
    for profile in profiles:
        slowest = ", ".join(f"`{name}` {1e3 * seconds:.1f}" for name, seconds in profile.slowest)
        lines += ["", f"Slowest operations of {profile.name}, ms a step: {slowest}."]
    return "\n".join(lines)
