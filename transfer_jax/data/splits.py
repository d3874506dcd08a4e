"""Draws of images and classes, and ways to divide classes in two: random halves, man-made against
natural.

A division is `(A, B)`: two sorted lists of class indices, disjoint and together complete.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

import numpy as np
import pandas as pd

from transfer_jax.data.batches import permutation

NATURAL: tuple[int, ...] = (*range(398), *range(936, 959), 970, *range(972, 999))
"""The 449 natural classes of ILSVRC2012, as indices into its sorted wnids (Yosinski et al. 2014,
section 4.2: animals, plants, fruit, landscapes, people); the other 551 are man-made."""


def with_fifth(splits: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Splits in which a fifth of the training images of each class, drawn once for all, is 'val'
    where there are none for testing: one at least, of two. Images of several labels (N, K) are
    drawn as of one class."""
    if "train" not in splits or "val" in splits:
        return dict(splits)
    rows, drawn = splits["train"], []
    classes = labels[rows] if labels.ndim == 1 else np.zeros(len(rows), int)
    for label in np.unique(classes[classes >= 0]):
        of = rows[classes == label]
        kept = len(of) - max(len(of) // 5, len(of) > 1)
        drawn.append(of[permutation(len(of), 0, label)[kept:]])
    val = np.sort(np.concatenate([rows[:0], *drawn]))
    return {**splits, "train": np.setdiff1d(rows, val), "val": val}


def random_halves(num_classes: int, seed: int) -> tuple[list[int], list[int]]:
    """Draws half of the classes at random, as Yosinski et al. 2014 did (section 4.1).

    A is `sorted(np.random.RandomState([seed]).choice(num_classes, num_classes // 2,
    replace=False))`; the seed enters as a list of one integer, which is not the same stream as the
    bare integer. With 1000 classes and seeds 0 to 3 these are the paper's own splits. Of an odd
    number of classes A gets the smaller part.
    """
    drawn = np.random.RandomState([seed]).choice(num_classes, num_classes // 2, replace=False)
    return _divided(~np.isin(np.arange(num_classes), drawn))


def random_classes(classes: Iterable[int], count: int, seed: int) -> list[int]:
    """Draws `count` of some classes, sorted; of one seed a smaller draw is part of a larger one.

    They are the first of `np.random.RandomState([seed]).permutation(sorted(classes))`.
    """
    pool = np.array(sorted(classes), np.int64)
    if not 0 <= count <= len(pool):
        raise ValueError(f"{count} classes are to be drawn of {len(pool)}")
    return sorted(np.random.RandomState([seed]).permutation(pool)[:count].tolist())


@functools.cache
def ilsvrc_indices() -> dict[str, int]:
    """The ILSVRC2012 index (0 .. 999) of each of its 1000 wnids; the order is that of the wnids."""
    table = (resources.files("transfer_jax.data") / "ilsvrc2012_wnids.txt").read_text()
    return {wnid: index for index, wnid in enumerate(table.split())}


def read_table(path: str | os.PathLike, *columns: str) -> pd.DataFrame:
    """Some columns of a CSV of the user's, all text."""
    try:
        table = pd.read_csv(path, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{path} is no CSV in UTF-8: {' '.join(str(error).split())}") from error
    if missing := set(columns) - set(table.columns):
        raise ValueError(f"{path} has no column {' nor '.join(sorted(missing))}")
    return table[[*columns]]


def man_made_natural(
    class_names: Sequence[str],
    class_paths: Sequence[Sequence[str]] | None = None,
    superclass_csv: str | os.PathLike | None = None,
) -> tuple[list[int], list[int]]:
    """Divides the classes of a dataset into man-made (A) and natural (B), by what it knows of them.

    A table of the user's comes first, with the columns `wnid` (class name) and `superclass`
    ('man-made' or 'natural'); then the dataset's hierarchy, where one of the two is a node above
    each class; then the class names, if all are ILSVRC2012 wnids. Upper case, '-', '_' and ' ' make
    no difference. ValueError where nothing tells, or what should does not know a class.
    """
    if superclass_csv:
        table = read_table(superclass_csv, "wnid", "superclass").fillna("")
        words = table.groupby("wnid")["superclass"].agg(list).to_dict()
        above = [words.get(name, ()) for name in class_names]
    elif class_paths is not None:
        above = class_paths
    else:
        natural = set(NATURAL)
        known = ilsvrc_indices()
        words = {w: ("natural" if known[w] in natural else "man-made",) for w in known}
        above = [words.get(name, ()) for name in class_names]
    is_natural = []
    for name, words_above in zip(class_names, above, strict=True):
        found = {word.lower().strip().replace("_", "-").replace(" ", "-") for word in words_above}
        found &= {"man-made", "natural"}
        if len(found) != 1:
            raise ValueError(
                f"class {name!r} should be one of man-made and natural, found {sorted(found)}: "
                "give a CSV with the columns wnid,superclass"
            )
        is_natural.append(found == {"natural"})
    return _divided(np.array(is_natural))


def _divided(in_b: np.ndarray) -> tuple[list[int], list[int]]:
    return np.flatnonzero(~in_b).tolist(), np.flatnonzero(in_b).tolist()
