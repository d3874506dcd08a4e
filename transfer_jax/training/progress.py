"""Progress bars: one for the whole grid, one for the group of cells in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tqdm import tqdm

from transfer_jax.training import processes


class GroupBar:
    """The bar of one group; counts training images over all its cells."""

    def __init__(self, bar: tqdm, grid: tqdm, cells: int, batch_size: int, first: int):
        self._bar, self._grid = bar, grid
        self._cells, self._batch_size, self._step = cells, batch_size, first

    def update_to(self, step: int, *, loss: float) -> None:
        """Moves to a step, and the grid's bar with it; `loss` is shown in nats."""
        self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        images = (step - self._step) * self._batch_size * self._cells
        self._bar.update(images)
        self._grid.update(images)
        self._step = step

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()


@dataclasses.dataclass(frozen=True)
class Progress:
    """The bars of a run. They show only on a terminal, and of several processes in the first.

    Attributes:
      grid: the bar of the whole grid, in training images over all cells.
    """

    grid: tqdm

    @classmethod
    def start(cls, total_images: int) -> Progress:
        """Opens the grid's bar for this many training images."""
        return cls(_bar(total_images, "whole grid", position=0))

    def group(self, names: Sequence[str], steps: int, first: int, batch_size: int) -> GroupBar:
        """Opens a group's bar, `first` of its `steps` already done."""
        label = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
        per_step = batch_size * len(names)
        bar = _bar(steps * per_step, label, position=1, initial=first * per_step)
        self.grid.update(first * per_step)
        return GroupBar(bar, self.grid, len(names), batch_size, first)

    def skip(self, images: int) -> None:
        """Counts work that was already done."""
        self.grid.update(images)

    def close(self) -> None:
        """Closes the grid's bar."""
        self.grid.close()


def _bar(total: int, label: str, *, position: int, initial: int = 0) -> tqdm:
    return tqdm(
        total=total,
        initial=initial,
        desc=f"{label:<12}",
        unit="img",
        unit_scale=True,
        position=position,
        leave=position == 0,
        dynamic_ncols=True,
        disable=None if processes.is_first() else True,
    )
