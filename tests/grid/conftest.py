"""One small dataset for all tests of grids."""

import pytest

from tests import small
from tests.grid.small_grid import Grids


@pytest.fixture(scope="session")
def grids(tmp_path_factory):
    return Grids(small.dataset(tmp_path_factory.mktemp("small")))
