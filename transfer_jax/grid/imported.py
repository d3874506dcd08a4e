"""Bases whose weights come from a file: a lab that has a trained network need not train one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from transfer_jax.networks import Network
from transfer_jax.networks.weights import load_weights, scaled_input


@dataclasses.dataclass(frozen=True)
class Imported:
    """A file that a network's weights come from; two are equal when digest and mean are.

    Attributes:
      digest: SHA-256 of the file's bytes.
      mean_digest: SHA-256 of the mean's shape and values.
      path: where the file lies.
      mean: subtracted from the images that the network was trained on, (3,) or (h, w, 3) float32,
        RGB, in pixel values 0..255.
    """

    digest: str
    mean_digest: str
    path: str = dataclasses.field(compare=False)
    mean: np.ndarray = dataclasses.field(compare=False, repr=False)

    def mean_for(self, kind: str, image_shape: Sequence[int]) -> np.ndarray:
        """What is subtracted from images of a shape, by a recipe's `mean`; ValueError where that is
        a mean image, which does not fit them."""
        if self.mean.ndim == 1:
            return self.mean
        if kind == "channel":
            return self.mean.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        if tuple(image_shape) != self.mean.shape:
            raise ValueError(
                f"recipe.mean='image' of {self.path} has shape {self.mean.shape}, the images "
                f"{tuple(image_shape)}: open them with config.dataset.image_size="
                f"{self.mean.shape[0]}, or set config.recipe.mean='channel'"
            )
        return self.mean

    def params(self, network: Network, pixel_scale: float) -> dict[str, Any]:
        """The file's params for inputs `(pixel - mean) * pixel_scale`; OSError or ValueError where
        the file is gone, has changed, or holds another network."""
        found = load_weights(self.path, network)
        if found.digest != self.digest:
            raise ValueError(f"{self.path} has changed since this run was planned")
        return jax.tree.map(np.asarray, scaled_input(found.params, network, pixel_scale))


def read_imported(path: str, network: Network, mean: np.ndarray | None = None) -> Imported:
    """Reads a file of weights, see `networks.weights`, as far as it takes to know it, and to know
    that it holds the network. `mean` was subtracted from its images; None where the file tells it.
    OSError or ValueError where it is missing, holds another network, or nothing tells the mean.
    """
    path = Path(path).expanduser().absolute()
    found = load_weights(path, network)
    mean = found.mean if mean is None else mean
    if mean is None:
        raise ValueError(
            f"{path} does not tell what was subtracted from its network's images: set "
            "config.imported.mean to a file of the mean, or to 'red,green,blue' in pixel values"
        )
    mean = np.asarray(mean, np.float32)
    digest = hashlib.sha256(str(mean.shape).encode() + mean.tobytes()).hexdigest()
    return Imported(found.digest, digest, str(path), mean)
