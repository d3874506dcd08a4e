"""Single units on activations worked by hand."""

import numpy as np
import pytest

from transfer_jax.visual.units import strongest_unit, unit_signal


def test_the_strongest_unit_is_the_first_of_equal_ones():
    activations = np.zeros((3, 2, 3, 2), np.float32)
    activations[0, 1, 2, 1] = 5
    activations[1, 0, 1, 0] = activations[1, 1, 0, 0] = 2
    activations[2] = -1
    activations[2, 1, 0, 1] = -0.5
    found = strongest_unit(activations, [1, 0, 1])
    np.testing.assert_array_equal(found, [[1, 2], [0, 1], [1, 0]])
    signal = np.asarray(unit_signal(activations, [1, 0, 1]))
    assert signal[0, 1, 2, 1] == 5 and signal[1, 0, 1, 0] == 2 and signal[2, 1, 0, 1] == -0.5
    assert np.count_nonzero(signal) == 3


def test_a_dense_unit_stands_at_the_origin():
    activations = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
    expected = np.array([[0, -2, 0], [0, 5, 0]], np.float32)
    np.testing.assert_array_equal(strongest_unit(activations, 1), [[0, 0], [0, 0]])
    np.testing.assert_array_equal(unit_signal(activations, 1), expected)
    np.testing.assert_array_equal(unit_signal(activations, 1, (0, 0)), expected)


def test_bad_input_is_named():
    signal = np.zeros((3, 2, 2, 4), np.float32)
    for wrong, message in (
        (lambda: unit_signal(signal, [0, 1]), r"maps are int64 of shape \(2,\)"),
        (lambda: unit_signal(signal, 0, (-1, 0)), r"\(row\) hold -1"),
        (lambda: unit_signal(signal, 0.0), "maps are float64"),
        (lambda: strongest_unit(signal[0], 0), r"activations have shape \(2, 2, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
