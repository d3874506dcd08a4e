"""What a benchmark prints and writes: tables in Markdown, and where the numbers come from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import jax


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column left, the others right, padded to read well as text."""
    # A column narrower than 3 has no room for the dashes that Markdown wants.
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]

    def line(cells):
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(line(cells) for cells in (header, rule, *rows))


def provenance(command: str, remarks: Sequence[str] = ()) -> str:
    """Command, machine and versions, as a Markdown list.

    Args:
      command: what the user typed.
      remarks: what else a reader must know, such as versions that one benchmark alone uses.
    """
    devices = jax.local_devices()
    names = ("jax", "jaxlib", "flax", "optax")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    lines = [
        f"command: `{command}`",
        f"devices: {len(devices)} x {devices[0].device_kind}",
        f"processor: {processor()}, {os.cpu_count()} cores, {_load()}",
        "versions: " + ", ".join([f"Python {platform.python_version()}", *versions]),
    ]
    return "\n".join(f"- {line}" for line in [*lines, *remarks])


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _load() -> str:
    """The load says whether other programs took part of the machine."""
    if not hasattr(os, "getloadavg"):
        return "load unknown"
    return f"load average {os.getloadavg()[0]:.1f} in the minute before the end"
