"""`save_weights`: a network's params as a file for others, or for `load_weights`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from transfer_jax.networks.network import Network, Params
from transfer_jax.networks.weights.content import TORCHVISION
from transfer_jax.networks.weights.layout import check_params, kernel_to_channels_first

_BY_SUFFIX = {".npz": "npz", ".safetensors": "safetensors"}


def save_weights(
    path: str | Path,
    network: Network,
    params: Params,
    *,
    mean: np.ndarray | None = None,
    format: str | None = None,
) -> None:
    """Writes a network's params to a file, float32; `load_weights` reads back the same bits.

    Our own formats hold 'conv1/kernel' (HWIO or (in, out)), 'conv1/bias', ... and 'mean'.
    'torch_safetensors' holds what PyTorch's modules of the same geometry hold: OIHW or (out, in),
    fc6's inputs in (c, h, w) order, under torchvision's names for a `torchvision_alexnet` of eight
    layers, else '<layer>.weight' and '<layer>.bias'; 'mean' is (3, 1, 1) or (3, h, w). In all of
    them images are RGB pixels of 0 to 255 less the mean: no division by a std.

    Args:
      path: where to; an existing file is replaced only once the new one is complete.
      network: the network.
      params: its full params, for images that are not scaled (see `scaled_input`).
      mean: (3,) or (h, w, 3) RGB pixel values that its images are lessened by, to be noted.
      format: 'npz', 'safetensors' or 'torch_safetensors'; None goes by the suffix, .npz or
        .safetensors (our layout).

    Raises:
      ValueError: for an unknown format, or params or a mean that do not fit the network.

    Example:
      >>> save_weights('caffenet.safetensors', net, params, mean=mean, format='torch_safetensors')

      In PyTorch, for a module `model` with the network's layers under their names:

      >>> state = safetensors.torch.load_file('caffenet.safetensors')
      >>> mean = state.pop('mean')
      >>> model.load_state_dict(state)
      >>> logits = model(images - mean)  # (N, 3, H, W) RGB, 0..255
    """
    path = Path(path)
    format = format or _BY_SUFFIX.get(path.suffix)
    if format not in _WRITERS:
        raise ValueError(
            f"{path}: format {format!r} is unknown; expected one of {list(_WRITERS)}, or None and "
            f"a suffix among {list(_BY_SUFFIX)}"
        )
    check_params(params, network)
    arrays = {
        name: {kind: np.asarray(params[name][kind], np.float32) for kind in ("kernel", "bias")}
        for name in network.layer_names
    }
    if mean is not None:
        mean = np.asarray(mean, np.float32)
        if mean.ndim not in (1, 3) or mean.shape[-1] != 3:
            raise ValueError(f"a mean of shape {mean.shape}; (3,) or (h, w, 3) expected")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _WRITERS[format](partial, network, arrays, mean)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _ours(arrays, mean) -> dict[str, np.ndarray]:
    named = {f"{name}/{kind}": a for name, layer in arrays.items() for kind, a in layer.items()}
    named = named if mean is None else named | {"mean": mean}
    return {key: np.ascontiguousarray(array) for key, array in named.items()}


def _write_npz(path: Path, network: Network, arrays, mean) -> None:
    with path.open("wb") as file:
        np.savez(file, network=np.array(network.name), **_ours(arrays, mean))


def _write_safetensors(path: Path, network: Network, arrays, mean) -> None:
    save_file(_ours(arrays, mean), path, {"network": network.name, "inputs": _INPUTS})


def _write_torch(path: Path, network: Network, arrays, mean) -> None:
    names = {name: name for name in network.layer_names}
    if network.name == "torchvision_alexnet" and names.keys() == TORCHVISION.keys():
        names = TORCHVISION
    tensors = {}
    for layer in network.layers:
        kernel, bias = arrays[layer.name]["kernel"], arrays[layer.name]["bias"]
        weight = kernel_to_channels_first(layer, network.input_shapes[layer.name], kernel)
        tensors[f"{names[layer.name]}.weight"] = weight
        tensors[f"{names[layer.name]}.bias"] = np.ascontiguousarray(bias)
    if mean is not None:
        image = mean.reshape(1, 1, 3) if mean.ndim == 1 else mean
        tensors["mean"] = np.ascontiguousarray(image.transpose(2, 0, 1))
    save_file(tensors, path, {"format": "pt", "network": network.name, "inputs": _INPUTS})


_INPUTS = "RGB pixels, 0 to 255, less the mean"
_WRITERS: dict[str, Callable] = {
    "npz": _write_npz,
    "safetensors": _write_safetensors,
    "torch_safetensors": _write_torch,
}
