"""Tensors of files that `torch.save` wrote, without PyTorch and without running what they contain.

A pickle may name any function and have it called. The unpickler here knows tensors, parameters,
their storages and ordered dictionaries, none of them PyTorch's own, and refuses every other name.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from transfer_jax.networks.files import read_bytes, read_zip

LEGACY_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""Little-endian digits of the number with which files of PyTorch before 1.6 begin."""

_STORAGES = {
    f"{name}Storage": np.dtype(dtype)
    for name, dtype in dict(
        Float="<f4", Double="<f8", Half="<f2", BFloat16=jnp.bfloat16, Long="<i8", Int="<i4",
        Short="<i2", Char="i1", Byte="u1", Bool="?",
    ).items()
}  # fmt: skip


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict, or of a checkpoint's 'state_dict', in their own types.

    Reads the zip format and the older one. A file that is damaged, holds no state dict, or names
    a function or class other than those of tensors is a ValueError; nothing of it is run.
    """
    try:
        found, read_storage = (_open_zip if zipfile.is_zipfile(path) else _open_legacy)(path)
        if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
            found = found["state_dict"]
        if not isinstance(found, dict):
            raise ValueError(f"no state dict but an object of type {type(found).__name__}")
        tensors = {str(key): value for key, value in found.items() if isinstance(value, _Tensor)}
        if not tensors:
            raise ValueError("no tensors in it")
        return {key: _array(key, tensor, read_storage) for key, tensor in tensors.items()}
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise ValueError(f"{path}: no weights that can be read: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Storage:
    dtype: np.dtype
    key: str
    length: int
    start: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state):  # of parameters of PyTorch before 0.4
        pass


class _Unpickler(pickle._Unpickler):
    # In Python: the one in C takes 4 GB and more for a pickle of nine bytes that names a high place
    # of its memo.

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="utf-8")
        self.item_sizes = {}

    def find_class(self, module: str, name: str) -> Any:
        # Functions are made anew each time, so that no pickle alters what another meets.
        match module, name:
            case (("torch" | "torch.cuda"), _) if name in _STORAGES:
                return name
            case "collections", "OrderedDict":
                return collections.OrderedDict
            case "torch._utils", ("_rebuild_tensor" | "_rebuild_tensor_v2"):
                return lambda *arguments: _Tensor(*arguments[:4])
            case "torch._utils", "_rebuild_parameter":
                return lambda tensor, *_: tensor
            case "torch.nn.parameter", "Parameter":
                return type(name, (), {"__new__": lambda cls, tensor: tensor})
        raise ValueError(
            f"refused, nothing was run: it names {module}.{name}, and only tensors and "
            "dictionaries of them are read; torch.save(model.state_dict(), path) writes such a file"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, length, *view = pid
        if kind != "storage" or storage_type not in _STORAGES or not isinstance(length, int):
            raise ValueError(f"refused: it refers to {kind!r} of {storage_type!r}")
        dtype = _STORAGES[storage_type]
        self.item_sizes[key] = dtype.itemsize
        _, start, length = (view and view[0]) or (None, 0, length)
        return _Storage(dtype, key, length, start)


def _open_zip(path: Path):
    members = read_zip(path)
    (name,) = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
    folder = name.removesuffix("data.pkl")
    if members.get(f"{folder}byteorder", b"little") != b"little":
        raise ValueError("big-endian numbers are not supported")

    def read_storage(storage: _Storage) -> np.ndarray:
        return np.frombuffer(members[f"{folder}data/{storage.key}"], storage.dtype)

    return _Unpickler(io.BytesIO(members[name])).load(), read_storage


def _open_legacy(path: Path):
    content = read_bytes(path)
    file = io.BytesIO(content)
    _magic, _version, system = (_Unpickler(file).load() for _ in range(3))
    if system.get("little_endian") is not True:
        raise ValueError("big-endian numbers are not supported")
    unpickler = _Unpickler(file)
    found, places = unpickler.load(), {}
    for key in _Unpickler(file).load():
        length = int.from_bytes(file.read(8), "little")
        places[key] = file.tell(), length
        if file.seek(length * unpickler.item_sizes[key], 1) > len(content):
            raise ValueError(f"the numbers of {key!r} end before they should")

    def read_storage(storage: _Storage) -> np.ndarray:
        offset, length = places[storage.key]
        whole = np.frombuffer(content, storage.dtype, length, offset)
        return whole[storage.start : storage.start + storage.length]

    return found, read_storage


def _array(key: str, tensor: _Tensor, read_storage) -> np.ndarray:
    storage, offset, size, stride = tensor.storage, tensor.offset, tensor.size, tensor.stride
    flat = read_storage(storage)
    reach = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if not (
        all(isinstance(number, int) and number >= 0 for number in (offset, *size, *stride))
        and len(flat) == storage.length
        and math.prod(size) <= len(flat)
        and (0 in size or offset + reach < len(flat))
    ):
        raise ValueError(f"{key}: size {size} and stride {stride} do not fit its data")
    strides = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, strides, writeable=False)
