import dataclasses
import os
import subprocess
import sys

import pytest

from tests.grid.small_grid import NET, TASKS, cell
from tests.training import small
from transfer_jax.grid.cell import Cell
from transfer_jax.networks import alexnet_mini
from transfer_jax.transfer import Treatment


def test_the_hash_is_the_same_in_every_process():
    code = "from tests.grid.small_grid import cell; print(cell('A3B').hash)"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == cell("A3B").hash


def test_any_changed_content_is_another_cell():
    reference = cell("A3B")
    recipe = dataclasses.replace(small.RECIPE, learning_rate=0.03)
    wider = alexnet_mini(2, widths={**small.WIDTHS, "conv5": 8})
    others = [
        cell("A4B"),
        cell("A3B+"),
        cell("B3B"),
        cell("R3B"),
        cell("A3B", seed=1),
        cell("A3B", recipe=recipe),
        cell("A3B", source_recipe=recipe),
        dataclasses.replace(reference, network=wider),
        dataclasses.replace(reference, task=dataclasses.replace(TASKS["B"], images_per_class=3)),
        dataclasses.replace(reference, task=dataclasses.replace(TASKS["B"], dataset="other")),
        dataclasses.replace(
            reference, task=dataclasses.replace(TASKS["B"], class_map=(0, 1, -1, -1))
        ),
    ]
    assert len({reference.hash, *(other.hash for other in others)}) == len(others) + 1


def test_names_are_not_content():
    base = cell("baseA")
    renamed = Cell(
        NET, dataclasses.replace(TASKS["A"], name="W"), Treatment.parse("baseW"), base.recipe, 0
    )
    assert renamed.hash == base.hash and renamed.stream_seed == base.stream_seed


def test_cells_of_one_task_share_their_stream_and_draw_their_own_weights():
    cells = [cell(name) for name in ("baseB", "B3B", "A3B", "A3B+", "R3B")]
    assert len({c.stream_seed for c in cells}) == 1
    assert len({c.init_seed for c in cells}) == len(cells)
    assert cell("baseA").stream_seed != cells[0].stream_seed
    assert cell("baseB", seed=1).stream_seed != cells[0].stream_seed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "A3B copies from baseA, but none"),
        ({"source": cell("baseB")}, "A3B copies from baseA, not baseB"),
        ({"network": alexnet_mini(3, widths=small.WIDTHS)}, "3 logits.*2 classes"),
        ({"network": alexnet_mini(2, remove=("conv3", "conv4", "fc6", "fc7", "conv5"))}, "n=3"),
    ],
)
def test_cells_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(cell("A3B"), **change)
    with pytest.raises(ValueError, match="copies from None"):
        dataclasses.replace(cell("R3B"), source=cell("baseA"))
