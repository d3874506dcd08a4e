"""What a file of weights holds, before anything is known of the network that it is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
"""Layers of `torchvision_alexnet` and what torchvision calls them."""

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406]) * 255
_IMAGENET_STD = np.array([0.229, 0.224, 0.225]) * 255


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array of a file: its shape at once, its numbers when `read` is called."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Content:
    """Arrays of a file by layer, and the conventions that they follow.

    Attributes:
      layers: layer name -> {'kernel', 'bias'}, as far as the file has them.
      channels_first: kernels are OIHW or (out, in) with inputs in (c, h, w) order, as in Caffe and
        PyTorch; not HWIO and (in, out) with (h, w, c).
      bgr: the first kernel sees blue, green, red.
      std: (3,) by which the weights expect `pixel - mean` to be divided, or None for 1.
      mean: of the images, (3,) or (h, w, 3) RGB pixel values, or None where the file tells none.
      network: the name of the network that `save_weights` noted, or None.
      file_names: what the file calls a layer, where that is another name.
    """

    layers: Mapping[str, Mapping[str, Stored]]
    channels_first: bool
    bgr: bool = False
    std: np.ndarray | None = None
    mean: np.ndarray | None = None
    network: str | None = None
    file_names: Mapping[str, str] = dataclasses.field(default_factory=dict)


def from_tensors(tensors: Mapping[str, Stored], network: str | None, ours: bool) -> Content:
    """Content of named arrays: 'conv1/kernel' in our layout, 'conv1.weight' in PyTorch's.

    torchvision's names ('features.0.weight') become ours, and 'module.', which nn.DataParallel
    inserts, disappears. Files with torchvision's names that `save_weights` has not written (it
    notes the network or the mean) follow torchvision's convention (x / 255 - mean) / std.

    Args:
      tensors: the arrays by key.
      network: the name of the network that `save_weights` noted, or None.
      ours: whether keys and layout are ours, not PyTorch's.
    """
    separator, kinds = ("/", {}) if ours else (".", {"weight": "kernel"})
    renamed = {theirs: name for name, theirs in TORCHVISION.items()}
    layers: dict[str, dict[str, Stored]] = {}
    file_names: dict[str, str] = {}
    for key, stored in tensors.items():
        if key == "mean":
            continue
        parts = key.split(separator)
        if not ours:
            parts = [part for part in parts if part != "module"]
        theirs, kind = separator.join(parts[:-1]) or key, parts[-1]
        name = theirs if ours else renamed.get(theirs, theirs)
        if name != theirs:
            file_names[name] = theirs
        layers.setdefault(name, {})[kinds.get(kind, kind)] = stored
    mean = std = None
    if "mean" in tensors:
        mean = np.asarray(tensors["mean"].read(), np.float32)
        if not ours:
            mean = np.moveaxis(mean, 0, -1)
        mean = mean.reshape(3) if mean.size == 3 else mean
    elif file_names and network is None:
        mean, std = _IMAGENET_MEAN.astype(np.float32), _IMAGENET_STD
    return Content(
        layers,
        channels_first=not ours,
        std=std,
        mean=mean,
        network=network,
        file_names=file_names,
    )
