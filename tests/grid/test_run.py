import csv
import dataclasses
import json
import multiprocessing
import os

import jax
import numpy as np
import pytest

from tests.grid import small_grid
from tests.grid.small_grid import cell, run
from tests.training import small
from transfer_jax.grid import run as grid_run
from transfer_jax.grid.store import Store, WorkdirInUseError, write_json
from transfer_jax.report.results import read_results

NAMES = ("baseB", "A2B", "A5B", "R2B", "R4B", "B3B+")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return run(tmp_path_factory.mktemp("grid"), NAMES)


def test_results_hold_one_row_a_cell(grid):
    store, entries = grid
    rows = read_results(store.workdir / "results.csv")
    assert [row.cell for row in rows] == list(NAMES)
    for row, (_, _, wanted) in zip(rows, entries, strict=True):
        assert row.hash == wanted.hash and row.target == "B" and row.steps == 12
        assert row.treatment == wanted.treatment.kind and row.n == wanted.treatment.n
        assert 0 <= row.top1 <= 1 and row.seconds > 0 and row.images_per_second > 0
    with (store.workdir / "results.csv").open() as file:
        header = next(csv.reader(file))
    assert (
        header
        == (
            "experiment split cell target n treatment top1 top1_best_mean steps seconds "
            "images_per_second hash"
        ).split()
    )


def test_stored_params_are_whole_and_frozen_parts_are_the_bases_bits(grid):
    store, _ = grid
    base, transfer = store.params(cell("baseA")), store.params(cell("A5B"))
    assert tuple(transfer) == small_grid.NET.layer_names
    for name in small_grid.NET.layer_names:
        same = np.array_equal(transfer[name]["kernel"], base[name]["kernel"])
        assert same == (name in small_grid.NET.layer_names[:5]), name
    jax.tree.map(
        np.testing.assert_array_equal,
        store.params(cell("R4B"))["conv2"],
        store.params(cell("R2B"))["conv2"],
    )


def test_fine_tuned_layers_start_at_the_base_and_move(grid):
    store, _ = grid
    base, tuned = store.params(cell("baseB")), store.params(cell("B3B+"))
    assert not np.array_equal(base["conv1"]["kernel"], tuned["conv1"]["kernel"])


def test_each_cell_has_its_files_and_no_group_is_left(grid):
    store, entries = grid
    for _, _, wanted in entries:
        folder = store.cell_dir(wanted)
        description = json.loads((folder / "cell.json").read_text())
        assert description["cell"] == wanted.name and description["num_classes"] == 2
        assert description["num_eval"] == 20
        assert np.load(folder / "conv1.npy").shape == (5, 5, 3, 4)
        assert (folder / "metrics.jsonl").exists() and (folder / "done.json").exists()
    assert not list((store.workdir / "groups").iterdir())


def test_finished_cells_are_not_trained_again(grid, monkeypatch):
    store, _ = grid

    def refuse(*arguments, **options):
        raise AssertionError("a finished cell was trained")

    monkeypatch.setattr(grid_run, "train_group", refuse)
    before = (store.workdir / "results.csv").read_text()
    run(store.workdir, NAMES)
    assert (store.workdir / "results.csv").read_text() == before


def test_a_cut_between_the_marks_of_a_group_ends_the_same(tmp_path, monkeypatch):
    reference, _ = run(tmp_path / "whole", ["R1B", "R2B"])
    real = write_json

    def cut(path, content):
        if path.name == "done.json":
            real(path, content)
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr("transfer_jax.grid.store.write_json", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", ["R1B", "R2B"])
    monkeypatch.undo()
    store, _ = run(tmp_path / "cut", ["R1B", "R2B"])
    accuracies = [
        [
            (row.cell, row.top1, row.top1_best_mean)
            for row in read_results(s.workdir / "results.csv")
        ]
        for s in (reference, store)
    ]
    assert accuracies[0] == accuracies[1]
    for name in ("R1B", "R2B"):
        jax.tree.map(
            np.testing.assert_array_equal, reference.params(cell(name)), store.params(cell(name))
        )


def test_a_failed_base_fails_what_copies_it_and_nothing_else(tmp_path):
    wild = dataclasses.replace(small.RECIPE, learning_rate=1e30)
    transfer = cell("A3B", source_recipe=wild)
    store, _ = run(tmp_path, [cell("baseA", recipe=wild), transfer, "baseB"])
    rows = {row.cell: row for row in read_results(tmp_path / "results.csv")}
    assert rows["baseA"].top1 is None and rows["A3B"].top1 is None
    assert rows["baseB"].top1 is not None
    assert "baseA" in store.error(cell("baseA", recipe=wild))
    assert "its base baseA failed" in store.error(transfer)


def test_failed_cells_are_retried_only_on_request(tmp_path, monkeypatch):
    store, _ = run(tmp_path, ["baseB"])
    (store.cell_dir(cell("baseB")) / "done.json").unlink()
    store.fail(cell("baseB"), "of no importance", 3)
    run(tmp_path, ["baseB"])
    assert store.error(cell("baseB")) == "of no importance"
    run(tmp_path, ["baseB"], retry_failed=True)
    assert store.error(cell("baseB")) is None


def hold(workdir, held, release):
    with Store(workdir).lock():
        held.set()
        release.wait(60)


def test_a_second_run_on_one_workdir_is_told_who_holds_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, release))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(WorkdirInUseError, match=rf"in use by process {process.pid} on"):
            with Store(tmp_path).lock():
                pass
    finally:
        release.set()
        process.join()
    with Store(tmp_path).lock():
        assert json.loads((tmp_path / ".owner.json").read_text())["pid"] == os.getpid()
