"""Prepares a dataset: `python -m transfer_jax.data.prepare --path=DIR --data_dir=DIR`.

Images become squares of one size, or stay the files they are (--image_size=original), in records
that are read fast at random, and their mean is computed. Stop it whenever you like, even with
kill -9: the same command goes on where it was stopped, and ends with the same files.

A prepared dataset is a folder of ArrayRecord files that hold encoded images alone, `index.npz` with
labels, ids, boxes and splits, and `dataset.json`. Each file is written under a temporary name and
renamed when complete; the folder gets its name last, so that what can be seen there is complete.
`dataset.json` has digests of all, which are compared whenever it is opened: what is damaged, or has
none because an earlier version prepared it, is prepared again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from transfer_jax.data import seals
from transfer_jax.data.batches import stream
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.image import FITS, BrokenImageError, size_name, to_square
from transfer_jax.data.listing import Listing
from transfer_jax.data.records import Crops, Records, read_index, write_index
from transfer_jax.wording import size_text

DESCRIPTION = "dataset.json"

_BLOCK = 16
_SHARD_LIMITS = (256, 8192)


def prepare(
    make_listing: Callable[[], Listing],
    directory: Path,
    name: str,
    *,
    image_size: int | None,
    fit: str = "squash",
    on_broken: str = "raise",
    workers: int | None = None,
) -> None:
    """Writes what is listed to `directory`, unless that has been done, as squares of `image_size`
    or, for None, the files' bytes. Boxes are kept with fit 'squash' only, as the other cuts through
    them. An image that cannot be decoded raises BrokenImageError, or, with on_broken 'skip', is
    left out and listed in `dataset.json`. `workers` threads, by default one per core."""

    def write() -> None:
        listing = make_listing()

        def encode(file: str) -> bytes | BrokenImageError:
            try:
                return to_square(listing.read(file), image_size, fit)
            except BrokenImageError as error:
                if on_broken == "skip":
                    return error
                raise BrokenImageError(
                    f"broken image {file} in {listing.root}: {error}. Replace or remove it, or say "
                    "on_broken='skip' to leave broken images out"
                ) from error

        partial = directory.with_name(f".{directory.name}.partial")
        partial.mkdir(exist_ok=True)
        for leftover in partial.glob(".*"):  # of a killed process
            leftover.unlink()
        shards = _shards(listing, partial, image_size)
        unfinished = {path: files for path, files in shards.items() if not _is_finished(path)}
        # One stream over all shards: no thread waits where one ends and the next begins.
        files = [file for part in unfinished.values() for file in part]
        blocks = (files[i : i + _BLOCK] for i in range(0, len(files), _BLOCK))
        results = stream(lambda block: list(map(encode, block)), blocks, workers or os.cpu_count())
        total = len(listing.files)
        bar = {"initial": total - len(files), "unit": "image", "disable": None}
        with contextlib.closing(results):
            images = iter(tqdm.tqdm(itertools.chain.from_iterable(results), name, total, **bar))
            for path, part in unfinished.items():
                _write_shard(path, part, images)
            next(images, None)  # ends the bar
        _write_index(listing, partial, name, shards, image_size, fit)
        if directory.exists():  # damaged
            shutil.rmtree(directory)
        os.replace(partial, directory)
        for path in shards:
            (directory / _note(path).name).unlink()

    seals.kept(directory, write, lambda: _checked(directory, name))


def read_prepared(
    directory: Path,
    image_size: int | None = None,
    fit: str = "squash",
    margin: float = 0.0,
    on_broken: str = "skip",
) -> Dataset:
    """Opens what `prepare` wrote, DamagedError where a file is not; with on_broken 'raise' only if
    no image was left out.

    Where rows are parts of images, they are cut out with `margin` on each side, a share of their
    own height and width, and made squares of `image_size` as they are read.
    """
    try:
        about = _checked(directory)
    except seals.DamagedError as error:
        raise seals.DamagedError(
            f"{error}; delete {directory} and open the dataset from its images again"
        ) from error
    index = directory / "index.npz"
    with np.load(index) as file:
        places, crops = (file.get(key) for key in ("places", "crops"))
    found, wanted = (about["image_size"], about["fit"]), (image_size, fit)
    if found != (wanted if crops is None else (None, "squash")):
        raise ValueError(f"{directory} was prepared with image_size, fit {found}, not {wanted}")
    if (skipped := about["skipped"]) and on_broken == "raise":
        raise BrokenImageError(
            f"{directory} was prepared without {len(skipped)} broken images, the first being "
            f"{next(iter(skipped.items()))}; say on_broken='skip' to use it as it is"
        )
    name, shape, cache = about["name"], about["image_shape"], directory
    files = [f"{directory / file}[0:{count}]" for file, count in about["files"]]
    source = Records(ArrayRecordDataSource(files), index, places=places)
    if crops is not None:
        sides = crops[:, 2:] - crops[:, :2]
        crops = crops + margin * np.concatenate([-sides, sides], axis=1)
        view = f"{size_name(image_size, fit)}_margin{margin:g}"
        name, cache = f"{name}/{view}", directory / view
        source = Crops(source, np.arange(len(crops)), crops, image_size, fit)
        shape = [image_size, image_size, 3] if image_size else None
        cache.mkdir(exist_ok=True)
    return Dataset(
        name=name,
        class_names=tuple(about["class_names"]),
        source=source,
        image_shape=tuple(shape) if shape else None,
        directory=cache,
        **read_index(index, about["name"]),
    )


def _checked(directory: Path, name: str | None = None) -> dict[str, Any]:
    """What is known of a prepared dataset; DamagedError unless all its files are as it says."""
    about = seals.read_json(directory / DESCRIPTION)
    if about["name"] != (name or about["name"]):
        raise seals.DamagedError(f"{directory / DESCRIPTION} is of {about['name']}")
    try:
        table = directory.with_name(f".{directory.name}.files.json")
        found, _ = seals.file_digests(directory, about["digests"], table)
    except FileNotFoundError as error:
        raise seals.DamagedError(f"{error.filename} is missing") from error
    for file, digest in about["digests"].items():
        if found[file] != digest:
            raise seals.DamagedError(f"{directory / file} is not what was prepared")
    return about


def _shards(listing: Listing, folder: Path, image_size: int | None) -> dict[Path, Sequence[str]]:
    """Which files go where."""
    # About 1 GB of pixels: a kill costs a minute, and ILSVRC2012 makes some 200 files.
    size = int(np.clip(2**30 // (3 * (image_size or 256) ** 2), *_SHARD_LIMITS))
    parts = [listing.files[start : start + size] for start in range(0, len(listing.files), size)]
    names = (f"images-{i:05d}-of-{len(parts):05d}.array_record" for i in range(len(parts)))
    return {folder / name: part for name, part in zip(names, parts, strict=True)}


def _note(shard: Path) -> Path:
    """Says what a shard lacks and which shapes it holds, until all shards are there."""
    return shard.with_suffix(".json")


def _is_finished(shard: Path) -> bool:
    try:
        return seals.read_json(_note(shard))["digest"] == seals.digest_of(shard)
    except (FileNotFoundError, seals.DamagedError):
        return False


def _write_shard(
    path: Path, files: Sequence[str], images: Iterator[bytes | BrokenImageError]
) -> None:
    unfinished = path.with_name("unfinished-" + path.name)
    # The images are compressed already.
    writer = ArrayRecordWriter(str(unfinished), "group_size:1,uncompressed")
    skipped, shapes = {}, set()
    try:
        for file in files:
            image = next(images)
            if isinstance(image, bytes):
                writer.write(image)
                shapes.add(Image.open(io.BytesIO(image)).size)
            else:
                skipped[file] = " ".join(str(image).split())
    finally:
        writer.close()
    about = {"skipped": skipped, "shapes": sorted(shapes)[:2]}
    about["digest"] = seals.digest_of(unfinished)
    seals.write_json(_note(path), about)
    os.replace(unfinished, path)


def _write_index(
    listing: Listing,
    partial: Path,
    name: str,
    shards: Mapping[Path, Sequence[str]],
    image_size: int | None,
    fit: str,
) -> None:
    """What is known of the rows whose images are there, in their order."""
    notes = {path: seals.read_json(_note(path)) for path in shards}
    skipped = {f: reason for note in notes.values() for f, reason in note["skipped"].items()}
    shapes = {tuple(shape) for note in notes.values() for shape in note["shapes"]}
    readable = np.array([file not in skipped for file in listing.files])
    listing = listing.take(readable if listing.places is None else readable[listing.places])
    index = partial / "index.npz"
    write_index(
        index,
        name,
        listing.labels,
        listing.splits,
        listing.boxes if fit == "squash" else None,
        ids=np.array(listing.ids or listing.files),
        places=listing.places,
        crops=listing.crops,
    )
    digests = {path.name: note["digest"] for path, note in notes.items()}
    about = {
        "name": name,
        "class_names": listing.class_names,
        "image_size": image_size,
        "fit": fit,
        "image_shape": [*shapes.pop()[::-1], 3] if len(shapes) == 1 else None,
        "files": [(p.name, len(shards[p]) - len(note["skipped"])) for p, note in notes.items()],
        "skipped": skipped,
        "digests": {**digests, index.name: seals.digest_of(index)},
    }
    seals.write_json(partial / DESCRIPTION, about, indent=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    from transfer_jax.data.means import mean_of
    from transfer_jax.data.sources import FILE_KINDS, DatasetSpec, open_dataset

    parser = argparse.ArgumentParser(
        prog="python -m transfer_jax.data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--kind", default="ilsvrc2012", choices=FILE_KINDS)
    add("--path", default="", help="folder or archive of the images")
    add("--data_dir", required=True, help="where prepared datasets are kept")
    pixels = lambda text: None if text == "original" else int(text)  # noqa: E731
    add("--image_size", type=pixels, default=0, help="pixels, or 'original'")
    add("--fit", default="squash", choices=FITS)
    add("--classes", default="", help="a,b,c or a file with a name a line: only these")
    add("--partition", type=int, default=1, help="of sun397, 1 .. 10")
    add("--on_broken", default="raise", choices=("raise", "skip"), help="undecodable images")
    add("--workers", type=int, help="threads; one per core by default")
    options = vars(parser.parse_args(arguments))
    data_dir, workers = options.pop("data_dir"), options.pop("workers")
    named = options["classes"]
    # Many names are longer than a file's may be, which Path.is_file does not take.
    text = Path(named).read_text() if os.path.isfile(named) else named.replace(",", "\n")
    options["classes"] = tuple(filter(None, map(str.strip, text.split("\n"))))
    try:
        spec = DatasetSpec(**options)
        dataset = open_dataset(spec, data_dir, workers=workers)
        if dataset.image_shape and "train" in dataset.splits:
            mean_of(dataset, dataset.splits["train"], "image")
    except (OSError, ValueError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in dataset.splits.items())
    print(f"{dataset.name}: {len(dataset.labels)} images ({counts or 'no splits'})")
    folder = dataset.directory
    if not (folder / DESCRIPTION).exists():  # a view of it
        folder = folder.parent
    if skipped := seals.read_json(folder / DESCRIPTION)["skipped"]:
        print(f"left out {len(skipped)} broken images, see {folder / DESCRIPTION}")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{size_text(size)} on disk in {folder}")
    flags = {name: getattr(spec, name) for name in ("kind", "image_size", "fit", "on_broken")}
    # Whole images are what windows are cut of.
    field = "target.dataset" if flags["image_size"] is None else "dataset"
    flags = {name: value for name, value in flags.items() if value is not None} | {"path": folder}
    words = [f"--config.{field}.{name}={value}" for name, value in flags.items()]
    print("open it with", shlex.join([f"--config.data_dir={data_dir}", *words]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
