"""Cells without frozen layers in one group: through the store, in both forms."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.grid.small_grid import RUNTIME
from transfer_jax.grid.store import Store
from transfer_jax.training.runtime import Runtime

NAMES = ("B1B+", "B2B+")


def learned(grids, folder, runtime):
    store = grids.run(folder, ("baseB", *NAMES), runtime)
    return [store.params(grids.cell(name)) for name in NAMES]


@pytest.fixture(scope="module")
def alone(grids, tmp_path_factory):
    return learned(grids, tmp_path_factory.mktemp("alone"), RUNTIME)


@pytest.mark.parametrize("form", ["unroll", "vmap"])
def test_a_group_learns_what_its_cells_learn_alone(grids, alone, tmp_path, form, monkeypatch):
    trained = []
    monkeypatch.setattr(Store, "open_group", _recording(trained))
    runtime = dataclasses.replace(RUNTIME, largest_trained=2, side_by_side=form)
    together = learned(grids, tmp_path, runtime)
    assert trained == [["baseB"], list(NAMES)]
    for mine, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def _recording(trained):
    open_group = Store.open_group

    def record(store, group, *arguments):
        trained.append([cell.name for cell in group.cells])
        return open_group(store, group, *arguments)

    return record


def test_runtime_refuses_other_forms():
    with pytest.raises(ValueError, match=r"runtime\.side_by_side='scan'"):
        Runtime(side_by_side="scan")
    with pytest.raises(ValueError, match=r"runtime\.largest_trained=-1"):
        Runtime(largest_trained=-1)
