"""Imports run downward only, and nothing needs TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "transfer_jax"
BELOW = {
    "world": set(),
    "networks": set(),
    "seal": set(),
    "wording": set(),
    "data": {"world", "seal", "wording"},
    "transfer": {"networks"},
    "visual": {"networks", "data"},
    "readout": {"networks", "data"},
    "report": {"seal", "wording"},
    "training": {"networks", "data", "transfer", "seal"},
    "grid": {"networks", "data", "transfer", "seal", "wording", "training", "readout"},
}
BELOW["detection"] = {*BELOW["training"], "training", "readout"}
BELOW["bench"] = {*BELOW["grid"], "grid"}
BELOW["studies"] = {*BELOW["grid"], "grid", "visual", "readout", "detection", "report"}
BELOW["main"] = {*BELOW["studies"], "studies"}


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
        assert name.split(".")[0] != "tensorflow", (path, name)
        assert "._src" not in name, (path, name)
        if name.startswith("transfer_jax."):
            used = name.split(".")[1]
            assert used == part or used in BELOW[part], (path, name)


def test_no_study_uses_another():
    studies = ("yosinski2014", "zeiler2013", "huh2016", "oquab2014", "azizpour2014")
    for path in (PACKAGE / "studies").glob("*.py"):
        for name in imports_of(path):
            used = [study for study in studies if study in name]
            assert all(path.stem.startswith(study) for study in used), (path, name)


def test_running_needs_no_tensorflow():
    code = (
        "import sys, transfer_jax.main, transfer_jax.data.sources, transfer_jax.world\n"
        "import transfer_jax.studies.yosinski2014\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
