import time

import pytest

from transfer_jax.bench.timing import Timing, interleave


def test_minimum_and_median_of_rounds():
    timing = Timing((3.0, 1.0, 2.0, 10.0))
    assert timing.minimum == 1.0
    assert timing.median == 2.5


@pytest.mark.parametrize("seconds", [(), (1.0, 0.0), (-1.0,)])
def test_refuses_durations_that_cannot_be(seconds):
    with pytest.raises(ValueError, match="positive"):
        Timing(seconds)


def test_contenders_take_turns_in_alternating_order_after_a_warm_up():
    calls = []
    contenders = {
        name: lambda steps, name=name: calls.append((name, steps)) for name in ("a", "b", "c")
    }
    interleave(contenders, repeats=3, steps=5)
    names = [name for name, _ in calls]
    assert [steps for _, steps in calls] == [1] * 3 + [5] * 9
    assert names == ["a", "b", "c", "a", "b", "c", "c", "b", "a", "a", "b", "c"]


def test_measures_seconds_a_step():
    def sleeper(seconds):
        return lambda steps: time.sleep(seconds * steps)

    timings = interleave({"slow": sleeper(0.03), "fast": sleeper(0.01)}, repeats=3, steps=2)
    assert all(len(timing.seconds) == 3 for timing in timings.values())
    assert 0.03 <= timings["slow"].minimum < 0.04
    assert 0.01 <= timings["fast"].minimum < 0.02


@pytest.mark.parametrize("repeats, steps", [(0, 1), (1, 0)])
def test_refuses_nothing_to_measure(repeats, steps):
    with pytest.raises(ValueError, match=f"repeats={repeats}, steps={steps}"):
        interleave({"a": lambda steps: None}, repeats=repeats, steps=steps)
