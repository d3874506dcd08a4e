"""What configs hold, and what is built from it: here, and nowhere else, a config is checked."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from transfer_jax import networks
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.listing import image_folder
from transfer_jax.data.outline import outline
from transfer_jax.data.sources import DatasetSpec, open_dataset, was_read
from transfer_jax.data.tasks import Task
from transfer_jax.data.views import Augmentation
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.imported import Imported, read_imported
from transfer_jax.grid.on_ray import Ray
from transfer_jax.networks import Network
from transfer_jax.networks.caffe import load_mean
from transfer_jax.networks.weights import TORCHVISION_SCALE, widths_in
from transfer_jax.training.loop import Runtime
from transfer_jax.training.recipe import Recipe
from transfer_jax.transfer import Treatment

log = logging.getLogger(__name__)

Opener = Callable[[Mapping], Dataset]
"""Opens the dataset that fields of a config describe, each once in a run."""


SCRATCH = ("scratch", "scratch, as long")
"""What networks are called that learned from a target alone: for the steps that those with a base
had on it, and for the steps of the base, too (`recipe.as_long_as_both`)."""


def study_config(
    study: str,
    dataset: DatasetSpec | ConfigDict,
    network: ConfigDict,
    recipe: Recipe,
    runtime: Runtime,
) -> ConfigDict:
    """The fields that the configs of all studies share, for presets to change and add to.

    data_dir: where data lie and prepared data are kept. reuse: workdirs whose finished cells are
    taken over where they are the same. executor: 'local', or 'ray' with the fields of `Ray`.
    imported: a file of weights that stands for a trained base: its path, '' for none; mean, a file
    of the mean image or 'red,green,blue' in pixel values, '' where the file tells it; same_classes,
    whether it tells the classes of the config's dataset apart, so that its accuracy is measured.
    notes: lines for the head of the report.
    """
    return ConfigDict(
        {
            "study": study,
            "seed": 0,
            "data_dir": "~/transfer_jax_data",
            "dataset": as_config(dataset),
            "network": network,
            "recipe": as_config(recipe),
            "runtime": as_config(runtime),
            "imported": {"path": "", "mean": "", "same_classes": False},
            "reuse": (),
            "notes": (),
            "executor": "local",
            "ray": as_config(Ray()),
        },
        type_safe=False,
    )


def check(config: Mapping) -> None:
    """Refuses what nobody can mean, also in parts of a config that its experiments do not use."""
    reuse, sizes = config["reuse"], dict(config["dataset"])
    if not isinstance(reuse, tuple | list) or not all(isinstance(path, str) for path in reuse):
        raise ValueError(f"config.reuse={reuse!r}: expected folders, as in ('runs/demo',)")
    for name in ("train_per_class", "val_per_class", "max_objects", "seed"):
        if (sizes.get(name) or 0) < 0:
            raise ValueError(f"config.dataset.{name}={sizes[name]}: expected at least 0")
    network_from(config["network"], 2)
    build(Ray, config["ray"], "ray")
    for changes in _recipes(config):
        recipe_from(config["recipe"], **changes)


def _recipes(config: Mapping) -> Iterator[dict]:
    """The recipe, and what parts of a config change in it."""
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from [dict(value)] if name.endswith("recipe") else _recipes(value)


def as_config(value: Any) -> Any:
    """A ConfigDict with a field for every field of a (nested) dataclass.

    Example:
      >>> as_config(Recipe(steps=100)).steps
      100
    """
    if not dataclasses.is_dataclass(value):
        return value
    hints = typing.get_type_hints(type(value))
    fields = {f.name: as_config(getattr(value, f.name)) for f in dataclasses.fields(value)}
    for name in [name for name, content in fields.items() if content is None]:
        # A plain None could not be overridden by a flag: nothing would say what it may become.
        (kind,) = set(typing.get_args(hints[name])) - {type(None)}
        fields[name] = placeholder(kind)
    return ConfigDict(fields)


def in_data_dir(kind: str, **fields: Any) -> ConfigDict:
    """The fields of a dataset that lies in `data_dir` itself, unless a path is given."""
    found = as_config(DatasetSpec(kind, path=".", **fields))
    found.path = ""
    return found


def pick(preset: str, *presets: Callable[..., ConfigDict]) -> ConfigDict:
    """The config of a preset by its name; 'folder=PATH' hands the path to the preset 'folder'."""
    name, _, argument = preset.partition("=")
    known = {make.__name__: make for make in presets}
    if name not in known:
        raise ValueError(f"preset {name!r} is unknown; expected one of {sorted(known)}")
    return known[name](argument) if argument else known[name]()


@dataclasses.dataclass(frozen=True)
class UserFolder:
    """A folder of the user's: its dataset, how many classes it has, and how many images to train
    and to test on the smallest of them."""

    dataset: DatasetSpec
    classes: int
    train: int
    val: int


def user_folder(path: str, image_size: int) -> UserFolder:
    """Counts the images of a folder, for presets that are cut to its size; no image is read.

    Raises:
      ValueError: there is no folder, or it has less than two classes.
    """
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(
            f"preset 'folder' of {path!r}: expected folder=PATH, a folder of a folder for each "
            "class, or of train/ and val/ that hold these"
        )
    listing = image_folder(root)
    if (classes := len(listing.class_names)) < 2:
        raise ValueError(f"preset 'folder': {root} has {classes} classes, expected at least 2")
    least = {
        split: int(
            np.bincount(listing.labels[listing.splits.get(split, [])], minlength=classes).min()
        )
        for split in ("train", "val")
    }
    return UserFolder(DatasetSpec("folder", path=path, image_size=image_size), classes, **least)


def network_config(name: str, **arguments: Any) -> ConfigDict:
    """The fields of a config's `network`; those not given keep the network's own defaults."""
    fields = {"name": name, "width": 1.0, "widths": {}, "remove": ()}
    fields |= {"dropout": placeholder(float), "input_size": placeholder(int)}
    return ConfigDict({**fields, **arguments}, type_safe=False)


def recipe_from(config: Mapping, **changes: Any) -> Recipe:
    """The Recipe that a config's `recipe` describes, some fields changed."""
    fields = {**dict(config), **changes}
    augmentation = build(Augmentation, fields.pop("augmentation"), "recipe.augmentation")
    return build(Recipe, {**fields, "augmentation": augmentation}, "recipe")


def fit_to_network(config: ConfigDict) -> None:
    """Gives a config what belongs to its network and says so in its notes: of an imported one the
    file's widths and the pixels that it takes; of torchvision's AlexNet its scale of pixels where
    the config has none: on raw pixels its loss stops being finite within a few steps."""
    if config.imported.path:
        network = network_from(config.network, 2)
        with asked_by(f"imported.path of network.name={network.name}"):
            *widths, _ = widths_in(_imported_path(config), network).items()
        config.network.widths = ConfigDict(dict(widths))
        _imported(config)  # it may be another network
        size, targets = max(network.input_shape[:2]), config.get("targets", {}).values()
        if config.recipe.augmentation.size != size:
            config.recipe.augmentation.size = size
            multilabel = config.get("experiments", {}).get("multilabel", {})
            datasets = [config.dataset, multilabel.get("dataset", {})]
            datasets += [target.dataset for target in targets if target.get("kind") != "detection"]
            for dataset in datasets:
                if dataset.get("image_size"):
                    dataset.image_size = max(dataset.image_size, size)
            note = f"Images are {size} pixels wide, as the imported network takes them."
            config.notes = (*config.notes, note)
    if config.network.name == "torchvision_alexnet" and config.recipe.pixel_scale == 1:
        config.recipe.pixel_scale = TORCHVISION_SCALE
        note = f"recipe.pixel_scale={TORCHVISION_SCALE:.4f}, which torchvision's AlexNet takes."
        config.notes = (*config.notes, note)


def ray_from(config: Mapping) -> Ray | None:
    """The cluster that a config asks for, None to train here."""
    if config["executor"] not in ("local", "ray"):
        raise ValueError(f"--config.executor={config['executor']!r}: expected 'local' or 'ray'")
    return build(Ray, config["ray"], "ray") if config["executor"] == "ray" else None


def network_from(config: Mapping, num_classes: int) -> Network:
    """The built-in network that a config's `network` describes, with this many logits."""
    arguments = {name: value for name, value in dict(config).items() if value is not None}
    arguments["widths"] = dict(arguments.get("widths") or {})
    return networks.build(arguments.pop("name"), num_classes=num_classes, **arguments)


def base_cell(network: Mapping, task: Task, recipe: Recipe, seed: int, letter: str = "A") -> Cell:
    """A network trained from random weights on a task, from a config's network fields."""
    return Cell(network_from(network, task.num_classes), task, Treatment(letter), recipe, seed)


def imported_cell(config: Mapping, task: Task) -> Cell | None:
    """The base that a config's `imported` names a file of, as a cell that others copy from; None
    where it names none.

    `task` gives the dataset. Where the file tells other classes apart, the base's accuracy is not
    measured; where it tells another number of them, the base has images of none.
    """
    if not config["imported"]["path"]:
        return None
    imported, network = _imported(config)
    if not config["imported"]["same_classes"]:
        task = dataclasses.replace(task, val=(task.val[0][:0], task.val[1][:0]))
    if task.num_classes != network.num_classes:
        names = tuple(str(i) for i in range(network.num_classes))
        none = (np.zeros(0, np.int64), np.zeros(0, np.int32))
        task = dataclasses.replace(task, class_names=names, train=none, val=none)
    recipe = recipe_from(config["recipe"])
    return Cell(network, task, Treatment("A"), recipe, imported=imported)


def _imported(config: Mapping) -> tuple[Imported, Network]:
    """The file that `imported` names and the network that it holds: the config's, with as many
    classes as the file has."""
    path, mean = _imported_path(config), config["imported"]["mean"]
    mean = str(_found(mean, Path(config["data_dir"]).expanduser()))
    with asked_by(f"imported.path of network.name={config['network']['name']}"):
        described = network_from(config["network"], 2)
        return _read_once(path, (path.stat().st_mtime_ns, path.stat().st_size), described, mean)


def _imported_path(config: Mapping) -> Path:
    named = config["imported"]["path"]
    path = _found(named, Path(config["data_dir"]).expanduser())
    if not path.is_file():
        raise FileNotFoundError(f"--config.imported.path={named}: there is no such file")
    return path


@functools.lru_cache(maxsize=4)
def _read_once(path: Path, stamp, described: Network, mean: str) -> tuple[Imported, Network]:
    # Files of hundreds of megabytes, which a study asks for whenever it is planned.
    *_, classes = widths_in(path, described).values()
    last = dataclasses.replace(described.layers[-1], features=classes)
    network = dataclasses.replace(described, layers=(*described.layers[:-1], last))
    if mean in ("", "."):
        return read_imported(path, network), network
    if Path(mean).is_file():
        return read_imported(path, network, load_mean(mean)), network
    try:
        red, green, blue = map(float, mean.split(","))
    except ValueError:
        raise ValueError(
            f"--config.imported.mean={mean!r}: expected a file of a mean image, or three numbers "
            "'red,green,blue' in pixel values 0..255"
        ) from None
    return read_imported(path, network, np.array([red, green, blue], np.float32)), network


def _found(name: str, folder: Path) -> Path:
    path = Path(name).expanduser()
    return folder / path if name and not path.exists() and (folder / path).exists() else path


def dataset_opener(data_dir: str, workdir: Path) -> Opener:
    """Opens the datasets of a run, each once, and prepares them at first use.

    Prepared data are kept in data_dir; where that cannot be written, because it holds somebody
    else's originals, in the workdir. A path that does not exist is looked for in data_dir, and an
    empty one of kinds whose images lie in folders stands for data_dir itself.
    """
    opened: dict[str, Dataset] = {}

    def open_once(config: Mapping) -> Dataset:
        key = json.dumps(dict(config), sort_keys=True, default=str)
        if key not in opened:
            spec = spec_from(config, data_dir)
            try:
                opened[key] = open_dataset(spec, _kept(data_dir, workdir))
            except (FileNotFoundError, ValueError) as error:
                raise type(error)(
                    f"dataset {spec.kind!r} at {spec.path or data_dir}: {error}; its folder or "
                    "archive is named by the dataset's path, such as --config.dataset.path, or by "
                    "--config.data_dir"
                ) from error
        return opened[key]

    return open_once


def spec_from(config: Mapping, data_dir: str) -> DatasetSpec:
    """The DatasetSpec that a config's `dataset` describes, its path made whole."""
    fields, folder = dict(config), Path(data_dir).expanduser()
    if fields["path"]:
        fields["path"] = str(_found(fields["path"], folder))
    elif fields["kind"] in ("folder", "ilsvrc2012", "tiny_imagenet"):
        archive = folder / "tiny_imagenet_32.tar.xz"
        is_archive = fields["kind"] == "tiny_imagenet" and archive.exists()
        fields["path"] = str(archive if is_archive else folder)
    return build(DatasetSpec, fields, "dataset")


def planning_opener(data_dir: str, workdir: Path) -> tuple[Opener, list[str]]:
    """An opener for plans, which makes do with outlines of public datasets that are not prepared,
    and the remarks that a reader of the plan must know of them, filled as it is used."""
    really, remarks = dataset_opener(data_dir, workdir), []

    def open_or_outline(config: Mapping) -> Dataset:
        spec = spec_from(config, data_dir)
        known = outline(spec)
        if known is None or was_read(spec, _kept(data_dir, workdir)):
            return really(config)
        remark = f"{known.name}: not prepared here, planned with public counts"
        remarks.extend({remark} - set(remarks))
        return known

    return open_or_outline, remarks


def _kept(data_dir: str, workdir: Path) -> Path:
    folder = Path(data_dir).expanduser()
    # Root can write anywhere, but a folder without write permission is meant to stay as it is.
    if folder.exists() and not (os.access(folder, os.W_OK) and folder.stat().st_mode & 0o222):
        log.warning("%s cannot be written: prepared data go to %s", folder, workdir / "data")
        return workdir / "data"
    return folder


@contextlib.contextmanager
def asked_by(field: str) -> Iterator[None]:
    """Names the config's field in what is wrong with what it asks for."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"--config.{field}: {error}") from error


def integers(values: Iterable, name: str) -> tuple[int, ...]:
    """The integers that the config's field of this name holds."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"--config.{name} holds {value!r}: expected integers")
    return tuple(values)


def chosen(values: Iterable[str], legal: Iterable[str], name: str) -> tuple[str, ...]:
    """The words that the config's field of this name holds, each one of `legal`."""
    values, legal = tuple(values), tuple(legal)
    if unknown := [value for value in values if value not in legal]:
        raise ValueError(f"--config.{name} holds {unknown[0]!r}: expected some of {legal}")
    return values


def build(kind: type, fields: Mapping, name: str) -> Any:
    """The dataclass that fields of a config describe; `name` is where they stand in the config."""
    known = {field.name for field in dataclasses.fields(kind)}
    for field in dict(fields):
        if field not in known:
            raise ValueError(f"--config.{name}.{field} is unknown; expected one of {sorted(known)}")
    try:
        return kind(**dict(fields))
    except ValueError as error:
        where = "" if str(error).startswith(name) else f"{name}: "
        raise ValueError(f"--config.{where}{error}") from error
