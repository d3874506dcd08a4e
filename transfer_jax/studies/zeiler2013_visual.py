"""What Zeiler & Fergus 2013 look at: projections, their evolution, filters, occlusion."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.pipeline import select
from transfer_jax.networks import Conv, Network
from transfer_jax.studies.analysis import Files, Rows, Trained
from transfer_jax.visual.deconvnet import project_units
from transfer_jax.visual.filters import filter_statistics, white_noise_shares
from transfer_jax.visual.occlusion import (
    centres_inside,
    lowest_probability_inside,
    occlusion_maps,
)
from transfer_jax.visual.receptive_field import receptive_field
from transfer_jax.visual.top_activations import top_activations

BATCH = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Images of a task in one split, read as they are needed.

    Attributes:
      dataset: where they are read.
      split: of the dataset.
      records: (n,) positions in the split; an image's id is its place in this list.
      labels: (n,) task labels.
    """

    dataset: Dataset
    split: str
    records: np.ndarray
    labels: np.ndarray

    @classmethod
    def of_task(cls, dataset: Dataset, split: str, task, most: int | None = None) -> Images:
        """A task's images, at most `most` of them, evenly spread over the split."""
        records, labels = select(dataset, split, task)
        if most is not None and len(records) > most:
            places = np.linspace(0, len(records) - 1, most).round().astype(int)
            records, labels = records[places], labels[places]
        return cls(dataset, split, records, labels)

    def __getitem__(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 images (k, h, w, 3) of these ids."""
        return self.dataset.images(self.split, self.records[np.asarray(ids, int)])

    def batches(self, trained: Trained) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids, network inputs) of all images, a batch at a time."""
        for start in range(0, len(self.records), BATCH):
            ids = np.arange(start, min(start + BATCH, len(self.records)))
            yield ids, np.asarray(trained.view(self[ids]))


def convolutions(network: Network) -> list[str]:
    """Names of the convolution layers in order."""
    return [layer.name for layer in network.layers if isinstance(layer, Conv)]


def projections(trained: Trained, images: Images, maps_per_layer: int) -> Files:
    """Figure 2: the nine strongest images of some maps of each convolution layer, projected down.

    Maps are drawn at random among those that any image switches on, seeded by the cell's seed.
    """
    network = trained.cell.network
    names = convolutions(network)
    found = top_activations(network, trained.params, images.batches(trained), names)
    generator = np.random.default_rng(trained.cell.seed)
    arrays = {"network": np.array(network.name), "layers": np.array(names)}
    for name in names:
        alive = np.flatnonzero(found[name].values[:, 0] > 0)
        maps = np.sort(generator.permutation(alive)[:maps_per_layer])
        top = found[name]
        ids, places = top.image_ids[maps], top.positions[maps]
        patches, pictures = _patches(trained, images, name, maps, ids, places)
        arrays |= {
            f"{name}/maps": maps,
            f"{name}/values": top.values[maps],
            f"{name}/image_ids": images.records[ids],
            f"{name}/patches": patches,
            f"{name}/projections": pictures,
        }
    return {"projections.npz": arrays}


def _patches(trained, images, layer, maps, ids, places):
    """Pixels and projections of units, cut to the units' receptive fields: (M, 9, s, s, 3) each."""
    network, flat = trained.cell.network, ids.reshape(-1)
    pixels = images[flat]
    down = _project(trained, pixels, layer, np.repeat(maps, ids.shape[1]), places.reshape(-1, 2))
    field, side = receptive_field(network, layer), network.input_size
    size = min(field.size, side)
    # A field larger than the image is the whole image; a smaller one may hang over the border.
    starts = field.offset + field.stride * places.reshape(-1, 2)
    if field.size >= side:
        starts = np.zeros_like(starts)
    shape = (*ids.shape, size, size, 3)
    return (
        _cut(trained.pixels(pixels), starts, size, "edge").reshape(shape),
        _cut(down, starts, size, "constant").reshape(shape),
    )


def _project(trained: Trained, pixels: np.ndarray, layer: str, maps, positions=None) -> np.ndarray:
    """Projections (n, H, W, 3) of one unit per image, a batch of one size at a time."""
    network = trained.cell.network
    results = [np.empty((0, network.input_size, network.input_size, 3), np.float32)]
    for start in range(0, len(pixels), BATCH):
        rows = np.arange(start, min(start + BATCH, len(pixels)))
        padded = np.resize(rows, BATCH) if len(pixels) > BATCH else rows
        places = None if positions is None else positions[padded]
        down = project_units(
            network, trained.params, trained.view(pixels[padded]), layer, maps[padded], places
        )
        results.append(np.asarray(down)[: len(rows)])
    return np.concatenate(results)


def _cut(pictures: np.ndarray, starts: np.ndarray, size: int, mode: str) -> np.ndarray:
    outside = np.maximum(-starts, starts + size - pictures.shape[1])
    pad = int(outside.max(initial=0))
    padded = np.pad(pictures, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)
    corners = starts + pad
    cut = np.empty((len(padded), size, size, 3), pictures.dtype)
    for index, (row, column) in enumerate(corners):
        cut[index] = padded[index, row : row + size, column : column + size]
    return cut


def rules(trained: Trained, images: Images) -> Files:
    """One unit of the top convolution layer, sent down by the three rules."""
    network = trained.cell.network
    layer = convolutions(network)[-1]
    top = top_activations(network, trained.params, images.batches(trained), layer)[layer]
    strongest = int(np.argmax(top.values[:, 0]))
    pixels = images[top.image_ids[strongest, :1]]
    arrays = {
        "image": trained.pixels(pixels)[0],
        "layer": np.array(layer),
        "map": np.array(strongest),
    }
    for rule in ("deconvnet", "gradient", "guided"):
        view, maps = trained.view(pixels), np.array([strongest])
        down = project_units(network, trained.params, view, layer, maps, rule=rule)
        arrays[rule] = np.asarray(down)[0]
    return {"rules.npz": arrays}


def evolution(snapshots: Mapping[float, Trained], images: Images, maps_per_layer: int) -> Files:
    """Figure 4: the strongest activation of some maps at each snapshot, projected down.

    Args:
      snapshots: epoch -> the network at that time, in order; the last is the one that later ones
        are compared with.
      images: training images.
      maps_per_layer: how many maps are drawn.
    """
    epochs = list(snapshots)
    final = snapshots[epochs[-1]]
    network, names = final.cell.network, convolutions(final.cell.network)
    tops = {
        epoch: top_activations(network, trained.params, images.batches(trained), names)
        for epoch, trained in snapshots.items()
    }
    arrays = {"layers": np.array(names), "epochs": np.array(epochs, float)}
    rows = []
    generator = np.random.default_rng(final.cell.seed)
    for name in names:
        last = tops[epochs[-1]][name]
        alive = np.flatnonzero(last.values[:, 0] > 0)
        maps = np.sort(generator.permutation(alive)[:maps_per_layer])
        pictures = []
        for epoch, trained in snapshots.items():
            top = tops[epoch][name]
            pixels = images[top.image_ids[maps, 0]]
            pictures.append(_project(trained, pixels, name, maps, top.positions[maps, 0]))
            pairs = zip(top.image_ids[alive], last.image_ids[alive], strict=True)
            shares = [len(np.intersect1d(a, b)) / last.image_ids.shape[1] for a, b in pairs]
            overlap = np.mean(shares) if shares else None
            rows.append((name, epoch, overlap, _cosine(trained, final, name)))
        arrays[f"{name}/maps"] = maps
        arrays[f"{name}/projections"] = np.stack(pictures, axis=1)
    header = ("layer", "epoch", "overlap", "kernel_cosine")
    return {"evolution.npz": arrays, "evolution.csv": Rows(header, rows)}


def _cosine(one: Trained, other: Trained, layer: str) -> float:
    a, b = (np.asarray(t.params[layer]["kernel"], float).ravel() for t in (one, other))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def filters(networks: Mapping[str, Trained], images: Images, most_second_layer: int) -> Files:
    """Figure 5: first-layer filters, and projections of the second layer, with their numbers."""
    arrays, rows = {}, []
    noise = white_noise_shares()[0]
    for name, trained in networks.items():
        first, second = convolutions(trained.cell.network)[:2]
        arrays[f"{name}/conv1"] = np.asarray(trained.params[first]["kernel"])
        top = top_activations(
            trained.cell.network, trained.params, images.batches(trained), second, count=1
        )[second]
        alive = np.flatnonzero(top.values[:, 0] > 0)[:most_second_layer]
        ids, places = top.image_ids[alive], top.positions[alive]
        _, pictures = _patches(trained, images, second, alive, ids, places)
        arrays[f"{name}/conv2_projections"] = pictures[:, 0]
        for layer in (first, second):
            found = filter_statistics(np.asarray(trained.params[layer]["kernel"]))
            rows.append((name, layer, found.count, found.dead, found.strongest,
                         found.bands[0], noise, found.smoothness, found.noise))  # fmt: skip
    header = ("network", "layer", "filters", "dead_share", "strongest_energy_share",
              "low_frequency_share", "noise_low_frequency_share", "smoothness",
              "noise_share")  # fmt: skip
    return {"filters.npz": arrays, "filters.csv": Rows(header, rows)}


def occlusion(trained: Trained, images: Images, settings: ConfigDict) -> Files:
    """Figure 6 for some images that the network gets right, and where the lowest probability falls.

    Args:
      trained: the network.
      images: of the validation split.
      settings: the config's `experiments.occlusion`: `shown` and `tested` images, `square` and
        `stride` in pixels.
    """
    network, dataset = trained.cell.network, images.dataset
    names = [dataset.class_names[c] for c in _task_classes(trained)]
    reader = dataset.record_source(images.split)
    generator = np.random.default_rng(trained.cell.seed)
    rows, shown = [], []
    for place in generator.permutation(len(images.records))[: settings.tested]:
        pixels = images[[place]]
        view = np.asarray(trained.view(pixels))[0]
        label = int(images.labels[place])
        maps = occlusion_maps(
            network, trained.params, view, label, square=settings.square, stride=settings.stride
        )
        box = _box_in_view(trained, pixels.shape[1:3], reader[int(images.records[place])])
        correct = maps.unoccluded_predicted == label
        rows.append((
            int(images.records[place]), names[label], int(correct),
            maps.unoccluded_probability, float(maps.probability.min()),
            None if box is None else int(lowest_probability_inside(maps, box)),
            None if box is None else float(centres_inside(maps, box).mean()),
        ))  # fmt: skip
        # The paper's examples are right and sure.
        if correct and maps.unoccluded_probability > 0.5 and len(shown) < settings.shown:
            down = _project(trained, pixels, maps.layer, np.array([maps.feature_map]))[0]
            shown.append((trained.pixels(pixels)[0], maps, down, label))
    header = ("image", "class", "correct", "probability", "lowest_probability", "inside",
              "box_share")  # fmt: skip
    files = {"occlusion.csv": Rows(header, rows)}
    if shown:
        files["occlusion.npz"] = _occlusion_arrays(shown, names, settings)
    return files


def _occlusion_arrays(shown, names, settings) -> dict[str, np.ndarray]:
    pictures, maps, projected, labels = zip(*shown, strict=True)
    stacked = {
        field: np.stack([getattr(m, field) for m in maps])
        for field in ("activation", "probability", "predicted")
    }
    return stacked | {
        "images": np.stack(pictures),
        "projections": np.stack(projected),
        "square": np.array(settings.square),
        "stride": np.array(settings.stride),
        "rows": maps[0].rows,
        "columns": maps[0].columns,
        "class_names": np.array(names),
        "classes": np.array(labels),
        "map": np.array([m.feature_map for m in maps]),
        "layer": np.array(maps[0].layer),
    }


def _task_classes(trained: Trained) -> list[int]:
    """For each class of the task the first dataset class that is mapped to it."""
    class_map = trained.cell.task.class_map
    return [class_map.index(c) for c in range(trained.cell.task.num_classes)]


def _box_in_view(trained: Trained, image_size, record: Mapping) -> tuple | None:
    """The first box of a record as shares of the view's sides, or None without one in view."""
    boxes = record.get("boxes")
    if boxes is None or not len(boxes):
        return None
    augmentation = trained.cell.recipe.augmentation
    size, pad = augmentation.size, augmentation.pad
    sides = np.array([*image_size, *image_size], float)
    offset = (sides + 2 * pad - size) // 2 - pad
    inside = np.clip((np.asarray(boxes[0], float) * sides - offset) / size, 0, 1)
    ymin, xmin, ymax, xmax = inside
    return tuple(inside) if ymin < ymax and xmin < xmax else None
