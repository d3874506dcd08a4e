"""Groups side by side: in threads, with training replaced, and for real on eight CPU devices."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests import small
from tests.grid.small_grid import RUNTIME, cell
from transfer_jax.grid.executors import LocalExecutor
from transfer_jax.grid.executors.local import devices_per_group
from transfer_jax.grid.job import Job
from transfer_jax.grid.plan import Group, build_plan
from transfer_jax.grid.schedule import carry_out
from transfer_jax.grid.store import Store
from transfer_jax.report.results import read_results
from transfer_jax.training import devices
from transfer_jax.training.progress import Progress

WHOLE = build_plan([cell(name) for name in ("A1B+", "A2B+", "B1B+", "B2B+")])
BASES = [group for group in WHOLE if not group.depends_on]
CELLS = dataclasses.replace(RUNTIME, placement="cells")


def widths(placement, num_devices):
    width = devices_per_group(placement, num_devices, WHOLE)
    return [width(group) for group in WHOLE]


def test_auto_spreads_the_groups_that_are_fewer_than_devices():
    """Two bases, and four cells that copy from them."""
    assert [len(BASES), len(WHOLE)] == [2, 6]
    assert widths("auto", 1) == [1] * 6
    assert widths("auto", 2) == [1] * 6
    assert widths("auto", 4) == [4] * 2 + [1] * 4
    assert widths("auto", 8) == [8] * 6
    assert widths("batch", 2) == [2] * 6
    assert widths("cells", 8) == [1] * 6


def test_the_choice_is_the_same_for_a_group_that_lost_a_cell():
    together = Group((cell("A1B"), cell("A2B")))
    width = devices_per_group("auto", 2, [*BASES, together])
    assert width(together) == width(Group(together.cells[1:])) == 2


@dataclasses.dataclass
class Trainings:
    """In place of `Job.train`: trains nothing, notes where and beside what it was called."""

    fails: str = ""
    meet: int = 1

    def __post_init__(self):
        self.ended, self.used, self.lock = [], [], threading.Lock()
        self.barrier = threading.Barrier(self.meet)

    def __call__(self, job, group, progress):
        name = group.cells[0].name
        if group.depends_on:
            assert {base.name for base in group.depends_on} <= set(self.ended)
        else:
            self.barrier.wait(timeout=20)
        with self.lock:
            self.used.append((name, devices.local()))
        if name == self.fails:
            raise OSError("no such luck")
        with self.lock:
            self.ended.append(name)
        return [name]


@pytest.fixture
def four_devices(monkeypatch):
    """Stand-ins, which nothing is computed on."""

    @dataclasses.dataclass(frozen=True)
    class Device:
        id: int

    found = tuple(Device(i) for i in range(4))
    chosen = threading.local()

    class Only:
        def __init__(self, mine):
            self.mine = tuple(mine)

        def __enter__(self):
            chosen.mine = self.mine

        def __exit__(self, *_):
            chosen.mine = found

    monkeypatch.setattr(devices, "local", lambda: getattr(chosen, "mine", found))
    monkeypatch.setattr(devices, "num_devices", lambda: len(devices.local()))
    monkeypatch.setattr(devices, "only", Only)
    return found


def carried_out(monkeypatch, trainings, runtime, tmp_path):
    monkeypatch.setattr(Job, "train", lambda *arguments: trainings(*arguments))
    job = Job(tmp_path, None, runtime)
    with LocalExecutor().slots(job, WHOLE, Progress.start(0)) as slots:
        return [(group, future) for group, future in carry_out(WHOLE, slots)]


def test_groups_are_trained_at_once_each_on_a_device_of_its_own(
    four_devices, monkeypatch, tmp_path
):
    trainings = Trainings(meet=2)  # Neither base ends before both are in training.
    ended = carried_out(monkeypatch, trainings, CELLS, tmp_path)
    assert sorted(group.hash for group, _ in ended) == sorted(group.hash for group in WHOLE)
    assert all(future.result() == [group.cells[0].name] for group, future in ended)
    assert [len(used) for _, used in trainings.used] == [1] * len(WHOLE)
    assert len({used for name, used in trainings.used if name.startswith("base")}) == 2


def test_wide_groups_have_all_devices(four_devices, monkeypatch, tmp_path):
    trainings = Trainings()
    carried_out(monkeypatch, trainings, RUNTIME, tmp_path)
    used = [(name, len(mine)) for name, mine in trainings.used]
    assert used[:2] == [("baseA", 4), ("baseB", 4)] and {n for _, n in used[2:]} == {1}


def test_a_failing_group_takes_down_only_what_needs_it(four_devices, monkeypatch, tmp_path):
    ended = carried_out(monkeypatch, Trainings(fails="baseA"), CELLS, tmp_path)
    failed = {group.cells[0].name: future.exception() for group, future in ended}
    assert set(failed) == {"baseA", "baseB", "B1B+", "B2B+"}
    assert repr(failed.pop("baseA")) == "OSError('no such luck')"
    assert set(failed.values()) == {None}


def test_leaving_ends_what_is_in_training(four_devices, monkeypatch, tmp_path):
    """Nobody writes once the caller has let go of the workdir."""
    running, ended = threading.Event(), []

    def train(job, group, progress):
        bar = progress.group(["x"], 10**9, 0, 1)
        running.set()
        try:
            for step in range(10**9):
                bar.update_to(step, loss=0.0)
                time.sleep(0.001)
        finally:
            ended.append(group)

    monkeypatch.setattr(Job, "train", train)
    with (
        pytest.raises(KeyboardInterrupt),
        LocalExecutor().slots(Job(tmp_path, None, CELLS), WHOLE, Progress.start(0)) as slots,
    ):
        slots.submit(BASES[0])
        assert running.wait(20)
        raise KeyboardInterrupt
    assert ended == [BASES[0]]


PROGRAM = "tests.grid.executors.cells_program"
NAMES = ("baseA", "baseB", "A1B", "R1B")


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", PROGRAM, str(folder / "many"), str(folder / "one"), *NAMES],
        env={
            **os.environ,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_eight_devices_and_a_kill_end_like_one_device(grids, tmp_path):
    """Accuracies and weights are identical to the last bit; two groups at least ran at once."""
    many, one = tmp_path / "many", tmp_path / "one"
    process = start(tmp_path)
    while process.poll() is None:
        if len(list(many.glob("cells/*/metrics.jsonl"))) >= 2:
            process.kill()
            break
        time.sleep(0.002)
    _, told = process.communicate()
    assert process.returncode == -signal.SIGKILL, told
    process = start(tmp_path)
    try:
        _, told = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 0, told

    events = [json.loads(line) for line in (many / "events.jsonl").read_text().splitlines()]
    in_training, most = set(), 0
    for event in events:
        (in_training.add if event["begins"] else in_training.remove)(tuple(event["devices"]))
        most = max(most, len(in_training))
    assert most >= 2 and all(len(event["devices"]) == 1 for event in events)

    assert accuracies(many) == accuracies(one)
    for name in NAMES:
        mine, theirs = (Store(workdir).params(grids.cell(name)) for workdir in (many, one))
        assert small.same_bits(mine, theirs), name


def accuracies(workdir):
    rows = read_results(workdir / "results.csv")
    assert [row.cell for row in rows] == list(NAMES)
    return [(row.hash, row.top1, row.top1_best_mean, row.steps) for row in rows]
