"""Numbers for what Figure 5 of Zeiler & Fergus 2013 shows: dead, dominant and noisy filters.

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

    Of `count` filters, `dead` is the share of dead ones, `noise` the share whose smoothness lies
    within three standard deviations of white noise's, `smoothness` the median of those not dead
    (both NaN for 1 x 1 kernels). `strongest` is the share of the layer's energy in its strongest
    filter, 1 / count if all are equal, `bands` those at low, middle and high frequencies.
    """

    count: int
    dead: float
    strongest: float
    noise: float
    smoothness: float
    bands: tuple[float, float, float]


def filter_statistics(kernel: np.ndarray) -> FilterStatistics:
    """All numbers of this module for one layer's kernel."""
    kernel = np.asarray(kernel, np.float64)
    height, width, channels, count = kernel.shape
    energy = np.sum(kernel**2, axis=(0, 1, 2))
    dead, smooth = dead_filters(kernel), smoothness(kernel)
    pairs = channels * (height * (width - 1) + width * (height - 1))
    with np.errstate(invalid="ignore"):
        strongest = energy.max() / energy.sum()
    return FilterStatistics(
        count=count,
        dead=float(dead.mean()),
        strongest=float(strongest),
        noise=float(np.mean(np.abs(smooth) <= 3 / np.sqrt(pairs))) if pairs else np.nan,
        smoothness=float(np.median(smooth[~dead])) if not dead.all() else np.nan,
        bands=tuple(frequency_shares(kernel).tolist()),
    )


def dead_filters(kernel: np.ndarray) -> np.ndarray:
    """(filters,) bool: which have an RMS of at most DEAD_FRACTION of the 90th percentile.

    Beside the largest one filter that dominates would declare all others dead; the median fails
    when more than half are dead.
    """
    rms = np.sqrt(np.mean(np.asarray(kernel, np.float64) ** 2, axis=(0, 1, 2)))
    return rms <= DEAD_FRACTION * np.quantile(rms, 0.9, method="lower")


def smoothness(kernel: np.ndarray) -> np.ndarray:
    """(filters,) how much neighbouring weights agree, NaN for filters of zeros and 1 x 1 kernels.

    Sum of 2 w v over the sum of w^2 + v^2, over all pairs (w, v) of horizontal and vertical
    neighbours: 1 for a constant filter, 0 +- 1 / sqrt(pairs) for white noise.
    """
    kernel = np.asarray(kernel, np.float64)
    pairs = ((kernel[1:], kernel[:-1]), (kernel[:, 1:], kernel[:, :-1]))
    product = sum(np.sum(2 * one * other, axis=(0, 1, 2)) for one, other in pairs)
    square = sum(np.sum(one**2 + other**2, axis=(0, 1, 2)) for one, other in pairs)
    return np.divide(product, square, out=np.full(kernel.shape[3], np.nan), where=square > 0)


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
