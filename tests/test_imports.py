"""Imports run downward only, and nothing needs TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "transfer_jax"
BELOW = {
    "networks": set(),
    "data": set(),
    "report": set(),
    "transfer": {"networks"},
    "visual": {"networks"},
    "readout": {"networks", "data"},
    "training": {"networks", "transfer", "data"},
    "grid": {"networks", "transfer", "data", "training", "report"},
}
BELOW["bench"] = {"networks", "transfer", "data", "training", "grid", "report"}
BELOW["studies"] = BELOW["bench"] | {"visual", "readout"}
BELOW["main"] = BELOW["studies"] | {"studies"}


STUDIES = ("yosinski2014", "zeiler2013", "huh2016")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_imports_run_downward(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports_of(path):
        assert not name.startswith("tensorflow.") and name != "tensorflow", (path, name)
        if name.startswith("transfer_jax."):
            used = name.split(".")[1]
            assert used == part or used in BELOW[part], (path, name)


def study_of(module):
    """The study that a module's name starts with; None for one that studies share."""
    return next((study for study in STUDIES if module.startswith(study)), None)


@pytest.mark.parametrize("part", ["report", "studies"])
def test_no_study_uses_another(part):
    """What two studies need is a module of no study's name, which uses none of theirs either."""
    paths = [path for path in (PACKAGE / part).glob("*.py") if path.name != "__init__.py"]
    assert {study_of(path.stem) for path in paths} == {None, *STUDIES}
    for path in paths:
        for name in imports_of(path):
            used = {study_of(module) for module in name.split(".")} - {None}
            assert used <= {study_of(path.stem)}, (path, name)


def test_the_grid_takes_nothing_but_rows_from_the_report():
    for path in (PACKAGE / "grid").glob("*.py"):
        for name in imports_of(path):
            assert not name.startswith("transfer_jax.report") or ".results." in name, (path, name)


def test_running_needs_no_tensorflow():
    code = (
        "import sys, transfer_jax.main, transfer_jax.data.sources, transfer_jax.data.world\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
