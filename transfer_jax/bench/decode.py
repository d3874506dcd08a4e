"""Images/s of decoding, resizing and cropping photographs: one by one, and through loaders."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from transfer_jax.bench import loaders
from transfer_jax.bench.loaders import add_reading
from transfer_jax.bench.options import positive
from transfer_jax.bench.page import table
from transfer_jax.bench.photographs import (
    decoders,
    package,
    pairs,
    photographs,
    pillow_resize,
    resizers,
    versions,
    written,
)
from transfer_jax.bench.timing import STATISTICS, Timing, interleave

SIZE = 256
TORCH = "torch DataLoader, Pillow bilinear"
TORCH_SAME = "torch DataLoader, Pillow LANCZOS"
FILES = "our stream, original files"
RECORDS = "our stream, prepared records"
TARGETS = {FILES: 1.5, RECORDS: 4.0}
"""Of the torch DataLoader's images/s on the same cores."""

LOADED = 8
"""Images that a loader reads for each that is decoded on one thread."""

_LINEAR = "our stream, original files by OpenCV linear"


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way from files to cropped pixels.

    Attributes:
      timing: seconds an image on one core (those of a loader times the cores it uses).
      difference: mean absolute difference, in grey levels of 0 .. 255, from decoding at full size
        and resizing by LANCZOS in Pillow; None where nothing is resized.
    """

    timing: Timing
    difference: float | None

    def images_per_second(self, statistic: str) -> float:
        """Per core, by the 'minimum' or 'median' round."""
        return 1 / getattr(self.timing, statistic)


@dataclasses.dataclass(frozen=True)
class Contest:
    """All contenders of one run.

    Attributes:
      photographs: how many files there are.
      mean_bytes, mean_size: of the files; (width, height) in pixels.
      cores: that the loaders use.
      contenders: by name, those of one thread first.
      missing: one sentence for each that could not take part.
    """

    photographs: int
    mean_bytes: float
    mean_size: tuple[float, float]
    cores: int
    contenders: Mapping[str, Contender]
    missing: Sequence[str]

    def ratio(self, name: str, other: str, statistic: str) -> float:
        """Images/s of one contender divided by those of another."""
        one, two = self.contenders[name], self.contenders[other]
        return one.images_per_second(statistic) / two.images_per_second(statistic)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options to its parser."""
    add_reading(parser, photographs=128)
    parser.add_argument("--batch", type=positive, default=64, help="images a batch of the loaders")
    parser.add_argument("--repeats", type=positive, default=8, help="rounds")
    parser.add_argument(
        "--images",
        type=positive,
        default=64,
        help=f"images of one thread in a round; loaders read {LOADED} times as many",
    )


def run(options: argparse.Namespace) -> str:
    """Measures; the page as Markdown."""
    contest = measure(
        count=options.photographs,
        repeats=options.repeats,
        images=options.images,
        batch_size=options.batch,
        workers=options.workers,
    )
    rounds = (
        f"{options.repeats} rounds of {options.images} images on one thread and of "
        f"{LOADED * options.images} by loaders, in batches of {options.batch}; contenders by turns."
    )
    return f"{report(contest)}\n\n{rounds}"


def remarks(options: argparse.Namespace) -> list[str]:
    """The versions of the libraries that took part."""
    return [versions()]


def measure(*, count: int, repeats: int, images: int, batch_size: int, workers: int = 0) -> Contest:
    """Times all contenders by turns.

    Args:
      count: photographs to make.
      repeats: rounds of all contenders.
      images: that each contender of one thread reads in a round; loaders read `LOADED` times as
        many.
      batch_size: of the loaders.
      workers: processes of our stream, 0 for threads. They are started anew in every round, which
        short rounds pay for.
    """
    files = photographs(count)
    reference = [_reference(encoded) for encoded in files]
    runs: dict[str, Callable[[int], None]] = {}
    views: dict[str, Callable[[int], np.ndarray] | None] = {}
    single, missing = _one_by_one(files)
    for name, (view, is_resized) in single.items():
        runs[name] = _one_thread(view, count)
        views[name] = view if is_resized else None
    with written(files, SIZE) as (paths, dataset):
        sources = {
            FILES: loaders.DecodedFiles(paths, package(SIZE)),
            RECORDS: dataset.record_source("train"),
        }
        if "OpenCV linear" in resizers(SIZE):
            sources[_LINEAR] = loaders.DecodedFiles(paths, _by_opencv_linear)
        if loaders.why_no_torch():
            missing = [*missing, f"Torch was not measured: {loaders.why_no_torch()}."]
        else:
            for name, resample in (
                (TORCH, Image.Resampling.BILINEAR),
                (TORCH_SAME, Image.Resampling.LANCZOS),
            ):
                torch_files = loaders.PillowFiles(paths, SIZE, resample)
                runs[name] = _longer(loaders.torch_loader(torch_files, batch_size))
                views[name] = torch_files.__getitem__
        for name, source in sources.items():
            runs[name] = _longer(loaders.stream_loader(source, batch_size, workers))
            views[name] = _view_of(source)
        timings = interleave(runs, repeats=repeats, steps=images)
        differences = {
            name: None if view is None else _difference(view, reference)
            for name, view in views.items()
        }
    cores = loaders.cores()
    contenders = {
        name: Contender(
            timing if name in single else _per_image_and_core(timing, cores),
            differences[name],
        )
        for name, timing in timings.items()
    }
    sizes = np.mean([pixels.shape[:2] for pixels in map(_pixels, files)], axis=0)
    return Contest(
        count,
        float(np.mean([len(encoded) for encoded in files])),
        (float(sizes[1]), float(sizes[0])),
        cores,
        contenders,
        missing,
    )


def report(contest: Contest) -> str:
    """The measurements as Markdown."""
    width, height = contest.mean_size
    has_torch = TORCH in contest.contenders
    against = (TORCH, TORCH_SAME) if has_torch else ()
    header = ["per core", "images/s, fastest", "median", "off by"]
    header += [f"x {name.removeprefix('torch ')}" for name in against]
    rows = [_row(contest, name, against) for name in contest.contenders]
    lines = [
        "# Decoding photographs",
        "",
        f"{contest.photographs} JPEG files of {width:.0f} x {height:.0f} pixels and "
        f"{contest.mean_bytes / 1000:.0f} kB on average, as ILSVRC's are: random sections of "
        "scikit-learn's two sample photographs, resized to 375 to 625 pixels of width, at the JPEG "
        f"quality that gives that size. Each is decoded, resized to {SIZE} x {SIZE} and cropped to "
        f"{loaders.CROP}. Loaders use {contest.cores} cores and are divided by them; all else runs "
        "on one thread. The last columns are images/s over those of a torch DataLoader with as "
        "many workers as cores: bilinear is torchvision's filter, LANCZOS is ours.",
        "",
        table(header, rows),
        "",
        "Off by: mean absolute difference from decoding at full size and resizing by LANCZOS, "
        "Pillow, in grey levels of 0 to 255. Draft and reduced modes halve an image only "
        f"where both sides stay at {SIZE} pixels or more: no image of this size. Scaled decoding "
        "rounds sizes up, which moves pixels by a fraction of one. Prepared records hold what has "
        "been resized once, as JPEGs of quality 95.",
        "",
        *contest.missing,
        *([""] if contest.missing else []),
        *_verdicts(contest, against),
    ]
    return "\n".join(lines)


def _one_by_one(files: Sequence[bytes]):
    """name -> (file number -> pixels, whether they are resized); and what is missing."""
    decode, missing = decoders(SIZE)
    resize = resizers(SIZE)
    ways = {f"{name}, decoding alone": (_chain(files, decode[name]), False) for name in decode}
    for one, two in pairs(SIZE):
        view = _chain(files, decode[one], resize[two], loaders.central_crop)
        ways[f"{one} + {two}"] = (view, True)
    ways["ours: data.images.decode_rgb"] = (
        _chain(files, package(SIZE), loaders.central_crop),
        True,
    )
    return ways, missing


def _chain(files: Sequence[bytes], *functions: Callable) -> Callable[[int], np.ndarray]:
    def view(number: int) -> np.ndarray:
        pixels = files[number]
        for function in functions:
            pixels = function(pixels)
        return pixels

    return view


def _one_thread(view: Callable[[int], np.ndarray], count: int) -> Callable[[int], None]:
    def run(images: int) -> None:
        for number in range(images):
            view(number % count)

    return run


def _longer(run: Callable[[int], None]) -> Callable[[int], None]:
    # A loader needs a few batches to get going, which an epoch of ImageNet would not notice.
    return lambda images: run(LOADED * images)


def _per_image_and_core(timing: Timing, cores: int) -> Timing:
    return Timing(tuple(cores * seconds / LOADED for seconds in timing.seconds))


def _view_of(source) -> Callable[[int], np.ndarray]:
    return lambda number: loaders.central_crop(source[number]["image"])


def _by_opencv_linear(encoded: bytes) -> np.ndarray:
    """The package's decoder with OpenCV's resize."""
    from transfer_jax.data.decoding import decode

    return resizers(SIZE)["OpenCV linear"](decode(encoded))


def _pixels(encoded: bytes) -> np.ndarray:
    return decoders(SIZE)[0]["Pillow"](encoded)


def _reference(encoded: bytes) -> np.ndarray:
    resized = pillow_resize(_pixels(encoded), SIZE, Image.Resampling.LANCZOS)
    return loaders.central_crop(resized)


def _difference(view: Callable[[int], np.ndarray], reference: Sequence[np.ndarray]) -> float:
    off = [np.abs(view(i).astype(int) - pixels).mean() for i, pixels in enumerate(reference)]
    return float(np.mean(off))


def _row(contest: Contest, name: str, against: Sequence[str]) -> list[str]:
    contender = contest.contenders[name]
    return [
        name,
        *(f"{contender.images_per_second(s):.0f}" for s in STATISTICS),
        "" if contender.difference is None else f"{contender.difference:.2f}",
        *(f"{contest.ratio(name, other, 'minimum'):.2f}" for other in against),
    ]


def _verdicts(contest: Contest, against: Sequence[str]) -> Iterator[str]:
    for name, target in TARGETS.items():
        for other in against:
            minimum, median = (contest.ratio(name, other, s) for s in STATISTICS)
            verdict = "met" if minimum >= target else "missed"
            yield (
                f"- {name} / {other}: {minimum:.2f} (fastest), {median:.2f} (median); at least "
                f"{target} wanted: {verdict}."
            )
