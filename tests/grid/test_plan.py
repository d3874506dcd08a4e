import dataclasses

import jax

from tests.grid.small_grid import cell
from transfer_jax.grid.plan import all_cells, build_plan, largest_trained_group

NAMES = [f"{s}{n}B{plus}" for s in "AB" for n in range(1, 8) for plus in ("", "+")]


def names(plan):
    return [[c.name for c in group.cells] for group in plan]


def test_frozen_cells_of_one_base_are_trained_together():
    plan = build_plan([cell(name) for name in NAMES])
    groups = names(plan)
    assert [f"A{n}B" for n in range(1, 8)] in groups
    assert [f"B{n}B" for n in range(1, 8)] in groups
    assert all(len(group) == 1 for group in groups if group[0].endswith("+"))
    assert sum(map(len, groups)) == len(NAMES) + 2


def test_bases_come_first_and_once():
    plan = build_plan([cell("A3B"), cell("B3B"), cell("baseB")])
    assert sorted(names(plan)[:2]) == [["baseA"], ["baseB"]]
    done = set()
    for group in plan:
        assert {base.hash for base in group.depends_on} <= done
        done |= {c.hash for c in group.cells}


def test_random_cells_form_a_group_without_dependencies():
    (group,) = build_plan([cell("R5B"), cell("R1B")])
    assert [c.name for c in group.cells] == ["R1B", "R5B"] and not group.depends_on
    assert group.program.frozen == (1, 5)


def test_other_seeds_do_not_mix():
    plan = build_plan([cell("R1B"), cell("R2B", seed=1)])
    assert [len(group.cells) for group in plan] == [1, 1]


def test_finished_cells_are_left_out():
    finished = {cell("baseA").hash, cell("A1B").hash}
    assert names(build_plan([cell("A1B"), cell("A2B")], finished)) == [["A2B"]]


def test_largest_group_bounds_the_groups():
    plan = build_plan([cell(f"R{n}B") for n in range(1, 8)], largest_group=3)
    assert [len(group.cells) for group in plan] == [3, 3, 1]


def test_a_group_that_was_cut_off_is_formed_again():
    hashes = [cell("A1B").hash, cell("A2B").hash]
    wanted = [cell(f"A{n}B") for n in (1, 2, 3)]
    finished = {cell("baseA").hash, hashes[0]}
    assert names(build_plan(wanted, finished, [hashes])) == [["A1B", "A2B"], ["A3B"]]
    # One that the run does not want whole is not.
    assert names(build_plan(wanted[1:], finished, [hashes])) == [["A2B", "A3B"]]
    assert names(build_plan(wanted, finished | {hashes[1]}, [hashes])) == [["A3B"]]


def test_cells_that_learn_everything_share_batches_where_asked():
    """Those of one task and one base; a base and what copies from it are never in one group."""
    plan = build_plan([cell(name) for name in NAMES], largest_trained=3)
    groups = names(plan)
    assert [["baseA"], ["baseB"]] == sorted(groups[:2])
    for source in "AB":
        together = [f"{source}{n}B+" for n in range(1, 8)]
        assert together[:3] in groups and together[3:6] in groups and together[6:] in groups
        assert [f"{source}{n}B" for n in range(1, 8)] in groups
    for group in plan:
        assert not group.depends_on & set(group.cells) and len(group.depends_on) <= 1
        if group.cells[0].treatment.fine_tuned:
            assert group.program.frozen == (0,) * len(group.cells)
            assert group.train_flops == sum(
                build_plan([c], {c.source.hash})[0].train_flops for c in group.cells
            )
    # The size of other groups bounds these, too.
    bounded = names(build_plan([cell(n) for n in NAMES], largest_group=2, largest_trained=3))
    assert ["A1B+", "A2B+"] in bounded


def test_a_group_that_learns_everything_is_formed_again():
    wanted = [cell(f"A{n}B+") for n in (1, 2, 3)]
    finished = {cell("baseA").hash, wanted[0].hash}
    opened = [[c.hash for c in wanted[:2]]]
    assert names(build_plan(wanted, finished, opened)) == [["A1B+", "A2B+"], ["A3B+"]]


def test_small_networks_go_side_by_side_on_accelerators_only(monkeypatch):
    one = cell("A1B+")
    assert largest_trained_group(one) == 1
    assert names(build_plan([one, cell("A2B+")], {one.source.hash}, largest_trained=0)) == [
        ["A1B+"],
        ["A2B+"],
    ]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert largest_trained_group(one) == 8
    large = dataclasses.replace(one.recipe, batch_size=10**7)
    assert largest_trained_group(cell("A1B+", recipe=large)) == 1


def test_sharing_saves_operations():
    together = build_plan([cell(f"A{n}B") for n in range(1, 8)], {cell("baseA").hash})[0]
    alone = sum(
        build_plan([cell(f"A{n}B")], {cell("baseA").hash})[0].train_flops for n in range(1, 8)
    )
    assert together.train_flops < 0.7 * alone
    (single,) = build_plan([cell("baseA")])
    steps = single.cells[0].recipe.steps * single.cells[0].recipe.batch_size
    assert single.train_flops == single.cells[0].network.train_flops() * steps


def test_all_cells_include_the_bases():
    assert [c.name for c in all_cells([cell("A3B"), cell("A4B")])] == ["baseA", "A3B", "A4B"]


def test_the_sum_of_train_flops_falls_with_n():
    network = cell("baseA").network
    flops = [network.train_flops(n) for n in range(8)]
    assert flops == sorted(flops, reverse=True) and len(set(flops)) == 8
    counts = list(network.multiply_adds.values())
    # Forward and weight gradient everywhere, input gradient everywhere but in the first layer.
    assert flops[0] == 2 * (3 * sum(counts) - counts[0])
    assert flops[7] == 2 * (sum(counts) + counts[7])
