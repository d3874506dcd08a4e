"""From a config (ml_collections) to the nouns: dataset, network, recipe, runtime."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from transfer_jax import networks
from transfer_jax.data.augment import Augmentation
from transfer_jax.data.dataset_spec import DatasetSpec
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.multilabel import MultiLabelDataset, open_multilabel
from transfer_jax.data.sources import open_dataset
from transfer_jax.grid.executors import Executor, LocalExecutor, RayExecutor
from transfer_jax.grid.imported import Imported, read_imported
from transfer_jax.grid.run import Entry
from transfer_jax.networks import Network
from transfer_jax.networks.weights import load_mean, num_classes_in
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.trainer import Runtime

log = logging.getLogger(__name__)

TINY_IMAGENET_ARCHIVE = "tiny_imagenet_32.tar.xz"


class Opener(Protocol):
    """Opens the dataset that a config's `dataset`, or another field like it, describes."""

    def __call__(self, config: Mapping, *, multilabel: bool = False) -> Any:
        """A `Dataset`, or a `MultiLabelDataset` where images have several labels."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What a study wants to be trained.

    Attributes:
      entries: (experiment, split, cell), each once; bases come before the cells that copy them.
      datasets: those that the cells' tasks are over.
      snapshots: hash of a cell -> updates after which its weights are kept.
    """

    entries: tuple[Entry, ...]
    datasets: tuple[Dataset, ...]
    snapshots: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)


def as_config(value: Any) -> Any:
    """A ConfigDict with a field for every field of a (nested) dataclass, for configs to start from.

    Example:
      >>> as_config(Recipe(steps=100)).steps
      100
    """
    if dataclasses.is_dataclass(value):
        hints = typing.get_type_hints(type(value))
        fields = {f.name: as_config(getattr(value, f.name)) for f in dataclasses.fields(value)}
        # A plain None could not be overridden by a flag: nothing would say what it may become.
        empty = {name: _placeholder(hints[name]) for name, v in fields.items() if v is None}
        return ConfigDict({**fields, **empty})
    return value


def recipe_from(config: Mapping, **changes: Any) -> Recipe:
    """The Recipe that a config's `recipe` describes, some fields changed.

    Raises:
      ValueError: for unknown fields or values that no recipe has.
    """
    fields = {**dict(config), **changes}
    augmentation = _build(Augmentation, fields.pop("augmentation"), "recipe.augmentation")
    return _build(Recipe, {**fields, "augmentation": augmentation}, "recipe")


def runtime_from(config: Mapping) -> Runtime:
    """The Runtime that a config's `runtime` describes."""
    return _build(Runtime, config, "runtime")


def common_fields(runtime: Runtime) -> dict[str, Any]:
    """The fields that the configs of all studies share.

    data_dir: where prepared data are kept. reuse: workdirs whose finished cells are taken over
    where they are the same. runtime: see `Runtime`. executor: 'local' trains the cells on the
    devices of this machine, 'ray' on those of a Ray cluster, see `RayExecutor` for `ray`.
    """
    return {
        "data_dir": "~/transfer_jax_data",
        "reuse": (),
        "runtime": as_config(runtime),
        "executor": "local",
        "ray": as_config(RayExecutor()),
    }


def executor_from(config: Mapping) -> Executor:
    """The executor that a config's `executor`, and its `ray`, describe.

    Raises:
      ValueError: for an unknown one, and for values of `ray` that it cannot have.
    """
    if config["executor"] == "local":
        return LocalExecutor()
    if config["executor"] == "ray":
        return _build(RayExecutor, config["ray"], "ray")
    raise ValueError(f"config.executor={config['executor']!r}: expected 'local' or 'ray'")


def network_from(config: Mapping, num_classes: int) -> Network:
    """The built-in network that a config's `network` describes, with this many logits."""
    arguments = {name: value for name, value in dict(config).items() if value is not None}
    del arguments["name"]
    arguments["widths"] = dict(arguments.get("widths") or {})
    return networks.build(config["name"], num_classes=num_classes, **arguments)


def network_config(name: str, **arguments: Any) -> ConfigDict:
    """The fields of a config's `network`; those not given keep the network's own defaults."""
    fields = {"dropout": placeholder(float), "init": placeholder(str)}
    fields |= {"name": name, "widths": {}, "remove": (), "input_size": placeholder(int)}
    return ConfigDict({**fields, **arguments}, type_safe=False)


def imported_config(**more: Any) -> ConfigDict:
    """The fields of a config's `imported`: a file of weights that stands for a trained base.

    path: of the file, '' for none. mean: a file of the mean image (.npy or .binaryproto), or the
    means of red, green and blue as '123.68,116.78,103.94'; '' where the file of weights tells it.
    format: see `networks.weights`; '' to tell it from the file. same_classes: whether it was
    trained on the classes of the config's dataset, in their order, so that its accuracy can be
    measured.
    """
    fields = {"path": "", "mean": "", "format": "", "same_classes": False}
    return ConfigDict({**fields, **more})


def imported_from(config: Mapping, network: Mapping) -> tuple[Imported, Network] | None:
    """The file that a config's `imported` names and the network that it holds; None without one.

    Args:
      config: of a study. A path that does not exist is looked for in its data_dir.
      network: the config's fields of the network that the file should hold; the file tells how many
        classes.

    Raises:
      OSError, ValueError: the file is missing, holds another network, or tells no mean.
    """
    fields, folder = config["imported"], Path(config["data_dir"]).expanduser()
    if not fields["path"]:
        return None
    path, mean = (_found(fields[name], folder) for name in ("path", "mean"))
    if not path.is_file():
        raise FileNotFoundError(f"config.imported.path={fields['path']}: there is no such file")
    state = path.stat()
    stamp = (state.st_mtime_ns, state.st_size)
    described = network_from(network, num_classes=2)
    num_classes, imported = _read_once(path, stamp, described, mean, fields["format"] or None)
    return imported, network_from(network, num_classes)


@functools.lru_cache(maxsize=4)
def _read_once(path, stamp, described: Network, mean, format) -> tuple[int, Imported]:
    # Files of hundreds of megabytes, which a study asks for whenever it is planned.
    num_classes = num_classes_in(path, described, format=format)
    last = dataclasses.replace(described.layers[-1], features=num_classes)
    network = dataclasses.replace(described, layers=(*described.layers[:-1], last))
    return num_classes, read_imported(path, network, mean=_mean(mean), format=format)


def _found(name: str, folder: Path) -> Path:
    path = Path(name).expanduser()
    return folder / path if name and not path.exists() and (folder / path).exists() else path


def _mean(name: Path) -> np.ndarray | None:
    if name == Path():
        return None
    if name.is_file():
        return load_mean(name)
    try:
        values = [float(value) for value in str(name).split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise ValueError(
            f"config.imported.mean={str(name)!r}: expected a file of a mean image, or three "
            "numbers 'red,green,blue' in pixel values 0..255"
        )
    return np.array(values, np.float32)


def dataset_from(
    config: Mapping, data_dir: str, workdir: Path, *, multilabel: bool = False
) -> Dataset | MultiLabelDataset:
    """Opens the dataset that a config's `dataset` describes, preparing it at first use.

    Prepared datasets are kept in data_dir; where that cannot be written, because it holds somebody
    else's originals, in the workdir.

    Args:
      config: fields of DatasetSpec. A path that does not exist is looked for in data_dir; an empty
        path of a folder, of ILSVRC2012 or of Tiny ImageNet stands for data_dir itself.
      data_dir: as in the config.
      workdir: of this run.
      multilabel: whether the images have several labels each.

    Raises:
      FileNotFoundError, ValueError, OSError: see `transfer_jax.data.sources.open_dataset`.
    """
    fields, folder = dict(config), Path(data_dir).expanduser()
    lies_there = fields["kind"] in ("folder", "ilsvrc2012", "tiny_imagenet") and not fields["name"]
    if lies_there and not fields["path"]:
        if not folder.exists():
            raise FileNotFoundError(
                f"config.data_dir={data_dir}: expected the folder that holds the images"
            )
        archive = folder / TINY_IMAGENET_ARCHIVE
        is_archive = fields["kind"] == "tiny_imagenet" and archive.exists()
        fields["path"] = str(archive if is_archive else folder)
    path = Path(fields["path"]).expanduser()
    if fields["path"] and not path.exists() and (folder / path).exists():
        fields["path"] = str(folder / path)
    kept = folder
    if folder.exists() and not _may_write(folder):
        kept = workdir / "data"
        log.warning("%s cannot be written: prepared data go to %s", folder, kept)
    opening = open_multilabel if multilabel else open_dataset
    return opening(_build(DatasetSpec, fields, "dataset"), kept)


def _may_write(folder: Path) -> bool:
    """Whether files may be put there. Root can write anywhere, but a folder without any write
    permission is meant to stay as it is."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def integers(values: Iterable, name: str) -> tuple[int, ...]:
    """The integers that the config's field of this name holds.

    Raises:
      ValueError: when it holds anything else.
    """
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"config.{name} holds {value!r}: expected integers")
    return tuple(values)


def asked_targets(config: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Name and fields of each target of the config that its `experiments.targets` asks for.

    Raises:
      ValueError: for a name that `targets` does not hold.
    """
    for name in config.experiments.targets:
        if name not in config.targets:
            raise ValueError(
                f"config.experiments.targets holds {name!r}; expected some of "
                f"{sorted(config.targets)}"
            )
        yield name, config.targets[name]


def dataset_opener(data_dir: str, workdir: Path) -> Opener:
    """`dataset_from` for one run, which opens each dataset once."""
    opened: dict[str, Any] = {}

    def open_once(config: Mapping, *, multilabel: bool = False) -> Any:
        key = json.dumps([dict(config), multilabel], sort_keys=True, default=str)
        if key not in opened:
            opened[key] = dataset_from(config, data_dir, workdir, multilabel=multilabel)
        return opened[key]

    return open_once


def _placeholder(hint: Any) -> FieldReference:
    (kind,) = set(typing.get_args(hint)) - {type(None)}
    return placeholder(kind)


def _build(kind: type, fields: Mapping, name: str) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    for field in dict(fields):
        if field not in known:
            raise ValueError(f"config.{name}.{field} is unknown; expected one of {sorted(known)}")
    return kind(**dict(fields))
