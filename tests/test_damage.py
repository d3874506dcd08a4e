"""Damage to a finished workdir and to a half-trained one, file by file: none leads to another
figure without a word."""

import contextlib
import dataclasses
import functools
import json
import logging
import shutil
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import jax
import numpy as np
import pytest

from configs.yosinski2014 import get_config
from tests import small
from transfer_jax import main
from transfer_jax.grid.run import run_grid, with_snapshots
from transfer_jax.grid.store import Store, load_network
from transfer_jax.report.frame import load
from transfer_jax.seal import DamagedError
from transfer_jax.training import Runtime, feed, loop
from transfer_jax.training.checkpoint import CellLog

RECIPE = dataclasses.replace(small.RECIPE, steps=12, eval_every=4)
BASE, OTHER, COPY = small.cells("baseA", "baseB", "A1B", recipe=RECIPE)
BASE, OTHER = with_snapshots(BASE, [4]), with_snapshots(OTHER, [4])
WILD = small.cells("baseA", "baseB", recipe=dataclasses.replace(RECIPE, learning_rate=99.0))
CELLS = [BASE, OTHER, COPY, *WILD]


def damages(content, other, flips=1, cuts=(0.5,)):
    """(what is done to a file, its content then), None where it is deleted."""
    rng = np.random.default_rng(zlib.crc32(content))
    for place in rng.integers(0, 8 * len(content), flips):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield "a bit flipped", bytes(flipped)
    for left in cuts:
        yield "cut", content[: int(left * (len(content) - 2))]
    yield "deleted", None
    if other != content:  # Two networks may have one mean.
        yield "swapped", other


@contextlib.contextmanager
def heard():
    """The lines that the program tells while this lasts."""
    lines, logger = [], logging.getLogger("transfer_jax")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


# A finished workdir. Its networks are not really trained: what they become depends on them alone.


def trained(network, recipe, treatments, params, task, *_, cell_folders, snapshots, **others):
    results = []
    for one, folder, steps in zip(params, cell_folders, snapshots, strict=True):
        rng, log = np.random.default_rng(zlib.crc32(folder.name.encode())), CellLog(folder)
        log.begin()
        for step in (4, 8, 12):
            log.line({"step": step, "loss": rng.random(), "top1": rng.random()})
        for step in steps:
            log.snapshot(step, one)
        right = rng.random(len(task.val[0])) < 0.7
        row = {"steps": 12, "seconds": 2.0, "images_per_second": 48.0, "files": log.files()}
        failed = recipe == WILD[0].recipe
        row |= {"error": "not finite"} if failed else {"top1": right.mean(), "right": right}
        results.append((jax.tree.map(np.asarray, one), row))
    return results


def entries(config=None, open_dataset=None, cells=CELLS):
    return [({"experiment": "e", "split": str(i)}, cell) for i, cell in enumerate(cells)]


def measure(config, open_dataset, entries, store):
    for cell in (BASE, OTHER):
        store.measure(f"sums/{cell.treatment}", [cell.hash], functools.partial(sums, store, cell))


def sums(store, cell):
    early, late = (store.trained(cell, step).params["conv1"]["kernel"] for step in (4, None))
    images = store.keep_images("folds", cell.task.val[0][::2])
    tags = {"experiment": "sums", "split": str(cell.treatment), "right": "bits", "images": images}
    rows = [{**tags, "measure": "sum", "value": float(early.sum() + late.sum())}]
    return rows, {"bits": store.right(cell)[1][::2], "kernel": late}


PARTS = {"TITLE": "title", "CLAIMS": (), "entries": entries, "sections": lambda results: []}


STUDY = SimpleNamespace(**PARTS, measure=measure)


def run(workdir, study=STUDY):
    """The program as often as it takes; returns what it told."""
    with (
        heard() as told,
        mock.patch.object(loop, "train_group", trained),
        mock.patch.object(main, "study_of", lambda name: study),
    ):
        for _ in range(2):
            try:
                main.run(get_config(), workdir, "command")
                return told
            except DamagedError as error:
                told.append(f"DamagedError: {error}")
    raise AssertionError(told)


def drawn(workdir):
    """(what a report may draw, states of the networks, remarks)."""
    found, states = load(workdir), {}
    numbers = {"about": json.dumps(found.about)}
    for row in found.frame.to_dict("records"):
        row = {name: float(v) if isinstance(v, int) else v for name, v in row.items() if v == v}
        if "entry" in row:
            states[row["hash"]] = row["state"]
        if row["measure"]:
            numbers[repr(sorted(row.items()))] = row["value"]
        if row.get("right"):
            images, right = found.right(row["right"])
            numbers["right", row["right"]] = right.tobytes()
            numbers["images", row["right"]] = found.image_ids(images, len(right)).tobytes()
    for hash in states:
        shown = found.metrics(hash).to_json(), found.cell(hash), found.conv1(hash)
        for name, value in zip(("metrics", "cell", "conv1"), shown, strict=True):
            if len(value if value is not None else ()) > 2:
                numbers[name, hash] = repr(value)
    for name in ("sums/baseA", "sums/baseB"):
        for array, value in found.arrays(name).items():
            numbers[name, array] = value.tobytes()
    return numbers, states, found.remarks


@functools.cache
def finished():
    """A workdir, one of another run, and what reports draw from the first."""
    folder = Path(tempfile.mkdtemp())
    run(folder / "mine")
    few = {"entries": functools.partial(entries, cells=CELLS[1:])}
    run(folder / "theirs", SimpleNamespace(**PARTS | few))
    return folder, drawn(folder / "mine")


def kinds():
    """kind of file -> (its path, that of another such file, what is not there yet), in a finished
    workdir."""
    folder, _ = finished()
    mine, theirs = folder / "mine", folder / "theirs"
    one, other, copy, *wild = (Store(mine).folder(cell) for cell in CELLS)
    names = ("done.json", "cell.json", "mean.npy", "conv1.npy", "metrics.jsonl", "right.npz")
    names += ("params.safetensors", "snapshots/4.safetensors")
    found = {name: (one / name, other / name, None) for name in names}
    used = {"copied": copy, "measured": mine / "measures"}
    for name, use in (("params", "copied"), ("params", "measured"), ("snapshots/4", "measured")):
        path = f"{name}.safetensors"
        found[f"{path} that is {use}"] = (one / path, other / path, used[use])
    found["failed.json"] = (*(folder / "failed.json" for folder in wild), None)
    for suffix in ("json", "npz"):
        pair = (mine / f"measures/sums/base{letter}.{suffix}" for letter in "AB")
        found[f"measures/*.{suffix}"] = (*pair, None)
    measured = set(load(mine).select("sum")["images"])
    images = sorted(mine.glob("images/*"))
    for whose, is_measured in (("networks", False), ("measures", True)):
        pair = (path for path in images if (path.stem in measured) == is_measured)
        found[f"images/*.npz of {whose}"] = (*pair, None)
    for name in ("entries.json", "about.json"):
        found[name] = (mine / name, theirs / name, None)
    return found


def damages_to(path, other):
    content = path.read_bytes()
    yield from damages(content, other.read_bytes(), flips=4, cuts=(0, 0.5, 1))
    if path.name == "metrics.jsonl":
        yield "a line lost", b"".join(content.splitlines(True)[1:])
    if path.name == "done.json":
        yield "null", b"null"
        yield "a row edited", content.replace(b'"top1": 0.', b'"top1": 0.9')


KINDS = ("done.json", "failed.json", "cell.json", "mean.npy", "conv1.npy", "metrics.jsonl")
KINDS += ("right.npz", "images/*.npz of networks", "images/*.npz of measures", "measures/*.json")
KINDS += ("measures/*.npz", "entries.json", "about.json", "params.safetensors")
KINDS += ("params.safetensors that is copied", "params.safetensors that is measured")
KINDS += ("snapshots/4.safetensors", "snapshots/4.safetensors that is measured")


@pytest.mark.parametrize("kind", KINDS)
def test_damage_to_a_finished_workdir(kind, tmp_path):
    folder, (whole, states, _) = finished()
    original, other, missing = kinds()[kind]
    workdir = tmp_path / "run"
    path = workdir / original.relative_to(folder / "mine")
    tried = list(damages_to(original, other))
    assert len(tried) >= 8
    for damage, content in tried:
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(folder / "mine", workdir)
        if missing:
            shutil.rmtree(workdir / missing.relative_to(folder / "mine"))
        path.unlink() if content is None else path.write_bytes(content)
        # A report is drawn without what is damaged, and says so; or it is not drawn.
        try:
            numbers, after, said = drawn(workdir)
            assert numbers.items() <= whole.items(), (kind, damage)
            assert missing or numbers == whole or said or "planned" in after.values()
        except DamagedError as error:
            said = (str(error),)
        # Nobody takes it over.
        adopting = Store(tmp_path / "other")
        shutil.rmtree(adopting.workdir, ignore_errors=True)
        for cell in adopting.adopt(CELLS, [workdir]):
            for file in (p for p in adopting.folder(cell).rglob("*") if p.is_file()):
                source = folder / "mine" / file.relative_to(adopting.workdir)
                assert file.read_bytes() == source.read_bytes(), (kind, damage)
        with contextlib.suppress(ValueError):
            network = load_network(workdir, BASE.hash[:8])
            assert small.same_bits(network.params, Store(folder / "mine").params(BASE))
        # The next run puts it right.
        told = run(workdir)
        assert drawn(workdir) == (whole, states, ()), (kind, damage)
        if missing:
            assert any(str(path) in line for line in told), (kind, damage)
        elif content is not None and original.suffix != ".safetensors":
            assert said, (kind, damage)  # Weights are looked at where they are used.


def test_a_folder_of_another_cell_is_noticed(tmp_path):
    folder, (whole, states, _) = finished()
    shutil.copytree(folder / "mine", tmp_path / "run")
    one, other = (Store(tmp_path / "run").folder(cell) for cell in (BASE, OTHER))
    shutil.rmtree(one)
    shutil.copytree(other, one)
    numbers, after, remarks = drawn(tmp_path / "run")
    assert numbers.items() <= whole.items() and after[BASE.hash] == "damaged"
    assert f"{one / 'done.json'} is not what was written there" in remarks[0]
    with pytest.raises(DamagedError):
        load_network(tmp_path / "run", BASE.hash)
    assert "trained again" in " ".join(run(tmp_path / "run"))
    assert drawn(tmp_path / "run") == (whole, states, ())


# A half-trained workdir, with checkpoints after steps 6 and 9: here networks are really trained.


class CutOffError(Exception):
    pass


def train(workdir, seed=0, at=None):
    """Trains until the batch of step `at`, or to the end; returns what was told."""
    batches = feed.train_batches

    def until(task, mean, order, start, *rest):
        for step, batch in enumerate(batches(task, mean, order, start, *rest), start):
            if step == at:
                raise CutOffError
            yield batch

    (cell,) = small.cells("baseA", recipe=RECIPE, seed=seed)
    wanted, store = entries(cells=[with_snapshots(cell, [4, 8])]), Store(workdir)
    with heard() as told, mock.patch.object(feed, "train_batches", until), store.lock():
        store.write_entries(wanted)
        with contextlib.suppress(CutOffError):
            run_grid(wanted, store, Runtime(checkpoint_every=3, log_every=2))
    return told


def became(workdir):
    """What is in the folder of its network, without times."""
    (folder,) = (workdir / "cells").iterdir()
    row = json.loads((folder / "done.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for timed in (row, *lines):
        for name in ("seconds", "images_per_second", "files", "seal"):
            timed.pop(name, None)
    names = ("params.safetensors", "snapshots/4.safetensors", "snapshots/8.safetensors")
    return row, lines, [(folder / name).read_bytes() for name in (*names, "right.npz")]


@functools.cache
def half_trained():
    """Workdirs of two networks, cut off, and what the first becomes."""
    folder = Path(tempfile.mkdtemp())
    train(folder / "whole")
    for name, seed in (("mine", 0), ("theirs", 1)):
        train(folder / name, seed, at=10)
    return folder, became(folder / "whole")


HALF_KINDS = ("checkpoints/<step>.json", "checkpoints/<step>/*", "group.json")
HALF_KINDS += ("metrics.jsonl in training", "snapshots/*.safetensors in training")


def parts(workdir):
    """The files of each kind in a half-trained workdir."""
    (group,), (cell,) = (list((workdir / name).iterdir()) for name in ("groups", "cells"))
    latest = group / "checkpoints" / "9"
    return dict(
        zip(
            HALF_KINDS,
            (
                [latest.with_suffix(".json")],
                sorted(path for path in latest.rglob("*") if path.is_file()),
                [group / "group.json"],
                [cell / "metrics.jsonl"],
                sorted((cell / "snapshots").iterdir()),
            ),
            strict=True,
        )
    )


@pytest.mark.parametrize("kind", HALF_KINDS)
def test_damage_to_a_half_trained_workdir(kind, tmp_path):
    """A report has nothing to draw from it."""
    folder, expected = half_trained()
    workdir = tmp_path / "run"
    mine, others = (parts(folder / name)[kind] for name in ("mine", "theirs"))
    assert mine
    for number, original in enumerate(mine):
        path = workdir / original.relative_to(folder / "mine")
        other = others[number % len(others)].read_bytes()
        for damage, content in damages(original.read_bytes(), other):
            shutil.rmtree(workdir, ignore_errors=True)
            shutil.copytree(folder / "mine", workdir)
            path.unlink() if content is None else path.write_bytes(content)
            told = train(workdir)
            assert became(workdir) == expected, (original, damage)
            assert any(str(path) in line or "goes on from step" in line for line in told)


def test_a_training_begins_anew_where_no_checkpoint_is_intact(tmp_path):
    folder, expected = half_trained()
    shutil.copytree(folder / "mine", tmp_path / "run")
    for path in tmp_path.glob("run/groups/*/checkpoints/*.json"):
        path.write_text("null")
    told = train(tmp_path / "run")
    assert sum("is left out" in line for line in told) == 2
    assert any("goes on from step 0" in line for line in told)
    assert became(tmp_path / "run") == expected


def test_what_killed_runs_were_writing_is_removed(tmp_path):
    folder, (whole, states, _) = finished()
    workdir = tmp_path / "run"
    shutil.copytree(folder / "mine", workdir)
    cell, left = Store(workdir).folder(BASE), "0123456789abcdef" * 2
    for path in (cell, cell / "snapshots", workdir / "measures", workdir / "features", workdir):
        path.mkdir(exist_ok=True)
        (path / f".file.json.{left}").write_text("torn")
    shutil.copytree(cell, cell.with_name(f".{cell.name}.partial"))
    (workdir / ".kept").touch()
    assert drawn(workdir) == (whole, states, ())
    run(workdir)
    assert sorted(path.name for path in workdir.rglob(".*")) == [".kept", ".lock"]


def test_a_page_shows_no_measure_that_another_config_asked_for(tmp_path):
    folder, _ = finished()
    shutil.copytree(folder / "mine", tmp_path / "run")

    def fewer(config, open_dataset, entries, store):
        store.measure(f"sums/{OTHER.treatment}", [OTHER.hash], lambda: sums(store, OTHER))

    run(tmp_path / "run", SimpleNamespace(**PARTS, measure=fewer))
    assert load(tmp_path / "run").select("sum")["split"].tolist() == [str(OTHER.treatment)]
    run(tmp_path / "run")
    assert len(load(tmp_path / "run").select("sum")) == 2
