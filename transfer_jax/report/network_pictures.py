"""Pictures of networks with their captions: first-layer filters and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer_jax.report import figures
from transfer_jax.report.page import Picture


def first_layer_filters(
    kernels: Mapping[str, np.ndarray], folder: Path, of: str
) -> tuple[Picture, ...]:
    """Draws filters.png.

    Args:
      kernels: title -> (height, width, channels, filters), of 3 channels or 1.
      folder: of the report.
      of: whose filters, for the caption: 'the bases'.

    Returns:
      The picture; nothing without kernels.
    """
    if not kernels:
        return ()
    path = figures.draw_filters(kernels, folder / "filters.png")
    caption = (
        f"First-layer filters of {of}, each scaled by its own largest absolute weight; mid-grey is "
        "zero."
    )
    return (Picture(path, caption, "First-layer filters as small colour tiles"),)


def learning_curves(
    curves: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]], folder: Path, of: str
) -> tuple[Picture, ...]:
    """Draws learning_curves.png.

    Args:
      curves: (name, colour, lines of metrics.jsonl) of each network.
      folder: of the report.
      of: whose curves, for the caption: 'one split'.

    Returns:
      The picture; nothing without curves.
    """
    if not curves:
        return ()
    path = figures.draw_learning_curves(curves, folder / "learning_curves.png")
    caption = (
        f"Learning curves of {of}: training loss (running mean over a fortieth of the records) and "
        "validation accuracy at each evaluation."
    )
    return (Picture(path, caption, "Training loss and validation accuracy by step"),)
