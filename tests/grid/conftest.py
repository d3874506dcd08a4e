"""Two small datasets for all tests of grids."""

import pytest

from tests import small
from tests.grid.small_grid import Grids


@pytest.fixture(scope="session")
def grids(tmp_path_factory):
    other = small.dataset(tmp_path_factory.mktemp("other"), ("elm", "fir", "oak", "yew"), seed=1000)
    return Grids(small.dataset(tmp_path_factory.mktemp("small")), other)
