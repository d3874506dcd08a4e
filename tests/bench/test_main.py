"""Benchmarks on a tiny network: what they print, and that it follows from what they timed."""

import re
import subprocess
import sys

import pytest

from transfer_jax.bench import grid, step, torch_training, trained
from transfer_jax.bench.__main__ import parse, run
from transfer_jax.bench.matmul import MatmulRate
from transfer_jax.bench.timing import Timing

RATE = MatmulRate("float32", 1024, 1e9)


def table_rows(page):
    """The cells of a page's table, without header and rule."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_step_page(tiny_network):
    arguments = ["step", "--batch", "4", "--repeats", "2", "--steps", "2"]
    chosen = parse(arguments)
    chosen.network = tiny_network
    page = run(chosen)
    rows = table_rows(page)
    contenders = ["ours", "plain lax"]
    if torch_training.why_not() is None:
        contenders.append("PyTorch")
    else:
        assert f"PyTorch was not measured: {torch_training.why_not()}." in page
    assert [(row[0], row[1]) for row in rows] == [(name, "4") for name in contenders]
    assert all(re.fullmatch(r"\d+\.\d %", row[8]) for row in rows)
    assert f"`python -m transfer_jax.bench {' '.join(arguments)}`" in page
    assert re.search(r"jax \d", page) and "cores" in page


def test_step_ratio_is_of_the_measured_times():
    contest = step.Contest(
        64, {step.OURS: Timing((0.1, 0.2, 0.4)), step.PLAIN: Timing((0.3, 1.0, 0.5))}, {}
    )
    assert contest.ratio(step.PLAIN, "minimum") == pytest.approx(3.0)
    assert contest.ratio(step.PLAIN, "median") == pytest.approx(2.5)
    assert contest.images_per_second(step.OURS, "minimum") == pytest.approx(640)


def test_step_page_says_why_torch_is_missing(tiny_network):
    contest = step.Contest(4, {step.OURS: Timing((0.1,))}, {step.TORCH: "it is away"})
    assert "PyTorch was not measured: it is away." in step.report(tiny_network, [contest], RATE)


def contest_of(ours, **rivals):
    times = {step.OURS: ours, **{getattr(step, name): value for name, value in rivals.items()}}
    return step.Contest(64, {name: Timing((value,)) for name, value in times.items()}, {})


def test_utilisation_is_of_counted_operations(tiny_network):
    share = contest_of(0.5).utilisation(step.OURS, "minimum", tiny_network, 1e9)
    assert share == pytest.approx(tiny_network.train_flops() * 64 / 0.5 / 1e9)


@pytest.mark.parametrize("theirs, verdict", [(0.39, "missed"), (0.41, "met")])
def test_verdict_on_a_cpu(tiny_network, theirs, verdict):
    (line,) = step.verdicts(tiny_network, contest_of(0.5, TORCH=theirs), 1e9)
    assert line.endswith(f"at least 0.8 wanted: {verdict}.") and f"{theirs / 0.5:.2f}" in line
    assert not step.verdicts(tiny_network, contest_of(0.5), 1e9)


def test_verdicts_on_a_gpu_are_against_the_fastest_form(tiny_network, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    contest = contest_of(0.5, TORCH=1.0, COMPILED=0.55)
    peak = tiny_network.train_flops() * 64 / 0.5 / 0.41
    ratio, share = step.verdicts(tiny_network, contest, peak)
    assert "1.10 (fastest rounds)" in ratio and ratio.endswith("at least 1.2 wanted: missed.")
    assert "41.0 % of" in share and share.endswith("at least 40 % wanted: met.")


@pytest.fixture(scope="module")
def grid_result(tiny_network):
    return grid.measure(tiny_network, 8, repeats=2, steps=2)


def test_grid_measures_each_cell_and_the_group(grid_result):
    assert [cell.name for cell in grid_result.alone] == ["A1B", "A2B"]
    assert [cell.num_frozen for cell in (grid_result.base, *grid_result.alone)] == [0, 1, 2]
    assert grid_result.together.name == "A1B .. A2B together"
    assert all(len(cell.timing.seconds) == 2 for cell in grid_result.alone)


def test_grid_flops_fall_with_frozen_layers(grid_result, tiny_network):
    cells = (grid_result.base, *grid_result.alone)
    for kind in ("xla_flops", "counted_flops"):
        flops = [getattr(cell, kind) for cell in cells]
        assert flops == sorted(flops, reverse=True) and len(set(flops)) == len(flops)
        # The shared layers are computed once.
        assert getattr(grid_result.together, kind) < sum(flops[1:])
    assert [c.counted_flops for c in cells] == [8 * tiny_network.train_flops(n) for n in range(3)]


def test_trained_cells_are_timed_alone_and_in_both_forms(tiny_network):
    alone, *groups = trained.measure(tiny_network, 4, [2], repeats=2, steps=1)
    assert (alone.cells, alone.form) == (1, "alone")
    assert [(each.cells, each.form) for each in groups] == [(2, "unroll"), (2, "vmap")]
    for each in (alone, *groups):
        assert len(each.timing.seconds) == 2
        assert each.per_cell("minimum") == pytest.approx(each.timing.minimum / each.cells)


def test_grid_page_shows_the_measured_ratio(grid_result, tiny_network):
    learning = [
        trained.SideBySide(1, "alone", Timing((0.2,)), 1.0),
        trained.SideBySide(2, "unroll", Timing((0.3,)), 2.0),
        trained.SideBySide(2, "vmap", Timing((0.5,)), 2.0),
    ]
    page = grid.report(tiny_network, [(grid_result, learning)])
    assert "## Batch 8" in page
    singles = [cell.timing.minimum for cell in grid_result.alone]
    ratio = grid_result.together.timing.minimum / sum(singles)
    assert grid_result.ratio("minimum") == pytest.approx(ratio)
    assert f"together / alone: {ratio:.2f} (fastest)" in page
    assert ("wanted: met" in page) == (ratio <= 0.7)
    frozen, together = page.split("| cells that learn")
    # 50 ms a cell and step are gained, which pay for 2 s of compilation after 20 steps of both.
    assert ["2", "unroll", "150.0", "150.0", "0.75", "0.75", "2.0", "20"] in table_rows(together)
    assert ["2", "vmap", "250.0", "250.0", "1.25", "1.25", "2.0", "never"] in table_rows(together)
    assert "Best together: 2 cells, unroll, 0.75 of the time alone." in page
    rows = table_rows(frozen)
    assert [row[0] for row in rows] == [
        "baseA",
        "A1B",
        "A2B",
        "sum of 2 alone",
        "A1B .. A2B together",
    ]
    assert float(rows[3][2]) == pytest.approx(1e3 * sum(singles), abs=0.06)
    assert {len(row) for row in rows} == {7}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["step", "--batch", "0"], "'0': expected an integer of at least 1"),
        (["grid", "--repeats", "few"], "'few': expected an integer of at least 1"),
        (["grid", "--cpu_devices", "-1"], "'-1': expected an integer of at least 0"),
        (["speed"], "invalid choice: 'speed'"),
        (["step", "--network", "resnet"], "'resnet': expected one of ['alexnet'"),
    ],
)
def test_bad_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def program(*arguments):
    command = [sys.executable, "-m", "transfer_jax.bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_program_prints_the_page_and_writes_it(tmp_path):
    output = tmp_path / "benchmarks" / "step.md"
    counts = ["--batch", "2", "--repeats", "1", "--steps", "1", "--cpu_devices", "2", "--no_plain"]
    ended = program("step", *counts, "--output", str(output))
    assert ended.returncode == 0, ended.stderr
    assert output.read_text() == ended.stdout
    assert "# Train step of alexnet_mini" in ended.stdout
    assert "- devices: 2 x" in ended.stdout


def test_program_refuses_a_batch_that_devices_cannot_share(tmp_path):
    ended = program("step", "--batch", "3", "--cpu_devices", "2", "--output", str(tmp_path / "p"))
    assert ended.returncode == 1
    assert "a batch of 3 cannot be split over 2 devices" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())
