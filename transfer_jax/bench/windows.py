"""Windows of whole images: scanned by the network as convolutions, against cut out one by one."""

from __future__ import annotations

import argparse
import collections
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from transfer_jax.bench.timing import interleave, table
from transfer_jax.networks import Network
from transfer_jax.readout.windows import Pyramid, crop_outputs, scan

SCANNED, CUT = "scanned", "cut out"


def run(options: argparse.Namespace) -> tuple[str, list[str]]:
    """The page's text; nothing else that its reader must know."""
    network, shape, pyramid = options.network, tuple(options.image), Pyramid(stride=options.stride)
    sections = [
        f"# Windows of images of {shape[0]} x {shape[1]} pixels, {network.name}\n\n"
        f"{len(pyramid.boxes(network, shape)):,} windows of an image at {len(pyramid.scales)} "
        f"scales, {options.stride} x the network's stride apart. Reading is not counted, resizing "
        "is. Processor seconds are those of all threads: on a machine with other work they say "
        "what the work costs, seconds do not."
    ]
    for batch_size in options.batch:
        seconds = measure(network, shape, pyramid, batch_size, options.rounds, options.steps or 1)
        sections.append(section(network, shape, pyramid, batch_size, seconds))
    return "\n\n".join(sections), []


def measure(
    network: Network,
    shape: tuple[int, int],
    pyramid: Pyramid,
    batch_size: int,
    rounds: int,
    images: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(seconds, processor seconds) an image of both forms, each (rounds,), for images of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    params = jax.device_put(network.init(jax.random.key(0)))
    what, mean = (network, params, lambda row: noise), np.full(3, 127.5)
    forms = {
        SCANNED: lambda rows: scan(*what, rows, mean=mean, pyramid=pyramid),
        CUT: lambda rows: crop_outputs(
            *what, rows, lambda _, image: pyramid.boxes(network, image.shape), mean=mean,
            batch_size=batch_size,
        ),
    }  # fmt: skip
    spent = {name: [] for name in forms}

    def rival(name):
        def run(images):
            started = time.process_time()
            collections.deque(forms[name](range(images)), maxlen=0)
            spent[name].append((time.process_time() - started) / images)

        return run

    seconds = interleave({name: rival(name) for name in forms}, rounds, images)
    return {name: (seconds[name], np.array(spent[name][1:])) for name in forms}


def section(
    network: Network,
    shape: Sequence[int],
    pyramid: Pyramid,
    batch_size: int,
    seconds: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> str:
    """The measurements with one batch size of crops, and their ratios beside that of operations."""
    counts = dict(zip((SCANNED, CUT), pyramid.multiply_adds(network, shape), strict=True))
    rows = [
        [
            name,
            f"{2 * counts[name] / 1e9:,.2f}",
            *(f"{f(found):.3f}" for found in seconds[name] for f in (np.min, np.median)),
            f"{2 * counts[name] / np.min(seconds[name][1]) / 1e9:,.0f}",
        ]
        for name in (SCANNED, CUT)
    ]
    header = ["windows", "GFLOP an image", "s, fastest", "median", "processor s, fastest", "median"]
    header += ["GFLOP a processor s"]
    wall, processor = (
        np.min(cut) / np.min(scanned)
        for scanned, cut in zip(seconds[SCANNED], seconds[CUT], strict=True)
    )
    return (
        f"## {batch_size} crops a batch\n\n{table(header, rows)}\n\n"
        f"{CUT} / {SCANNED}: {wall:.1f} in seconds, {processor:.1f} in processor seconds (fastest "
        f"rounds); by their operations {counts[CUT] / counts[SCANNED]:.1f}."
    )
