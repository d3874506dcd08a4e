"""The plan: which cells are trained together, and in what order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Sequence

from transfer_jax.grid.cell import Cell
from transfer_jax.training.step import Program


@dataclasses.dataclass(frozen=True)
class Group:
    """Cells that are trained side by side on the same batches.

    Attributes:
      cells: one cell, or frozen cells of one network, task, recipe, seed and source that share a
        forward pass of their frozen layers.
    """

    cells: tuple[Cell, ...]

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the cells' hashes."""
        return hashlib.sha256(" ".join(c.hash for c in self.cells).encode()).hexdigest()[:16]

    @property
    def program(self) -> Program:
        """Network, recipe and frozen layers of the group's compiled steps."""
        first = self.cells[0]
        frozen = tuple(0 if c.treatment.fine_tuned else c.treatment.n for c in self.cells)
        return Program(first.network, first.recipe, frozen)

    @property
    def depends_on(self) -> frozenset[Cell]:
        """Cells that must be finished first."""
        return frozenset(cell.source for cell in self.cells if cell.source is not None)

    @property
    def train_flops(self) -> int:
        """Floating-point operations of the whole training, shared layers counted once."""
        network, recipe = self.cells[0].network, self.cells[0].recipe
        frozen = self.program.frozen
        forward = [2 * count for count in network.multiply_adds.values()]
        per_image = sum(network.train_flops(n) - sum(forward[:n]) for n in frozen)
        return (per_image + sum(forward[: max(frozen)])) * recipe.batch_size * recipe.steps


def all_cells(cells: Iterable[Cell]) -> list[Cell]:
    """The cells and every base that they depend on, each once, bases before what copies them."""
    found: dict[str, Cell] = {}
    for cell in cells:
        if cell.source is not None and cell.source.hash not in found:
            found[cell.source.hash] = cell.source
        found.setdefault(cell.hash, cell)
    return list(found.values())


def build_plan(
    cells: Iterable[Cell],
    finished: Collection[str] = (),
    opened: Iterable[Sequence[str]] = (),
    largest_group: int = 8,
) -> list[Group]:
    """Groups to train, in an order in which dependencies come first.

    Args:
      cells: the cells that a study wants.
      finished: hashes of cells that need no training.
      opened: hashes of the cells of groups whose training was cut off. Such a group is formed again
        as it was, finished cells included, so that it resumes from its checkpoint.
      largest_group: most cells side by side; bounds memory and compilation time.
    """
    wanted = {cell.hash: cell for cell in all_cells(cells)}
    groups: list[Group] = []
    taken = set(finished)
    for hashes in opened:
        members = set(hashes)
        unfinished = members - set(finished)
        if members <= set(wanted) and unfinished and not unfinished & taken:
            groups.append(Group(tuple(wanted[h] for h in hashes)))
            taken |= members
    together: dict[tuple, list[Cell]] = {}
    for cell in wanted.values():
        if cell.hash not in taken:
            together.setdefault(_sharing_key(cell), []).append(cell)
    for sharing in together.values():
        sharing.sort(key=lambda cell: cell.treatment.n)
        for start in range(0, len(sharing), largest_group):
            groups.append(Group(tuple(sharing[start : start + largest_group])))
    return sorted(groups, key=lambda group: group.cells[0].source is not None)


def _sharing_key(cell: Cell) -> tuple:
    """Equal for cells that may be trained together; unique for cells without frozen layers."""
    treatment = cell.treatment
    if treatment.n == 0 or treatment.fine_tuned:
        return (cell.hash,)
    source = cell.source.hash if cell.source else "random"
    return (cell.network, cell.stream_seed, source)
