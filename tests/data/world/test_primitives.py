"""Random keys, distances and noise under the drawings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer_jax.data.world import randomness, scenes, shapes
from transfer_jax.data.world.canvas import Canvas

GRID = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41))
U, V = (axis[None].astype(np.float32) for axis in GRID)


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


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0.1, 0.5), st.floats(0.1, 0.5),
    st.floats(-3, 3),
)  # fmt: skip
def test_signs_of_distances_agree_with_the_definitions(x, y, a, b, angle):
    du = np.cos(angle) * (U - x) + np.sin(angle) * (V - y)
    dv = np.cos(angle) * (V - y) - np.sin(angle) * (U - x)
    cases = [
        (shapes.ellipse(U, V, x, y, a, b, angle), (du / a) ** 2 + (dv / b) ** 2 - 1),
        (shapes.box(U, V, x, y, a, b, 0.0, angle), np.maximum(abs(du) - a, abs(dv) - b)),
        (shapes.circle(U, V, x, y, a), np.hypot(U - x, V - y) - a),
    ]
    for distance, level in cases:
        clear = np.abs(level) > 1e-3
        assert (np.sign(distance) == np.sign(level))[clear].all()


def test_distances_equal_the_nearest_point_of_the_outline():
    turns = np.linspace(0, 2 * np.pi, 4000)
    capsule = shapes.capsule(U, V, -0.3, -0.2, 0.4, 0.3, 0.15)
    steps = np.linspace(0, 1, 2000)
    spine = np.stack([-0.3 + 0.7 * steps, -0.2 + 0.5 * steps])
    nearest = np.hypot(U[..., None] - spine[0], V[..., None] - spine[1]).min(-1)
    np.testing.assert_allclose(capsule, nearest - 0.15, atol=1e-3)
    ellipse = shapes.ellipse(U, V, 0.1, 0.0, 0.5, 0.3)
    edge = np.hypot(
        U[..., None] - 0.1 - 0.5 * np.cos(turns), V[..., None] - 0.3 * np.sin(turns)
    ).min(-1)
    close = edge < 0.05
    np.testing.assert_allclose(np.abs(ellipse)[close], edge[close], atol=0.01)
    square = shapes.convex(U, V, (-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
    np.testing.assert_allclose(square, shapes.box(U, V, 0.0, 0.0, 0.5, 0.5), atol=1e-5)


def test_combinations():
    a, b = shapes.circle(U, V, -0.2, 0.0, 0.4), shapes.circle(U, V, 0.2, 0.0, 0.4)
    inside_a, inside_b = a < 0, b < 0
    assert np.array_equal(shapes.union(a, b) < 0, inside_a | inside_b)
    assert np.array_equal(shapes.both(a, b) < 0, inside_a & inside_b)
    assert np.array_equal(shapes.without(a, b) < 0, inside_a & (b > 0))
    assert (shapes.blend(a, b, 0.2) <= np.minimum(a, b) + 1e-6).all()


def _frame(samples, count=1):
    picture = np.zeros((count, 3, samples, samples), np.float32)
    keys = randomness.make_keys("frame", np.arange(count))
    return scenes.picture_frame(picture, randomness.Tape(keys))


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_waves_match_a_plain_sum_of_cosines(slope):
    canvas, samples, count = _frame(48, 3), 48, 12
    field = canvas.waves(2, 20, slope=slope, stretch=(1.0, 0.5))
    again = randomness.Tape(randomness.make_keys("frame", np.arange(3)))
    draw = again.numbers(2 * count).reshape(-1, 2, count).astype(np.float64)
    spread = (np.arange(count) + 0.5) / count
    frequency = 2 * 10**spread
    amplitude = frequency**-slope * np.sqrt(2 / (frequency ** (-2 * slope)).sum())
    angle = np.pi * (spread * count * 0.618034 + draw[:, 0])
    ku, kv = frequency * np.cos(angle), 0.5 * frequency * np.sin(angle)
    # The mean over a sample of width 2 / samples, here by fine quadrature.
    fine = 9
    grid = (np.arange(samples * fine) + 0.5) * 2 / (samples * fine) - 1
    expected = sum(
        amplitude[i]
        * np.cos(
            ku[:, i, None, None] * grid
            + kv[:, i, None, None] * -grid[:, None]
            + 2 * np.pi * draw[:, 1, i, None, None]
        )
        for i in range(count)
    )
    expected = expected.reshape(3, samples, fine, samples, fine).mean(axis=(2, 4))
    np.testing.assert_allclose(field, expected, atol=2e-3)


def test_painting_covers_the_share_of_each_pixel_that_lies_inside():
    canvas = _frame(32)
    red = np.asarray([[1.0, 0.0, 0.0]], np.float32)
    canvas.paint(shapes.circle(canvas.u, canvas.v, 0.0, 0.0, 0.5), red)
    assert isinstance(canvas, Canvas)
    area = canvas.alpha.sum() * (2 / 32) ** 2
    assert abs(area - np.pi * 0.25) < 0.01
    np.testing.assert_allclose(canvas.picture[:, 0], canvas.alpha, atol=1e-6)
    assert not canvas.picture[:, 1:].any()
