"""One HTML page that shows a report, opens offline and needs no JavaScript."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
from pathlib import Path

import jinja2
import PIL.Image

from transfer_jax.report.claims import Claim
from transfer_jax.report.tables import Table

LARGE_PICTURE = 2**17
"""Bytes beyond which a page shows a picture compressed: grids of photographs make large PNGs."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG with its caption; the image's bytes are embedded in the page."""

    path: Path
    caption: str
    alt: str

    @property
    def width(self) -> int:
        """How wide the page shows it, in CSS pixels: 100 to the inch of a 160 dpi figure."""
        header = Path(self.path).read_bytes()[16:20]
        return round(int.from_bytes(header, "big") * 100 / 160)

    @property
    def data(self) -> str:
        """The image as a data URL; a large one as WebP, the PNG itself stays beside the page."""
        content, kind = Path(self.path).read_bytes(), "png"
        if len(content) > LARGE_PICTURE:
            with PIL.Image.open(self.path) as image, io.BytesIO() as buffer:
                image.convert("RGB").save(buffer, "webp", quality=75)
                content, kind = buffer.getvalue(), "webp"
        return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page: a heading, paragraphs, then pictures, tables and claims in order."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    items: tuple[Picture | Table | tuple[Claim, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
      title: heading of the page.
      lead: a sentence or two under it.
      notes: how it was made, one line each (configuration, machine, command).
      numbers: headline (value, what it is) pairs.
      sections: the rest.
      warning: shown on top where the store is incomplete; empty otherwise.
    """

    title: str
    lead: str
    notes: tuple[str, ...]
    numbers: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    warning: str = ""


def kind(item: Picture | Table | tuple[Claim, ...]) -> str:
    """Which part of the template shows an item."""
    return {Picture: "picture", Table: "table", tuple: "claims"}[type(item)]


def render(page: Page) -> str:
    """The page as HTML text; everything that is not markup is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("transfer_jax.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["of_kind"] = lambda item, name: kind(item) == name
    html = environment.get_template("page.html").render(page=page)
    for text in ("n = ", " ± "):
        html = html.replace(text, text.replace(" ", "\u00a0"))
    return html


def write_page(page: Page, path: str | os.PathLike[str]) -> Path:
    """Writes the page, replacing an older one as a whole."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(render(page), encoding="utf-8")
    os.replace(temporary, path)
    return path
