"""Ways to read an image from a frozen network (Azizpour et al. 2014): which layer, how its maps are
pooled, how many dimensions are kept, how they are scaled, how many copies of the image are read.

All readings of a network share one forward pass (`features`), and each set of features one fit of
principal components (`reduced`): a network is read in hundreds of ways for little more than one.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from transfer_jax.networks import Network, Params
from transfer_jax.readout.features import Read, View, map_images, outputs

Key = tuple[str, str, int]
Features = dict[Key, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way to read an image.

    Attributes:
      layer: name of a weight layer.
      pool: one of `features.POOLS`; what dense layers give is the same under all.
      dimensions: how many principal components are kept, None for the features as they are.
      whiten: each of those has variance 1 in the training images.
      signed_root: features x become sign(x) sqrt(|x|), first of all.
      l2: vectors get length 1, before the principal components are sought and after.
      copies: how many copies of an image are read: 1, or as many as a view of several crops gives.
    """

    layer: str
    pool: str = "flat"
    dimensions: int | None = None
    whiten: bool = False
    signed_root: bool = False
    l2: bool = True
    copies: int = 1

    @property
    def key(self) -> Key:
        """Which of the `features` it is made of."""
        return self.layer, self.pool, self.copies


def features(
    network: Network,
    params: Params,
    read: Read,
    rows: Sequence[int] | np.ndarray,
    readings: Iterable[Reading],
    *,
    views: Mapping[int, View],
    batch_size: int = 256,
) -> Features:
    """What all readings need of the images `rows`, by their `key`: float32 (N, copies, D), from one
    pass over the images, about `batch_size` views at a time.

    `views` are by copies: that of 1 gives (n, h, w, 3), those of several (n, copies, h, w, 3). The
    other arguments are those of `features.layer_features`. Maps are pooled on the device; those of
    all images are kept only where a reading is 'flat'.

    Example:
      >>> views = {1: view, 10: ten_crops}
      >>> wanted = [Reading("conv5", "max2"), Reading("fc6", dimensions=64, copies=10)]
      >>> x = features(net, params, dataset.read, rows, wanted, views=views)
      >>> x["conv5", "max2", 1].shape, x["fc6", "flat", 10].shape
      ((3060, 1, 1024), (3060, 10, 4096))
    """
    wanted = collections.defaultdict(set)
    for reading in readings:
        wanted[reading.copies].add((reading.layer, reading.pool))

    def run(images):
        found = {}
        for copies, pairs in wanted.items():
            x = views[copies](images)
            x = outputs(network, tuple(sorted(pairs)), params, x.reshape(-1, *x.shape[-3:]))
            for pair, a in x.items():
                found[*pair, copies] = a.reshape(len(images), copies, -1)
        return found

    return map_images(run, read, rows, max(1, batch_size // max(wanted)))


def reduced(
    train: Features, test: Features, readings: Iterable[Reading]
) -> Iterator[tuple[Reading, np.ndarray, np.ndarray]]:
    """Each reading with the training and the test images' vectors, (N, copies, d) and (M, copies,
    d) float32; readings of one `key` come together, as they share their work.

    Principal components are those of the training images, all copies of them: one fit serves every
    number of dimensions. Where there are fewer than `dimensions` of more than rounding noise, those
    are what is kept. Of many large features scikit-learn finds them by random projections; the last
    of them are then approximate. Classifiers take copies as they are (`linear.layer_accuracy`); in
    retrieval `train` are the references, `test` the queries, copies their patches.
    """
    groups = collections.defaultdict(list)
    for reading in readings:
        groups[reading.key, reading.signed_root, reading.l2].append(reading)
    for (key, root, l2), group in groups.items():
        pair = [_scaled(x[key], root, l2) for x in (train, test)]
        most = max(reading.dimensions or 0 for reading in group)
        if most:
            projected, deviations = _projected(*pair, most)
        for reading in group:
            if reading.dimensions is None:
                yield reading, *pair
                continue
            found = [x[..., : reading.dimensions] for x in projected]
            if reading.whiten:
                found = [x / deviations[: reading.dimensions] for x in found]
            yield reading, *(_scaled(x, False, l2) for x in found)


def _scaled(x, root, l2):
    if root:
        x = np.sign(x) * np.sqrt(np.abs(x))
    if l2:
        x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), _TINY)
    return x


def _projected(train, test, dimensions):
    """Coordinates along the training images' principal components, and their deviations."""
    flat = train.reshape(-1, train.shape[-1])
    with threadpool_limits(1, "blas"):
        model = PCA(min(dimensions, *flat.shape), random_state=0).fit(flat)
        pair = [model.transform(x.reshape(-1, x.shape[-1])) for x in (train, test)]
    variances = model.explained_variance_
    kept = variances >= _NOISE * variances[0]
    pair = [x[:, kept].reshape(*y.shape[:-1], -1) for x, y in zip(pair, (train, test), strict=True)]
    return pair, np.maximum(np.sqrt(variances[kept]), _TINY)


_NOISE = 1e-6  # of the first component's variance; less is rounding in float32
_TINY = 1e-12  # what stands for a length or a deviation of 0, of layers that have died
