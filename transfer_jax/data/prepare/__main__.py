"""Prepares a dataset: `python -m transfer_jax.data.prepare --source=DIR --data_dir=DIR`.

Images become squares of one size in TFDS's ArrayRecord format, which training reads fast, and their
mean image is computed. Stop it whenever you like, even with kill -9: the same command goes on where
it was stopped.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from transfer_jax.data import means
from transfer_jax.data.dataset_spec import DatasetSpec
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.images import FITS
from transfer_jax.data.prepare.folders import SKIPPED_FILE, skipped_images
from transfer_jax.data.sources import open_dataset

KINDS = ("ilsvrc2012", "folder", "tiny_imagenet", "class_folder", "sun397")
"""Kinds of datasets whose images are prepared once and not each time they are read."""

_MEANS = {"image": means.KINDS, "channel": ("channel",), "none": ()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        print(run(options))
    except (OSError, ValueError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace) -> str:
    """Prepares a dataset and its means, as the parsed options say; returns what to print.

    Raises:
      FileNotFoundError, ValueError, ImportError, OSError: see `sources.open_dataset`.
    """
    spec = DatasetSpec(
        options.kind,
        name=options.name,
        path=options.source,
        image_size=options.image_size,
        fit=options.fit,
        on_broken=options.on_broken,
        partition=options.partition,
    )
    print(f"looking for images in {options.source or options.data_dir}", file=sys.stderr)
    started = time.perf_counter()
    dataset = open_dataset(spec, options.data_dir, workers=options.workers)
    kinds = [kind for kind in _MEANS[options.mean] if not means.mean_file(dataset, kind).exists()]
    if kinds:
        means.keep_means(dataset, kinds, progress=True)
    return _summary(dataset, options, time.perf_counter() - started)


def _summary(dataset: Dataset, options: argparse.Namespace, seconds: float) -> str:
    records = dataset.directory.glob("*.array_record-*")
    size = sum(path.stat().st_size for path in records)
    skipped = skipped_images(dataset.directory)
    left_out = (
        f"{len(skipped)} broken images, listed in {dataset.directory / SKIPPED_FILE}"
        if skipped
        else "no image"
    )
    files = [means.mean_file(dataset, kind) for kind in _MEANS[options.mean]]
    flags = {
        "data_dir": options.data_dir,
        "dataset.kind": "tfds",
        "dataset.name": dataset.name,
        "dataset.image_size": options.image_size,
    }
    lines = [
        f"dataset      {dataset.name}",
        f"lies in      {dataset.directory}",
        f"holds        {len(dataset.class_names)} classes, {dataset.num_records['train']} training "
        f"and {dataset.num_records['val']} validation images, {size / 1e9:.3f} GB",
        f"left out     {left_out}",
        f"mean         {', '.join(map(str, files)) or 'not computed'}",
        f"took         {seconds:.1f} s",
        "open it with " + " ".join(f"--config.{name}={value}" for name, value in flags.items()),
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transfer_jax.data.prepare",
        description=__doc__.split("\n\n", 1)[1],
    )
    parser.add_argument(
        "--source",
        default="",
        help="the folder of images (for tiny_imagenet also the archive); with --name the TFDS "
        "folder that holds it, --data_dir if empty",
    )
    parser.add_argument("--kind", default="ilsvrc2012", choices=KINDS, help="%(default)s")
    parser.add_argument(
        "--name",
        default="",
        help="for ilsvrc2012: 'imagenet2012' to take the images from TFDS's dataset of that name "
        "instead of a folder",
    )
    parser.add_argument(
        "--data_dir", required=True, type=_folder, help="the TFDS folder to write to"
    )
    parser.add_argument("--image_size", type=int, default=256, help="pixels; %(default)s")
    parser.add_argument(
        "--fit",
        default="squash",
        choices=FITS,
        help="squash: the whole image (Caffe, Yosinski et al. 2014), the default; centre: short "
        "side to image_size and the central square (Krizhevsky et al. 2012, Zeiler & Fergus 2013)",
    )
    parser.add_argument("--partition", type=int, default=1, help="of sun397, 1 .. 10")
    parser.add_argument("--workers", type=_count, help="threads; one per core by default")
    parser.add_argument(
        "--on_broken",
        default="skip",
        choices=("skip", "raise"),
        help="leave undecodable images out and list them (%(default)s), or stop at the first",
    )
    parser.add_argument(
        "--mean",
        default="image",
        choices=tuple(_MEANS),
        help="image: the mean image and that of the channels (%(default)s); channel: only this",
    )
    return parser


def _folder(text: str) -> Path:
    return Path(text).expanduser()


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
