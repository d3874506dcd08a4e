from tests.grid.small_grid import cell
from transfer_jax.grid.plan import all_cells, build_plan

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
