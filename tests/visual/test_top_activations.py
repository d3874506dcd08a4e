import jax
import numpy as np
from hypothesis import given, settings, strategies as st

from transfer_jax.networks import Conv, Dense, MaxPool, Network, Relu
from transfer_jax.visual import top_activations

NETWORK = Network("whole numbers", 6, (
    Conv("conv1", 3, 3, padding=1, then=(Relu(), MaxPool(2, 2))),
    Conv("conv2", 4, 2, then=(Relu(),)),
    Dense("fc3", 5, then=(Relu(),)),
    Dense("fc4", 3),
))  # fmt: skip
SEARCHED, MOST = ("conv2", "fc3"), 40
ACTIVATIONS = jax.jit(NETWORK.activations)


def whole_numbers(seed, images):
    """Weights and images of small integers: every sum is exact in any order, and ties abound."""
    rng = np.random.default_rng(seed)
    params = {
        name: {
            "kernel": rng.integers(-1, 2, shape).astype(np.float32),
            "bias": rng.integers(-1, 2, shape[-1:]).astype(np.float32),
        }
        for name, shape in NETWORK.kernel_shapes.items()
    }
    x = rng.integers(-1, 2, (images, 6, 6, 3)).astype(np.float32)
    return params, x, rng.permutation(10 * images)[:images]


def sorted_in_full(activations, ids, count):
    """The same lists by sorting everything, one map at a time: (value, id, row, column)."""
    grid = np.asarray(activations)
    maps = np.moveaxis(grid if grid.ndim == 4 else grid[:, None, None], -1, 0)
    found = np.tile([-np.inf, -1, -1, -1], (len(maps), count, 1))
    for m, one in enumerate(maps):
        best = [np.unravel_index(image.argmax(), image.shape) for image in one]
        rows = sorted((-i[b], number, *b) for i, number, b in zip(one, ids, best, strict=True))
        found[m, : len(rows)] = rows[:count]
        found[m, : len(rows), 0] *= -1
    return found


@settings(max_examples=10)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, MOST),
    cuts=st.lists(st.integers(0, 8), min_size=1, max_size=5),
)
def test_any_order_and_any_batches_give_the_full_sort(seed, images, cuts):
    params, x, ids = whole_numbers(seed, images)
    batches, start = [], 0
    for size in [8, *cuts, *[8] * 5]:
        batches.append((ids[start : start + size], x[start : start + size]))
        start = min(start + size, images)
    top = top_activations(NETWORK, params, iter(batches), SEARCHED, count=6)
    activations = ACTIVATIONS(params, np.resize(x, (MOST, 6, 6, 3)))
    assert tuple(top) == SEARCHED
    for name in SEARCHED:
        found = [top[name].values[..., None], top[name].image_ids[..., None], top[name].positions]
        expected = sorted_in_full(activations[name][:images], ids, 6)
        np.testing.assert_array_equal(np.concatenate(found, -1), expected)


def test_what_is_not_a_number_never_enters_and_places_stay_empty():
    params, x, ids = whole_numbers(3, 5)
    x[2] = np.nan
    top = top_activations(NETWORK, params, [(ids, x)], ["fc4"], count=5)["fc4"]
    assert np.isneginf(top.values[:, 4]).all() and (top.image_ids[:, 4] == -1).all()
    assert (top.positions[:, 4] == -1).all()
    assert np.isfinite(top.values[:, :4]).all() and ids[2] not in top.image_ids
