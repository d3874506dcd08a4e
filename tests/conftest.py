"""Shared settings: CPU, hypothesis without deadlines (the first example compiles), and which tests
one worker of pytest-xdist keeps together."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")

TESTS = Path(__file__).parent
LONG = ("colabs", "executors", "studies", "test_main.py", "test_processes.py")
"""Folders and files that take longest: they begin first, so that no worker is left with one."""


def pytest_itemcollected(item):
    """The tests of a file share fixtures and compiled steps, those of studies/ whole runs."""
    place = item.path.relative_to(TESTS)
    together = place.parent if place.parts[0] == "studies" else place
    item.add_marker(pytest.mark.xdist_group(str(together)))


def pytest_collection_modifyitems(items):
    """Puts the long ones first."""
    items.sort(key=lambda item: not set(LONG) & set(item.path.relative_to(TESTS).parts))
