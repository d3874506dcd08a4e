"""Trained networks by name, from the files of a workdir: for notebooks and readouts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transfer_jax.data.augment import Augmentation, eval_view
from transfer_jax.networks import Network
from transfer_jax.networks.description import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Relu,
)
from transfer_jax.networks.weights import save_weights, scaled_input
from transfer_jax.report.results import Row, read_results
from transfer_jax.training import checkpoint
from transfer_jax.training.recipe import Recipe

_TYPES = (
    Network,
    Conv,
    Dense,
    Relu,
    MaxPool,
    AdaptiveAvgPool,
    LocalResponseNorm,
    Dropout,
    Recipe,
    Augmentation,
)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A finished network of a workdir with all that it takes to show it images.

    Attributes:
      network: its description.
      params: its full params, NumPy arrays in network order.
      recipe: how it was trained.
      mean: what is subtracted from its images, (3,) or (h, w, 3), in pixel values.
      hash: names its folder in the workdir.
      row: its line of results.csv, where it was looked up there.
    """

    network: Network
    params: dict[str, Any]
    recipe: Recipe
    mean: np.ndarray
    hash: str
    row: Row | None = None

    def view(self, images: np.ndarray) -> jax.Array:
        """The network's input (N, H, W, 3) for uint8 images, in the view that it is evaluated in:
        mean subtracted, scaled, centre crop."""
        images = jnp.asarray(images)
        return eval_view(images, self.recipe.augmentation, self.mean, self.recipe.pixel_scale)

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """The part of uint8 images that `view` shows: what pictures of the input are cut from."""
        nothing = np.zeros(3, np.float32)
        view = eval_view(jnp.asarray(images), self.recipe.augmentation, nothing)
        return np.asarray(view).astype(np.uint8)


def load_network(workdir: str | Path, name: str) -> TrainedNetwork:
    """A finished network of a workdir, whichever study it was trained for.

    Args:
      workdir: of a run.
      name: the first digits of its hash, or what one line of results.csv says of it: its cell
        ('baseA', 'A3B'), its split ('zfnet'), or both ('0 A3B').

    Raises:
      FileNotFoundError: the workdir holds no results.
      ValueError: no finished network, or several different ones, are called so; the message lists
        what there is.

    Example:
      zfnet = load_network("runs/zeiler", "zfnet")
      x = zfnet.view(images)
      down = project_units(zfnet.network, zfnet.params, x, "conv3", maps=5)
    """
    workdir = Path(workdir).expanduser()
    rows = [row for row in read_results(workdir / "results.csv") if not row.failed]
    found = {row.hash: row for row in reversed(rows) if _is_called(row, name)}
    if len(found) != 1:
        there = list(found.values()) or rows
        listed = ", ".join(f"{r.split} {r.cell} ({r.hash})" for r in there[:12])
        more = ", ..." if len(there) > 12 else ""
        what = "several networks are" if found else "no finished network is"
        raise ValueError(f"{what} called {name!r} in {workdir}; there are {listed}{more}")
    (row,) = found.values()
    description = json.loads((workdir / "cells" / row.hash / "cell.json").read_text())
    return TrainedNetwork(
        from_json(description["network"]),
        _params(workdir, row.hash),
        from_json(description["recipe"]),
        np.load(workdir / "cells" / row.hash / "mean.npy"),
        row.hash,
        row,
    )


def save_network(trained: TrainedNetwork, path: str | Path, *, format: str | None = None) -> None:
    """Writes a trained network to a file of weights, for another run to import or for PyTorch.

    The file's network takes `pixel - mean`: the recipe's pixel_scale is folded into its first
    layer, rounded to float32 unless it is a power of two; the mean is in the file.

    Args:
      trained: the network.
      path: where to: *.npz or *.safetensors.
      format: see `networks.weights.save_weights`.

    Example:
      save_network(load_network("runs/mine", "0 baseA"), "base_a.safetensors")
    """
    params = scaled_input(trained.params, trained.network, 1 / trained.recipe.pixel_scale)
    save_weights(path, trained.network, params, mean=trained.mean, format=format)


def from_json(content: Any) -> Any:
    """What `cell.to_json` made of a network or a recipe, as it was.

    Raises:
      ValueError: for a type that neither consists of.
    """
    if isinstance(content, list):
        return tuple(from_json(item) for item in content)
    if not isinstance(content, dict):
        return content
    fields = {name: from_json(value) for name, value in content.items() if name != "type"}
    for kind in _TYPES:
        if kind.__name__ == content.get("type"):
            return kind(**fields)
    raise ValueError(f"{content.get('type')!r} is no part of a network or recipe")


def _is_called(row: Row, name: str) -> bool:
    by_hash = len(name) >= 4 and row.hash.startswith(name)
    return by_hash or name in (row.cell, row.split, f"{row.split} {row.cell}")


def _params(workdir: Path, hash: str) -> dict[str, Any]:
    folder = workdir / "cells" / hash
    description = json.loads((folder / "cell.json").read_text())
    network = from_json(description["network"])
    params = checkpoint.load_params(folder / "params")
    missing = [name for name in network.layer_names if name not in params]
    if missing:
        if description["source"]:
            below = _params(workdir, description["source"])
        else:
            below = network.init(jax.random.key(description["random_layers_seed"]))
        params |= {name: jax.tree.map(np.asarray, below[name]) for name in missing}
    return {name: params[name] for name in network.layer_names}
