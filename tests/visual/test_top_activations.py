import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import small
from transfer_jax.networks import Conv, Dense, MaxPool, Network, Relu
from transfer_jax.visual.top_activations import _update, top_activations

LAYERS = (
    Conv("conv1", 3, 3, padding=1, then=(Relu(), MaxPool(2, 2))),
    Conv("conv2", 4, 2, then=(Relu(),)),
    Dense("fc3", 5, then=(Relu(),)),
    Dense("fc4", 3),
)
NETWORK = Network("whole numbers", 6, LAYERS)
NAMES = ("conv1", "conv2", "fc3", "fc4")
SEARCHED = ("conv2", "fc3")
MOST = 40
ACTIVATIONS = jax.jit(NETWORK.activations)


def whole_numbers(seed, images):
    """Weights and images of small integers: every sum is exact in any order, and ties abound."""
    rng = np.random.default_rng(seed)
    params = {
        name: {
            "kernel": rng.integers(-1, 2, NETWORK.kernel_shapes[name]).astype(np.float32),
            "bias": rng.integers(-1, 2, NETWORK.kernel_shapes[name][-1:]).astype(np.float32),
        }
        for name in NAMES
    }
    x = rng.integers(-1, 2, (images, 6, 6, 3)).astype(np.float32)
    return params, x, rng.permutation(10 * images)[:images]


def sorted_in_full(activations, ids, count):
    """The same lists by sorting everything, one map at a time."""
    activations = np.asarray(activations)
    if activations.ndim == 2:
        activations = activations[:, None, None, :]
    maps = activations.shape[-1]
    values = np.full((maps, count), -np.inf, np.float32)
    found = np.full((maps, count), -1)
    positions = np.full((maps, count, 2), -1)
    for m in range(maps):
        rows = []
        for image, map_ in zip(ids, activations[..., m], strict=True):
            best = np.unravel_index(np.argmax(map_), map_.shape)
            rows.append((-map_[best], image, best))
        for place, (value, image, best) in enumerate(sorted(rows)[:count]):
            values[m, place], found[m, place], positions[m, place] = -value, image, best
    return values, found, positions


def assert_same(top, expected):
    values, ids, positions = expected
    assert top.values.dtype == np.float32 and top.image_ids.dtype == np.int64
    assert top.positions.dtype == np.int32
    assert np.array_equal(top.values, values)
    assert np.array_equal(top.image_ids, ids)
    assert np.array_equal(top.positions, positions)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, MOST),
    first=st.sampled_from([3, 8]),
    cuts=st.lists(st.integers(0, 12), min_size=1, max_size=5),
)
def test_any_order_and_any_batches_give_the_full_sort(seed, images, first, cuts):
    params, x, ids = whole_numbers(seed, images)
    batches, start = [], 0
    for size in [first, *cuts, images]:
        batches.append((ids[start : start + size], x[start : start + size]))
        start = min(start + size, images)
    top = top_activations(NETWORK, params, iter(batches), SEARCHED, count=6)
    activations = ACTIVATIONS(params, np.resize(x, (MOST, 6, 6, 3)))
    assert tuple(top) == SEARCHED
    for name in SEARCHED:
        assert_same(top[name], sorted_in_full(activations[name][:images], ids, 6))


def test_one_program_serves_batches_of_all_sizes_and_several_layers_at_once():
    net = small.network()
    params = net.init(jax.random.key(1))
    x = np.random.default_rng(1).normal(size=(33, 8, 8, 3)).astype(np.float32)
    ids = np.arange(100, 133)
    cuts = [slice(0, 8), slice(8, 11), slice(11, 11), slice(11, 31), slice(31, 33)]
    _update.cache_clear()
    top = top_activations(net, params, ((ids[c], x[c]) for c in cuts), ("conv2", "fc3"))
    assert _update(net, ("conv2", "fc3"), 9)._cache_size() == 1
    activations = jax.jit(net.activations)(params, x)
    for name in ("conv2", "fc3"):
        values, found, positions = sorted_in_full(activations[name], ids, 9)
        np.testing.assert_allclose(top[name].values, values, rtol=1e-5, atol=1e-6)
        distinct = np.diff(values, append=-np.inf) < -1e-4
        distinct[:, 1:] &= distinct[:, :-1]
        assert distinct.mean() > 0.5
        assert np.array_equal(top[name].image_ids[distinct], found[distinct])
        assert np.array_equal(top[name].positions[distinct], positions[distinct])


def test_fewer_images_than_places_leave_places_empty():
    params, x, ids = whole_numbers(0, 2)
    top = top_activations(NETWORK, params, [(ids, x)], "conv2", count=4)["conv2"]
    assert (top.image_ids[:, :2] >= 0).all() and (top.image_ids[:, 2:] == -1).all()
    assert np.isneginf(top.values[:, 2:]).all() and (top.positions[:, 2:] == -1).all()
    nothing = top_activations(NETWORK, params, [], "fc3", count=2)["fc3"]
    assert nothing.values.shape == (5, 2) and np.isneginf(nothing.values).all()


def test_what_is_not_a_number_never_enters():
    params, x, ids = whole_numbers(3, 5)
    x[2] = np.nan
    top = top_activations(NETWORK, params, [(ids, x)], "fc4", count=5)["fc4"]
    assert np.isneginf(top.values[:, 4]).all() and (top.image_ids[:, 4] == -1).all()
    assert np.isfinite(top.values[:, :4]).all() and ids[2] not in top.image_ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["conv9"]}, "conv9"),
        ({"count": 0}, "count=0"),
        ({"ids": np.array([0, 0])}, "occurs twice"),
        ({"ids": np.array([-1, 4])}, "from -1 to 4"),
        ({"ids": np.array([0, 2**31])}, "2147483648"),
        ({"ids": np.array([0.0, 1.0])}, "expected .2,. integers"),
        ({"ids": np.arange(3)}, "for 2 images"),
        ({"x": np.zeros((2, 6, 6, 3), np.uint8)}, "uint8"),
        ({"x": np.zeros((2, 6, 5, 3), np.float32)}, r"expected \(n, 6, 6, 3\)"),
    ],
)
def test_bad_input_is_named(change, message):
    params, x, _ = whole_numbers(0, 2)
    given = {"layers": ["conv1"], "count": 9, "ids": np.arange(2), "x": x} | change
    with pytest.raises(ValueError, match=message):
        top_activations(
            NETWORK, params, [(given["ids"], given["x"])], given["layers"], count=given["count"]
        )
