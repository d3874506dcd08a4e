"""Weights from files: which file, what is subtracted from its images, and its params.

A lab that has a trained network need not train one before its first transfer experiment: the file
is the base that cells copy from. `grid.imported_base` makes a cell of it.
"""

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
    """A file that a network's weights come from. Two are equal when digest and mean are.

    Attributes:
      digest: SHA-256 of the file's bytes.
      mean_digest: SHA-256 of the mean's shape and values.
      path: where the file lies.
      format: as `networks.weights.load_weights` takes it; None to tell it from the file.
      mean: what was subtracted from the images that the network was trained on: (3,) or (h, w, 3)
        float32, RGB, in pixel values 0..255.
    """

    digest: str
    mean_digest: str
    path: str = dataclasses.field(compare=False)
    format: str | None = dataclasses.field(compare=False)
    mean: np.ndarray = dataclasses.field(compare=False, repr=False)

    @property
    def file_name(self) -> str:
        """Name of the file without its folders."""
        return Path(self.path).name

    @property
    def content(self) -> dict[str, str]:
        """What a cell's hash is taken of: never where the file lies."""
        return {"type": "Imported", "digest": self.digest, "mean": self.mean_digest}

    def mean_for(self, kind: str, image_shape: Sequence[int] | None) -> np.ndarray:
        """What is subtracted from images, by a recipe's `mean`.

        A mean of each channel serves both kinds. A mean image is averaged over its pixels where one
        value a channel is wanted.

        Args:
          kind: 'channel' or 'image'.
          image_shape: (h, w, 3) of the images; None where they are not known.

        Raises:
          ValueError: when a mean image is wanted and does not fit the images.
        """
        if self.mean.ndim == 1:
            return self.mean
        if kind == "channel":
            return self.mean.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        if image_shape is not None and tuple(image_shape) != self.mean.shape:
            raise ValueError(
                f"recipe.mean='image' is the mean image of {self.file_name}, of shape "
                f"{self.mean.shape}, but the images have shape {tuple(image_shape)}: open them "
                f"with image_size={self.mean.shape[0]}, or set recipe.mean='channel'"
            )
        return self.mean

    def params(self, network: Network, pixel_scale: float) -> dict[str, Any]:
        """The file's params for inputs `(pixel - mean) * pixel_scale`, NumPy arrays.

        Raises:
          OSError, ValueError: the file is gone, is another one by now, or holds another network.
        """
        found = load_weights(self.path, network, format=self.format)
        if found.digest != self.digest:
            raise ValueError(
                f"{self.path} has changed since this run was planned: its digest was "
                f"{self.digest[:16]} and is {found.digest[:16]}"
            )
        return jax.tree.map(np.asarray, scaled_input(found.params, network, pixel_scale))


def read_imported(
    path: str | Path, network: Network, *, mean: np.ndarray | None = None, format: str | None = None
) -> Imported:
    """Reads a file of weights as far as it takes to know it, and to know that it fits.

    Args:
      path: of the file, see `networks.weights`.
      network: that the file should hold.
      mean: what was subtracted from the network's images, (3,) or (h, w, 3) in RGB pixel values;
        None where the file tells it.
      format: of the file; None to tell it from the file.

    Raises:
      OSError, ValueError: the file is missing or holds another network; the message names the layer
        and what was found and expected. Or nothing tells the mean.

    Example:
      >>> imported = read_imported("alexnet-owt-7be5be79.safetensors", alexnet_torchvision(1000))
    """
    path = Path(path).expanduser().absolute()
    found = load_weights(path, network, format=format)
    mean = found.mean if mean is None else mean
    if mean is None:
        raise ValueError(
            f"{path} does not tell what was subtracted from its network's images: set "
            "config.imported.mean to a file of the mean, or to three numbers 'red,green,blue' in "
            "pixel values 0..255"
        )
    mean = np.asarray(mean, np.float32)
    if mean.shape != (3,) and (mean.ndim != 3 or mean.shape[2] != 3):
        raise ValueError(
            f"the mean of {path} has shape {mean.shape}; expected (3,) or (height, width, 3)"
        )
    digest = hashlib.sha256(str(mean.shape).encode() + mean.tobytes()).hexdigest()
    return Imported(found.digest, digest, str(path), format, mean)
