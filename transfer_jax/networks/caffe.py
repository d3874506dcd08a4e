"""Caffe's binary files without Caffe: weights of .caffemodel and means of .binaryproto.

The few message types that matter are declared to the protobuf library. A blob's numbers are
declared as bytes, which are encoded like packed floats and become arrays without a detour over
Python's numbers.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from transfer_jax.networks.files import read_bytes, read_npy

_PACKAGE = "transfer_jax.caffe"
# message: {field: (number, type, repeated)}; fields left out are skipped in parsing.
_MESSAGES = {
    "BlobShape": {"dim": (1, "int64", True)},
    "BlobProto": {
        "num": (1, "int32", False),
        "channels": (2, "int32", False),
        "height": (3, "int32", False),
        "width": (4, "int32", False),
        "data": (5, "bytes", True),
        "shape": (7, "BlobShape", False),
        "double_data": (8, "bytes", True),
    },
    "V1LayerParameter": {"name": (4, "bytes", False), "blobs": (6, "BlobProto", True)},
    "LayerParameter": {"name": (1, "bytes", False), "blobs": (7, "BlobProto", True)},
    "NetParameter": {
        "name": (1, "bytes", False),
        "layers": (2, "V1LayerParameter", True),
        "layer": (100, "LayerParameter", True),
    },
}


def read_caffemodel(path: Path) -> tuple[str, dict[str, list[np.ndarray]]]:
    """The network's name and each layer's blobs; V1's have four dimensions, the first often 1."""
    net = _parsed("NetParameter", path)
    layers = {
        layer.name.decode(errors="replace"): [_array(blob, path) for blob in layer.blobs]
        for layer in (*net.layers, *net.layer)
        if layer.blobs
    }
    if not layers:
        raise ValueError(
            f"{path}: no weights that can be read. If it is a .caffemodel of before 2014 (V0), "
            "Caffe's upgrade_net_proto_binary makes it one that can"
        )
    return net.name.decode(errors="replace"), layers


def load_mean(path: str | Path) -> np.ndarray:
    """A mean image, (h, w, 3) or (3,) float32 RGB pixel values, from one of these files.

    A BlobProto of 1 x 3 x h x w in blue-green-red, as Caffe's `imagenet_mean.binaryproto`; a .npy
    of shape (3, h, w), Caffe's `ilsvrc_2012_mean.npy`, blue-green-red too; or a .npy of shape
    (h, w, 3) or (3,), red-green-blue.
    """
    path = Path(path)
    with path.open("rb") as file:
        is_numpy = file.read(6) == b"\x93NUMPY"
    if is_numpy:
        try:
            array = read_npy(read_bytes(path))
        except Exception as error:  # a damaged file raises whatever its bytes happen to mean
            raise ValueError(f"{path}: damaged: {error}") from error
    else:
        array = _array(_parsed("BlobProto", path), path)
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
    if array.ndim == 3 and array.shape[0] == 3 and (not is_numpy or array.shape[2] != 3):
        array = array[::-1].transpose(1, 2, 0)
    return checked_mean(array, path)


def checked_mean(array: np.ndarray, path: Path) -> np.ndarray:
    """A file's mean as float32; ValueError unless it is one of pixels."""
    if array.shape[-1:] != (3,) or array.ndim not in (1, 3):
        raise ValueError(
            f"{path}: a mean of shape {array.shape}; (3, h, w) in BGR, (h, w, 3) or (3,) in RGB "
            "expected"
        )
    if array.dtype.kind not in "fiu" or not (array.min() >= 0 and array.max() <= 255):
        raise ValueError(f"{path}: a mean of {array.reshape(-1)[:3]}...; 0 to 255 expected")
    return np.ascontiguousarray(array, np.float32)


def _array(blob: Any, path: Path) -> np.ndarray:
    shape = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else shape
    chunks, dtype = (blob.data, "<f4") if blob.data else (blob.double_data, "<f8")
    try:
        return np.frombuffer(b"".join(chunks), dtype).reshape(shape)
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def _parsed(kind: str, path: Path) -> Any:
    try:
        return _message_class(kind).FromString(read_bytes(path))
    except Exception as error:
        raise ValueError(f"{path}: damaged, cut short or no {kind} of Caffe: {error}") from error


@functools.cache
def _message_class(kind: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package=_PACKAGE, syntax="proto2")
    types = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for field, (number, type_, repeated) in fields.items():
            label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
            one = declared.field.add(name=field, number=number, label=label)
            if type_ in _MESSAGES:
                one.type, one.type_name = types.TYPE_MESSAGE, f".{_PACKAGE}.{type_}"
            else:
                one.type = types.Type.Value(f"TYPE_{type_.upper()}")
    pool = descriptor_pool.DescriptorPool()  # of our own: others may have declared Caffe's messages
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{kind}"))
