"""What makes a cell, and what makes two cells the same."""

import dataclasses

import pytest

from tests import small
from tests.grid.small_grid import MINI, cell
from transfer_jax.data.augment import Augmentation
from transfer_jax.grid.cell import Cell, to_json
from transfer_jax.networks import alexnet_mini
from transfer_jax.training.recipe import Recipe
from transfer_jax.transfer import Treatment

OTHER_VALUES = {
    "batch_size": 9,
    "steps": 11,
    "solver": "sgd",
    "learning_rate": 0.03,
    "schedule": "cosine",
    "decay_every": 7,
    "decay_factor": 0.2,
    "warmup_fraction": 0.25,
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 0.02,
    "bias_lr_multiplier": 1.0,
    "label_smoothing": 0.1,
    "dtype": "bfloat16",
    "augmentation": Augmentation(small.IMAGE_SIZE, pad=1),
    "mean": "image",
    "pixel_scale": 0.5,
    "eval_every": 5,
    "best_evals": 3,
    "ten_crop": True,
}


def test_hashes_do_not_change_from_process_to_process_and_from_version_to_version():
    # Workdirs live longer than versions: a change here means that everything is trained again.
    assert cell("A3B").hash == "40bb853be3225bda"
    assert (cell("A3B").init_seed, cell("A3B").stream_seed) == (448259981, 985480718)


def test_every_field_of_the_recipe_is_content():
    assert set(OTHER_VALUES) == {field.name for field in dataclasses.fields(Recipe)}
    hashes = {cell("baseA").hash}
    for field, value in OTHER_VALUES.items():
        also = {"solver": "sgd"} if field == "nesterov" else {}
        recipe = dataclasses.replace(small.RECIPE, **{field: value}, **also)
        hashes.add(cell("baseA", recipe=recipe).hash)
    assert len(hashes) == 1 + len(OTHER_VALUES)


def test_any_other_changed_content_is_another_cell():
    reference = cell("A3B")
    wild = dataclasses.replace(small.RECIPE, learning_rate=0.03)
    wider = alexnet_mini(2, widths={**small.WIDTHS, "conv5": 8}, input_size=small.IMAGE_SIZE)
    drier = alexnet_mini(2, widths=small.WIDTHS, input_size=small.IMAGE_SIZE, dropout=0.4)

    def with_task(**changes):
        task = dataclasses.replace(reference.task, **changes)
        return dataclasses.replace(reference, task=task)

    others = [
        cell("A4B"),
        cell("A3B+"),
        cell("B3B"),
        cell("R3B"),
        cell("baseB"),
        cell("A3B", seed=1),
        cell("A3B", source_recipe=wild),
        dataclasses.replace(reference, network=wider),
        dataclasses.replace(reference, network=drier),
        with_task(images_per_class=3),
        with_task(dataset="other"),
        with_task(class_map=(0, 1, -1, -1)),
        with_task(class_map=(-1, -1, 1, 0)),
    ]
    assert len({reference.hash, *(other.hash for other in others)}) == len(others) + 1


def test_names_are_not_content():
    base = cell("baseA")
    task = dataclasses.replace(base.task, name="W")
    renamed = Cell(MINI, task, Treatment.parse("baseW"), base.recipe, 0)
    assert renamed.hash == base.hash
    assert (renamed.init_seed, renamed.stream_seed) == (base.init_seed, base.stream_seed)


def test_whole_numbers_are_the_numbers_that_they_equal():
    recipes = [dataclasses.replace(small.RECIPE, weight_decay=zero) for zero in (0, 0.0)]
    assert cell("baseA", recipe=recipes[0]).hash == cell("baseA", recipe=recipes[1]).hash


def test_cells_of_one_task_share_their_stream_and_draw_their_own_weights():
    cells = [cell(name) for name in ("baseB", "B3B", "A3B", "A3B+", "R3B")]
    assert len({c.stream_seed for c in cells}) == 1
    assert len({c.init_seed for c in cells}) == len(cells)
    assert cell("baseA").stream_seed != cells[0].stream_seed
    assert cell("baseB", seed=1).stream_seed != cells[0].stream_seed
    assert len({cell(f"R{n}B").random_layers_seed for n in range(1, 8)}) == 1


def test_content_is_plain_data_that_names_its_types():
    content = to_json(small.RECIPE)
    assert content["type"] == "Recipe" and content["augmentation"]["type"] == "Augmentation"
    assert to_json((1, ("a", None))) == [1, ["a", None]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "A3B copies from baseA, but none"),
        ({"source": cell("baseB")}, "A3B copies from baseA, not baseB"),
        (
            {"network": alexnet_mini(3, widths=small.WIDTHS, input_size=small.IMAGE_SIZE)},
            "3 logits.*task B 2 classes",
        ),
        ({"network": dataclasses.replace(MINI, layers=MINI.layers[5:])}, "n=3"),
        ({"network": alexnet_mini(2)}, r"augmentation\.size=8, but network .* of 32 pixels"),
    ],
)
@pytest.mark.parametrize("name", ["A3B", "A3B+"])
def test_cells_that_make_no_sense_are_refused(name, change, message):
    with pytest.raises(ValueError, match=message.replace("A3B", r"A3B\+?")):
        dataclasses.replace(cell(name), **change)


def test_random_weights_have_no_source():
    with pytest.raises(ValueError, match="copies from None, but baseA was given"):
        dataclasses.replace(cell("R3B"), source=cell("baseA"))
