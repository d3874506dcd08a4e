import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA

from tests import small
from transfer_jax.readout import reading
from transfer_jax.readout.features import POOLS, pooled
from transfer_jax.readout.reading import Reading, features, reduced

NETWORK = small.network(3)
PARAMS = NETWORK.init(jax.random.key(0))
PIXELS = np.random.default_rng(0).integers(0, 256, (23, small.SIZE, small.SIZE, 3), dtype=np.uint8)
EVERY = [Reading("conv1"), Reading("conv1", "avgpyramid"), Reading("conv2", "max2"), Reading("fc3")]


def view(images):
    return (images.astype(np.float32) - 120) / 60


def three(images):
    """Three copies: as it is, mirrored, upside down."""
    return np.stack([view(a) for a in (images, images[:, :, ::-1], images[:, ::-1])], axis=1)


def pooled_by_loops(x, pool):
    if pool == "flat":
        return x.ravel()
    cells = []
    for n in (1, 2, 3) if pool.endswith("pyramid") else (int(pool[3:]),):
        # Cells go from floor(i size / n) to ceil((i + 1) size / n).
        steps = [
            [slice(math.floor(i * size / n), math.ceil((i + 1) * size / n)) for i in range(n)]
            for size in x.shape[:2]
        ]
        for rows, columns in itertools.product(*steps):
            values = x[rows, columns].reshape(-1, x.shape[2])
            cells.append(values.max(axis=0) if pool.startswith("max") else values.mean(axis=0))
    return np.concatenate(cells)


@pytest.mark.parametrize("height,width", [(4, 4), (5, 7), (2, 3), (1, 1)])
def test_maps_are_pooled_as_by_loops(height, width):
    x = np.random.default_rng(0).normal(size=(3, height, width, 2)).astype(np.float32)
    for pool in POOLS:
        wanted = [pooled_by_loops(one, pool) for one in x]
        np.testing.assert_allclose(pooled(x, pool), wanted, atol=1e-6)


def test_every_reading_comes_from_one_pass_over_the_images():
    rows, was_read, was_viewed = np.random.default_rng(1).permutation(23)[:21], [], []

    def read(wanted):
        was_read.extend(wanted)
        return PIXELS[wanted]

    def watched(images):
        was_viewed.append(len(images))
        return view(images)

    wanted = [dataclasses.replace(r, copies=copies) for r in EVERY for copies in (1, 3)]
    found = features(
        NETWORK, PARAMS, read, rows, wanted, views={1: watched, 3: three}, batch_size=24
    )
    assert sorted(was_read) == sorted([*rows, *3 * [rows[0]]])  # three fill the last batch
    assert was_viewed == [8, 8, 8]
    assert set(found) == {r.key for r in wanted}
    copies = three(PIXELS[rows])
    for copy in range(3):
        maps = NETWORK.activations(PARAMS, copies[:, copy])
        for one in EVERY:
            x = np.asarray(maps[one.layer])
            x = [pooled_by_loops(a, one.pool) for a in x] if x.ndim == 4 else x
            several = found[one.layer, one.pool, 3]
            np.testing.assert_allclose(several[:, copy], x, atol=1e-5)
            if copy == 0:
                np.testing.assert_allclose(found[one.key][:, 0], x, atol=1e-5)
            assert several.dtype == np.float32


def of_shape(copies, size, seed, num=40, rank=100):
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(5).normal(size=(min(rank, size), size))
    return {
        ("fc", "flat", copies): (
            (rng.normal(size=(num, copies, len(axes))) * np.arange(1, len(axes) + 1) ** -1.0) @ axes
            + 0.5
        ).astype(np.float32)
    }


def by_scikit_learn(train, test, one):
    """One reading alone, written out; vectors of all copies (N * copies, d)."""
    pair = [x[one.key].reshape(-1, x[one.key].shape[-1]).astype(np.float64) for x in (train, test)]
    if one.signed_root:
        pair = [np.where(x < 0, -1, 1) * np.abs(x) ** 0.5 for x in pair]
    if one.l2:
        pair = [x / np.sqrt((x**2).sum(axis=1, keepdims=True)) for x in pair]
    if one.dimensions:
        model = PCA(one.dimensions, whiten=one.whiten, svd_solver="full").fit(pair[0])
        pair = [model.transform(x) for x in pair]
        if one.l2:
            pair = [x / np.sqrt((x**2).sum(axis=1, keepdims=True)) for x in pair]
    return pair


@pytest.mark.parametrize("copies,size", [(1, 12), (1, 90), (4, 30)])
def test_readings_are_scikit_learns_fitted_one_by_one(copies, size):
    train, test = of_shape(copies, size, 0), of_shape(copies, size, 1, num=25)
    fields = [(None, False), (3, False), (3, True), (10, False), (10, True)]
    wanted = [
        Reading("fc", "flat", dimensions, whiten, root, l2, copies)
        for dimensions, whiten in fields
        for root in (False, True)
        for l2 in (False, True)
    ]
    found = {one: pair for one, *pair in reduced(train, test, wanted)}
    assert set(found) == set(wanted)
    for one, pair in found.items():
        for x, y in zip(pair, by_scikit_learn(train, test, one), strict=True):
            assert x.dtype == np.float32 and x.shape[1:] == (copies, one.dimensions or size)
            x = x.reshape(y.shape)
            # The sign of a component means nothing.
            x = x * (np.sign((x * y).sum(axis=0)) if one.dimensions else 1)
            np.testing.assert_allclose(x, y, atol=2e-3 * np.abs(y).max())


def test_test_images_change_nothing_in_training_and_one_fit_serves_all_dimensions(monkeypatch):
    fits = []

    class Counted(PCA):
        def fit(self, x):
            fits.append(x.shape)
            return super().fit(x)

    monkeypatch.setattr(reading, "PCA", Counted)
    train, wanted = of_shape(3, 20, 0), [Reading("fc", dimensions=d, copies=3) for d in (2, 8, 4)]
    one, other = (
        {r.dimensions: x for r, x, _ in reduced(train, of_shape(3, 20, seed), wanted)}
        for seed in (1, 2)
    )
    assert fits == 2 * [(120, 20)]
    for dimensions in (2, 4, 8):
        np.testing.assert_array_equal(one[dimensions], other[dimensions])


def test_dimensions_that_only_hold_rounding_are_left_out():
    train, test = of_shape(1, 30, 0, rank=5), of_shape(1, 30, 1, rank=5)
    wanted = [Reading("fc", dimensions=d, whiten=True, l2=False) for d in (4, 25)]
    for one, x, y in reduced(train, test, wanted):
        assert x.shape[-1] == y.shape[-1] == min(one.dimensions, 5)
        np.testing.assert_allclose(x[:, 0].var(axis=0, ddof=1), 1, rtol=1e-3)
        assert np.abs(y).max() < 10


def test_a_dead_layer_reads_as_zeros():
    dead = {("fc", "flat", 1): np.zeros((9, 1, 5), np.float32)}
    for _, *pair in reduced(dead, dead, [Reading("fc"), Reading("fc", dimensions=3, whiten=True)]):
        assert all((x == 0).all() for x in pair)
