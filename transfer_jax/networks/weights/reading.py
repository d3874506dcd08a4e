"""`load_weights`: any known file of weights as params of a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors

from transfer_jax.networks.network import Network
from transfer_jax.networks.weights import layout
from transfer_jax.networks.weights.caffe import read_caffemodel
from transfer_jax.networks.weights.content import Content, Stored, from_tensors
from transfer_jax.networks.weights.torch_files import LEGACY_MAGIC, read_torch


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Known weights, in the layout and conventions of this package.

    Attributes:
      params: layer name -> {'kernel', 'bias'}, float32 NumPy arrays in network order, as
        `Network.apply` takes them: RGB, HWIO or (in, out). Their input is `pixel - mean`, pixels 0
        to 255 and not scaled; see `scaled_input` for a recipe that scales.
      mean: (3,) or (h, w, 3) float32 RGB pixel values that the origin subtracts, or None where the
        file tells none (a .caffemodel never does; see `load_mean`).
      digest: SHA-256 of the file, in hexadecimal.
      format: of the file, one of FORMATS.
    """

    params: dict[str, dict[str, np.ndarray]]
    mean: np.ndarray | None
    digest: str
    format: str


def load_weights(path: str | Path, network: Network, *, format: str | None = None) -> Weights:
    """Reads weights of all layers of a network, from Caffe, PyTorch or `save_weights`.

    Logits equal those of the origin on the same images, up to rounding. The file's code, if it has
    any, is not run.

    Args:
      path: the file. BVLC's CaffeNet and AlexNet are for `caffenet()` and `alexnet()`,
        torchvision's AlexNet for `torchvision_alexnet()`; other files must name their layers as the
        network does ('conv1' in Caffe, 'conv1.weight' and 'conv1.bias' in PyTorch).
      network: what the weights are for; its number of classes must be the file's, which
        `num_classes_in` tells.
      format: one of FORMATS; None finds it out from what the file begins with.

    Returns:
      The params, and the mean as far as the file (or torchvision's convention) tells it. The
      division by torchvision's std is folded into the first kernel.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, of no known format, of another network, or a layer is missing
        or of another shape: the message names the layer, what was found and what was expected.
        Also for a torch pickle that names anything but tensors.

    Example:
      >>> file = 'alexnet-owt-7be5be79.pth'
      >>> network = torchvision_alexnet(num_classes_in(file, torchvision_alexnet()))
      >>> weights = load_weights(file, network)
      >>> logits = network.apply(weights.params, images - weights.mean)
    """
    path = Path(path)
    format = format_of(path) if format is None else format
    content = _read(path, network, format)
    params = layout.to_params(content, network, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Weights(params, content.mean, digest, format)


def num_classes_in(path: str | Path, network: Network, *, format: str | None = None) -> int:
    """How many classes the weights in a file tell apart: the biases of the network's last layer.

    Args:
      path: the file, as in `load_weights`.
      network: names the last layer; its own number of classes does not matter.
      format: as in `load_weights`.

    Raises:
      FileNotFoundError, ValueError: as `load_weights`, but other layers are not looked at.
    """
    path = Path(path)
    content = _read(path, network, format_of(path) if format is None else format)
    return layout.last_features(content, network, path)


def format_of(path: Path) -> str:
    """The format, one of FORMATS, that a file's content has.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the content is of no known format.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK\x03\x04"):
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path}: a zip archive (.npz or of torch.save) that is cut short")
        with zipfile.ZipFile(path) as archive:
            return "npz" if all(n.endswith(".npy") for n in archive.namelist()) else "torch"
    if head[:1] == b"\x80" and LEGACY_MAGIC in head:
        return "torch"
    if head[8:9] == b"{":
        if int.from_bytes(head[:8], "little") + 8 > size:
            raise ValueError(f"{path}: a safetensors file that is cut short")
        ours = any(key.endswith("/kernel") for key in _safetensors_header(path))
        return "safetensors" if ours else "torch_safetensors"
    for start, what in _OTHERS.items():
        if head.startswith(start):
            raise ValueError(f"{path}: {what}; expected one of the formats {list(FORMATS)}")
    return "caffemodel"


_OTHERS = {
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a single NumPy array",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
    b"<": "a page of HTML or XML",
    b"{": "JSON",
    b"\x1f\x8b": "compressed by gzip",
    b"\x80": "a pickle that torch.save did not write",
}


def _read(path: Path, network: Network, format: str) -> Content:
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is unknown; expected one of {list(FORMATS)}")
    return FORMATS[format](path, network)


def _read_torch(path: Path, network: Network) -> Content:
    try:
        return from_tensors(read_torch(path), None, ours=False)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def _read_npz(path: Path, network: Network) -> Content:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, TypeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: damaged or no .npz of numbers: {error}") from error
    name = arrays.pop("network", None)
    stored = {key: Stored(array.shape, lambda a=array: a) for key, array in arrays.items()}
    return from_tensors(stored, None if name is None else str(name), ours=True)


def _read_safetensors(path: Path, network: Network, ours: bool) -> Content:
    header = _safetensors_header(path)

    def stored(key: str) -> Stored:
        return Stored(tuple(header[key]["shape"]), lambda: _safetensors_array(path, key))

    name = header.pop("__metadata__", {}).get("network")
    return from_tensors({key: stored(key) for key in header}, name, ours)


def _safetensors_header(path: Path) -> dict:
    try:
        with safetensors.safe_open(path, "numpy"):  # checks the whole header against the file
            pass
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: damaged or no safetensors file: {error}") from error
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def _safetensors_array(path: Path, key: str) -> np.ndarray:
    with safetensors.safe_open(path, "numpy") as file:
        return file.get_tensor(key)


FORMATS: dict[str, Callable[[Path, Network], Content]] = {
    "caffemodel": read_caffemodel,
    "torch": _read_torch,
    "torch_safetensors": lambda path, network: _read_safetensors(path, network, ours=False),
    "safetensors": lambda path, network: _read_safetensors(path, network, ours=True),
    "npz": _read_npz,
}
"""Name of a format -> what reads it."""
