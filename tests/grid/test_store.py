"""The workdir: one run at a time, and nothing half written."""

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.grid.small_grid import cell
from transfer_jax.grid.plan import Group, build_plan
from transfer_jax.grid.store import Store, WorkdirInUseError, write_json

HOLDER = """
import sys
from transfer_jax.grid.store import Store
with Store(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_on_one_workdir_is_told_who_holds_it(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        holder = rf"in use by process {process.pid} on {socket.gethostname()}"
        with pytest.raises(WorkdirInUseError, match=holder), Store(tmp_path).lock():
            pass
        process.kill()
        process.wait()
        # Killed, it holds nothing any more, though its name is still there.
        with Store(tmp_path).lock():
            assert json.loads((tmp_path / ".owner.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".owner.json").exists()


def test_opened_groups_are_known_until_their_cells_are_finished(tmp_path):
    store = Store(tmp_path)
    (group,) = build_plan([cell("R1B"), cell("R2B")])
    assert store.opened_groups() == []
    store.open_group(group)
    assert store.checkpoint_dir(group) == store.group_dir(group) / "checkpoints"
    hashes = [cell("R1B").hash, cell("R2B").hash]
    assert store.opened_groups() == [hashes]
    store.fail(cell("R1B"), "for a test")
    store.sweep()
    assert store.opened_groups() == [hashes]
    write_json(store.cell_dir(cell("R2B")) / "done.json", {"top1": 0.5})
    store.sweep()
    assert store.opened_groups() == [] and not store.group_dir(group).exists()


def test_a_group_cut_off_before_it_had_a_name_is_swept(tmp_path):
    (tmp_path / "groups" / "0123").mkdir(parents=True)
    (tmp_path / "groups" / "0123" / "group.partial").write_text('["ab')
    store = Store(tmp_path)
    assert store.opened_groups() == []
    store.sweep()
    assert not list((tmp_path / "groups").iterdir())


def test_outcomes_and_failures(tmp_path):
    store, failed, done = Store(tmp_path), cell("baseA"), cell("baseB")
    assert store.outcome(failed) is None and store.error(failed) is None
    store.fail(failed, "it broke", 7)
    write_json(store.cell_dir(done) / "done.json", {"top1": 0.5})
    assert store.outcome(failed) == {"cell": "baseA", "step": 7, "error": "it broke"}
    assert store.error(failed) == "it broke" and store.error(done) is None
    store.forget_failure(failed)
    store.forget_failure(done)
    assert store.outcome(failed) is None and store.outcome(done) == {"top1": 0.5}


def test_params_of_unfinished_cells_are_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=cell("baseA").hash):
        Store(tmp_path).params(cell("baseA"))


def test_files_are_replaced_whole(tmp_path):
    path = tmp_path / "folder" / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [item.name for item in path.parent.iterdir()] == ["file.json"]


def finish(workdir, wanted, content):
    """As if the workdir had trained a cell."""
    store = Store(workdir)
    write_json(store.cell_dir(wanted) / "done.json", {"top1": 0.5})
    (store.cell_dir(wanted) / "params").mkdir()
    (store.cell_dir(wanted) / "params" / "weights").write_text(content)
    return store


def test_finished_cells_of_other_workdirs_are_copied(tmp_path):
    """The first workdir that has a cell gives it; what is here already stays."""
    finish(tmp_path / "one", cell("baseA"), "one")
    finish(tmp_path / "other", cell("baseA"), "other")
    finish(tmp_path / "other", cell("baseB"), "other")
    here = finish(tmp_path / "here", cell("R1B"), "here")
    finish(tmp_path / "one", cell("R1B"), "one")
    (here.workdir / "cells" / f".partial-{cell('baseA').hash}").mkdir()  # A copy that was cut off.
    wanted = [cell(name) for name in ("baseA", "baseB", "R1B", "R2B")]
    others = [tmp_path / "one", str(tmp_path / "other")]
    assert here.adopt(wanted, others) == wanted[:2]
    texts = [(here.cell_dir(c) / "params" / "weights").read_text() for c in wanted[:3]]
    assert texts == ["one", "other", "here"]
    assert here.outcome(wanted[0]) == {"top1": 0.5} and here.outcome(wanted[3]) is None
    names = {path.name for path in (here.workdir / "cells").iterdir()}
    assert names == {c.hash for c in wanted[:3]}
    assert here.adopt(wanted, others) == []
    assert (tmp_path / "one" / "cells" / wanted[0].hash / "params" / "weights").exists()


def test_unfinished_and_failed_cells_are_not_copied(tmp_path):
    other, here = Store(tmp_path / "other"), Store(tmp_path / "here")
    other.fail(cell("baseA"), "it broke")
    other.describe(cell("baseB"))
    assert here.adopt([cell("baseA"), cell("baseB")], [other.workdir]) == []
    assert here.outcome(cell("baseA")) is None and not (here.workdir / "cells").exists()


def test_what_was_begun_here_gives_way_to_a_finished_copy(tmp_path):
    """A failure counts as an outcome: whoever wants another try asks for it."""
    other = finish(tmp_path / "other", cell("baseA"), "other").workdir
    finish(other, cell("baseB"), "other")
    here = Store(tmp_path / "here")
    here.describe(cell("baseA"))
    (here.cell_dir(cell("baseA")) / "metrics.jsonl").write_text("{}")
    here.fail(cell("baseB"), "it broke")
    assert here.adopt([cell("baseA"), cell("baseB")], [other]) == [cell("baseA")]
    assert not (here.cell_dir(cell("baseA")) / "metrics.jsonl").exists()
    assert here.error(cell("baseB")) == "it broke"


def test_a_workdir_without_cells_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"workdir .*nowhere.* to be reused, has none"):
        Store(tmp_path).adopt([], [tmp_path / "nowhere"])


def test_a_group_has_one_writer_at_a_time(grids, tmp_path):
    store, group = Store(tmp_path), Group((grids.cell("baseA"),))
    entered = threading.Event()

    def write():
        with Store(tmp_path).group_lock(group):
            entered.set()

    thread = threading.Thread(target=write)
    with store.group_lock(group):
        (holder,) = (tmp_path / "locks").glob("*.json")
        assert json.loads(holder.read_text())["pid"] == os.getpid()
        thread.start()
        assert not entered.wait(0.5)
    assert entered.wait(20)
    thread.join()
    store.remove_group_locks()
    assert not (tmp_path / "locks").exists()


def test_many_may_write_one_json_file_at_once(tmp_path):
    path, size = tmp_path / "some" / "file.json", 20_000

    def write(number):
        for _ in range(20):
            write_json(path, [number] * size)

    with ThreadPoolExecutor(4) as pool:
        ended = [pool.submit(write, number) for number in range(4)]
        while not all(future.done() for future in ended):
            if path.exists():
                content = json.loads(path.read_text())
                assert len(content) == size and len(set(content)) == 1
    assert [future.exception() for future in ended] == [None] * 4
    assert list(path.parent.iterdir()) == [path]
