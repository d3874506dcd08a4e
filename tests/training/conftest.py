"""One small dataset for all tests of training."""

import pytest

from tests import small


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return small.dataset(tmp_path_factory.mktemp("small"))
