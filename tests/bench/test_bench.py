"""Benchmarks: fair turns, figures that follow from the times, and a program that runs through."""

import importlib.util
import re

import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.bench import __main__ as bench, grid, step
from transfer_jax.bench.timing import interleave, provenance
from transfer_jax.grid.cost import step_loop


def test_rivals_take_turns_and_run_once_unmeasured():
    calls = []
    rivals = {name: lambda steps, name=name: calls.append((name, steps)) for name in "abc"}
    seconds = interleave(rivals, rounds=3, steps=4)
    assert "".join(name for name, _ in calls) == "abc" + "abc" + "cba" + "abc"
    assert {steps for _, steps in calls} == {4}
    assert all(found.shape == (3,) for found in seconds.values())


def test_ratios_are_of_the_fastest_and_of_the_median_rounds():
    net = small.network()
    seconds = {"ours": np.array([0.1, 0.2, 0.4]), "PyTorch": np.array([0.3, 1.0, 0.5])}
    flops_per_second = net.train_flops() * 64 / 0.1 * 4
    ours, theirs = step.rows_of(net, 64, seconds, flops_per_second)
    assert [ours[4], ours[5], ours[8]] == ["640.0", "320.0", "25.0 %"]
    assert theirs[6:8] == ["3.00", "2.50"]


def test_cells_together_against_the_sum_of_the_rounds():
    alone = {f"A{n}B": np.array([1.0, 3.0]) for n in (1, 2, 3)}
    text = grid.section(small.network(), 8, {**alone, grid.TOGETHER: np.array([1.5, 3.0])})
    assert "0.50 (fastest rounds), 0.38 (median)" in text


def test_the_loop_learns():
    net = small.network()
    recipe, data = step.recipe_for(net, 8, "float32"), step.noise(net, 8)
    run = step_loop(net, recipe, (0, 0), [net.init(jax.random.key(k)) for k in (0, 1)], data)
    first, later = run(1), run(3)
    assert first.shape == (2,) and np.isfinite(later).all() and not np.array_equal(first, later)


@pytest.mark.parametrize("name", ["step", "grid"])
def test_the_program_runs_through(name, monkeypatch, capsys):
    monkeypatch.setattr(bench, "build", lambda _: small.network())
    monkeypatch.setattr(step, "best_matmul", lambda precision: (1024, 1e12))
    arguments = [name, "--batch", "4", "--rounds", "1", "--steps", "1"]
    bench.main([*arguments, *(["--torch"] if name == "step" else [])])
    page = capsys.readouterr().out
    assert f"`python -m transfer_jax.bench {' '.join(arguments)}" in page
    shown = {"step": r"\| ours \| 4 ", "grid": "together / one by one"}
    assert re.search(shown[name], page)
    without = name == "step" and not importlib.util.find_spec("torch")
    assert ("no PyTorch: torch is not installed" in page) == without


@pytest.mark.parametrize(("load", "counts"), [(0.1, True), (4.0, False)])
def test_times_of_a_busy_machine_do_not_count(load, counts):
    assert ("do not count" not in provenance("a command", load)) == counts
