import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from transfer_jax.report import tiles
from transfer_jax.report import visual_figures as drawn
from transfer_jax.report.occlusion_figure import CLASS_COLOURS, OTHER, _edges

RNG = np.random.default_rng(0)


def photo(height=12, width=12):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def share_of(path, colour):
    """Share of a figure's pixels that have this colour."""
    pixels = imread(path)[..., :3]
    wanted = np.asarray(to_rgb(colour) if isinstance(colour, str) else colour)
    return float(np.mean(np.all(np.abs(pixels - wanted) < 2.5 / 255, axis=-1)))


# Tiles


def test_stretching_keeps_sign_and_ratio_around_grey():
    projection = RNG.normal(size=(5, 4, 3)) * 1e-6
    picture = tiles.stretched(projection)
    assert np.allclose((picture - 0.5) * 2 * np.abs(projection).max(), projection)
    assert picture.min() == 0 or picture.max() == 1
    assert np.all(tiles.stretched(np.zeros((2, 2, 3))) == 0.5)
    assert tiles.stretched(np.ones((2, 3))).shape == (2, 3, 3)
    broken = tiles.stretched(np.array([[np.nan, np.inf], [-2.0, 1.0]]))
    assert np.allclose(broken[..., 0], [[0.5, 0.5], [0.0, 0.75]])


def test_pictures_are_bytes_or_shares_of_white():
    image = photo()
    assert np.array_equal(tiles.picture(image), image / 255)
    assert np.array_equal(tiles.picture(np.full((2, 2, 3), 0.25)), np.full((2, 2, 3), 0.25))
    with pytest.raises(ValueError, match=r"from 0.0 to 2.0; expected uint8"):
        tiles.picture(np.array([[0.0, 2.0]]))
    with pytest.raises(ValueError, match=r"image of shape \(4, 4, 2\)"):
        tiles.picture(np.zeros((4, 4, 2)))


def test_a_mosaic_puts_each_tile_in_the_middle_of_its_cell():
    big, small = np.full((4, 4, 3), 0.2), np.full((2, 2, 3), 0.7)
    picture = tiles.mosaic([big, small, None, big, small], 3, gap=2)
    assert picture.shape == (2 * 4 + 2, 3 * 4 + 2 * 2, 3)
    assert np.all(picture[:4, :4] == 0.2) and np.all(picture[6:10, :4] == 0.2)
    assert np.all(picture[1:3, 7:9] == 0.7)
    assert np.all(picture[0, 6:10] == tiles.EMPTY) and np.all(picture[:4, 12:] == tiles.EMPTY)
    assert np.all(picture[4:6] == 1) and np.all(picture[:, 4:6] == 1)
    assert np.all(picture[6:, 12:] == 1)
    with pytest.raises(ValueError, match="does not fit a cell of 3x3"):
        tiles.mosaic([big], 1, cell=(3, 3))
    with pytest.raises(ValueError, match="nothing to arrange"):
        tiles.mosaic([None], 1)


def test_a_sheet_knows_where_its_tiles_lie():
    pictures = [np.full((3, 5, 3), shade) for shade in (0.1, 0.2, 0.3)]
    laid = tiles.sheet(pictures, 2, gap=(4, 1))
    assert laid.picture.shape == (3 + 4 + 3, 5 + 1 + 5, 3) and laid.cell == (3, 5)
    for (top, left), tile in zip(laid.corners, pictures, strict=True):
        assert np.array_equal(laid.picture[top : top + 3, left : left + 5], tile)
    with pytest.raises(ValueError, match="2 sizes"):
        tiles.sheet([pictures[0], np.zeros((2, 2, 3))], 2, gap=(1, 1))


# Figures


def grid(layer="conv2", maps=3, count=9):
    sizes = RNG.integers(4, 8, (maps, count, 2))
    projections = [[RNG.normal(size=(*size, 3)) for size in row] for row in sizes]
    patches = [[photo(*size) for size in row] for row in sizes]
    projections[0][-1] = patches[0][-1] = None
    return drawn.ProjectionGrid(layer, 7, list(range(maps)), projections, patches)


def test_projections_grow_by_rows_of_maps(tmp_path):
    one = imread(drawn.draw_projections(tmp_path / "1.png", [grid()], columns=3))
    two = imread(drawn.draw_projections(tmp_path / "2.png", [grid(maps=6)], columns=3))
    assert 500 < one.shape[1] < 2600 and one.shape[0] * 1.5 < two.shape[0] < one.shape[0] * 2.2
    patch = np.full((6, 6, 3), [255, 0, 0], np.uint8)
    red = drawn.ProjectionGrid("conv1", 6, [4], [[np.zeros((6, 6, 3))] * 9], [[patch] * 9])
    path = drawn.draw_projections(tmp_path / "3.png", [red], columns=1)
    assert 0.3 < share_of(path, "#FF0000") < 0.5
    assert share_of(path, (0.5, 0.5, 0.5)) == pytest.approx(share_of(path, "#FF0000"), rel=0.05)


def test_projections_that_do_not_match_are_refused(tmp_path):
    with pytest.raises(ValueError, match="conv2: 1 maps, 2 projections"):
        drawn.ProjectionGrid("conv2", 7, [0], [[None], [None]], [[None]])
    with pytest.raises(ValueError, match="map 3: 1 projections and 2 patches"):
        drawn.ProjectionGrid("conv2", 7, [3], [[None]], [[None, None]])
    silent = drawn.ProjectionGrid("conv2", 7, [3], [[None]], [[None]])
    with pytest.raises(ValueError, match="no map has a projection"):
        drawn.draw_projections(tmp_path / "a.png", [silent])
    with pytest.raises(ValueError, match="no layers to draw"):
        drawn.draw_projections(tmp_path / "a.png", [])


def test_evolution_has_a_row_for_each_map_and_a_column_for_each_snapshot(tmp_path):
    rows = [[RNG.normal(size=(6, 6, 3)) for _ in range(3)] for _ in range(2)]
    rows[1][0] = None
    evolution = drawn.Evolution("conv3", [1, 5], [1, 2, "last"], rows)
    silent = drawn.Evolution("conv4", [1], [1, 2, 3], [[None] * 3])
    pixels = imread(drawn.draw_evolution(tmp_path / "e.png", [evolution, silent]))
    assert min(pixels.shape[:2]) > 200
    with pytest.raises(ValueError, match=r"2 maps and 2 snapshots, but rows of .3, 3."):
        drawn.Evolution("conv3", [1, 5], [1, 2], rows)


def test_second_layer_filters_are_drawn_by_their_strongest_input(tmp_path):
    kernel = np.zeros((3, 3, 8, 4), np.float32)
    kernel[:, :, np.arange(8) % 8, 0] = 0.01
    kernel[:, :, 5, :] = 1.0
    path = drawn.draw_filter_panels(tmp_path / "k.png", [drawn.FilterPanel("conv2", kernel)])
    assert share_of(path, "white") > 0.9
    kernel[:, :, 2, :] = -2.0
    path = drawn.draw_filter_panels(tmp_path / "k.png", [drawn.FilterPanel("conv2", kernel)])
    assert share_of(path, "black") > 0.4


def test_filter_panels_take_kernels_projections_and_numbers(tmp_path):
    panels = [
        drawn.FilterPanel("A", RNG.normal(size=(5, 5, 3, 6)), numbers={"dead": 0.034, "n": 0.5}),
        drawn.FilterPanel("B", projections=RNG.normal(size=(4, 9, 9, 3)), numbers={"x": np.nan}),
        drawn.FilterPanel("C", RNG.normal(size=(3, 3, 4, 6))),
    ]
    assert min(imread(drawn.draw_filter_panels(tmp_path / "f.png", panels)).shape[:2]) > 300
    with pytest.raises(ValueError, match="'A': give a kernel or projections"):
        drawn.FilterPanel("A")
    with pytest.raises(ValueError, match=r"kernel of shape \(3, 3, 3\)"):
        drawn.FilterPanel("A", np.zeros((3, 3, 3)))


def test_rules_stand_side_by_side(tmp_path):
    made = {rule: RNG.normal(size=(12, 12, 3)) for rule in ("deconvnet", "gradient", "guided")}
    examples = [drawn.RuleExample(f"conv{n}, map 3", photo(), made) for n in (1, 2)]
    pixels = imread(drawn.draw_rules(tmp_path / "r.png", examples))
    assert pixels.shape[1] > 1.5 * pixels.shape[0]
    other = drawn.RuleExample("odd", photo(), {"gradient": made["gradient"]})
    with pytest.raises(ValueError, match="'odd' has rules"):
        drawn.draw_rules(tmp_path / "r.png", [examples[0], other])


def example(**changes):
    places = np.arange(0, 9, 2)
    predicted = np.zeros((5, 5), int)
    predicted[:, 3:] = 2
    values = {
        "image": photo(),
        "square": 4,
        "rows": places,
        "columns": places,
        "activation": RNG.uniform(2, 5, (5, 5)),
        "probability": RNG.uniform(0, 1, (5, 5)),
        "predicted": predicted,
        "true_class": 0,
        "class_names": {n: f"class {n}" for n in range(20)},
        "unoccluded_activation": 4.0,
        "unoccluded_probability": 0.9,
        "box": (0.1, 0.2, 0.8, 1.0),
    }
    return drawn.OcclusionExample(**values | changes)


def test_occlusion_colours_classes_by_the_share_of_places(tmp_path):
    examples = [example(box=None, projection=np.zeros((12, 12, 3))), example(box=None)]
    path = drawn.draw_occlusion(tmp_path / "o.png", examples)
    true, other = (share_of(path, colour) for colour in CLASS_COLOURS[:2])
    assert 0.01 < other < true and true / other == pytest.approx(1.5, rel=0.12)
    assert share_of(path, OTHER) < 1e-3
    many = np.arange(25).reshape(5, 5) % 20
    path = drawn.draw_occlusion(tmp_path / "m.png", [example(predicted=many, box=None)])
    assert share_of(path, OTHER) > share_of(path, CLASS_COLOURS[1])


def test_occlusion_cells_lie_around_the_squares_centres():
    assert _edges(np.array([2.0, 4.0, 6.0, 7.0])).tolist() == [1.0, 3.0, 5.0, 6.5, 7.5]
    assert _edges(np.array([3.0])).tolist() == [2.5, 3.5]


def test_occlusion_of_one_place_and_of_a_constant_map_is_drawn(tmp_path):
    one = example(
        rows=[0],
        columns=[0],
        square=12,
        activation=np.zeros((1, 1)),
        probability=np.zeros((1, 1)),
        predicted=np.zeros((1, 1), int),
        unoccluded_activation=None,
        unoccluded_probability=None,
    )
    assert share_of(drawn.draw_occlusion(tmp_path / "o.png", [one]), "black") > 1e-4


def test_occlusion_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"probability of shape \(4, 5\); expected \(5, 5\)"):
        example(probability=np.zeros((4, 5)))
    with pytest.raises(ValueError, match="class 2 has no name"):
        example(class_names={0: "ant"})


def test_curves_have_lines_of_their_colours(tmp_path):
    counts = [60, 1, 15]
    curves = [
        drawn.Curve("features", counts, [0.7, 0.2, 0.5], np.array([0.01, 0.05, 0.02])),
        drawn.Curve("published", counts, [0.6, 0.1, np.nan], colour="#00FF00", dashed=True),
    ]
    path = drawn.draw_curve(tmp_path / "c.png", curves, num_classes=20, error_label="± 1 s.d.")
    assert share_of(path, "#0072B2") > 1e-3 and share_of(path, "#00FF00") > 2e-4
    for images, message in (([1, 2], "differ in length"), ([1, 0, 3], "0 images on a log axis")):
        with pytest.raises(ValueError, match=message):
            drawn.Curve("x", images, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="no curves to draw"):
        drawn.draw_curve(tmp_path / "c.png", [])


def test_duplicates_show_both_pictures_of_a_pair(tmp_path):
    red, blue = (np.full((9, 9, 3), colour, np.uint8) for colour in ([255, 0, 0], [0, 0, 255]))
    pairs = [drawn.DuplicatePair(red, blue, 0.991, "source, 3", "target, 12")] * 3
    path = drawn.draw_duplicates(tmp_path / "d.png", pairs, columns=2)
    assert share_of(path, "#FF0000") == pytest.approx(share_of(path, "#0000FF"), rel=0.05)
    assert share_of(path, "#FF0000") > 0.1
    with pytest.raises(ValueError, match="no pairs to draw"):
        drawn.draw_duplicates(tmp_path / "d.png", [])
