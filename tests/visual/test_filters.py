import numpy as np
import pytest

from transfer_jax.visual import filter_statistics, filters

RNG = np.random.default_rng(0)


def gabor(size=7, wavelength=5.0, angle=0.6, phase=0.3):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + phase)
    grey = wave * np.exp(-(x**2 + y**2) / (2 * (size / 3) ** 2))
    return np.repeat(grey[:, :, None], 3, axis=2)


def edges(count=16):
    return np.stack([gabor(angle=a) for a in np.linspace(0, np.pi, count, False)], axis=-1)


def noise(count, size=7):
    return RNG.normal(size=(size, size, 3, count))


def test_dead_filters_stand_dominating_ones_and_a_dead_majority():
    weak = np.concatenate([noise(10), noise(20) * 0.01], axis=-1)
    assert filters.dead_filters(weak).tolist() == [False] * 10 + [True] * 20
    dominated = noise(20)
    dominated[..., 7] *= 1000
    assert not filters.dead_filters(dominated).any()
    assert filter_statistics(dominated).strongest > 0.99
    nothing = filter_statistics(np.zeros((3, 3, 3, 4)))
    assert nothing.dead == 1 and np.isnan([nothing.strongest, *nothing.bands]).all()


def test_frequencies_of_noise_blobs_and_fine_stripes():
    expected = [np.pi / 64, np.pi / 16 - np.pi / 64, 1 - np.pi / 16]  # shares of the plane
    assert filters.frequency_shares(noise(500)) == pytest.approx(expected, abs=0.01)
    assert filters.frequency_shares(edges())[1] > 0.6  # wavelength 5 lies between 4 and 8 pixels
    fine = gabor(wavelength=2.5)[..., None]
    assert filters.frequency_shares(fine)[2] > 0.9
    assert filters.frequency_shares(np.ones((11, 11, 3, 1)))[0] > 0.8
