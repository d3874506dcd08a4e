"""Ways to divide the classes of a dataset in two: random halves, and man-made against natural.

Every function returns `(A, B)`: two sorted lists of class indices, disjoint and together complete.
"""

import csv
import functools
import importlib.resources
import os
from collections.abc import Sequence

import numpy as np

NATURAL: tuple[int, ...] = (*range(398), *range(936, 959), 970, *range(972, 999))
"""The 449 natural classes of ILSVRC2012, as indices into its sorted wnids (Yosinski et al. 2014,
section 4.2: animals, plants, fruit, landscapes, people)."""

MAN_MADE: tuple[int, ...] = tuple(sorted(set(range(1000)) - set(NATURAL)))
"""The other 551 classes of ILSVRC2012."""

_SUPERCLASSES = ("man-made", "natural")


def random_halves(num_classes: int, seed: int) -> tuple[list[int], list[int]]:
    """Draws half of the classes at random, as Yosinski et al. 2014 did (section 4.1).

    A is `sorted(np.random.RandomState([seed]).choice(num_classes, num_classes // 2,
    replace=False))` and B is the rest; the seed enters as a list of one integer, which is not the
    same stream as the bare integer. With `num_classes=1000` and seeds 0 to 3 these are the paper's
    own splits. Of an odd number of classes A gets the smaller part (3 classes: 1 and 2).

    Args:
      num_classes: how many classes the dataset has, at least 2.
      seed: which of the random splits, an integer in 0 .. 2**32 - 1.

    Returns:
      `(A, B)`, sorted class indices.

    Raises:
      TypeError: an argument is not an integer.
      ValueError: an argument is out of range.

    Example:
      >>> random_halves(6, 0)
      ([0, 1, 3], [2, 4, 5])
    """
    for argument, value in (("num_classes", num_classes), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{argument} must be an integer, got {value!r}")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2 to be halved, got {num_classes}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie in 0 .. 2**32 - 1, got {seed}")
    drawn = np.random.RandomState([seed]).choice(num_classes, num_classes // 2, replace=False)
    half_a = sorted(int(index) for index in drawn)
    half_b = sorted(set(range(num_classes)) - set(half_a))
    return half_a, half_b


@functools.cache
def ilsvrc_indices() -> dict[str, int]:
    """The ILSVRC2012 index (0 .. 999) of each of its 1000 wnids; the order is that of the wnids.

    Example:
      >>> ilsvrc_indices()["n01443537"]
      1
    """
    table = importlib.resources.files("transfer_jax.data").joinpath("ilsvrc2012_wnids.txt")
    return {wnid: index for index, wnid in enumerate(table.read_text().split())}


def man_made_natural(
    class_names: Sequence[str],
    class_paths: Sequence[Sequence[str]] | None = None,
    csv_path: str | os.PathLike | None = None,
) -> tuple[list[int], list[int]]:
    """Divides the classes of a dataset into man-made (A) and natural (B), by what it knows of them.

    A CSV given by the user comes first, then the dataset's own hierarchy, then the class names, if
    all of them are ILSVRC2012 wnids (as those of ImageNet and Tiny-ImageNet are).

    Args:
      class_names: the dataset's class names.
      class_paths: the dataset's hierarchy, one path from root to leaf per class, or None.
      csv_path: a table as read by `man_made_natural_from_csv`, or None.

    Returns:
      `(A, B)`: the indices of the man-made and of the natural classes.

    Raises:
      ValueError: nothing tells the classes apart, or what should do so is incomplete.

    Example:
      >>> man_made_natural(["n01443537", "n04540053", "n07920052"])
      ([1, 2], [0])
    """
    if csv_path is not None and str(csv_path):
        return man_made_natural_from_csv(class_names, csv_path)
    if class_paths is not None:
        return man_made_natural_from_paths(class_paths)
    unknown = [name for name in class_names if name not in ilsvrc_indices()]
    if unknown:
        raise ValueError(
            "cannot tell man-made from natural classes: the dataset has no class hierarchy and "
            f"{len(unknown)} of its {len(class_names)} class names are not ILSVRC2012 wnids "
            f"({_few(unknown)}); give a CSV with the columns wnid,superclass"
        )
    return man_made_natural_from_indices([ilsvrc_indices()[name] for name in class_names])


def man_made_natural_from_indices(
    indices: Sequence[int] = range(1000),
) -> tuple[list[int], list[int]]:
    """Divides classes given by their ILSVRC2012 index (Yosinski et al. 2014, section 4.2).

    Args:
      indices: the ILSVRC2012 index of each class of the dataset; by default all 1000 in order, for
        which the result is `(MAN_MADE, NATURAL)`.

    Returns:
      `(A, B)`: positions in `indices` that are man-made, and those that are natural.

    Raises:
      ValueError: an index lies outside 0 .. 999, or one of the parts is empty.
    """
    outside = [index for index in indices if not 0 <= index < 1000]
    if outside:
        raise ValueError(f"ILSVRC2012 indices lie in 0 .. 999, got {_few(outside)}")
    natural = frozenset(NATURAL)
    return _divide([index in natural for index in indices])


def man_made_natural_from_paths(
    class_paths: Sequence[Sequence[str]],
) -> tuple[list[int], list[int]]:
    """Divides classes by a hierarchy in which 'natural' or 'man_made' is a node above each class.

    Args:
      class_paths: one path from root to leaf per class, for instance
        `("object", "natural", "flower", "daisy")`. Upper case, '-', '_' and ' ' make no difference.

    Returns:
      `(A, B)`: the indices of the man-made and of the natural classes.

    Raises:
      ValueError: a path names neither or both, or one of the parts is empty.
    """
    is_natural = []
    for index, path in enumerate(class_paths):
        found = {_superclass(node) for node in path} - {None}
        if len(found) != 1:
            raise ValueError(
                f"the path of class {index} should have exactly one of 'natural' and 'man_made' "
                f"in it, got {'/'.join(path)!r}"
            )
        is_natural.append(found == {"natural"})
    return _divide(is_natural)


def man_made_natural_from_csv(
    class_names: Sequence[str], csv_path: str | os.PathLike
) -> tuple[list[int], list[int]]:
    """Divides classes by a table of the user's.

    Args:
      class_names: the dataset's class names (wnids, or whatever the table calls them).
      csv_path: a CSV file with a header that names at least the columns `wnid` and `superclass`;
        superclass is 'man-made' or 'natural'. Other columns and other classes are passed over.

    Returns:
      `(A, B)`: the indices of the man-made and of the natural classes.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the header, a line (named by number) or a class of the dataset is not as it
        should be, or one of the parts is empty.
    """
    natural_by_name: dict[str, bool] = {}
    with open(csv_path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        columns = rows.fieldnames or []
        missing_columns = [name for name in ("wnid", "superclass") if name not in columns]
        if missing_columns:
            raise ValueError(
                f"{csv_path}, line 1: the header must name the columns wnid and superclass; "
                f"missing {' and '.join(missing_columns)}, found {','.join(columns)!r}"
            )
        for row in rows:
            where = f"{csv_path}, line {rows.line_num}"
            name, superclass = (row["wnid"] or "").strip(), _superclass(row["superclass"] or "")
            if not name:
                raise ValueError(f"{where}: the wnid is empty")
            if superclass is None:
                raise ValueError(
                    f"{where}: the superclass of {name} must be man-made or natural, "
                    f"got {row['superclass']!r}"
                )
            if natural_by_name.setdefault(name, superclass == "natural") != (
                superclass == "natural"
            ):
                raise ValueError(f"{where}: {name} is said to be both man-made and natural")
    missing = [name for name in class_names if name not in natural_by_name]
    if missing:
        raise ValueError(
            f"{csv_path} lacks {len(missing)} of the dataset's {len(class_names)} classes: "
            f"{_few(missing)}"
        )
    return _divide([natural_by_name[name] for name in class_names])


def _superclass(word: str) -> str | None:
    plain = word.strip().lower().replace("_", "-").replace(" ", "-")
    return plain if plain in _SUPERCLASSES else None


def _divide(is_natural: Sequence[bool]) -> tuple[list[int], list[int]]:
    man_made = [index for index, natural in enumerate(is_natural) if not natural]
    natural = [index for index, natural in enumerate(is_natural) if natural]
    for part, name in ((man_made, "man-made"), (natural, "natural")):
        if not part:
            raise ValueError(f"none of the {len(is_natural)} classes is {name}")
    return man_made, natural


def _few(things: Sequence) -> str:
    shown = ", ".join(str(thing) for thing in things[:5])
    return shown if len(things) <= 5 else f"{shown}, ..."
