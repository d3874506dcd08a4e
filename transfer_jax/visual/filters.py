"""Numbers for what Figure 5 of Zeiler & Fergus 2013 shows: dead, dominant and noisy filters."""

from __future__ import annotations

import dataclasses

import numpy as np

DEAD_FRACTION = 0.1
"""A filter below this share of its layer's usual RMS is dead: it holds under 1% of usual energy."""

BAND_EDGES = (1 / 8, 1 / 4)
"""Cycles per pixel that part low, middle and high frequencies: wavelengths of 8 and 4 pixels."""


@dataclasses.dataclass(frozen=True)
class FilterStatistics:
    """The numbers beside a layer's filters; see the functions of the same names.

    Attributes:
      count: number of filters.
      dead: share of dead filters.
      strongest: share of the layer's energy in its strongest filter; 1 / count if all are equal.
      noise: share of filters that cannot be told from white noise; NaN for 1x1 kernels.
      smoothness: median over the filters that are not dead; NaN for 1x1 kernels.
      bands: shares of the layer's energy at low, middle and high spatial frequencies.
    """

    count: int
    dead: float
    strongest: float
    noise: float
    smoothness: float
    bands: tuple[float, float, float]


def filter_statistics(
    kernel: np.ndarray, *, dead_fraction: float = DEAD_FRACTION
) -> FilterStatistics:
    """All numbers of this module for one layer.

    Args:
      kernel: (height, width, channels, filters), as `params[layer]['kernel']`.
      dead_fraction: as in `dead_filters`.

    Returns:
      FilterStatistics.

    Raises:
      ValueError: when the kernel is not four-dimensional, is empty or holds a value not finite.
    """
    dead = dead_filters(kernel, fraction=dead_fraction)
    smooth = smoothness(kernel)
    alive = smooth[~dead]
    return FilterStatistics(
        count=len(dead),
        dead=float(dead.mean()),
        strongest=strongest_share(kernel),
        noise=noise_share(kernel),
        smoothness=float(np.median(alive)) if len(alive) else float("nan"),
        bands=tuple(frequency_shares(kernel).tolist()),
    )


def filter_rms(kernel: np.ndarray) -> np.ndarray:
    """Root mean square of each filter's weights, (filters,): what the paper's rule keeps <= 0.1."""
    kernel = _checked(kernel)
    return np.sqrt(np.mean(kernel**2, axis=(0, 1, 2)))


def dead_filters(kernel: np.ndarray, *, fraction: float = DEAD_FRACTION) -> np.ndarray:
    """Which filters are dead: so weak beside the others of the layer that they do nothing.

    A filter is dead when its RMS is at most `fraction` of the layer's 90th percentile (the next
    lower filter where it falls between two). The largest RMS would be a bad measure, since one
    filter that dominates would declare all others dead, and the median fails when more than half
    are dead; the percentile stands both. The default fraction, a tenth, means a hundredth of the
    energy; filters as initialised differ by a few percent only, so none of those is dead.

    This is a statement about weights. A filter that the data never switch on keeps its weights: see
    `silent_maps` for that.

    Args:
      kernel: (height, width, channels, filters).
      fraction: of the reference RMS, 0 to 1.

    Returns:
      (filters,) bool; all True for a layer of zeros.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction}: expected 0 to 1")
    rms = filter_rms(kernel)
    return rms <= fraction * np.quantile(rms, 0.9, method="lower")


def silent_maps(strongest: np.ndarray) -> np.ndarray:
    """Which maps no image of a dataset switches on.

    Args:
      strongest: (maps,) or (maps, count), the largest activations of each map over the dataset, as
        in `TopActivations.values`, of a layer that ends in a ReLU.

    Returns:
      (maps,) bool, True where the largest activation is not above 0.

    Raises:
      ValueError: when a map has no activation at all (no image was seen).
    """
    strongest = np.asarray(strongest, float)
    largest = strongest.reshape(len(strongest), -1).max(axis=1)
    if np.any(np.isneginf(largest)):
        raise ValueError(f"map {int(np.argmin(largest))} has no activation: no image was searched")
    return ~(largest > 0)


def strongest_share(kernel: np.ndarray) -> float:
    """Share of the layer's energy (sum of squared weights) that its strongest filter holds.

    1 / filters when all are equally strong, near 1 when one dominates, as the paper reports for
    first layers trained without its RMS rule; NaN for a layer of zeros.
    """
    energy = filter_rms(kernel) ** 2
    return float(energy.max() / energy.sum()) if energy.sum() > 0 else float("nan")


def smoothness(kernel: np.ndarray) -> np.ndarray:
    """How much neighbouring weights of each filter agree: their normalised correlation.

    Sum of 2 w v over the sum of w^2 + v^2, over all pairs (w, v) of horizontal and vertical
    neighbours of all channels. 1 for a constant filter, 0 expected for white noise (with a standard
    deviation of about 1 / sqrt(pairs)), -1 for a checkerboard; long stripes of wavelength 4 have
    0.5, wider ones and blobs more. It is the cosine of spatial frequency averaged over the power
    spectrum, so stripes of wavelength 2 to 2.5 pixels count as noise too.

    Args:
      kernel: (height, width, channels, filters).

    Returns:
      (filters,) float; NaN for filters of zeros and for 1x1 kernels.
    """
    kernel = _checked(kernel)
    pairs = ((kernel[1:], kernel[:-1]), (kernel[:, 1:], kernel[:, :-1]))
    product = sum(np.sum(2 * one * other, axis=(0, 1, 2)) for one, other in pairs)
    square = sum(np.sum(one**2 + other**2, axis=(0, 1, 2)) for one, other in pairs)
    return np.divide(product, square, out=np.full(kernel.shape[3], np.nan), where=square > 0)


def noise_share(kernel: np.ndarray, *, deviations: float = 3.0) -> float:
    """Share of filters that look like noise: their `smoothness` lies within chance of 0.

    Args:
      kernel: (height, width, channels, filters).
      deviations: how many standard deviations of white noise's smoothness count as chance.

    Returns:
      Share among all filters, 0 to 1; filters of zeros are not noise. NaN for 1x1 kernels, which
      have no neighbours.
    """
    height, width, channels, _ = np.shape(kernel)
    pairs = channels * (height * (width - 1) + width * (height - 1))
    if pairs == 0:
        return float("nan")
    return float(np.mean(np.abs(smoothness(kernel)) <= deviations / np.sqrt(pairs)))


def frequency_shares(
    kernel: np.ndarray, *, edges: tuple[float, ...] = BAND_EDGES, resolution: int = 64
) -> np.ndarray:
    """How the layer's energy is spread over spatial frequencies.

    The paper finds first layers that hold extremely high and low frequencies and few between. Each
    filter's channels are Fourier transformed, padded with zeros; every filter counts by its energy.
    Frequency is the distance from 0 in the plane of both frequencies, up to 0.71 cycles per pixel
    in its corners.

    Args:
      kernel: (height, width, channels, filters).
      edges: rising frequencies in cycles per pixel that part the bands.
      resolution: side of the transform, at least the kernel's.

    Returns:
      (len(edges) + 1,) shares that sum to 1, lowest band first; NaN for a layer of zeros.
      `white_noise_shares` has what noise would give.
    """
    kernel = _checked(kernel)
    if resolution < max(kernel.shape[:2]):
        raise ValueError(f"resolution={resolution} is below the kernel's side {kernel.shape[:2]}")
    power = np.zeros((resolution, resolution))
    for index in range(kernel.shape[3]):
        spectrum = np.fft.fft2(kernel[..., index], (resolution, resolution), axes=(0, 1))
        power += np.sum(np.abs(spectrum) ** 2, axis=2)
    total = power.sum()
    shares = np.bincount(_bands(edges, resolution).ravel(), power.ravel(), len(edges) + 1)
    return shares / total if total > 0 else np.full(len(edges) + 1, np.nan)


def white_noise_shares(
    *, edges: tuple[float, ...] = BAND_EDGES, resolution: int = 64
) -> np.ndarray:
    """What `frequency_shares` is on average for white noise: each band's share of the plane."""
    bands = _bands(edges, resolution)
    return np.bincount(bands.ravel(), minlength=len(edges) + 1) / bands.size


def _bands(edges: tuple[float, ...], resolution: int) -> np.ndarray:
    if list(edges) != sorted(set(edges)) or not all(edge > 0 for edge in edges):
        raise ValueError(f"edges={edges}: expected rising frequencies above 0")
    frequency = np.fft.fftfreq(resolution)
    return np.digitize(np.hypot(frequency[:, None], frequency[None, :]), edges)


def _checked(kernel: np.ndarray) -> np.ndarray:
    kernel = np.asarray(kernel, np.float64)
    if kernel.ndim != 4 or kernel.size == 0:
        raise ValueError(
            f"kernel of shape {kernel.shape}; expected (height, width, channels, filters)"
        )
    if not np.isfinite(kernel).all():
        raise ValueError("the kernel holds a weight that is not finite")
    return kernel
