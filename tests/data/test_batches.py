"""The order against its properties and written-down values; streams against `map`."""

import collections
import itertools
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings, strategies as st

from transfer_jax.data.batches import BatchOrder, padded_batches, permutation, stream

orders = st.builds(BatchOrder, st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**40))
few = settings(max_examples=25, deadline=None)


def test_permutations_are_those_of_splitmix64_in_whole_numbers():
    """Vigna's generator, word by word, without NumPy."""

    def word(state):
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
        return state ^ (state >> 31)

    # The first output of the published generator for the seed 1234567.
    golden = 0x9E3779B97F4A7C15
    assert word((1234567 + golden) % 2**64) == 6457827717110365317
    state = word((word((2 + golden * (5 + 1)) % 2**64) + golden * (9 + 1)) % 2**64)
    words = [word((state + golden * (i + 1)) % 2**64) for i in range(50)]
    assert permutation(50, 5, 9).tolist() == sorted(range(50), key=words.__getitem__)


def test_every_permutation_is_equally_likely():
    drawn = collections.Counter(tuple(permutation(4, seed, 0)) for seed in range(4800))
    assert len(drawn) == 24
    assert scipy.stats.chisquare(list(drawn.values())).pvalue > 1e-3
    # Where an example stands in one epoch says nothing about the next.
    ranks = np.array([np.argmax(permutation(50, 7, epoch) == 3) for epoch in range(2000)])
    assert abs(np.corrcoef(ranks[:-1], ranks[1:])[0, 1]) < 4 / np.sqrt(2000)


@given(orders)
@few
def test_every_example_once_an_epoch(order):
    steps = -(-3 * order.num // order.batch_size)
    examples = np.concatenate([order.indices(step) for step in range(steps)])[: 3 * order.num]
    epochs = examples.reshape(3, order.num)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(order.num), (3, 1)))


@given(orders, st.integers(0, 10**15), st.data())
@few
def test_a_step_depends_on_nothing_but_the_step(order, step, data):
    first = order.indices(step)
    assert first.dtype == np.int64 and first.shape == (order.batch_size,)
    order.indices(step + 999)
    np.testing.assert_array_equal(order.indices(np.int64(step)), first)
    start = data.draw(st.integers(0, order.batch_size))
    stop = data.draw(st.integers(start, order.batch_size))
    np.testing.assert_array_equal(order.slice(step, start, stop), first[start:stop])
    kept, first[:] = first.copy(), 0  # what is given away is nobody's cache
    np.testing.assert_array_equal(order.indices(step), kept)


@given(st.integers(0, 70), st.integers(1, 30))
@few
def test_padded_batches_cover_everything_once_in_order(num, batch_size):
    batches = list(padded_batches(num, batch_size))
    assert len(batches) == -(-num // batch_size)
    for indices, mask in batches:
        assert indices.shape == mask.shape == (batch_size,) and mask.any()
        assert np.all((indices >= 0) & (indices < num))
    assert [i for indices, mask in batches for i in indices[mask]] == list(range(num))


@pytest.mark.parametrize("threads", [1, 5])
def test_a_stream_is_a_map_in_order(threads):
    def read(number):
        time.sleep(0.002 * (number % 3))  # the later ones may be ready first
        return number * number

    assert list(stream(read, range(30), threads)) == [n * n for n in range(30)]
    assert list(stream(read, [], threads)) == []
    broken = stream(lambda n: 1 // (4 - n), itertools.count(), threads)
    assert [next(broken) for _ in range(4)] == [0, 0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(broken)


def test_a_stream_reads_ahead_but_not_far():
    begun, taken = [], []
    batches = stream(begun.append, range(100), threads=3)
    for _ in range(10):
        taken.append(next(batches))
        time.sleep(0.005)
        assert len(taken) < len(begun) <= len(taken) + 3
    batches.close()
    assert len(begun) <= 13
