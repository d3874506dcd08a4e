import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer_jax.visual import filters

RNG = np.random.default_rng(0)


def gabor(size=7, wavelength=5.0, angle=0.6, phase=0.3):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + phase)
    grey = wave * np.exp(-(x**2 + y**2) / (2 * (size / 3) ** 2))
    return np.repeat(grey[:, :, None], 3, axis=2)


def edges(count=16):
    return np.stack([gabor(angle=a) for a in np.linspace(0, np.pi, count, False)], axis=-1)


def noise(count, size=7, channels=3):
    return RNG.normal(size=(size, size, channels, count))


def test_smoothness_equals_a_loop_over_neighbours():
    kernel = RNG.normal(size=(3, 4, 2, 3))
    for f in range(3):
        product = square = 0.0
        for c in range(2):
            for i in range(3):
                for j in range(4):
                    for k, m in ((i + 1, j), (i, j + 1)):
                        if k < 3 and m < 4:
                            one, other = kernel[i, j, c, f], kernel[k, m, c, f]
                            product += 2 * one * other
                            square += one**2 + other**2
        assert filters.smoothness(kernel)[f] == pytest.approx(product / square)


def test_smoothness_of_known_patterns():
    checkerboard = np.indices((6, 6)).sum(axis=0) % 2 * 2.0 - 1
    kernel = np.stack([np.ones((6, 6)), checkerboard, np.zeros((6, 6))], axis=-1)[:, :, None]
    smooth = filters.smoothness(kernel)
    assert smooth[:2] == pytest.approx([1, -1]) and np.isnan(smooth[2])
    # Wide stripes across one axis: cos of the frequency in one direction, 1 in the other.
    stripes = np.sin(2 * np.pi * np.arange(200) / 4 + 0.4)[None, :] * np.ones((200, 1))
    assert filters.smoothness(stripes[:, :, None, None])[0] == pytest.approx(0.5, abs=0.01)
    assert np.isnan(filters.smoothness(np.ones((1, 1, 3, 2)))).all()


def test_noise_is_told_from_edges():
    white = noise(2000)
    pairs = 3 * 2 * 7 * 6
    assert filters.smoothness(white).mean() == pytest.approx(0, abs=4 / np.sqrt(2000 * pairs))
    assert filters.smoothness(white).std() == pytest.approx(1 / np.sqrt(pairs), rel=0.1)
    assert filters.noise_share(white) > 0.99
    assert filters.noise_share(edges()) == 0
    mixed = np.concatenate([edges(16), noise(16)], axis=-1)
    assert filters.noise_share(mixed) == pytest.approx(0.5, abs=0.04)
    assert np.isnan(filters.noise_share(np.ones((1, 1, 3, 2))))


def test_dead_filters_stand_dominating_ones_and_a_dead_majority():
    weak = noise(20) * 0.01
    assert filters.dead_filters(np.concatenate([noise(10), weak], axis=-1)).tolist() == (
        [False] * 10 + [True] * 20
    )
    dominated = noise(20)
    dominated[..., 7] *= 1000
    assert not filters.dead_filters(dominated).any()
    assert not filters.dead_filters(noise(96, size=11)).any()
    assert filters.dead_filters(np.zeros((3, 3, 3, 4))).all()
    graded = np.ones((1, 1, 1, 11)) * np.linspace(0, 1, 11)
    assert filters.dead_filters(graded, fraction=0.5).sum() == 5  # of 0.9: 0, 0.1, ..., 0.4
    with pytest.raises(ValueError, match="fraction=2"):
        filters.dead_filters(graded, fraction=2)


def test_strongest_share_of_known_energies():
    kernel = np.ones((2, 2, 1, 4)) * np.sqrt([1.0, 2.0, 3.0, 4.0])
    assert filters.strongest_share(kernel) == pytest.approx(0.4)
    assert np.isnan(filters.strongest_share(np.zeros((2, 2, 1, 4))))
    assert filters.filter_rms(kernel) == pytest.approx(np.sqrt([1.0, 2.0, 3.0, 4.0]))


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 100))
def test_numbers_depend_neither_on_scale_nor_on_the_order_of_filters(scale, seed):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(5, 5, 3, 12)) * rng.uniform(0.01, 1, 12)
    shuffled = scale * kernel[..., rng.permutation(12)]
    one, other = (filters.filter_statistics(k) for k in (kernel, shuffled))
    assert one.dead == other.dead and one.noise == other.noise and one.count == 12
    for name in ("strongest", "smoothness", "bands"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))


def test_frequencies_of_noise_blobs_and_fine_stripes():
    expected = filters.white_noise_shares()
    assert expected == pytest.approx(
        [np.pi / 64, np.pi / 16 - np.pi / 64, 1 - np.pi / 16], abs=0.01
    )
    assert filters.frequency_shares(noise(500)) == pytest.approx(expected, abs=0.01)
    assert filters.frequency_shares(edges())[1] > 0.6  # wavelength 5 lies between 4 and 8 pixels
    fine = gabor(wavelength=2.5)[..., None]
    assert filters.frequency_shares(fine)[2] > 0.9
    assert filters.frequency_shares(np.ones((11, 11, 3, 1)))[0] > 0.8
    assert np.isnan(filters.frequency_shares(np.zeros((3, 3, 1, 1)))).all()
    # Parseval: the power of a band sums to the energy, so an 11th of the filters weighs as much.
    loud = np.concatenate([fine * 10, gabor(wavelength=30, phase=0)[..., None]], axis=-1)
    assert filters.frequency_shares(loud)[2] > 0.85


def test_statistics_gather_the_functions():
    kernel = np.concatenate([edges(8), np.zeros((7, 7, 3, 2))], axis=-1)
    numbers = filters.filter_statistics(kernel)
    assert numbers.count == 10 and numbers.dead == pytest.approx(0.2)
    assert numbers.noise == 0 and numbers.smoothness > 0.4
    assert 1 / 8 <= numbers.strongest < 0.2
    assert sum(numbers.bands) == pytest.approx(1)


def test_silent_maps_are_those_no_image_switches_on():
    strongest = np.array([[3.0, 1.0], [0.0, 0.0], [-1.0, -2.0], [0.5, -np.inf]])
    assert filters.silent_maps(strongest).tolist() == [False, True, True, False]
    assert filters.silent_maps(strongest[:, 0]).tolist() == [False, True, True, False]
    with pytest.raises(ValueError, match="map 1 has no activation"):
        filters.silent_maps(np.array([[1.0], [-np.inf]]))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.zeros((3, 3, 3)), r"kernel of shape \(3, 3, 3\)"),
        (np.zeros((3, 3, 3, 0)), "expected .height, width, channels, filters"),
        (np.full((3, 3, 3, 2), np.nan), "not finite"),
    ],
)
def test_bad_kernels_are_named(kernel, message):
    for function in (filters.filter_statistics, filters.smoothness, filters.strongest_share):
        with pytest.raises(ValueError, match=message):
            function(kernel)
    with pytest.raises(ValueError, match="resolution=4"):
        filters.frequency_shares(np.ones((5, 5, 1, 1)), resolution=4)
    with pytest.raises(ValueError, match="edges="):
        filters.frequency_shares(np.ones((5, 5, 1, 1)), edges=(0.3, 0.2))
