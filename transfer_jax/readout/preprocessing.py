"""Centring and scaling of features before a linear readout is fitted."""

from __future__ import annotations

import dataclasses

import numpy as np

from transfer_jax.readout.linear import LinearModel

STANDARDISATIONS = ("none", "common", "each")
"""See `Standardisation.of`."""

_CONSTANT = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Standardisation:
    """(x - mean) * factor, with numbers taken from training features; made by `of`.

    Attributes:
      mean: (D,) float32.
      factor: (D,) float32.
    """

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, how: str = "common") -> Standardisation:
        """Takes the numbers from training features x (N, D).

        Regularisation compares the length of weights with losses, so what it means depends on the
        features' length. Both ways leave images of mean squared length 1 around 0, in which one c
        or l2 suits layers of any width.

        Args:
          x: the training features; never those of test images.
          how: 'common' subtracts the mean and divides all features by one number, which keeps
            their geometry; 'each' divides each feature by its own standard deviation, so that weak
            features count as much as strong ones; 'none' leaves the features as they are.

        Raises:
          ValueError: an unknown `how`.
        """
        if how not in STANDARDISATIONS:
            raise ValueError(f"how={how!r}: expected one of {', '.join(STANDARDISATIONS)}")
        size = x.shape[1]
        if how == "none":
            return cls(np.zeros(size, np.float32), np.ones(size, np.float32))
        mean = x.mean(axis=0, dtype=np.float64)
        variance = x.var(axis=0, dtype=np.float64)
        total = variance.sum()
        if how == "common":
            factor = np.full(size, 1 / np.sqrt(total) if total > 0 else 0.0)
        else:
            # What hardly moves is rounding, and would be blown up; it is left out.
            moves = variance > _CONSTANT**2 * variance.max(initial=0)
            factor = np.zeros(size)
            factor[moves] = 1 / np.sqrt(variance[moves] * moves.sum())
        return cls(mean.astype(np.float32), factor.astype(np.float32))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Standardised features, float32 (N, D)."""
        return (x - self.mean) * self.factor

    def unfolded(self, model: LinearModel) -> LinearModel:
        """The model of plain features that scores as `model` does of standardised ones."""
        weights = model.weights * self.factor[:, None].astype(np.float64)
        bias = model.bias - self.mean @ weights
        return LinearModel(weights.astype(np.float32), bias.astype(np.float32))
