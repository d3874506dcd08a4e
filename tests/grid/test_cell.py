"""Cells: what their identity depends on, what they share, and in which groups they are trained."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.grid.cell import Cell, all_cells, from_json, groups, to_json
from transfer_jax.networks import alexnet, zfnet
from transfer_jax.transfer import Treatment

ALL = ("baseA", "baseB", "A1B", "A2B", "B2B", "A2B+", "A2B+1", "R1B", "R2B")
BASE_A, BASE_B, A1B, A2B, B2B, A2B_PLUS, A2B_HELD, R1B, R2B = small.cells(*ALL)


def changed(**fields):
    return dataclasses.replace(BASE_A, **fields)


def test_names_are_no_part_of_the_identity_and_everything_else_is():
    renamed = changed(task=dataclasses.replace(BASE_A.task, name="other"), treatment=Treatment("C"))
    assert renamed.hash == BASE_A.hash
    assert changed(snapshots=(3,)).hash == BASE_A.hash
    rows, labels = BASE_A.task.train
    fewer = dataclasses.replace(BASE_A.task, train=(rows[1:], labels[1:]))
    swapped = dataclasses.replace(BASE_A.task, train=(rows, 1 - labels))
    layers = BASE_A.network.layers
    wider = dataclasses.replace(layers[2], features=17)
    network = dataclasses.replace(BASE_A.network, layers=(*layers[:2], wider, layers[3]))
    others = [
        changed(seed=1),
        changed(task=fewer),
        changed(task=swapped),
        changed(network=network),
        changed(recipe=dataclasses.replace(BASE_A.recipe, steps=11)),
        *(BASE_B, A1B, A2B, B2B, A2B_PLUS, A2B_HELD, R1B, R2B),
    ]
    assert len({cell.hash for cell in others} | {BASE_A.hash}) == len(others) + 1


def test_treatments_of_a_task_see_the_same_batches_and_other_seeds_do_not():
    assert len({cell.stream_seed for cell in (BASE_B, A1B, B2B, A2B_PLUS, A2B_HELD)}) == 1
    assert BASE_A.stream_seed != BASE_B.stream_seed != changed(seed=1).stream_seed


def test_initial_params_are_the_sources_below_and_above_the_draw_of_all_copies_of_a_task():
    source = BASE_A.init_params()
    params, plus = A2B.init_params(source), A2B_PLUS.init_params(source)
    for name in ("conv1", "conv2"):
        assert params[name]["kernel"] is source[name]["kernel"]
    assert small.same_bits(params["fc3"], plus["fc3"])
    assert not small.same_bits(params["fc3"], BASE_B.init_params()["fc3"])
    one, two = R1B.init_params(), R2B.init_params()
    assert small.same_bits(one["conv1"], two["conv1"])
    assert not small.same_bits(one["conv2"], two["conv2"])
    assert not small.same_bits(one["conv1"], BASE_B.init_params()["conv1"])


def test_a_moving_network_keeps_the_mean_of_where_it_was_pretrained():
    data = small.dataset(seed=1)
    target = dataclasses.replace(small.tasks()[1], dataset=data)
    moved = Cell(BASE_A.network, target, Treatment("B", "A", 1, True), small.RECIPE, 0, BASE_A)
    again = Cell(BASE_A.network, target, Treatment("C", "B", 1, True), small.RECIPE, 0, moved)
    np.testing.assert_array_equal(again.mean(), BASE_A.task.mean("channel"))
    assert again.root == BASE_A and not np.array_equal(again.mean(), target.mean("channel"))


NONE = np.zeros(0, np.int64), np.zeros(0, np.int32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": BASE_B}, "source=baseB"),
        ({"treatment": Treatment.parse("A1B")}, "source=None"),
        ({"network": small.network(3)}, "3 outputs for 2 classes"),
        ({"network": dataclasses.replace(small.network(), input_size=12)}, "12x12"),
        ({"treatment": Treatment("B", "A", 4), "source": BASE_B}, "n=4"),
        (
            {"recipe": dataclasses.replace(small.RECIPE, batch_size=69)},
            "batch_size=69: its dataset has 68 images",
        ),
        ({"task": dataclasses.replace(BASE_A.task, val=NONE)}, "no images of its classes for test"),
    ],
)
def test_parts_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        changed(**fields)


def test_descriptions_come_back_from_json():
    for value in (alexnet(10), zfnet(7, remove=("fc7",)), small.RECIPE, small.network()):
        assert from_json(to_json(value)) == value


def test_all_cells_brings_sources_first_and_joins_snapshots():
    twice = [A2B, dataclasses.replace(BASE_A, snapshots=(4,)), changed(snapshots=(2,))]
    found = all_cells(twice)
    assert found == [BASE_A, A2B] and found[0].snapshots == (2, 4)


def test_groups_share_sources_and_batches_and_come_after_what_they_copy():
    cells = all_cells([A2B, A1B, B2B, A2B_PLUS, R2B, R1B])
    plan = groups(cells)
    assert sorted(c.hash for g in plan for c in g) == sorted(c.hash for c in cells)
    assert (A1B, A2B) in plan and (R1B, R2B) in plan
    done = set()
    for group in plan:
        assert all(cell.source is None or cell.source.hash in done for cell in group)
        assert len({(cell.stream_seed, cell.source) for cell in group}) == 1
        done |= {cell.hash for cell in group}


def test_a_group_that_was_cut_off_is_formed_again_as_it_was():
    cells = all_cells([A1B, A2B])
    bases = [BASE_A.hash]
    assert groups(cells, [*bases, A1B.hash]) == [(A2B,)]
    opened = [[A1B.hash, A2B.hash]]
    assert groups(cells, [*bases, A1B.hash], opened) == [(A1B, A2B)]
    assert groups(cells, [*bases, A1B.hash, A2B.hash], opened) == []
    assert groups(cells, bases, [[A1B.hash, "gone"]]) == [(A1B, A2B)]


def test_small_cells_share_an_accelerator(monkeypatch):
    seeds = [dataclasses.replace(A2B_PLUS, treatment=Treatment("B", "A", n, True)) for n in (1, 2)]
    assert [len(group) for group in groups(seeds)] == [1, 1]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [len(group) for group in groups(seeds)] == [2]
