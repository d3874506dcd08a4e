"""Shared settings: CPU, hypothesis without deadlines (the first example compiles), and which tests
begin first."""

import os
from pathlib import Path

from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")

TESTS = Path(__file__).parent
LONG = ("colabs", "studies", "test_main.py", "test_run.py", "test_on_ray.py", "test_loop.py")
"""Folders and files that take longest: they begin first, so that no worker is left with one."""


def pytest_collection_modifyitems(items):
    """Puts the long ones first."""
    items.sort(key=lambda item: not set(LONG) & set(item.path.relative_to(TESTS).parts))
