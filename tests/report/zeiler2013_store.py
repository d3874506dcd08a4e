"""A workdir of the Zeiler & Fergus study with the paper's own numbers, made without training."""

import json

import numpy as np

from tests.report.reading import write_lines
from transfer_jax.grid.cell import to_json
from transfer_jax.networks import build
from transfer_jax.report.published import read_published_table
from transfer_jax.report.results import Row, write_results

COLUMNS = {
    "networks": "name architecture variant seed filter_rule hash params train_gflop_per_image "
    "train_top1_error val_top1_error val_top5_error num_val",
    "ensembles": "name members val_top1_error val_top5_error num_val",
    "transfer": "target dataset num_classes readout layer train_per_class fold accuracy num_test",
    "multilabel": "target readout class positives ap_area ap_voc2007",
    "occlusion": "image class correct probability lowest_probability inside box_share",
    "evolution": "layer epoch overlap kernel_cosine",
    "filters": "network layer filters dead_share strongest_energy_share low_frequency_share "
    "noise_low_frequency_share noise_share",
    "duplicates": "target source_position target_position correlation removed",
    "timings": "part seconds",
}
EPOCHS = (1, 2, 5, 10, 20, 30, 40, 64)
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
FOLDS = np.array([-2, -1, 0, 1, 2]) / np.sqrt(2.5)


def paper_tables():
    """Every table as lists of lines, in the order of `COLUMNS`; numbers of the paper where it has
    them, and plausible ones elsewhere."""
    return {
        "networks": _networks(),
        "ensembles": [["zfnet x 5", 5, 0.367, 0.153, 50_000],
                      ["zfnet x 5 and wide", 6, 0.360, 0.147, 50_000]],
        "transfer": _transfer(),
        "multilabel": _multilabel(),
        "occlusion": [[100 + i, f"class {i % 4}", int(i % 5 > 0), 0.9, 0.2, int(i % 4 > 0), 0.2]
                      for i in range(60)],
        "evolution": [[layer, epoch, round(min(1, (epoch / 64) ** (0.1 * i + 0.02)), 4),
                       round(1 - 0.5 * i / epoch / 5, 4)]
                      for i, layer in enumerate(LAYERS) for epoch in EPOCHS],
        "filters": [["zfnet", "conv1", 96, 0.02, 0.03, 0.5, 0.2, 0.01],
                    ["alexnet", "conv1", 96, 0.25, 0.05, 0.6, 0.2, 0.1],
                    ["zfnet no filter rule", "conv1", 96, 0.3, 0.6, 0.5, 0.2, ""],
                    ["zfnet", "conv2", 256, 0.0, 0.01, "", "", ""]],
        "duplicates": [["caltech101", 10 * i, i, 0.99 - i / 1000, int(i < 2)] for i in range(5)],
        "timings": [["visual", 63.0], ["readout", 125.5]],
    }  # fmt: skip


def _networks():
    lines = []
    for i, line in enumerate(read_published_table("zeiler2013", "table2")):
        errors = [float(line[c]) / 100 for c in ("train_top1", "val_top1", "val_top5")]
        architecture, variant = line["architecture"], line["variant"]
        name = architecture if variant == "base" else f"{architecture} {variant}"
        lines.append([name, architecture, variant, 0, 1, f"{i:016x}", 10**6 * (i + 1), 0.5])
        lines[-1] += [*errors, 50_000]
    for seed, error in ((2, 0.385), (3, 0.383)):
        hash = f"{50 + seed:016x}"
        lines.append([f"zfnet seed {seed}", "zfnet", "base", seed, 1, hash, 10**6, 0.5])
        lines[-1] += [0.33, error, 0.165, 50_000]
    lines.append(["zfnet no filter rule", "zfnet", "base", 0, 0, f"{99:016x}", 10**6, 0.5])
    lines[-1] += ["", 0.42, "", 50_000]
    return lines


def _transfer():
    lines = []

    def add(target, classes, readout, layer, size, mean, spread, num_test):
        # Folds of different readouts vary independently.
        order = np.random.default_rng(len(lines)).permutation(5)
        for fold, offset in enumerate(FOLDS[order]):
            value = round(mean + spread * offset, 6)
            lines.append([target, target, classes, readout, layer, size, fold, value, num_test])

    for name, table, classes, most in (("caltech101", "table3", 101, 30),
                                       ("caltech256", "table4", 256, 60)):  # fmt: skip
        num_test = 40 * classes
        for line in read_published_table("zeiler2013", table):
            numbers = [float(line[c] or 0) / 100 for c in ("accuracy", "spread")]
            readout = {"pretrained": "softmax", "scratch": "scratch"}.get(line["kind"])
            layer = "fc7" if readout == "softmax" else ""
            if readout:
                size = int(line["train_per_class"])
                add(name, classes, readout, layer, size, *numbers, num_test)
        for line in read_published_table("zeiler2013", "table6"):
            if (line["readout"], line["layer"]) != ("softmax", "7"):
                layer = f"{'fc' if int(line['layer']) > 5 else 'conv'}{line['layer']}"
                numbers = [float(line[name]) / 100, float(line[f"{name}_spread"]) / 100]
                add(name, classes, line["readout"], layer, most, *numbers, num_test)
    for size, accuracy in ((1, 0.28), (3, 0.45), (6, 0.56)):
        add("caltech256", 256, "softmax", "fc7", size, accuracy, 0.01, 40 * 256)
    return lines


def _multilabel():
    lines = []
    for i, line in enumerate(read_published_table("zeiler2013", "table5")):
        if line["voc_name"]:
            ap = float(line["zeiler_fergus"]) / 100
            name, more = line["voc_name"], 0.02 + 0.002 * (i % 3)
            lines.append(["voc", "softmax", name, 100 + i, ap, round(ap - 0.02, 4)])
            lines.append(["voc", "sigmoid", name, 100 + i, round(ap + more, 4), ap])
    return lines


def paper_arrays(seed=0):
    """Arrays of every .npz file: gratings for filters and projections, blobs for images."""
    rng = np.random.default_rng(seed)
    projections = {"network": "zfnet", "layers": np.array(LAYERS[:3])}
    evolution = {"layers": np.array(LAYERS[:3]), "epochs": np.array(EPOCHS, float)}
    for i, layer in enumerate(LAYERS[:3]):
        side = 7 + 8 * i
        values = np.sort(rng.uniform(1, 5, (6, 9)))[:, ::-1].copy()
        values[1, 6:] = values[2] = 0
        projections |= {
            f"{layer}/maps": np.arange(6) * 3,
            f"{layer}/values": values,
            f"{layer}/image_ids": rng.integers(0, 100, (6, 9)),
            f"{layer}/patches": blobs(rng, 54, side).reshape(6, 9, side, side, 3),
            f"{layer}/projections": gratings(rng, 54, side).reshape(6, 9, side, side, 3),
        }
        grown = gratings(rng, 4, 32)[:, None] * np.linspace(0, 1, 8)[:, None, None, None]
        evolution |= {f"{layer}/maps": np.arange(4), f"{layer}/projections": grown}
    filters = {}
    for name, size in (("alexnet", 11), ("zfnet", 7), ("zfnet no filter rule", 7)):
        kernel = np.moveaxis(gratings(rng, 24, size), 0, -1)
        kernel[..., 3] *= 30 if name.endswith("rule") else 1
        filters[f"{name}/conv1"] = kernel
        filters[f"{name}/conv2_projections"] = gratings(rng, 16, 20)
    places = np.arange(0, 28, 4)
    y, x = np.meshgrid(places, places, indexing="ij")
    probability = 1 - 0.8 * np.exp(-((y - 12) ** 2 + (x - 10) ** 2) / 80)
    occlusion = {
        "images": blobs(rng, 2, 32),
        "activation": np.stack([probability * 7, probability * 3]),
        "probability": np.stack([probability, probability**2]),
        "predicted": np.where(probability < 0.5, 2, np.array([0, 1])[:, None, None]),
        "projections": gratings(rng, 2, 32),
        "square": 8, "stride": 4, "rows": places, "columns": places,
        "class_names": np.array(["afghan hound", "ball", "car"]),
        "classes": np.array([0, 1]), "map": np.array([5, 9]), "layer": "conv5",
    }  # fmt: skip
    image = blobs(rng, 3, 24)
    return {
        "projections": projections,
        "rules": {"image": image[0], "layer": "conv3", "map": 4}
        | dict(zip(("deconvnet", "gradient", "guided"), gratings(rng, 3, 24), strict=True)),
        "evolution": evolution,
        "filters": filters,
        "occlusion": occlusion,
        "duplicates": {"source_images": image, "target_images": image[:, ::-1],
                       "correlation": np.array([0.9, 0.99, 0.95])},
    }  # fmt: skip


def gratings(rng, count, side):
    """Oriented colour gratings (count, side, side, 3) under a window, zero at the border."""
    y, x = (np.mgrid[:side, :side] - side // 2) * 7 / side
    angle, phase = rng.uniform(0, np.pi, (2, count, 1, 1))
    wave = np.cos(1.6 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    colour = rng.normal(size=(count, 1, 1, 3))
    return (wave * np.exp(-(x**2 + y**2) / 6))[..., None] * colour


def blobs(rng, count, side):
    """Blurred colour images (count, side, side, 3), uint8."""
    return np.clip(127 + 90 * gratings(rng, count, side), 0, 255).astype(np.uint8)


def write_tables(directory, tables):
    """Writes the .csv files of an analysis."""
    write_lines(directory, COLUMNS, tables)


def write_workdir(directory, tables, arrays):
    """Writes a whole workdir: results.csv, cells, plan.json of two more networks, analysis."""
    write_tables(directory, tables)
    for name, content in arrays.items():
        np.savez(directory / "analysis" / f"{name}.npz", **content)
    rows = []
    for line in tables.get("networks", ()):
        name, architecture, hash, error = line[0], line[1], line[5], line[9]
        accuracy = 1 - error
        rows.append(Row("networks", name, "baseA", "A", 0, "base", accuracy, accuracy,
                        1000, 60.0, 900.0, hash))  # fmt: skip
        folder = directory / "cells" / hash
        folder.mkdir(parents=True)
        network = to_json(build(architecture, num_classes=1000))
        (folder / "cell.json").write_text(json.dumps({"cell": "baseA", "network": network}))
        steps = range(100, 1001, 100)
        records = [{"step": s, "loss": 3 - s / 500, "top1": accuracy * s / 1000} for s in steps]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    write_results(rows, directory / "results.csv")
    planned = [{"experiment": "networks", "split": r.split, "cell": r.cell} for r in rows]
    planned.append({"experiment": "scratch", "split": "caltech101 30 fold 0", "cell": "baseB"})
    (directory / "plan.json").write_text(json.dumps(planned))
