"""Shared settings: CPU, and hypothesis without deadlines (the first example compiles)."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")
