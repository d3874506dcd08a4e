"""Random keys, distances and noise under the drawings."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transfer_jax.world import randomness, shapes, surroundings

GRID = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41))
U, V = (axis[None].astype(np.float32) for axis in GRID)


def test_mix_is_splitmix64():
    # The first outputs of SplitMix64 seeded with 0, as published with its C code.
    states = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(word) for word in randomness.mix(states)] == published


def test_keys_depend_on_every_word_and_their_order():
    words = [("a",), ("b",), ("a", 0), ("a", 1), (1, "a"), ("ab",), (0,), (1,), (0, 1), (1, 0)]
    assert len({int(randomness.make_keys(*w)[0]) for w in words}) == len(words)
    many = randomness.make_keys("x", np.arange(100_000))
    assert len(np.unique(many)) == len(many)


def test_tape_is_uniform_and_independent_of_neighbours_and_of_how_it_is_read():
    keys = randomness.make_keys("tape", np.arange(500))
    numbers = randomness.Tape(keys).numbers(300)
    assert 0 <= numbers.min() and numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    expected = numbers.size / 20
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-squared, 19 degrees of freedom
    assert abs(np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]) < 0.01
    tape = randomness.Tape(keys[7:9])
    pieces = [tape.numbers(n) for n in (1, 100, 50, 149)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), numbers[7:9])


def test_pixel_noise_has_unit_variance():
    noise = randomness.pixel_noise(randomness.make_keys("n", np.arange(50)), 32)
    assert noise.shape == (50, 3, 32, 32)
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01


SIDES, PLACES = st.floats(0.1, 0.5), st.floats(-0.4, 0.4)


@settings(max_examples=20, deadline=None)
@given(PLACES, PLACES, SIDES, SIDES, st.floats(-3, 3))
def test_signs_of_distances_agree_with_the_definitions(x, y, a, b, angle):
    du, dv = U - x, V - y
    tu, tv = np.cos(angle) * du + np.sin(angle) * dv, np.cos(angle) * dv - np.sin(angle) * du
    cases = [
        (shapes.ellipse(U, V, x, y, a, b, angle), (tu / a) ** 2 + (tv / b) ** 2 - 1),
        (shapes.box(*shapes.rotate(U, V, angle, x, y), 0, 0, a, b),
         np.maximum(abs(tu) - a, abs(tv) - b)),
        (shapes.circle(U, V, x, y, a), np.hypot(du, dv) - a),
    ]  # fmt: skip
    for distance, level in cases:
        clear = np.abs(level) > 1e-3
        assert (np.sign(distance) == np.sign(level))[clear].all()


def _nearest(x, y):
    """Distance of every grid point to the nearest of some points."""
    return np.hypot(U[..., None] - x, V[..., None] - y).min(-1)


def test_distances_equal_the_nearest_point_of_the_outline():
    steps = np.linspace(0, 1, 2000)
    capsule = shapes.capsule(U, V, -0.3, -0.2, 0.4, 0.3, 0.15)
    spine = _nearest(-0.3 + 0.7 * steps, -0.2 + 0.5 * steps)
    np.testing.assert_allclose(capsule, spine - 0.15, atol=1e-3)
    edge = _nearest(0.1 + 0.5 * np.cos(2 * np.pi * steps), 0.3 * np.sin(2 * np.pi * steps))
    ellipse = shapes.ellipse(U, V, 0.1, 0.0, 0.5, 0.3)
    close = edge < 0.05
    np.testing.assert_allclose(np.abs(ellipse)[close], edge[close], atol=0.01)
    square = shapes.convex(U, V, (-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
    np.testing.assert_allclose(square, shapes.box(U, V, 0.0, 0.0, 0.5, 0.5), atol=1e-5)
    # A rounded box is what a disc covers that rolls inside the smaller box.
    rounded = shapes.box(U, V, 0.0, 0.0, 0.5, 0.4, 0.2)
    inner = np.hypot(np.clip(np.abs(U) - 0.3, 0, None), np.clip(np.abs(V) - 0.2, 0, None))
    assert np.array_equal(rounded < -1e-4, inner < 0.2 - 1e-4)


def test_combinations():
    a, b = shapes.circle(U, V, -0.2, 0.0, 0.4), shapes.circle(U, V, 0.2, 0.0, 0.4)
    inside_a, inside_b = a < 0, b < 0
    assert np.array_equal(shapes.union(a, b) < 0, inside_a | inside_b)
    assert np.array_equal(shapes.both(a, b) < 0, inside_a & inside_b)
    assert np.array_equal(shapes.without(a, b) < 0, inside_a & (b > 0))
    assert (shapes.blend(a, b, 0.2) <= np.minimum(a, b) + 1e-6).all()


def _frame(size, count=1):
    picture = np.zeros((count, 3, size, size), np.float32)
    keys = randomness.make_keys("frame", np.arange(count))
    return surroundings.frame(picture, randomness.Tape(keys))


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_waves_match_a_plain_sum_of_cosines(slope):
    size, count = 48, 12
    field = _frame(size, 3).waves(2, 20, slope=slope, stretch=(1.0, 0.5))
    tape = randomness.Tape(randomness.make_keys("frame", np.arange(3)))
    turn, phase = tape.numbers(2 * count).reshape(-1, 2, count).astype(np.float64).swapaxes(0, 1)
    spread = (np.arange(count) + 0.5) / count
    frequency = 2 * 10**spread
    amplitude = frequency**-slope * np.sqrt(2 / (frequency ** (-2 * slope)).sum())
    angle = np.pi * (spread * count * 0.618034 + turn)
    ku, kv = frequency * np.cos(angle), 0.5 * frequency * np.sin(angle)
    # The mean over a pixel of width 2 / size, here by fine quadrature.
    fine = 9
    grid = (np.arange(size * fine) + 0.5) * 2 / (size * fine) - 1
    expected = np.zeros((3, size * fine, size * fine))
    for i in range(count):
        across, down = ku[:, i, None, None] * grid, -kv[:, i, None, None] * grid[:, None]
        expected += amplitude[i] * np.cos(across + down + 2 * np.pi * phase[:, i, None, None])
    expected = expected.reshape(3, size, fine, size, fine).mean(axis=(2, 4))
    np.testing.assert_allclose(field, expected, atol=2e-3)


def test_painting_covers_the_share_of_each_pixel_that_lies_inside():
    canvas = _frame(32)
    red = np.asarray([[1.0, 0.0, 0.0]], np.float32)
    canvas.paint(shapes.circle(canvas.u, canvas.v, 0.0, 0.0, 0.5), red)
    assert abs(canvas.alpha.sum() * (2 / 32) ** 2 - np.pi * 0.25) < 0.01
    np.testing.assert_allclose(canvas.picture[:, 0], canvas.alpha, atol=1e-6)
    assert not canvas.picture[:, 1:].any()
