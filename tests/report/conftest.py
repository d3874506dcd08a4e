"""Workdirs as a run leaves them, written from known numbers."""

import dataclasses
import json

import numpy as np
import pytest

from transfer_jax.report.published import read_published
from transfer_jax.report.results import Row, write_results


def write_store(
    directory, rows, *, num_eval=None, num_classes=None, files=True, errors=None, seed=0
):
    """Writes rows as a workdir; returns the rows with the hashes they got.

    errors maps a cell's name to (step, error): that cell is written as failed.
    """
    rng = np.random.default_rng(seed)
    errors = errors or {}
    rows = [dataclasses.replace(r, hash=f"{i:016x}") for i, r in enumerate(rows)]
    for index, row in enumerate(rows):
        folder = directory / "cells" / row.hash
        folder.mkdir(parents=True)
        cell = {"cell": row.cell, "network": "alexnet_mini"}
        if num_eval:
            cell["num_eval"] = num_eval
        if num_classes:
            cell["num_classes"] = num_classes
        (folder / "cell.json").write_text(json.dumps(cell))
        if row.cell in errors:
            step, error = errors[row.cell]
            rows[index] = dataclasses.replace(row, top1=None, top1_best_mean=None)
            record = {"cell": row.cell, "step": step, "error": error}
            (folder / "failed.json").write_text(json.dumps(record))
        elif files:
            np.save(folder / "conv1.npy", first_layer(rng))
            lines = learning_curve(rng, row.accuracy, num_classes or 500, row.steps or 1000)
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "metrics.jsonl").write_text(text)
    write_results(rows, directory / "results.csv")
    return tuple(rows)


def first_layer(rng, size=5, count=32):
    """Oriented colour gratings, (size, size, 3, count), as a trained first layer has them."""
    y, x = np.mgrid[:size, :size] - size // 2
    angle, phase = rng.uniform(0, np.pi, count), rng.uniform(0, 2 * np.pi, count)
    wave = np.cos(1.6 * (x[..., None] * np.cos(angle) + y[..., None] * np.sin(angle)) + phase)
    window = np.exp(-(x**2 + y**2) / 6)[..., None]
    colour = rng.normal(size=(3, count))
    return (0.1 * (window * wave)[:, :, None] * colour).astype(np.float32)


def learning_curve(rng, final, num_classes, steps, count=80):
    """Records of a metrics.jsonl that ends at accuracy `final`."""
    lines = []
    for step in np.linspace(0, steps, count + 1)[1:].astype(int):
        share = 1 - np.exp(-4 * step / steps)
        loss = np.log(num_classes) * (1 - final * share) * np.exp(rng.normal(0, 0.08))
        lines.append({"step": int(step), "loss": float(loss), "images_per_second": 2000.0})
        if len(lines) % 9 == 0:
            top1 = final * share
            lines.append(
                {"step": int(step), "top1": top1, "top5": min(1.0, top1 * 1.2), "val_loss": loss}
            )
    return lines


def network(experiment, split, source, n, target, treatment, top1, **fields):
    """A row from its parts; its cell name follows."""
    names = {"base": f"base{target}", "random_frozen": f"R{n}{target}"}
    name = names.get(treatment, f"{source}{n}{target}")
    name += "+" if treatment.endswith("finetuned") else ""
    defaults = {"steps": 1800, "seconds": 14.2, "images_per_second": 2450.5}
    return Row(
        experiment,
        split,
        name,
        target,
        n,
        treatment,
        round(top1 - 0.004, 5),
        round(top1, 5),
        **(defaults | fields),
    )


def demo_rows():
    """Both bases and all treatments towards task B, of quite another difficulty than task A."""
    bnb = (0.752, 0.745, 0.731, 0.702, 0.688, 0.735, 0.749)
    anb = (0.750, 0.741, 0.716, 0.668, 0.610, 0.561, 0.489)
    finetuned = (0.754, 0.751, 0.757, 0.749, 0.752, 0.758, 0.753)
    boosted = (0.757, 0.762, 0.771, 0.779, 0.774, 0.783, 0.781)
    rows = [
        network("random_halves", "0", "", 0, "A", "base", 0.871),
        network("random_halves", "0", "", 0, "B", "base", 0.755),
    ]
    for source, treatment, values in (
        ("B", "selffer_frozen", bnb),
        ("A", "transfer_frozen", anb),
        ("B", "selffer_finetuned", finetuned),
        ("A", "transfer_finetuned", boosted),
    ):
        for n, value in enumerate(values, start=1):
            rows.append(network("random_halves", "0", source, n, "B", treatment, value))
    return rows


@pytest.fixture(scope="session")
def published_store(tmp_path_factory):
    """The paper's own networks, as if a run here had trained them. (directory, rows)."""
    directory = tmp_path_factory.mktemp("published")
    rows = [dataclasses.replace(r, top1=r.top1_best_mean) for r in read_published()]
    return directory, write_store(directory, rows, num_eval=25_000, num_classes=500, files=False)


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory):
    """One split, one target, 16 classes, 800 validation images. (directory, rows)."""
    directory = tmp_path_factory.mktemp("demo")
    return directory, write_store(directory, demo_rows(), num_eval=800, num_classes=16)


@pytest.fixture(scope="session")
def partial_store(tmp_path_factory):
    """n = 2, 4, 6 only, one network failed, others still to come. (directory, rows)."""
    directory = tmp_path_factory.mktemp("partial")
    rows = [r for r in demo_rows() if r.n in (0, 2, 4, 6) and r.treatment != "selffer_finetuned"]
    rows = [r for r in rows if r.cell != "A6B+"]
    natman = [("A", 0, "A", 0.62), ("B", 0, "B", 0.81), ("A", 2, "B", 0.80), ("A", 4, "B", 0.71)]
    for source, n, target, value in natman:
        treatment = "transfer_frozen" if n else "base"
        rows.append(network("man_natural", "natman", source, n, target, treatment, value))
    for n in (50, 100, 250):
        value = 0.25 + 0.1 * np.log10(n)
        rows.append(network("images_per_class", str(n), "", 0, "W", "base", value))
    errors = {"A4B+": (1200, "non-finite loss nan at step 1200 of A4B+ (peak_lr=0.4)")}
    written = write_store(directory, rows, num_eval=800, num_classes=16, errors=errors)
    plan = [{"experiment": r.experiment, "split": r.split, "cell": r.cell} for r in written]
    plan += [{"experiment": "random_halves", "split": "0", "cell": "A6B+"}]
    plan += [{"experiment": "man_natural", "split": "natman", "cell": f"B{n}A"} for n in (2, 4, 6)]
    plan += [{"experiment": "random_weights", "split": "whole", "cell": "baseW"}]
    (directory / "plan.json").write_text(json.dumps(plan))
    return directory, written
