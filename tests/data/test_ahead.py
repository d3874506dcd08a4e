import threading
import time

import pytest

from transfer_jax.data.ahead import map_ahead


def test_results_come_in_order_whatever_their_threads_do():
    def slow_for_even(number):
        time.sleep(0.01 * (number % 2 == 0))
        return number * number

    assert list(map_ahead(slow_for_even, range(20), workers=4)) == [n * n for n in range(20)]


def test_arguments_are_drawn_only_a_little_ahead():
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield drawn[-1]

    results = map_ahead(lambda number: number, endless(), workers=2)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(drawn) <= 10 + 2 * 2 + 1
    results.close()
    assert len(drawn) <= 10 + 2 * 2 + 1


def test_an_exception_is_raised_where_its_result_is_taken():
    results = map_ahead(lambda number: 1 / number, [2, 1, 0, 1], workers=2)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_thread_is_left_when_the_taker_stops():
    before = threading.active_count()
    results = map_ahead(lambda number: number, range(1000), workers=3)
    next(results)
    results.close()
    assert threading.active_count() == before
