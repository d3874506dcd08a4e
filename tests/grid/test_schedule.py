import itertools
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.grid.small_grid import cell
from transfer_jax.grid.plan import build_plan
from transfer_jax.grid.schedule import Slots, carry_out, schedule

PLAN = build_plan([cell(f"{s}{n}B{plus}") for s in "AB" for n in (1, 2) for plus in ("", "+")])


def name(group):
    return "..".join(c.name for c in group.cells)


def times(turns):
    return {name(turn.group): (turn.workers, turn.start, turn.end) for turn in turns}


def test_a_worker_takes_the_first_group_whose_bases_are_trained():
    plan = build_plan([cell("A1B+"), cell("B1B+"), cell("R1B")])
    assert [name(group) for group in plan] == ["baseA", "baseB", "R1B", "A1B+", "B1B+"]
    turns = times(schedule(plan, [5.0, 1.0, 3.0, 2.0, 4.0], 2))
    assert turns == {
        "baseA": ((0,), 0, 5),
        "baseB": ((1,), 0, 1),
        "R1B": ((1,), 1, 4),
        "B1B+": ((1,), 4, 8),  # A1B+ still waits for its base.
        "A1B+": ((0,), 5, 7),
    }


def test_one_worker_keeps_the_order_of_the_plan():
    turns = schedule(PLAN, [2.0] * len(PLAN), 1)
    assert [turn.group for turn in turns] == PLAN
    assert [turn.start for turn in turns] == [2.0 * i for i in range(len(PLAN))]


def test_a_group_that_takes_all_workers_is_not_overtaken():
    plan = build_plan([cell("A1B+"), cell("B1B+"), cell("R1B")])
    widths = {"R1B": 2}
    turns = schedule(plan, [5.0, 1.0, 3.0, 2.0, 4.0], 2, lambda g: widths.get(name(g), 1))
    assert times(turns) == {
        "baseA": ((0,), 0, 5),
        "baseB": ((1,), 0, 1),
        "R1B": ((0, 1), 5, 8),
        "A1B+": ((0,), 8, 10),
        "B1B+": ((1,), 8, 12),
    }


def test_it_is_the_order_in_which_a_plan_is_carried_out():
    """Where all takes as long, and several start at once."""
    started = []

    def submit(group):
        started.append(group)
        future = Future()
        future.set_result(None)
        return future

    for _ in carry_out(PLAN, Slots(3, submit)):
        pass
    assert started == [turn.group for turn in schedule(PLAN, [1.0] * len(PLAN), 3)]


def test_bases_that_were_trained_before_are_not_waited_for():
    (group,) = build_plan([cell("A1B")], {cell("baseA").hash})
    (turn,) = schedule([group], [3.0], 4)
    assert (turn.start, turn.end) == (0, 3)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 100), min_size=len(PLAN), max_size=len(PLAN)),
    st.integers(1, 12),
    st.lists(st.integers(1, 3), min_size=len(PLAN), max_size=len(PLAN)),
)
def test_any_schedule_can_be_carried_out(seconds, workers, widths):
    widths = {group: min(w, workers) for group, w in zip(PLAN, widths, strict=True)}
    turns = schedule(PLAN, seconds, workers, widths.__getitem__)
    assert all(len(set(turn.workers)) == widths[turn.group] for turn in turns)
    assert {turn.group: turn.end - turn.start for turn in turns} == dict(
        zip(PLAN, seconds, strict=True)
    )
    trained = {c.hash: turn.end for turn in turns for c in turn.group.cells}
    for turn in turns:
        assert all(trained[base.hash] <= turn.start for base in turn.group.depends_on)
    for worker in range(workers):
        mine = sorted((t.start, t.end) for t in turns if worker in t.workers)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(mine))
    makespan = max(turn.end for turn in turns)
    work = sum(s * widths[group] for group, s in zip(PLAN, seconds, strict=True))
    assert work / workers <= makespan <= sum(seconds)


def test_bad_arguments():
    with pytest.raises(ValueError, match="workers=0: expected at least 1"):
        schedule(PLAN, [1.0] * len(PLAN), 0)
    with pytest.raises(ValueError, match=f"2 times were given for {len(PLAN)} groups"):
        schedule(PLAN, [1.0, 2.0], 1)


class Workers:
    """Futures that end when, and how, a test says."""

    def __init__(self, draw):
        self.draw, self.running, self.started = draw, {}, []

    def submit(self, group):
        future = Future()
        self.running[group] = future
        self.started.append(group)
        return future

    def end_one(self, failing=()):
        """Ends one of the groups in training, drawn at random."""
        group = self.draw(st.sampled_from(list(self.running)))
        future = self.running.pop(group)
        if name(group) in failing:
            future.set_exception(OSError("no such luck"))
        else:
            future.set_result(name(group))
        return group


def carried_out(draw, capacity, width, failing=()):
    """(started, ended) of a plan whose groups end in random order, checked on the way."""
    workers, ended, width_of = Workers(draw), [], lambda group: width if is_base(group) else 1

    def is_base(group):
        return not group.depends_on

    def submit(group):
        done = {c.hash for g in ended if name(g) not in failing for c in g.cells}
        assert {base.hash for base in group.depends_on} <= done
        future = workers.submit(group)
        assert sum(map(width_of, workers.running)) <= capacity
        if sum(map(width_of, workers.running)) == capacity or not any_ready(workers, done):
            ended.append(workers.end_one(failing))
        return future

    def any_ready(workers, done):
        return any(
            {base.hash for base in group.depends_on} <= done
            for group in PLAN
            if group not in workers.started
        )

    found = []
    for group, future in carry_out(PLAN, Slots(capacity, submit, width_of)):
        assert future.done()
        found.append(group)
        if workers.running and not any(f.done() for f in workers.running.values()):
            ended.append(workers.end_one(failing))
    return workers.started, found


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_plan_is_carried_out_whatever_ends_first(data):
    capacity = data.draw(st.integers(1, 5))
    width = data.draw(st.sampled_from([1, capacity]))
    started, ended = carried_out(data.draw, capacity, width)
    assert sorted(map(name, started)) == sorted(map(name, ended)) == sorted(map(name, PLAN))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_what_needs_a_failed_group_is_never_started(data):
    started, ended = carried_out(data.draw, data.draw(st.integers(1, 5)), 1, failing={"baseA"})
    wanted = [g for g in PLAN if "baseA" not in {base.name for base in g.depends_on}]
    assert sorted(map(name, started)) == sorted(map(name, ended)) == sorted(map(name, wanted))
    assert len(wanted) < len(PLAN)


def test_one_slot_carries_out_in_the_order_of_the_plan():
    def at_once(group):
        future = Future()
        future.set_result(None)
        return future

    assert [group for group, _ in carry_out(PLAN, Slots(1, at_once))] == PLAN
