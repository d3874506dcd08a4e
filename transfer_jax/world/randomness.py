"""Counter-based random numbers: what image i gets never depends on which images are drawn with it.

A key is a 64-bit word per image, mixed from names and numbers. A `Tape` turns keys into as many
uniform numbers as a drawing asks for, for a whole batch of images at once.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Keys = NDArray[np.uint64]
Field = NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 128


def mix(words: Keys) -> Keys:
    """Scrambles 64-bit words one by one (the finaliser of SplitMix64): a bijection."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def make_keys(*parts: str | ArrayLike) -> Keys:
    """Mixes names and non-negative integers (scalars or arrays, broadcast together) into keys.

    The order of the parts matters; the result has at least one dimension.
    """
    keys = np.zeros(1, np.uint64)
    for part in parts:
        if isinstance(part, str):
            part = zlib.crc32(part.encode()) + (len(part) << 32)
        word = np.atleast_1d(np.asarray(part)).astype(np.uint64)
        keys = mix((keys ^ mix(word + _GOLDEN)) * np.uint64(3) + _GOLDEN)
    return keys


class Tape:
    """A sequence of random numbers for each of n keys, read from left to right."""

    def __init__(self, keys: Keys):
        self._keys = keys
        self._block = np.empty((len(keys), 0), np.float32)
        self._position = 0

    def numbers(self, count: int) -> Field:
        """The next `count` numbers, uniform in [0, 1), as float32 (n, count)."""
        while self._position + count > self._block.shape[1]:
            start = self._block.shape[1]
            counters = np.arange(start + 1, start + 1 + _BLOCK, dtype=np.uint64) * _GOLDEN
            bits = mix(self._keys[:, None] + counters)
            fresh = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
            self._block = np.concatenate([self._block, fresh], axis=1)
        self._position += count
        return self._block[:, self._position - count : self._position]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Field:
        """One number in [low, high) per image, as float32 (n, 1, 1)."""
        return low + (high - low) * self.numbers(1)[:, :, None]

    def flip(self, probability: float) -> Field:
        """1.0 with the given probability, else 0.0, as float32 (n, 1, 1)."""
        return (self.uniform() < probability).astype(np.float32)

    def colour(self, palette: Field, jitter: float = 0.08) -> Field:
        """A colour of the palette (k, 3) per image, brightness and hue jittered: (n, 3)."""
        draw = self.numbers(5)
        colour = palette[(draw[:, 0] * len(palette)).astype(np.int64)]
        colour = colour * (1 + 3 * jitter * (draw[:, 1:2] - 0.6))
        return np.clip(colour + jitter * (2 * draw[:, 2:5] - 1), 0.01, 1).astype(np.float32)


def pixel_noise(keys: Keys, size: int) -> Field:
    """Noise (n, 3, size, size) of mean 0 and variance 1, alike but not equal in the channels."""
    counters = np.arange(1, size * size + 1, dtype=np.uint64) * _GOLDEN
    bits = mix(keys[:, None] + counters).view(np.uint16).reshape(len(keys), -1, 4)
    parts = bits.transpose(0, 2, 1).astype(np.float32) * np.float32(2.0**-16) - 0.5
    noise = (parts[:, :3] + parts[:, 3:]) * np.float32(np.sqrt(6))
    return noise.reshape(len(keys), 3, size, size)
