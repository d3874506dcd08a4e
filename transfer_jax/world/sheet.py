"""The contact sheet of the embedded world: pictures of every class, family by family."""

from __future__ import annotations

import pathlib

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from transfer_jax.world.classes import CLASSES
from transfer_jax.world.rendering import render_images


def contact_sheet(
    path: str | pathlib.Path, *, size: int = 64, examples: int = 4, seed: int = 0
) -> pathlib.Path:
    """Writes `examples` training images of every class to `path` (.png or .jpg), one row of
    families per kingdom; returns the path.
    """
    families = sorted({(record.kingdom == "man_made", record.family) for record in CLASSES})
    tile, gap, text, per_row = size, 3, 13, len(families) // 2
    members = [
        [i for i, record in enumerate(CLASSES) if record.family == family] for _, family in families
    ]
    width = max(map(len, members)) * (tile + gap) + 4 * gap
    height = examples * (tile + gap) + 2 * text + 5 * gap
    sheet = PIL.Image.new("RGB", (per_row * width + gap, 2 * height + gap), "white")
    pen = PIL.ImageDraw.Draw(sheet)
    small = PIL.ImageFont.load_default(size=max(8, min(11, tile // 5 + 2)))
    large = PIL.ImageFont.load_default(size=11)
    for k, ids in enumerate(members):
        left, top = k % per_row * width + 2 * gap, k // per_row * height + gap
        first = CLASSES[ids[0]]
        title = f"{first.family} ({first.kingdom.replace('_', '-')})"
        pen.text((left, top), title, fill="black", font=large)
        images, _ = render_images(
            np.repeat(ids, examples), np.tile(np.arange(examples), len(ids)),
            split="train", seed=seed, size=size,
        )  # fmt: skip
        for i, image in enumerate(images):
            column, row = divmod(i, examples)
            x = left + column * (tile + gap)
            sheet.paste(PIL.Image.fromarray(image), (x, top + 2 * text + gap + row * (tile + gap)))
            if row == 0:
                name = CLASSES[ids[column]].name.replace("_", " ")
                pen.text((x, top + text), name, fill=(90, 90, 90), font=small)
    path = pathlib.Path(path)
    sheet.save(path, optimize=True, quality=85)
    return path
