"""Numbers for what Figure 5 of Zeiler & Fergus 2013 shows: dead and dominant filters, frequencies.

Kernels are (height, width, channels, filters), as `params[layer]['kernel']`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

DEAD_FRACTION = 0.1  # of the layer's usual RMS: under 1 % of the usual energy
BAND_EDGES = (1 / 8, 1 / 4)  # cycles per pixel that part low, middle and high frequencies
RESOLUTION = 64  # side of the Fourier transforms


@dataclasses.dataclass(frozen=True)
class FilterStatistics:
    """The numbers of a layer's filters.

    Of `count` filters, `dead` is the share of dead ones. `strongest` is the share of the layer's
    energy in its strongest filter, 1 / count if all are equal, `bands` those at low, middle and
    high frequencies.
    """

    count: int
    dead: float
    strongest: float
    bands: tuple[float, float, float]


def filter_statistics(kernel: np.ndarray) -> FilterStatistics:
    """All numbers of this module for one layer's kernel."""
    kernel = np.asarray(kernel, np.float64)
    energy = np.sum(kernel**2, axis=(0, 1, 2))
    with np.errstate(invalid="ignore"):
        strongest = energy.max() / energy.sum()
    return FilterStatistics(
        count=len(energy),
        dead=float(dead_filters(kernel).mean()),
        strongest=float(strongest),
        bands=tuple(frequency_shares(kernel).tolist()),
    )


def dead_filters(kernel: np.ndarray) -> np.ndarray:
    """(filters,) bool: which have an RMS of at most DEAD_FRACTION of the 90th percentile.

    Beside the largest one filter that dominates would declare all others dead; the median fails
    when more than half are dead.
    """
    rms = np.sqrt(np.mean(np.asarray(kernel, np.float64) ** 2, axis=(0, 1, 2)))
    return rms <= DEAD_FRACTION * np.quantile(rms, 0.9, method="lower")


def frequency_shares(kernel: np.ndarray) -> np.ndarray:
    """(3,) shares of the layer's energy at low, middle and high spatial frequencies, or NaNs.

    Channels are Fourier transformed, padded with zeros; frequency is the distance from 0.
    """
    kernel, power = np.asarray(kernel, np.float64), np.zeros((RESOLUTION, RESOLUTION))
    for filter_ in np.moveaxis(kernel, 3, 0):
        power += np.sum(np.abs(np.fft.fft2(filter_, power.shape, axes=(0, 1))) ** 2, axis=2)
    frequency = np.fft.fftfreq(RESOLUTION)
    bands = np.digitize(np.hypot(frequency[:, None], frequency[None, :]), BAND_EDGES)
    with np.errstate(invalid="ignore"):
        return np.bincount(bands.ravel(), power.ravel(), len(BAND_EDGES) + 1) / power.sum()
