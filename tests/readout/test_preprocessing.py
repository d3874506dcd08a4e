import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from transfer_jax.readout.linear import LinearModel
from transfer_jax.readout.preprocessing import STANDARDISATIONS, Standardisation


def samples():
    x = np.random.default_rng(0).normal(3, 1, size=(40, 6)) * [1, 2, 5, 10, 0.1, 0]
    return (x + 7).astype(np.float32)


@pytest.mark.parametrize("how", ["common", "each"])
def test_images_end_around_zero_with_mean_squared_length_one(how):
    z = Standardisation.of(samples(), how)(samples())
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)
    assert (z**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)
    assert z.dtype == np.float32


def test_each_agrees_with_scikit_learn_and_common_keeps_the_geometry():
    x = samples()
    moving = x[:, :5]
    each = Standardisation.of(x, "each")(x)
    np.testing.assert_allclose(
        each[:, :5] * np.sqrt(5), StandardScaler().fit_transform(moving), atol=1e-4
    )
    common = Standardisation.of(x, "common")(x)
    distances = lambda a: np.linalg.norm(a[:, None] - a[None], axis=2)  # noqa: E731
    ratio = distances(x)[0, 1:] / distances(common)[0, 1:]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert np.array_equal(Standardisation.of(x, "none")(x), x)


def test_features_that_do_not_move_are_dropped():
    for how in ("common", "each"):
        standardisation = Standardisation.of(np.full((5, 3), 4.2, np.float32), how)
        assert not standardisation(np.array([[1.0, 2.0, 3.0]], np.float32)).any()
    assert Standardisation.of(samples(), "each").factor[5] == 0


@pytest.mark.parametrize("how", STANDARDISATIONS)
def test_an_unfolded_model_scores_plain_features_alike(how):
    rng = np.random.default_rng(1)
    model = LinearModel(rng.normal(size=(6, 3)).astype(np.float32), np.ones(3, np.float32))
    standardisation = Standardisation.of(samples(), how)
    plain = standardisation.unfolded(model)
    new = samples()[:7] + 0.5
    np.testing.assert_allclose(
        plain.scores(new), model.scores(standardisation(new)), rtol=1e-3, atol=1e-3
    )


def test_an_unknown_way_is_named():
    with pytest.raises(ValueError, match="how='whiten'"):
        Standardisation.of(samples(), "whiten")
