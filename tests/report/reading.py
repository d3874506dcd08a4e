"""How tests write an analysis' tables and read a report back."""

import base64
import csv
import html
import io
import re

import numpy as np
from PIL import Image

from transfer_jax.report.page import LARGE_PICTURE


def write_lines(directory, columns, tables):
    """Writes the .csv files of a workdir's analysis.

    columns maps a table to its header, words in a string; tables maps it to its lines.
    """
    folder = directory / "analysis"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns[name].split(), *lines])


def read_csv(path):
    """The lines of a .csv file by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def verdicts_in(folder):
    """The verdicts of a report's claims.csv, in order."""
    return [line["verdict"] for line in read_csv(folder / "claims.csv")]


def text_of(path):
    """A page with its markup, but without escapes and the bytes of its pictures."""
    text = html.unescape(path.read_text()).replace("\u00a0", " ")
    return re.sub(r'data:image[^"]*', "", text)


def pictures_on_page(folder):
    """Names of a report's pictures, each of which is drawn and stands on its page, and no other."""
    drawn = set(folder.glob("*.png"))
    for path in drawn:
        with Image.open(path) as image:
            assert min(image.size) > 200 and np.asarray(image.convert("L")).std() > 5, path
    found = [
        base64.b64decode(data)
        for data in re.findall(
            r'src="data:image/(?:png|webp);base64,([^"]+)"', (folder / "index.html").read_text()
        )
    ]
    assert len(found) == len(drawn)
    for path in drawn:
        if path.stat().st_size <= LARGE_PICTURE:
            assert path.read_bytes() in found, path
        else:
            assert any(is_nearly(data, path) for data in found), path
    return {path.name for path in drawn}


def is_nearly(data, path):
    """Whether a compressed picture shows what a PNG shows."""
    with Image.open(io.BytesIO(data)) as image, Image.open(path) as exact:
        if image.size != exact.size:
            return False
        one, other = (np.asarray(i.convert("RGB"), float) for i in (image, exact))
        return np.abs(one - other).mean() < 4


def assert_needs_nothing_else(folder):
    """That a page opens offline: it runs no script and fetches nothing."""
    page = (folder / "index.html").read_text()
    assert "<script" not in page and "http" not in page and "url(" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)
