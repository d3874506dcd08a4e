"""Tensors of files that `torch.save` wrote, without PyTorch and without running what they contain.

A pickle may name any function and have it called. The unpickler here knows tensors, parameters,
their storages and ordered dictionaries, none of them PyTorch's own, and refuses every other name.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from transfer_jax.networks.weights.content import Stored

LEGACY_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""Little-endian digits of the number with which files of PyTorch before 1.6 begin."""

_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class RefusedError(ValueError):
    """A file wants something that is no tensor."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    dtype: np.dtype
    key: str
    length: int
    start: int = 0


@dataclasses.dataclass
class _Tensor:
    storage: Any
    offset: Any
    size: Any
    stride: Any


def read_torch(path: Path) -> dict[str, Stored]:
    """The tensors of a state dict, or of a checkpoint's 'state_dict', by their keys.

    Args:
      path: a file of `torch.save`, in the zip format or the older one, with tensors of any device.

    Returns:
      key -> its shape, and its numbers as float32 when they are asked for.

    Raises:
      ValueError: where the file is damaged, holds no state dict, or names a function or class other
        than those of tensors; nothing of it is run.
    """
    if zipfile.is_zipfile(path):
        found, read_storage = _read_zip(path)
    else:
        found, read_storage = _read_legacy(path)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ValueError(f"{path}: no state dict but an object of type {type(found).__name__}")
    tensors = {str(key): value for key, value in found.items() if isinstance(value, _Tensor)}
    if not tensors:
        raise ValueError(f"{path}: no tensors among the entries {[*found][:10]}")
    return {key: _stored(tensor, f"{path}: {key}", read_storage) for key, tensor in tensors.items()}


def _read_zip(path: Path) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ValueError(f"{path}: a zip archive without the data.pkl of torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError(f"{path}: big-endian numbers are not supported")
        found = _unpickle(io.BytesIO(archive.read(pickles[0])), path)

    def read_storage(storage: _Storage) -> np.ndarray:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{folder}data/{storage.key}")
            if member.file_size != storage.length * storage.dtype.itemsize:
                raise ValueError(f"{member.file_size} bytes for {storage.length} numbers")
            return np.frombuffer(archive.read(member), storage.dtype)

    return found, read_storage


def _read_legacy(path: Path) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    with path.open("rb") as file:
        magic, version, system = (_unpickle(file, path) for _ in range(3))
        if magic != int.from_bytes(LEGACY_MAGIC, "little") or version != 1001:
            raise ValueError(f"{path}: not a file of torch.save")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError(f"{path}: big-endian numbers are not supported")
        item_sizes: dict[str, int] = {}
        found = _unpickle(file, path, item_sizes)
        places = {}
        for key in _unpickle(file, path):
            head = file.read(8)
            start, length = file.tell(), int.from_bytes(head, "little")
            end = start + length * item_sizes.get(key, 1)
            if key not in item_sizes or len(head) < 8 or end > path.stat().st_size:
                raise ValueError(f"{path}: cut short or damaged in the numbers of {key!r}")
            places[key] = start, length
            file.seek(end)

    def read_storage(storage: _Storage) -> np.ndarray:
        offset, length = places[storage.key]
        with path.open("rb") as file:
            whole = np.fromfile(file, storage.dtype, length, offset=offset)
        return whole[storage.start : storage.start + storage.length]

    return found, read_storage


def _unpickle(file: BinaryIO, path: Path, item_sizes: dict[str, int] | None = None) -> Any:
    """The next object of a file; `item_sizes` receives bytes per number by key of storage."""
    try:
        return _Unpickler(file, item_sizes if item_sizes is not None else {}).load()
    except RefusedError as error:
        raise ValueError(f"{path}: refused, nothing was run: {error}") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise ValueError(f"{path}: damaged, cut short or not a file of torch.save") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, item_sizes: dict[str, int]):
        super().__init__(file, encoding="utf-8")
        self._item_sizes = item_sizes
        self._admitted = _admitted()

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return name
        if (module, name) not in self._admitted:
            raise RefusedError(
                f"it names {module}.{name}, and only tensors and dictionaries of them are read; "
                "torch.save(model.state_dict(), path) writes such a file"
            )
        return self._admitted[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, length, *view = pid
        if kind != "storage" or storage_type not in _STORAGES or not isinstance(length, int):
            raise RefusedError(f"it refers to {kind!r} of {storage_type!r}")
        dtype = _STORAGES[storage_type]
        self._item_sizes[key] = dtype.itemsize
        if view and view[0] is not None:
            _, start, length = view[0]
            return _Storage(dtype, key, length, start)
        return _Storage(dtype, key, length)


def _admitted() -> dict[tuple[str, str], Any]:
    """What a pickle may name. Made anew for each, so that no pickle alters what another meets."""

    def rebuild_tensor(storage, offset, size, stride, *_):
        return _Tensor(storage, offset, size, stride)

    def rebuild_parameter(tensor, *_):
        return tensor

    class Parameter(_Tensor):
        """A parameter of PyTorch before 0.4, which is pickled as an object with a state."""

        def __new__(cls, tensor):
            made = super().__new__(cls)
            made.__dict__.update(vars(tensor))
            return made

        def __setstate__(self, state):
            pass

    return {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        ("torch.nn.parameter", "Parameter"): Parameter,
    }


def _stored(tensor: _Tensor, what: str, read_storage: Callable[[_Storage], np.ndarray]) -> Stored:
    storage, offset, size, stride = tensor.storage, tensor.offset, tensor.size, tensor.stride
    are_tuples = isinstance(size, tuple) and isinstance(stride, tuple)
    numbers = (offset, *size, *stride) if are_tuples else (None,)
    if not (
        isinstance(storage, _Storage)
        and all(isinstance(number, int) and number >= 0 for number in numbers)
        and len(size) == len(stride)
        and (0 in size or offset + _reach(size, stride) < storage.length)
    ):
        raise ValueError(
            f"{what}: damaged, its size {size} and stride {stride} do not fit its data"
        )

    def read() -> np.ndarray:
        if not jnp.issubdtype(storage.dtype, jnp.floating):
            raise ValueError(f"{what}: numbers of type {storage.dtype}, expected floating point")
        try:
            flat = read_storage(storage)
        except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{what}: damaged, its numbers cannot be read: {error}") from error
        if len(flat) != storage.length:
            raise ValueError(
                f"{what}: cut short, {len(flat)} numbers of {storage.length} are there"
            )
        strides = [step * flat.itemsize for step in stride]
        view = np.lib.stride_tricks.as_strided(flat[offset:], size, strides, writeable=False)
        return view.astype(np.float32)

    return Stored(tuple(size), read)


def _reach(size: tuple[int, ...], stride: tuple[int, ...]) -> int:
    return sum((length - 1) * step for length, step in zip(size, stride, strict=True))
