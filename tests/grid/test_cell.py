"""What makes a cell, and what makes two cells the same."""

import dataclasses

import pytest

from tests import small
from tests.grid.small_grid import MINI, cell
from transfer_jax.data.augment import Augmentation
from transfer_jax.data.tasks import Task
from transfer_jax.grid.cell import CONTENT_VERSION, Cell, to_json
from transfer_jax.networks import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Network,
    Relu,
    alexnet_mini,
)
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
    "crops": "ten",
    "plateau_patience": 4,
    "plateau_rtol": 0.01,
    "plateau_atol": 0.01,
    "max_filter_rms": 0.1,
}

DEFAULTS = {
    Recipe: {
        "batch_size": 256,
        "steps": 450_000,
        "solver": "caffe",
        "learning_rate": 0.01,
        "schedule": "step",
        "decay_every": 100_000,
        "decay_factor": 0.1,
        "warmup_fraction": 0.3,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
        "bias_lr_multiplier": 2.0,
        "label_smoothing": 0.0,
        "dtype": "float32",
        "augmentation": Augmentation(size=227, pad=0, mirror=True),
        "mean": "image",
        "pixel_scale": 1.0,
        "eval_every": 1000,
        "best_evals": 10,
        "ten_crop": False,
        "crops": "random",
        "plateau_patience": 5,
        "plateau_rtol": 1e-4,
        "plateau_atol": 0.0,
        "max_filter_rms": None,
    },
    Augmentation: {"pad": 0, "mirror": True},
    Task: {"images_per_class": None, "excluded": ()},
    Conv: {
        "stride": 1,
        "padding": 0,
        "groups": 1,
        "weight_std": 0.01,
        "bias": 0.0,
        "then": (),
    },
    Dense: {"weight_std": 0.01, "bias": 0.0, "then": ()},
    Relu: {},
    MaxPool: {"window": 3, "stride": 2, "padding": 0, "round_up": True},
    AdaptiveAvgPool: {},
    LocalResponseNorm: {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
    Dropout: {"rate": 0.5},
    Network: {},
}
"""Of everything that is hashed. A field at its default is not, so to change one of these numbers is
to change what every workdir's cells mean: raise CONTENT_VERSION."""


def test_hashes_do_not_change_from_process_to_process_and_from_version_to_version():
    # Workdirs live longer than versions: a change here means that everything is trained again.
    assert cell("A3B").hash == "419314be24f536b2"
    assert (cell("A3B").init_seed, cell("A3B").stream_seed) == (707026974, 294878287)


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_defaults_do_not_change_within_a_version(kind):
    assert CONTENT_VERSION == 2
    declared = {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }
    assert declared == DEFAULTS[kind]


def test_a_new_option_leaves_old_cells_their_hash():
    """A recipe, a network and a task with one option more, at its default, are the old ones."""

    @dataclasses.dataclass(frozen=True)
    class Newer(Recipe):
        option: tuple[int, ...] = ()
        another: float = 0.5

    Newer.__name__ = "Recipe"
    fields = {f.name: getattr(small.RECIPE, f.name) for f in dataclasses.fields(Recipe)}
    before, after = cell("A3B"), cell("A3B", recipe=Newer(**fields))
    assert after.hash == before.hash
    assert (after.init_seed, after.stream_seed) == (before.init_seed, before.stream_seed)
    used = cell("A3B", recipe=Newer(**fields, another=0.25))
    assert used.hash != before.hash and used.stream_seed != before.stream_seed


def test_defaults_are_left_out_of_the_content_at_every_depth():
    content = cell("baseA").content
    assert content["recipe"]["steps"] == 10 and "momentum" not in content["recipe"]
    augmentation = {"type": "Augmentation", "size": small.IMAGE_SIZE, "pad": 2}
    assert content["recipe"]["augmentation"] == augmentation
    task = {"type": "Task", "dataset": "pictures", "class_map": [0, 1, -1, -1]}
    assert content["task"] == task
    first = content["network"]["layers"][0]
    assert first["type"] == "Conv" and "groups" not in first
    assert first["then"][0] == {"type": "Relu"}
    excluded = dataclasses.replace(cell("baseA").task, excluded=(4, 2))
    other = dataclasses.replace(cell("baseA"), task=excluded)
    assert other.content["task"] == {**task, "excluded": [2, 4]}


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
        with_task(excluded=(5,)),
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
