"""Known weights in and out: Caffe's, PyTorch's and our own files.

| format | file | read | written |
|---|---|---|---|
| 'caffemodel' | Caffe's binary NetParameter, V1 or current layers | yes | |
| 'torch' | a state dict of `torch.save`, or a checkpoint with a 'state_dict' | yes | |
| 'torch_safetensors' | safetensors in PyTorch's layout and key names | yes | yes |
| 'safetensors' | safetensors in our layout, 'conv1/kernel', ... | yes | yes |
| 'npz' | NumPy arrays in our layout | yes | yes |

Whatever the file's conventions (BGR, channels first, std), what `load_weights` gives is ours:
kernels HWIO or (in, out), dense inputs in (h, w, c) order, images as `pixel - mean`, RGB, 0 to 255.
No file's code is ever run. `python -m transfer_jax.networks.weights IN OUT` converts a file.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import save_file

from transfer_jax.networks.caffe import checked_mean, load_mean, read_caffemodel
from transfer_jax.networks.files import check_size, read_npy, read_zip
from transfer_jax.networks.layers import Conv, Layer, Shape
from transfer_jax.networks.network import Network, Params
from transfer_jax.networks.torch_file import LEGACY_MAGIC, read_torch
from transfer_jax.networks.zoo import BUILT_IN, build

WRITTEN = ("npz", "safetensors", "torch_safetensors")
_TORCHVISION = {f"conv{i}": f"features.{n}" for i, n in enumerate((0, 3, 6, 8, 10), 1)}
_TORCHVISION |= {f"fc{i}": f"classifier.{n}" for i, n in ((6, 1), (7, 4), (8, 6))}
_TORCHVISION_MEAN = np.float32([0.485 * 255, 0.456 * 255, 0.406 * 255])
_TORCHVISION_STD = [0.229, 0.224, 0.225]
_PIXEL_STD = [1 / 255] * 3  # of pixels 0..255 that nothing but the mean was taken from
TORCHVISION_SCALE = float(1 / (255 * np.mean(_TORCHVISION_STD)))
"""The `pixel_scale` of recipes for torchvision's AlexNet, which takes pixels of unit variance."""


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Float32 params for `pixel - mean`, pixels 0 to 255 and not scaled (see `scaled_input`).

    `mean` is (3,) or (h, w, 3) RGB pixel values, None where the file tells none (a .caffemodel
    never does; see `load_mean`); `digest` is the file's SHA-256 in hexadecimal.
    """

    params: dict[str, dict[str, np.ndarray]]
    mean: np.ndarray | None
    digest: str


def load_weights(path: str | Path, network: Network) -> Weights:
    """Reads weights of all layers of a network; logits equal those of the origin up to rounding.

    BVLC's CaffeNet and AlexNet are for `caffenet()` and `alexnet()`, torchvision's AlexNet for
    `torchvision_alexnet()` (the division by its std is folded into the first kernel); other files
    must name their layers as the network does. The network's widths must be the file's, which
    `widths_in` tells. A file that is damaged or does not fit is a ValueError that names
    the layer, what was found and what was expected. Damage of numbers alone is seen in zip archives
    and in what `save_weights` wrote; elsewhere only `digest` changes.

    Example:
      >>> weights = load_weights('alexnet-owt-7be5be79.pth', torchvision_alexnet(1000))
      >>> logits = network.apply(weights.params, images - weights.mean)
    """
    path = Path(path)
    content = _read(path)
    if content.network.lower() != network.name and content.network.lower() in BUILT_IN:
        # CaffeNet's and AlexNet's shapes are equal: nothing else would tell them apart.
        warnings.warn(
            f"{path}: weights of {content.network!r} are loaded as {network.name!r}", stacklevel=2
        )
    params = dict(content.layers)
    for layer in network.layers if content.channels_first else ():
        if layer.name in params:
            incoming = network.input_shapes[layer.name]
            params[layer.name] = _channels_last(layer, incoming, params[layer.name])
    _check(params, network, path)
    params = {
        name: {k: np.ascontiguousarray(params[name][k], np.float32) for k in ("kernel", "bias")}
        for name in network.layer_names
    }
    if content.first_kernel is not None:
        params = _with_first_kernel(params, network, content.first_kernel)
    mean = None if content.mean is None else checked_mean(content.mean, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Weights(params, mean, digest)


def widths_in(path: str | Path, network: Network) -> dict[str, int]:
    """How many maps, units and, last, classes a file's weights have in a network's layers."""
    layers = _read(Path(path)).layers
    for name in network.layer_names:
        if "bias" not in layers.get(name, ()):
            raise ValueError(f"{path}: layer {name} is missing; it has {list(layers)}")
    return {name: layers[name]["bias"].size for name in network.layer_names}


def save_weights(
    path: str | Path,
    network: Network,
    params: Params,
    *,
    mean: np.ndarray | None = None,
    pixel_scale: float = 1.0,
    format: str | None = None,
    normalised: bool = False,
) -> None:
    """Writes a network's params to a file, float32; `load_weights` reads back the same bits.

    `params` are for `(pixel - mean) * pixel_scale`, RGB, 0 to 255, those in the file for `pixel -
    mean`; where this is scaled, or `normalised`, the first kernel is so up to rounding. `mean`,
    (3,) or (h, w, 3), is noted in the file; `format` is one of WRITTEN, by default the suffix. Our
    own formats hold 'conv1/kernel', 'conv1/bias', ... and 'mean'. 'torch_safetensors' holds what
    PyTorch's modules of the same geometry do, under torchvision's names for a whole
    `torchvision_alexnet`, else as '<layer>.weight' and '<layer>.bias'; its metadata hold, as JSON,
    the 'mean' and 'std' by which torchvision's `Normalize` makes of images of 0 to 1 what the
    weights take: a std of 1/255, or, `normalised`, torchvision's own, by which the first kernel is
    then multiplied. An existing file is replaced once the new one is complete.

    Example:
      In PyTorch, for a module `model` with the network's layers under their names:

      >>> model.load_state_dict(safetensors.torch.load_file('net.safetensors'))
      >>> about = safetensors.safe_open('net.safetensors', 'pt').metadata()
      >>> mean, std = json.loads(about['mean']), json.loads(about['std'])
      >>> logits = model(torchvision.transforms.Normalize(mean, std)(images))  # (N, 3, H, W)
    """
    path = Path(path)
    format = format or path.suffix.removeprefix(".")
    if format not in WRITTEN:
        raise ValueError(f"{path}: format {format!r} is unknown; expected one of {WRITTEN}")
    arrays = {n: {k: np.asarray(a, np.float32) for k, a in p.items()} for n, p in params.items()}
    _check(arrays, network, "params")
    arrays = scaled_input(arrays, network, 1 / pixel_scale)
    about, in_torch = {"network": network.name}, format == "torch_safetensors"
    if normalised and not in_torch:
        raise ValueError(
            f"{path}: normalised weights are written as torch_safetensors, not {format}"
        )
    if in_torch:
        std = _TORCHVISION_STD if normalised else _PIXEL_STD
        arrays = _with_first_kernel(arrays, network, lambda rgb: rgb * _factors(std))
        named, about["std"] = _torch_names(network, arrays), json.dumps(std)
        if mean is not None:
            about["mean"] = json.dumps((np.float64(np.float32(mean)) / 255).tolist())
    else:
        named = {f"{n}/{kind}": a for n, layer in arrays.items() for kind, a in layer.items()}
        if mean is not None:
            named["mean"] = np.asarray(mean, np.float32)
    named = {name: np.ascontiguousarray(array) for name, array in named.items()}
    about["blake2b"] = _digest(named, about)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if format == "npz":
            with partial.open("wb") as file:
                np.savez(file, **{key: np.array(text) for key, text in about.items()}, **named)
        else:
            save_file(named, partial, {**about, "format": "pt"})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def scaled_input(params: Params, network: Network, factor: float) -> Params:
    """Params for `(pixel - mean) * factor` that equal the given ones for `pixel - mean`."""
    return _with_first_kernel(params, network, lambda kernel: kernel / factor)


@dataclasses.dataclass(frozen=True)
class _Content:
    """Arrays of a file by layer, and the conventions that they follow."""

    layers: Mapping[str, Mapping[str, np.ndarray]]
    network: str = ""
    mean: np.ndarray | None = None
    channels_first: bool = False
    first_kernel: Callable | None = None  # makes ours of it, see _with_first_kernel


def _channels_last(layer: Layer, incoming: Shape, arrays: Mapping) -> dict[str, np.ndarray]:
    """OIHW as HWIO; (out, in) as (in, out), with an input map's (c, h, w) order as (h, w, c)."""
    ranks, arrays = {"kernel": 4 if isinstance(layer, Conv) else 2, "bias": 1}, dict(arrays)
    for kind, rank in ranks.items():
        while kind in arrays and arrays[kind].ndim > rank and len(arrays[kind]) == 1:
            arrays[kind] = arrays[kind][0]  # old blobs of Caffe
    weight = arrays.get("kernel", np.empty(0))
    if isinstance(layer, Conv):
        kernel = weight.T.swapaxes(0, 1) if weight.ndim == 4 else weight
    elif len(incoming) == 3 and weight.shape[1:] == (math.prod(incoming),):
        height, width, channels = incoming
        by_place = weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0)
        kernel = by_place.reshape(weight.shape[1], -1)
    else:
        kernel = weight.T
    return arrays | {"kernel": kernel}


def _check(params: Params, network: Network, path: Path | str) -> None:
    for name in dict.fromkeys([*network.kernel_shapes, *params]):
        shape = network.kernel_shapes.get(name)
        expected = {} if shape is None else {"kernel": shape, "bias": shape[-1:]}
        found = {kind: array.shape for kind, array in params.get(name, {}).items()}
        if found != expected:
            raise ValueError(
                f"{path}: layer {name}: {network.name} with {network.num_classes} classes expects "
                f"{expected or 'no such layer'}, found {found or f'only {list(params)}'}"
            )
        for kind, array in params[name].items():
            if odd := _oddity(array):
                raise ValueError(
                    f"{path}: layer {name}: {kind} holds {odd}, finite floating-point numbers "
                    "expected"
                )


def _oddity(array: np.ndarray) -> str:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return f"numbers of type {array.dtype}"
    with np.errstate(over="ignore"):
        infinite = ~np.isfinite(array.astype(np.float32))
    return str(array[infinite][0]) if infinite.any() else ""


def _digest(named: Mapping[str, np.ndarray], about: Mapping[str, str]) -> str:
    """Of arrays by name and what is said of them; files that `save_weights` writes hold it."""
    state = hashlib.blake2b(digest_size=16)
    state.update("".join(about.get(key, "") for key in ("mean", "std")).encode())
    for name in sorted(named):
        state.update(f"{name} {named[name].dtype} {named[name].shape}".encode())
        state.update(np.ascontiguousarray(named[name]))
    return state.hexdigest()


def _with_first_kernel(params: Params, network: Network, change: Callable) -> Params:
    """`change` sees the first kernel in float64 as (places, 3 channels, features)."""
    first = network.layers[0]
    kernel = np.asarray(params[first.name]["kernel"], np.float64)
    changed = change(kernel.reshape(-1, 3, first.features)).reshape(kernel.shape)
    changed = np.ascontiguousarray(changed, np.float32)
    return {**params, first.name: {**params[first.name], "kernel": changed}}


def _read(path: Path) -> _Content:
    with path.open("rb") as file:
        head = file.read(64)
    is_torch = head[:1] == b"\x80" and LEGACY_MAGIC in head
    try:
        arrays = None
        if head.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(path) as archive:
                is_torch = not all(name.endswith(".npy") for name in archive.namelist())
            if not is_torch:
                members = read_zip(path).items()
                arrays = {name.removesuffix(".npy"): read_npy(data) for name, data in members}
                about = {key: str(arrays.pop(key, "")) for key in ("network", "blake2b")}
        elif head[8:9] == b"{":
            check_size(path.stat().st_size)
            with safetensors.safe_open(path, "numpy") as file:
                arrays = {key: file.get_tensor(key) for key in file.keys()}
                about = file.metadata() or {}
        if arrays is not None:
            if (digest := about.get("blake2b")) and digest != _digest(arrays, about):
                raise ValueError("its numbers are not those that were written")
            if any(key.endswith("/kernel") for key in arrays):
                return _from_ours(arrays, about.get("network", ""))
            return _from_torch(arrays, about)
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        raise ValueError(f"{path}: damaged or cut short: {error}") from error
    if is_torch:
        return _from_torch(read_torch(path), {})
    network, blobs = read_caffemodel(path)
    kinds = ("kernel", "bias", *(f"blob {i}" for i in range(2, 9)))
    layers = {name: dict(zip(kinds, arrays, strict=False)) for name, arrays in blobs.items()}
    return _Content(layers, network, None, True, lambda bgr: bgr[:, ::-1])


def _from_ours(arrays: dict[str, np.ndarray], network: str) -> _Content:
    mean, layers = arrays.pop("mean", None), {}
    for key, array in arrays.items():
        name, _, kind = key.rpartition("/")
        layers.setdefault(name, {})[kind] = array
    return _Content(layers, network, mean)


def _from_torch(arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> _Content:
    """torchvision's names become ours; 'module.', which nn.DataParallel inserts, disappears.

    Files with torchvision's names that `save_weights` has not written (it notes the network) follow
    torchvision's convention (x / 255 - mean) / std.
    """
    ours, layers = {theirs: name for name, theirs in _TORCHVISION.items()}, {}
    mean, std = (json.loads(about.get(key, "null")) for key in ("mean", "std"))
    mean = None if mean is None else np.float32(255 * np.float64(mean))
    for key, array in arrays.items():
        *parts, kind = (part for part in key.split(".") if part != "module")
        name = ".".join(parts)
        if name in ours and not about.get("network"):
            mean, std = _TORCHVISION_MEAN, _TORCHVISION_STD
        kind = "kernel" if kind == "weight" else kind
        layers.setdefault(ours.get(name, name), {})[kind] = array
    first_kernel = (lambda rgb: rgb / _factors(std)) if std else None
    return _Content(layers, about.get("network", ""), mean, True, first_kernel)


def _factors(std: Sequence[float]) -> np.ndarray:
    """What divides a first kernel, (3, 1), that then takes pixels of 0 to 255."""
    return 255 * np.array(std)[:, None]


def _torch_names(network: Network, arrays) -> dict[str, np.ndarray]:
    names = dict.fromkeys(network.layer_names)
    whole = network.name == "torchvision_alexnet" and names.keys() == _TORCHVISION.keys()
    named = {}
    for layer in network.layers:
        name = _TORCHVISION[layer.name] if whole else layer.name
        kernel, incoming = arrays[layer.name]["kernel"], network.input_shapes[layer.name]
        if isinstance(layer, Conv):
            kernel = kernel.transpose(3, 2, 0, 1)
        elif len(incoming) == 3:
            kernel = kernel.reshape(*incoming, -1).transpose(3, 2, 0, 1).reshape(-1, len(kernel))
        else:
            kernel = kernel.T
        named |= {f"{name}.weight": kernel, f"{name}.bias": arrays[layer.name]["bias"]}
    return named


def main(arguments: Sequence[str] | None = None) -> None:
    """The program that converts a file; widths and the number of classes are the file's."""
    parser = argparse.ArgumentParser(prog="python -m transfer_jax.networks.weights")
    parser.add_argument("source", metavar="IN", type=Path)
    parser.add_argument("target", metavar="OUT", type=Path, help="*.npz or *.safetensors")
    parser.add_argument("--network", default="caffenet", choices=sorted(BUILT_IN))
    parser.add_argument("--mean", type=Path, help="mean.binaryproto or .npy; default: IN's own")
    parser.add_argument(
        "--normalised", action="store_true", help="for torchvision's normalised pixels"
    )
    parser.add_argument("--to", choices=WRITTEN, help="default: by OUT's suffix, in our layout")
    options = parser.parse_args(arguments)
    try:
        *widths, (_, classes) = widths_in(options.source, build(options.network)).items()
        network = build(options.network, num_classes=classes, widths=dict(widths))
        found = load_weights(options.source, network)
        mean = found.mean if options.mean is None else load_mean(options.mean)
        how = {"mean": mean, "format": options.to, "normalised": options.normalised}
        save_weights(options.target, network, found.params, **how)
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{options.target}: {network.name}, {classes} classes, {network.num_params:,} parameters")


if __name__ == "__main__":
    main()
