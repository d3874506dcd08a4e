"""Caffe's binary files without Caffe: weights of .caffemodel and means of .binaryproto.

The few message types that matter are declared here to the protobuf library. Blobs' numbers are
declared as bytes, which have the same encoding as packed floats and become arrays without a detour
over Python's numbers.
"""

from __future__ import annotations

import functools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from transfer_jax.networks.description import Conv
from transfer_jax.networks.network import Network
from transfer_jax.networks.weights.content import Content, Stored

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "transfer_jax.caffe"
# message: {field: (number, type, repeated)}; fields left out are skipped in parsing.
_MESSAGES = {
    "BlobShape": {"dim": (1, _FIELD.TYPE_INT64, True)},
    "BlobProto": {
        "num": (1, _FIELD.TYPE_INT32, False),
        "channels": (2, _FIELD.TYPE_INT32, False),
        "height": (3, _FIELD.TYPE_INT32, False),
        "width": (4, _FIELD.TYPE_INT32, False),
        "data": (5, _FIELD.TYPE_BYTES, True),
        "shape": (7, "BlobShape", False),
        "double_data": (8, _FIELD.TYPE_BYTES, True),
    },
    "V1LayerParameter": {
        "v0_layer": (1, _FIELD.TYPE_BYTES, False),
        "name": (4, _FIELD.TYPE_BYTES, False),
        "blobs": (6, "BlobProto", True),
    },
    "LayerParameter": {
        "name": (1, _FIELD.TYPE_BYTES, False),
        "blobs": (7, "BlobProto", True),
    },
    "NetParameter": {
        "name": (1, _FIELD.TYPE_BYTES, False),
        "layers": (2, "V1LayerParameter", True),
        "layer": (100, "LayerParameter", True),
    },
}


def read_caffemodel(path: Path, network: Network) -> Content:
    """Weights of a .caffemodel: V1 layers (`layers`) or current ones (`layer`), by their names.

    Args:
      path: the file.
      network: says which layers are convolutions; layers that it lacks are given too.

    Raises:
      ValueError: for a file that is none, is cut short, is of V0, or holds blobs whose shape and
        numbers disagree.
    """
    net = _parsed("NetParameter", path)
    if any(layer.HasField("v0_layer") for layer in net.layers):
        raise ValueError(
            f"{path}: a V0 network, as Caffe wrote before 2014; Caffe's upgrade_net_proto_binary "
            "makes it one that can be read"
        )
    named = [(_text(layer.name), layer.blobs) for layer in (*net.layers, *net.layer)]
    named = [(name, blobs) for name, blobs in named if blobs]
    if not named:
        raise ValueError(f"{path}: no layer with weights in it; is it a .caffemodel?")
    _warn_of_other_name(_text(net.name), network, path)
    convs = {layer.name for layer in network.layers if isinstance(layer, Conv)}
    layers = {}
    for name, blobs in named:
        ranks = {"kernel": 4 if name in convs else 2, "bias": 1}
        if name in network.layer_names and len(blobs) > 2:
            raise ValueError(
                f"{path}: layer {name}: {len(blobs)} blobs, a kernel and a bias expected"
            )
        layers[name] = {
            kind: _stored(blob, ranks[kind], f"{path}: layer {name}: its {kind}")
            for kind, blob in zip(ranks, blobs, strict=False)
        }
    return Content(layers, channels_first=True, bgr=True)


def load_mean(path: str | Path) -> np.ndarray:
    """A mean image from Caffe's mean.binaryproto or from a .npy file.

    Args:
      path: a BlobProto of 1 x 3 x h x w, blue-green-red (Caffe's `imagenet_mean.binaryproto` has
        256 x 256 pixels); or .npy of shape (3, h, w), which is Caffe's own `ilsvrc_2012_mean.npy`
        and blue-green-red too; or .npy of shape (h, w, 3) or (3,), red-green-blue.

    Returns:
      (h, w, 3) or (3,) float32, red-green-blue, in pixel values.

    Raises:
      ValueError: for another file or shape.

    Example:
      >>> load_mean('imagenet_mean.binaryproto').shape
      (256, 256, 3)
    """
    path = Path(path)
    with path.open("rb") as file:
        is_numpy = file.read(6) == b"\x93NUMPY"
    if is_numpy:
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: damaged or no numbers: {error}") from error
    else:
        stored = _stored(_parsed("BlobProto", path), 3, f"{path}: the mean")
        array = stored.read()
    if array.ndim == 3 and array.shape[0] == 3 and (not is_numpy or array.shape[2] != 3):
        array = array[::-1].transpose(1, 2, 0)
    if array.shape[-1:] != (3,) or array.ndim not in (1, 3):
        raise ValueError(
            f"{path}: a mean of shape {array.shape}; (3, h, w) in BGR, (h, w, 3) or (3,) in RGB "
            "expected"
        )
    return np.ascontiguousarray(array, np.float32)


def _stored(blob: Any, rank: int, what: str) -> Stored:
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    # Old blobs have four dimensions, of which the first are 1.
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    chunks, dtype = (blob.data, "<f4") if blob.data else (blob.double_data, "<f8")
    held = sum(map(len, chunks)) / np.dtype(dtype).itemsize
    if min(shape, default=1) < 0 or held != math.prod(shape):
        raise ValueError(f"{what} has the shape {shape}, but the file holds {held:g} numbers of it")

    def read() -> np.ndarray:
        parts = [np.frombuffer(chunk, dtype) for chunk in chunks]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(shape)

    return Stored(shape, read)


def _parsed(kind: str, path: Path) -> Any:
    try:
        return _message_class(kind).FromString(path.read_bytes())
    except message.DecodeError as error:
        raise ValueError(f"{path}: damaged, cut short or no {kind} of Caffe: {error}") from error


@functools.cache
def _message_class(kind: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for field, (number, type_, repeated) in fields.items():
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            one = declared.field.add(name=field, number=number, label=label)
            if isinstance(type_, str):
                one.type, one.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{type_}"
            else:
                one.type = type_
    # A pool of its own: another package may have declared Caffe's messages.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{kind}"))


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _warn_of_other_name(found: str, network: Network, path: Path) -> None:
    # Their shapes are equal, so that nothing else would tell them apart.
    alike = ("caffenet", "alexnet")
    if found.lower() in alike and network.name in alike and found.lower() != network.name:
        warnings.warn(
            f"{path} calls its network {found!r}, but is loaded as {network.name!r}: caffenet "
            "pools before it normalises, alexnet after",
            stacklevel=5,
        )
