"""The cost of a plan against counts by hand."""

import dataclasses

import pytest

from tests import small
from transfer_jax.grid import cost
from transfer_jax.grid.store import Store
from transfer_jax.training.objective import Classification


def test_operations_are_two_a_multiply_add_and_frozen_layers_run_forward_once():
    base, one, two = small.cells("baseA", "A1B", "A2B")
    forward = {
        "conv1": 8 * 8 * 4 * 3 * 9,
        "conv2": 4 * 4 * 4 * 2 * 9,
        "fc3": 2 * 2 * 4 * 16,
        "fc4": 16 * 2,
    }
    assert base.network.multiply_adds == forward
    c1, c2, f3, f4 = forward.values()
    images = 8 * 10
    assert cost.train_flops((base,)) == 2 * images * (3 * (c1 + c2 + f3 + f4) - c1)
    shared = c1 + c2
    first, second = 3 * (c2 + f3 + f4) - c2, 3 * (f3 + f4) - f3
    assert cost.train_flops((one, two)) == 2 * images * (shared + first + second)
    # Evaluations after 4, 8 and 10 steps, of ten images each.
    assert cost.eval_flops(base) == 3 * 10 * 2 * (c1 + c2 + f3 + f4)
    ten = dataclasses.replace(base, recipe=dataclasses.replace(base.recipe, ten_crop=True))
    assert cost.eval_flops(ten) == 10 * cost.eval_flops(base)


def test_layers_that_see_each_image_once_are_counted_once():
    recipe = dataclasses.replace(small.RECIPE, frozen_once=True)
    base, two = small.cells("baseA", "A2B", recipe=recipe)
    c1, c2, f3, f4 = base.network.multiply_adds.values()
    rows = sum(len(rows) for rows, _ in (two.task.train, two.task.val))
    above = 8 * 10 * (3 * (f3 + f4) - f3)
    assert cost.train_flops((two,)) == 2 * (above + rows * (c1 + c2))
    assert cost.eval_flops(two) == 3 * 10 * 2 * (f3 + f4)


def test_a_plan_counts_what_is_left_and_trains_nothing(tmp_path):
    cells = small.cells("baseA", "A1B", "A2B", "baseB")
    entries = [({"experiment": "e"}, cell) for cell in cells]
    store = Store(tmp_path)
    text = cost.dry_run(entries, store, assumed_tflops=1e-6)
    assert "4 to train in 3 groups, 0 finished" in text and "assumed" in text
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="nowhere, which holds no cells"):
        cost.dry_run(entries, store, 1.0, reuse=[tmp_path / "nowhere"])
    assert cost.measured_rate(cells[0]) > 0
    for cell in cells:
        store.finish(cell, cell.init_params(cells[0].init_params()), {"top1": 1.0})
    assert "nothing to train" in cost.dry_run(entries, store)
    assert "nothing to train" in cost.dry_run(entries, Store(tmp_path / "new"), reuse=[tmp_path])


def test_the_rate_is_that_of_what_the_task_learns():
    seen = []

    class Watched(Classification):
        def train_view(self, recipe, images, labels, keys, mean):
            seen.append((len(images), labels["class"].shape))
            return super().train_view(recipe, images, labels["class"], keys, mean)

    (cell,) = small.cells("baseA")
    rows, labels = cell.task.train
    task = dataclasses.replace(cell.task, train=(rows, {"class": labels}), objective=Watched())
    assert cost.measured_rate(dataclasses.replace(cell, task=task)) > 0
    assert seen == [(cell.recipe.batch_size, (cell.recipe.batch_size,))]
