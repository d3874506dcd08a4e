import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.networks import Conv, Dense, Network, Relu
from transfer_jax.visual import centres_inside, occlusion_maps
from transfer_jax.visual.occlusion import square_places

SMALL = small.network()


def test_maps_equal_a_loop_over_single_occluded_images():
    params, image = SMALL.init(jax.random.key(0)), np.random.RandomState(0).randn(8, 8, 3)
    grey, activations = np.array([0.5, -1.0, 2.0]), jax.jit(SMALL.activations)
    maps = occlusion_maps(
        SMALL, params, image, 1, square=3, stride=2, grey=grey, layer="conv1", batch_size=7
    )
    assert maps.rows.tolist() == maps.columns.tolist() == [0, 2, 4, 5]
    plain = np.asarray(activations(params, image[None].astype(np.float32))["conv1"][0])
    assert maps.feature_map == np.unravel_index(plain.argmax(), plain.shape)[2]

    def expected(copy):
        seen = {k: np.asarray(v[0]) for k, v in activations(params, copy[None]).items()}
        odds = np.exp(seen["fc4"] - seen["fc4"].max())
        sums = seen["conv1"][..., maps.feature_map].sum()
        return sums, odds[1] / odds.sum(), seen["fc4"].argmax()

    for i, top in enumerate(maps.rows):
        for j, left in enumerate(maps.columns):
            copy = image.astype(np.float32)
            copy[top : top + 3, left : left + 3] = grey
            found = maps.activation[i, j], maps.probability[i, j], maps.predicted[i, j]
            np.testing.assert_allclose(found, expected(copy), rtol=1e-4, atol=1e-6)


def test_a_network_that_looks_at_one_pixel_fails_where_that_pixel_is_hidden():
    """Class 1 wins where pixel (5, 2) shines, class 0 without it."""
    network = Network("one pixel", (8, 9), (Conv("conv1", 2, 1, then=(Relu(),)), Dense("fc2", 2)))
    kernel, dense = np.zeros((1, 1, 3, 2)), np.zeros((8, 9, 2, 2))
    kernel[0, 0, :, 0] = dense[5, 2, 0, 1] = 1
    params = {
        "conv1": {"kernel": kernel, "bias": np.zeros(2)},
        "fc2": {"kernel": dense.reshape(-1, 2), "bias": np.array([3.0, 0.0])},
    }
    params = jax.tree.map(np.float32, params)
    maps = occlusion_maps(network, params, np.full((8, 9, 3), 2.0), 1, square=2, stride=1)
    hidden = np.zeros((7, 8), bool)
    hidden[4:6, 1:3] = True
    assert maps.layer == "conv1" and np.array_equal(maps.predicted == 0, hidden)
    assert np.allclose(maps.probability[hidden], 1 / (1 + np.exp(3)))
    assert np.allclose(maps.probability[~hidden], 1 / (1 + np.exp(-3)))
    assert np.all(maps.activation == 6 * 68) and maps.unoccluded_activation == 6 * 72
    # The first of the four lowest places has its centre at pixel (5, 2).
    lowest = maps.probability.argmin()
    assert centres_inside(maps, (5 / 8, 2 / 9, 1.0, 1.0)).ravel()[lowest]
    assert not centres_inside(maps, (0.0, 0.3, 1.0, 1.0)).ravel()[lowest]
    inside = centres_inside(maps, (0.0, 0.5, 0.5, 1.0))
    assert np.array_equal(inside, np.outer(np.arange(7) < 4, np.arange(8) > 3))


def test_every_pixel_is_hidden_by_some_square_and_none_hangs_over():
    for side, square, stride in ((s, q, t) for s in (1, 8, 13) for q in range(1, s + 1)
                                 for t in range(1, q + 1)):  # fmt: skip
        starts = square_places(side, square, stride)
        assert np.all(np.diff(starts) > 0)
        assert set((starts[:, None] + np.arange(square)).ravel()) == set(range(side))
    with pytest.raises(ValueError, match="stride="):
        square_places(8, 8, 9)
