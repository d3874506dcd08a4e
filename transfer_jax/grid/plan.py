"""The plan: which cells are trained together, and in what order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Sequence

import jax

from transfer_jax.grid.cell import Cell
from transfer_jax.training.step import Program


@dataclasses.dataclass(frozen=True)
class Group:
    """Cells that are trained side by side on the same batches.

    Attributes:
      cells: one cell; or frozen cells of one network, task, recipe, seed and source that share a
        forward pass of their frozen layers; or cells without frozen layers that are alike in this.
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
        recipe = self.cells[0].recipe
        return self.program.train_flops * recipe.batch_size * recipe.steps


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
    largest_trained: int = 1,
) -> list[Group]:
    """Groups to train, in an order in which dependencies come first.

    Bases whose weights come from a file are in none of them.

    Args:
      cells: the cells that a study wants.
      finished: hashes of cells that need no training.
      opened: hashes of the cells of groups whose training was cut off. Such a group is formed again
        as it was, finished cells included, so that it resumes from its checkpoint.
      largest_group: most cells side by side; bounds memory and compilation time.
      largest_trained: most cells without frozen layers side by side, which share their batches and
        nothing else; 0 chooses for each network by `largest_trained_group`.
    """
    wanted = {cell.hash: cell for cell in all_cells(cells)}
    groups: list[Group] = []
    taken = {*finished, *(cell.hash for cell in wanted.values() if cell.imported is not None)}
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
        most = largest_group
        if _all_learn(sharing[0]):
            most = min(most, largest_trained or largest_trained_group(sharing[0]))
        for start in range(0, len(sharing), most):
            groups.append(Group(tuple(sharing[start : start + most])))
    return sorted(groups, key=lambda group: group.cells[0].source is not None)


def largest_trained_group(cell: Cell) -> int:
    """How many cells like this one, without frozen layers, to train side by side on this backend.

    On two CPU cores, beside other work, a network of 1 GFLOP a step took 0.9 to 0.95 of its time
    among two and 0.97 among four: in a run of minutes about what their program takes to compile.
    One of 5 GFLOP took 1.1 to 1.2 times as long, for its own batch fills the cores
    (`training.step.batch_parts`). So it is 1 there. Elsewhere it is a guess
    that nobody has measured: 8 where a step of one cell is over too soon to fill the device.

    `python -m transfer_jax.bench grid` measures it.
    """
    if jax.default_backend() == "cpu":
        return 1
    step = cell.network.train_flops() * cell.recipe.batch_size
    return 8 if step <= _FLOPS_THAT_FILL_AN_ACCELERATOR else 1


_FLOPS_THAT_FILL_AN_ACCELERATOR = 200e9


def _all_learn(cell: Cell) -> bool:
    return cell.treatment.n == 0 or cell.treatment.fine_tuned


def _sharing_key(cell: Cell) -> tuple:
    """Equal for cells that may be trained together: a cell's source is one of them in none."""
    source = cell.source.hash if cell.source else "random" if cell.treatment.n else "none"
    return (cell.network, cell.stream_seed, source, _all_learn(cell))
