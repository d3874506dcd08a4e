import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, optimize

from transfer_jax.report.figures import (
    draw_learning_curves,
    filter_tiles,
    new_figure,
    not_run,
    save,
    smooth,
    spread,
    style,
)

POSITIONS = st.lists(st.floats(0, 1), min_size=1, max_size=7)


@given(POSITIONS, st.floats(0.01, 0.4))
def test_spread_labels_keep_their_distance_and_order(positions, gap):
    places = spread(positions, gap, 0.0, 1.0)
    ordered = sorted(places)
    room = min(gap, 1.0 / max(len(places) - 1, 1))
    assert np.all(np.diff(ordered) >= room - 1e-9)
    assert -1e-9 <= ordered[0] and ordered[-1] <= 1 + 1e-9
    for i in range(len(positions)):
        for j in range(len(positions)):
            if positions[i] < positions[j]:
                assert places[i] < places[j]


def test_spread_moves_labels_as_little_as_least_squares_does():
    wanted, gap = np.array([0.30, 0.32, 0.33, 0.80]), 0.1
    bounds = optimize.LinearConstraint(np.diff(np.eye(4), axis=0), gap, np.inf)
    best = optimize.minimize(
        lambda x: np.sum((x - wanted) ** 2), wanted, constraints=bounds, tol=1e-12
    ).x
    assert spread(list(wanted), gap, 0, 1) == pytest.approx(best, abs=1e-4)
    assert spread([0.9, 0.1], 0.1, 0, 1) == [0.9, 0.1]
    assert spread([], 0.1, 0, 1) == []


def test_filters_keep_their_place_scale_and_sign():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 4, 3, 6)) * 10.0 ** rng.integers(-3, 3, size=6)
    picture = filter_tiles(kernel, columns=3)
    assert picture.shape == (2 * 6 - 1, 3 * 5 - 1, 3)
    tile = picture[6:11, 5:9]
    weights = kernel[..., 4]
    assert np.allclose((tile - 0.5) * 2 * np.abs(weights).max(), weights)
    assert np.all(picture[5] == 1) and picture.min() >= 0 and picture.max() <= 1
    assert filter_tiles(np.zeros((3, 3, 1, 2))).shape == (3, 7, 3)
    assert filter_tiles(np.zeros((3, 3, 3, 32))).shape == (4 * 4 - 1, 8 * 4 - 1, 3)
    with pytest.raises(ValueError, match="over 4 channels; expected 1 or 3"):
        filter_tiles(np.zeros((3, 3, 4, 2)))


def test_smoothing_is_a_running_mean_that_leaves_out_what_is_not_finite():
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0])
    assert smooth(values, 3) == pytest.approx([1.5, 1.5, 3.0, 4.5, 4.5])
    assert smooth([3.0], 0) == pytest.approx([3.0])


def test_drawing_leaves_the_callers_settings_alone(tmp_path):
    before = dict(mpl.rcParams)
    with style():
        figure = new_figure(3, 2)
        not_run(figure.subplots())
        assert save(figure, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before


def test_a_curve_of_one_evaluation_is_seen(tmp_path):
    curve = ("one", "#ff0000", [{"step": 30, "top1": 0.5}])
    with Image.open(draw_learning_curves([curve], tmp_path / "curves.png")) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1:].max(axis=-1) < 80)
    # The sign of the legend, and the evaluation.
    assert ndimage.label(red)[1] == 2
