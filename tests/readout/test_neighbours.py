import numpy as np
import pytest

from transfer_jax.readout.neighbours import neighbours_right, sibling_share


def test_accuracy_by_hand():
    train = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [30.0]])
    labels, test = np.array([0, 1, 0, 2, 1, 3]), np.array([[0.1], [1.1], [9.9], [10.9], [1.1]])
    # Nearest are 0, 1, 3, 4 and 1, of classes 0, 1, 2, 1 and 1; none has the last among five.
    right = neighbours_right(train, labels, test, np.array([0, 0, 1, 0, 3]))
    assert right[1].tolist() == [True, False, False, False, False]
    assert right[5].tolist() == [True, True, True, True, False]


def test_noise_is_at_chance():
    rng = np.random.default_rng(1)
    labels, test_labels = rng.integers(0, 10, 800), rng.integers(0, 10, 300)
    noise = neighbours_right(rng.random((800, 16)), labels, rng.random((300, 16)), test_labels)
    assert noise[5].mean() == pytest.approx(1 - 0.9**5, abs=0.08)


def test_sibling_share_by_hand():
    features = np.array([[0.0], [1.0], [3.0], [10.0], [11.5], [30.0]])
    # Nearest others: 0: 1 | 1: 0 | 2: 1 | 3: 4 | 4: 3; class 5 has no sibling.
    by_class, chance = sibling_share(features, np.array([0, 0, 1, 1, 1, 2]))
    np.testing.assert_array_equal(by_class, [1, 1, 0, 1, 1, np.nan])
    assert chance == pytest.approx((1 / 5 * 2 + 2 / 5 * 3) / 5)
    by_class, chance = sibling_share(features, np.arange(6))
    assert np.isnan(chance) and np.isnan(by_class).all()
    # Nobody is its own neighbour, even among equals.
    equal, _ = sibling_share(np.zeros((6, 2)), np.array([0, 1, 2, 3, 4, 4]))
    np.testing.assert_array_equal(equal[4:], 0)
