"""Draws the contact sheet of the embedded world: pictures of every class, family by family."""

from __future__ import annotations

import pathlib

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from transfer_jax.data.world.classes import CLASSES
from transfer_jax.data.world.rendering import render_images


def contact_sheet(
    path: str | pathlib.Path,
    *,
    size: int = 32,
    examples: int = 6,
    zoom: int = 1,
    seed: int = 0,
    split: str = "train",
) -> pathlib.Path:
    """Writes a picture with `examples` images of every class, one row of families per kingdom.

    Args:
      path: where to write; the ending chooses the format (.png or .jpg).
      size: of each image in pixels.
      examples: images per class, shown below each other.
      zoom: whole number of screen pixels per pixel.
      seed, split: which images, see `render_images`.

    Returns:
      The path.
    """
    families = sorted({(record.kingdom == "man_made", record.family) for record in CLASSES})
    tile, gap, text = size * zoom, 3, 13
    members = {
        family: [i for i, record in enumerate(CLASSES) if record.family == family]
        for _, family in families
    }
    per_row = len(families) // 2
    widths = max(len(ids) for ids in members.values()) * (tile + gap) + 4 * gap
    heights = examples * (tile + gap) + 2 * text + 5 * gap
    sheet = PIL.Image.new("RGB", (per_row * widths + gap, 2 * heights + gap), "white")
    pen = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.load_default(size=max(8, min(11, tile // 5 + 2)))
    title = PIL.ImageFont.load_default(size=11)
    for k, (_, family) in enumerate(families):
        left, top = k % per_row * widths + 2 * gap, k // per_row * heights + gap
        kingdom = CLASSES[members[family][0]].kingdom.replace("_", "-")
        pen.text((left, top), f"{family} ({kingdom})", fill="black", font=title)
        for column, class_id in enumerate(members[family]):
            x = left + column * (tile + gap)
            name = CLASSES[class_id].name.replace("_", " ")
            pen.text((x, top + text), name, fill=(90, 90, 90), font=font)
            images, _ = render_images(
                np.full(examples, class_id), np.arange(examples), split=split, seed=seed, size=size
            )
            for row, image in enumerate(images):
                picture = PIL.Image.fromarray(image).resize((tile, tile), PIL.Image.NEAREST)
                sheet.paste(picture, (x, top + 2 * text + gap + row * (tile + gap)))
    path = pathlib.Path(path)
    sheet.save(path, optimize=True, quality=85)
    return path
