"""One minuscule run of each study, which the tests of its parts look into."""

import pytest

from tests.studies.small_studies import Finished, small_huh2016, small_zeiler2013


@pytest.fixture(scope="session")
def zeiler(tmp_path_factory):
    """`small_zeiler2013`, trained, analysed and reported."""
    folder = tmp_path_factory.mktemp("zeiler2013")
    return Finished.of(small_zeiler2013(folder / "data"), folder / "workdir")


@pytest.fixture(scope="session")
def huh(tmp_path_factory):
    """`small_huh2016`, trained, analysed and reported."""
    folder = tmp_path_factory.mktemp("huh2016")
    return Finished.of(small_huh2016(folder / "data"), folder / "workdir")
