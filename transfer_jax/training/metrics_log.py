"""metrics.jsonl: one JSON object a line, the durable record of a cell's training."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class MetricsLog:
    """A file of JSON lines, each with its "step".

    Attributes:
      path: the file; it need not exist yet.
    """

    path: Path

    def append(self, entry: Mapping) -> None:
        """Adds one line and waits until it is on disk: a checkpoint that is saved later may count
        on every line up to its own step.

        JSON has no infinity and no NaN: values that are not finite are written as null.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in entry.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(finite) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[dict]:
        """All lines; a torn last line, left by a kill in mid-write, is passed over."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def keep_until(self, step: int) -> None:
        """Drops what was written after `step`, as a resumed run writes it again."""
        kept = [entry for entry in self.entries() if entry["step"] <= step]
        replacement = self.path.with_suffix(".partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replacement.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        os.replace(replacement, self.path)

    def evaluations(self) -> list[dict]:
        """The lines that hold an evaluation, in order of steps."""
        return [entry for entry in self.entries() if "top1" in entry]


def best_mean(values: list[float], count: int) -> float:
    """Mean of the `count` largest values (of all, when there are fewer).

    Yosinski et al. 2014 plot the mean of a network's ten best evaluations.

    Raises:
      ValueError: when there are no values.
    """
    if not values:
        raise ValueError("no evaluations to average")
    best = sorted(values, reverse=True)[:count]
    return sum(best) / len(best)
