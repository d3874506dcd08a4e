"""Near-duplicates between the source's training images and the targets' images (section 5.2)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping

import numpy as np
import PIL.Image
from ml_collections import ConfigDict

from transfer_jax.data.labels import replacing
from transfer_jax.data.outline import Outline
from transfer_jax.data.pipeline import select
from transfer_jax.readout.duplicates import Duplicates, excluded_positions, find_duplicates
from transfer_jax.studies.analysis import Files, Rows
from transfer_jax.studies.settings import Opener
from transfer_jax.studies.zeiler2013_targets import Target, all_source_images, targets

log = logging.getLogger(__name__)

SHOWN = 8
BLOCK = 4096


def find(config: ConfigDict, open_dataset: Opener) -> dict[str, Duplicates]:
    """Pairs of near-duplicates for each target that `experiments.duplicates` names.

    The search is kept beside the source dataset, so that a run that goes on does not repeat it.

    Returns:
      target -> pairs; `source` counts in the source dataset's training split, `target` in the
      target's images as `target_images` orders them.
    """
    source = open_dataset(config.dataset)
    records, _ = select(source, "train", all_source_images(config, source))
    found = {}
    for target in _wanted(config, open_dataset):
        key = repr((source.name, hashlib.sha256(records.tobytes()).hexdigest(), target.pool.name,
                    target.classes))  # fmt: skip
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        path = source.directory / f"duplicates-{digest}.npz"
        if not path.exists():
            blocks = (
                source.images("train", records[start : start + BLOCK])
                for start in range(0, len(records), BLOCK)
            )
            pairs = find_duplicates(blocks, _images(target))
            fields = {**vars(pairs), "source": records[pairs.source]}
            with replacing(path) as partial, open(partial, "wb") as file:
                np.savez(file, **fields)
        with np.load(path) as kept:
            found[target.name] = Duplicates(**kept)
    return found


def excluded(config: ConfigDict, open_dataset: Opener) -> tuple[int, ...]:
    """Training images of the source that are to be left out; none unless the config says so, and
    none in a plan that is made without the images."""
    if not config.experiments.duplicates.remove:
        return ()
    opened = [open_dataset(config.dataset), *(t.pool for t in _wanted(config, open_dataset))]
    if any(isinstance(dataset, Outline) for dataset in opened):
        log.info("near-duplicates are not looked for without images: none is left out of the plan")
        return ()
    pairs = find(config, open_dataset).values()
    return tuple(sorted({int(i) for found in pairs for i in excluded_positions(found)}))


def digest(pairs: Mapping[str, Duplicates]) -> str:
    """16 hexadecimal digits of what was found."""
    content = [
        (name, found.source.tolist(), found.target.tolist()) for name, found in pairs.items()
    ]
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def files(config: ConfigDict, open_dataset: Opener, pairs: Mapping[str, Duplicates]) -> Files:
    """The list of pairs, and pictures of the strongest."""
    source, removed = open_dataset(config.dataset), int(config.experiments.duplicates.remove)
    rows, pictures = [], []
    for target in _wanted(config, open_dataset):
        found = pairs[target.name]
        rows += [
            (target.name, int(one), int(other), float(correlation), removed)
            for one, other, correlation in zip(
                found.source, found.target, found.correlation, strict=True
            )
        ]
        shown = np.argsort(-found.correlation, kind="stable")[:SHOWN]
        if len(shown):
            theirs = source.images("train", found.source[shown])
            ours = _images(target)[found.target[shown]]
            pictures.append((theirs, _squashed(ours, theirs.shape[1:3]), found.correlation[shown]))
    header = ("target", "source_position", "target_position", "correlation", "removed")
    result: dict = {"duplicates.csv": Rows(header, rows)}
    if pictures:
        names = ("source_images", "target_images", "correlation")
        columns = zip(*pictures, strict=True)
        result["duplicates.npz"] = {
            name: np.concatenate(parts) for name, parts in zip(names, columns, strict=True)
        }
    return result


def _wanted(config: ConfigDict, open_dataset: Opener) -> Iterator[Target]:
    wanted = config.experiments.duplicates.targets
    unknown = set(wanted) - set(config.experiments.targets)
    if unknown:
        raise ValueError(
            f"config.experiments.duplicates.targets holds {sorted(unknown)}; expected some of "
            f"{list(config.experiments.targets)}, the targets that are asked for"
        )
    return (target for target in targets(config, open_dataset) if target.name in wanted)


def _squashed(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images of any size as ones of (height, width), to be shown beside others."""
    height, width = size
    return np.stack(
        [np.asarray(PIL.Image.fromarray(image).resize((width, height))) for image in images]
    )


def _images(target: Target) -> np.ndarray:
    """All images of a target, split after split."""
    return np.concatenate(
        [target.pool.images(split, positions) for split, positions in target.records()]
    )
