"""Whole small grids: what ends up in the store, and what happens when something goes wrong."""

import contextlib
import csv
import dataclasses
import json
import math
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from tests import small
from tests.grid.small_grid import RUNTIME
from transfer_jax.grid import job as grid_job
from transfer_jax.grid import run as grid_run
from transfer_jax.grid.executors import LocalExecutor
from transfer_jax.grid.plan import Group, build_plan
from transfer_jax.grid.schedule import Slots
from transfer_jax.grid.store import Store, random_layers, write_json
from transfer_jax.report.results import read_results

NAMES = ("baseA", "baseB", "A1B", "A2B", "R1B", "R2B", "B2B+")
STEPS = small.RECIPE.steps


@pytest.fixture(scope="module")
def store(grids, tmp_path_factory):
    """The grid, trained once."""
    return grids.run(tmp_path_factory.mktemp("grid"), NAMES)


def rows_of(store):
    return read_results(store.workdir / "results.csv")


def accuracies(store):
    return [(row.cell, row.top1, row.top1_best_mean, row.steps, row.hash) for row in rows_of(store)]


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a cell was trained")

    monkeypatch.setattr(grid_job, "train_group", refuse)


def test_results_hold_one_row_a_cell(grids, store):
    rows = rows_of(store)
    assert [row.cell for row in rows] == list(NAMES)
    for row, (_, _, cell) in zip(rows, grids.entries(NAMES), strict=True):
        assert (row.experiment, row.split) == ("random_halves", "0")
        assert (row.hash, row.target) == (cell.hash, cell.treatment.target)
        assert (row.treatment, row.n) == (cell.treatment.kind, cell.treatment.n)
        assert row.steps == STEPS and 0 <= row.top1 <= 1 and 0 <= row.top1_best_mean <= 1
        assert row.images_per_second == pytest.approx(STEPS * 8 / row.seconds)
    with (store.workdir / "results.csv").open() as file:
        header = next(csv.reader(file))
    columns = "experiment split cell target n treatment top1 top1_best_mean steps seconds"
    assert header == [*columns.split(), "images_per_second", "hash"]


def test_each_cell_has_its_files_and_no_group_is_left(grids, store):
    for _, _, cell in grids.entries(NAMES):
        folder = store.cell_dir(cell)
        about = json.loads((folder / "cell.json").read_text())
        assert about["cell"] == cell.name and about["num_classes"] == 2
        assert about["num_eval"] == 10 and about["content"]["recipe"]["steps"] == STEPS
        kernel = np.load(folder / "conv1.npy")
        assert kernel.dtype == np.float32 and kernel.shape == (3, 3, 3, 4)
        assert small.same_bits(kernel, store.params(cell)["conv1"]["kernel"])
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "top1" in line] == [4, 8, 10]
        done = json.loads((folder / "done.json").read_text())
        assert done["top1"] == lines[-1]["top1"]
    assert not list((store.workdir / "groups").iterdir())


def test_stored_params_are_whole_and_their_frozen_part_is_the_bases_bits(grids, store):
    names = small.network().layer_names
    for cell, below in (
        ("A1B", store.params(grids.cell("baseA"))),
        ("A2B", store.params(grids.cell("baseA"))),
        ("R2B", random_layers(grids.cell("R1B"))),
    ):
        params = store.params(grids.cell(cell))
        assert tuple(params) == names
        same = [small.same_bits(params[name], below[name]) for name in names]
        assert same == [i < int(cell[1]) for i in range(4)], cell


def test_fine_tuned_layers_start_at_the_base_and_move(grids, store):
    base, tuned = store.params(grids.cell("baseB")), store.params(grids.cell("B2B+"))
    fresh = small.network().init(jax.random.key(grids.cell("B2B+").init_seed))
    for name in ("conv1", "conv2"):
        moved, anew = (
            float(np.abs(tuned[name]["kernel"] - other[name]["kernel"]).max())
            for other in (base, fresh)
        )
        assert 0 < moved < 0.3 * anew, name


def test_the_last_evaluation_is_that_of_the_stored_params(grids, store):
    """Read back from disk and run by hand, a cell has the accuracy that results.csv gives it."""
    cell = grids.cell("A2B")
    data = grids.supply()(cell)
    places, labels = cell.task.select(grids.dataset.labels("val"), limit=False)
    images = grids.dataset.images("val", places).astype(np.float32)
    logits = cell.network.apply(store.params(cell), (images - data.mean) / 60)
    (row,) = (row for row in rows_of(store) if row.cell == "A2B")
    assert row.top1 == pytest.approx(float((np.argmax(logits, 1) == labels).mean()))


def test_finished_cells_are_not_trained_again(grids, store, no_training):
    marks = {path: path.stat().st_mtime_ns for path in store.workdir.rglob("done.json")}
    assert len(marks) == len(NAMES)
    before = (store.workdir / "results.csv").read_text()
    grids.run(store.workdir, NAMES)
    assert (store.workdir / "results.csv").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in marks} == marks


def test_another_study_finds_the_cells_that_it_shares(grids, store, no_training):
    """Another experiment, other entries: the cells are known by their content."""
    entries = [("man_natural", "natman", cell) for _, _, cell in grids.entries(["A1B", "baseB"])]
    store.write_results(entries)
    found = [(row.experiment, row.cell, row.hash) for row in rows_of(store)]
    assert found == [("man_natural", cell.name, cell.hash) for _, _, cell in entries]
    grids.run(store.workdir, NAMES)


@pytest.mark.parametrize("cut_after", [1, 2])
def test_a_cut_between_the_marks_of_a_group_ends_the_same(
    grids, store, tmp_path, monkeypatch, cut_after
):
    """The group is formed again and resumed, although one or both of its cells are done."""
    names = ("R1B", "R2B")
    marks = []

    def cut(path, content):
        write_json(path, content)
        if path.name == "done.json":
            marks.append(path)
            if len(marks) == cut_after:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("transfer_jax.grid.store.write_json", cut)
        with pytest.raises(KeyboardInterrupt):
            grids.run(tmp_path, names)
    first = marks[0].stat().st_mtime_ns
    resumed = grids.run(tmp_path, names)
    whole = [row for row in accuracies(store) if row[0] in names]
    assert accuracies(resumed) == whole and marks[0].stat().st_mtime_ns == first
    for name in names:
        cell = grids.cell(name)
        assert small.same_bits(resumed.params(cell), store.params(cell))
    assert not list((tmp_path / "groups").iterdir())


def test_a_diverging_base_fails_what_copies_it_and_nothing_else(grids, tmp_path):
    wild = dataclasses.replace(small.RECIPE, learning_rate=1e30)
    base, transfer = grids.cell("baseA", recipe=wild), grids.cell("A1B", source_recipe=wild)
    store = grids.run(tmp_path, [base, transfer, "baseB"])
    rows = {row.cell: row for row in rows_of(store)}
    assert rows["baseA"].top1 is None and rows["A1B"].top1 is None
    assert 0 <= rows["baseB"].top1 <= 1
    error = store.error(base)
    assert "cell baseA" in error and "not finite at step" in error and "1e+30" in error
    assert repr(wild) in error and rows["baseA"].steps < STEPS
    assert store.error(transfer) == "cell A1B: its base baseA failed"
    failed = json.loads((store.cell_dir(base) / "failed.json").read_text())
    assert failed["cell"] == "baseA" and failed["step"] == rows["baseA"].steps


def test_failed_cells_are_tried_again_only_on_request(grids, store, tmp_path, monkeypatch):
    name, cell = "baseB", grids.cell("baseB")
    store_of_failures = grids.run(tmp_path, [])
    store_of_failures.describe(cell)
    store_of_failures.fail(cell, "of no importance", 3)
    with monkeypatch.context() as patched:
        patched.setattr(grid_job, "train_group", None)
        grids.run(tmp_path, [name])
    assert store_of_failures.error(cell) == "of no importance"
    assert [(row.cell, row.top1, row.steps) for row in rows_of(store_of_failures)] == [
        (name, None, 3)
    ]
    grids.run(tmp_path, [name], retry_failed=True)
    assert accuracies(store_of_failures) == [row for row in accuracies(store) if row[0] == name]


def test_snapshots_come_back_whole(grids, store, tmp_path, caplog):
    """Frozen layers and all; what the training had passed before it was asked for is told."""
    runtime = dataclasses.replace(RUNTIME, snapshot_steps=(0, 5, STEPS, 5000))
    names = ("A1B", "A2B", "R1B", "R2B")
    kept = grids.run(tmp_path, names, runtime)
    assert not caplog.records
    for name in names:
        cell = grids.cell(name)
        assert kept.snapshots(cell) == (0, 5, STEPS)
        last = kept.snapshot_params(cell, STEPS)
        assert list(last) == list(cell.network.layer_names)
        assert small.same_bits(last, kept.params(cell))
        assert small.same_bits(last, store.params(cell))
        early = kept.snapshot_params(cell, 5)
        same = [small.same_bits(early[layer], last[layer]) for layer in early]
        assert same == [i < cell.treatment.n for i in range(4)]
        fresh = cell.network.init(jax.random.key(cell.init_seed))
        assert small.same_bits(kept.snapshot_params(cell, 0)["fc4"], fresh["fc4"])
    with pytest.raises(FileNotFoundError, match=r"A1B .* no snapshot of step 3 .* \(0, 5, 10\)"):
        kept.snapshot_params(grids.cell("A1B"), 3)
    later = dataclasses.replace(RUNTIME, snapshot_steps=(5, 6))
    grids.run(tmp_path, ["A1B"], later)
    (told, also) = (record.getMessage() for record in caplog.records)
    assert "baseA on A has no snapshots of steps [6]" in told
    assert "A1B on B has no snapshots of steps [6]" in also


def test_flops_of_a_group_count_shared_layers_once(grids):
    network = small.network()
    counts = list(network.multiply_adds.values())
    (group,) = build_plan([grids.cell("R1B"), grids.cell("R2B")])
    deep = 3 * sum(counts[2:]) - counts[2]
    shallow = 3 * sum(counts[1:]) - counts[1]
    per_image = 2 * (sum(counts[:2]) + shallow + deep)
    assert group.train_flops == per_image * 8 * STEPS
    assert math.prod(network.kernel_shapes["conv1"]) * 64 == counts[0]


def test_cells_are_called_by_the_first_entry_that_wants_them(grids):
    entries = [*grids.entries(["baseA"]), ("images", "5", grids.cell("baseB")),
               ("other", "1", grids.cell("baseA"))]  # fmt: skip
    assert grid_run.labels(entries) == {
        grids.cell("baseA").hash: "random_halves 0",
        grids.cell("baseB").hash: "images 5",
    }
    assert grid_run.labels([]) == {}


def test_snapshots_can_be_asked_of_single_cells(grids, store, tmp_path, caplog):
    """Beside those that the runtime asks of every cell."""
    runtime = dataclasses.replace(RUNTIME, snapshot_steps=(2,))
    one, other = grids.cell("baseA"), grids.cell("baseB")
    wanted = {one.hash: (3, STEPS), "unknown": (1,)}
    kept = grids.run(tmp_path, [one, other], runtime, snapshots=wanted)
    assert kept.snapshots(one) == (2, 3, STEPS) and kept.snapshots(other) == (2,)
    assert small.same_bits(kept.snapshot_params(one, STEPS), kept.params(one))
    for each in (one, other):  # Keeping them changes nothing of the training.
        assert small.same_bits(kept.params(each), store.params(each))
    assert not caplog.records
    grids.run(tmp_path, [one, other], runtime, snapshots={other.hash: (4,)})
    (told,) = (record.getMessage() for record in caplog.records)
    assert "baseB on B has no snapshots of steps [4]" in told


@dataclasses.dataclass(frozen=True)
class Thread(LocalExecutor):
    """One group at a time, each in a thread: an exception is the group's alone."""

    @contextlib.contextmanager
    def slots(self, job, whole, progress):
        with ThreadPoolExecutor(1) as pool:
            yield Slots(1, lambda group: pool.submit(job.train, group, progress))


def test_a_group_that_cannot_be_trained_leaves_the_others_to_be(grids, tmp_path, monkeypatch):
    """It is told at the end, its dependants wait, and the next run trains what is missing."""
    train = grid_job.train_group

    def fail_for_a(program, members, *arguments, **options):
        if members[0].name == "baseA":
            raise OSError("a disk went away")
        return train(program, members, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(grid_job, "train_group", fail_for_a)
        with pytest.raises(grid_run.GroupsFailedError) as caught:
            grids.run(tmp_path, ["baseB", "A1B", "R1B"], executor=Thread())
    assert str(caught.value) == (
        "1 cells could not be trained and 1 wait for them: baseA (task A): OSError: a disk went "
        "away. The same command tries them again"
    )
    store = Store(tmp_path)
    assert [row.cell for row in rows_of(store)] == ["baseB", "R1B"]
    assert store.outcome(grids.cell("baseA")) is None
    grids.run(tmp_path, ["baseB", "A1B", "R1B"], executor=Thread())
    assert [row.cell for row in rows_of(store)] == ["baseB", "A1B", "R1B"]


def test_alone_on_its_device_a_group_that_cannot_be_trained_ends_the_run(
    grids, tmp_path, monkeypatch
):
    def refuse(*arguments, **options):
        raise OSError("the disk is full")

    monkeypatch.setattr(grid_job, "train_group", refuse)
    with pytest.raises(OSError, match=r"^the disk is full$"):
        grids.run(tmp_path, ["baseA", "baseB"])


def test_of_a_group_only_the_cells_whose_base_failed_fail(grids, store, tmp_path):
    """Cells of several bases may be trained side by side."""
    base = grids.cell("baseA")
    failed = grids.run(tmp_path, [])
    failed.adopt([grids.cell("baseB")], [store.workdir])
    failed.describe(base)
    failed.fail(base, "of no importance")
    both = Group((grids.cell("A2B+"), grids.cell("B2B+")))
    failed.open_group(both)
    grids.run(tmp_path, ["A2B+", "B2B+"])
    assert failed.error(grids.cell("A2B+")) == "cell A2B+: its base baseA failed"
    (row,) = (row for row in rows_of(failed) if row.cell == "B2B+")
    assert row.top1 == next(r.top1 for r in rows_of(store) if r.cell == "B2B+")
    assert not list((tmp_path / "groups").iterdir())
