"""Region proposals: boxes that may hold an object, by selective search or from a file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from transfer_jax.data.batches import permutation, stream
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.records import digest
from transfer_jax.data.seals import kept_array

COLUMNS = ("image", "ymin", "xmin", "ymax", "xmax")


@dataclasses.dataclass(frozen=True)
class SelectiveSearch:
    """Selective search (Uijlings et al. 2013), the fast mode of OpenCV's contrib module.

    Attributes:
      side: pixels of the shorter side that an image is given before it is searched.
      k: of the graphs that it begins from; smaller finds smaller regions. OpenCV's own is 150.
      most: boxes of an image at most; of more a random part is kept, the same in every run.
    """

    side: int = 200
    k: int = 150
    most: int = 2000

    def boxes(self, image: np.ndarray, key: int = 0) -> np.ndarray:
        """Boxes (n, 4), float32 fractions, of an image (h, w, 3) uint8; `key` draws those kept."""
        try:
            from cv2 import ximgproc
        except ImportError as error:
            raise ImportError(
                "selective search needs OpenCV's contrib module: pip install "
                "'transfer_jax[detection]', or give the boxes as a CSV file"
            ) from error
        scale = self.side / min(image.shape[:2])
        height, width = (max(1, round(scale * side)) for side in image.shape[:2])
        if scale != 1:
            resample = Image.Resampling.BICUBIC
            image = np.asarray(Image.fromarray(image).resize((width, height), resample))
        search = ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
        search.switchToSelectiveSearchFast(self.k, self.k, 0.8)
        # The order of what OpenCV finds is random, and no two runs agree on it; the set is not.
        left, top, wide, tall = np.unique(search.process(), axis=0).T
        found = np.stack([top, left, top + tall, left + wide], axis=1)
        if len(found) > self.most:
            found = found[np.sort(permutation(len(found), key)[: self.most])]
        return (found / [height, width, height, width]).astype(np.float32)


def proposals(dataset: Dataset, source: SelectiveSearch | str | os.PathLike) -> np.ndarray:
    """Boxes of every image, float32 (N, most, 4), filled up with (0, 0, 0, 0), which is none.

    Args:
      dataset: searched once; what is found is kept in its directory where it has one.
      source: how to search, or the path of a CSV file, see `read_csv`.
    """
    if not isinstance(source, SelectiveSearch):
        return read_csv(source, dataset.ids)

    def search() -> np.ndarray:
        rows, name = range(len(dataset.labels)), f"searching {dataset.name}"
        found = stream(lambda row: source.boxes(dataset.image(row), row), rows, os.cpu_count())
        return padded(list(tqdm(found, name, len(rows), unit="image", leave=False)))

    name = f"proposals-{digest(dataset.name, source)}.npy"
    path = dataset.directory and dataset.directory / name
    return kept_array(path, f"{dataset.name}, {source}", search)


def read_csv(path: str | os.PathLike, ids: np.ndarray) -> np.ndarray:
    """`proposals` from a CSV file with the columns image, ymin, xmin, ymax, xmax, a row a box, in
    fractions of the image's sides; `ids` (N,) name the images, of which some may have no box.

    Raises:
      ValueError: a column is missing, a row names an image that is not there or holds no box.
    """
    table = pd.read_csv(Path(path).expanduser(), dtype={"image": str})
    if missing := set(COLUMNS) - set(table):
        raise ValueError(f"{path} has no column {min(missing)!r}: expected {', '.join(COLUMNS)}")
    place = pd.Index(ids).get_indexer(table["image"])
    boxes = table[list(COLUMNS[1:])].to_numpy(np.float32)
    inside = (boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= 1)
    for wrong, problem in (
        (place < 0, f"which is none of the {len(ids)} images (the first: {ids[0]})"),
        (~inside.all(axis=1), "whose box is not 0 <= min < max <= 1, fractions of the sides"),
    ):
        if wrong.any():
            first = table.iloc[int(wrong.argmax())]
            raise ValueError(
                f"{path}: {wrong.sum()} of {len(table)} rows name an image {problem}; the first is "
                f"{','.join(map(str, first[list(COLUMNS)]))}"
            )
    of_image = table.groupby(place).indices
    none = np.zeros(0, int)
    return padded([boxes[of_image.get(row, none)] for row in range(len(ids))])


def padded(rows: list[np.ndarray]) -> np.ndarray:
    """(N, most, 4) from the boxes (n, 4) of each image."""
    most = max(map(len, rows), default=0)
    whole = np.zeros((len(rows), most, 4), np.float32)
    for boxes, found in zip(whole, rows, strict=True):
        boxes[: len(found)] = found
    return whole
