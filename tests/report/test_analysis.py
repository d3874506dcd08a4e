import dataclasses

import pytest

from transfer_jax.report.analysis import (
    boosts,
    compare,
    drops,
    grid,
    interpretations,
    means,
    ns_of,
    treated,
)
from transfer_jax.report.published import read_published
from transfer_jax.report.results import Row

PAPER_MEANS = {
    "selffer_frozen": (0.6267, 0.6235, 0.6211, 0.6048, 0.5935, 0.6188, 0.6232),
    "transfer_frozen": (0.6282, 0.6239, 0.6189, 0.5998, 0.5780, 0.5806, 0.5425),
    "transfer_finetuned": (0.6373, 0.6358, 0.6426, 0.6399, 0.6446, 0.6460, 0.6464),
}


@pytest.fixture(scope="module")
def paper():
    return grid(read_published(), "random_halves")


def test_the_published_networks_are_all_there():
    rows = read_published()
    assert len(rows) == 148 and all(row.finished for row in rows)
    with pytest.raises(ValueError, match="no published numbers for 'zeiler'; there are: yosinski"):
        read_published("zeiler")


def test_means_of_the_published_networks(paper):
    found = means(paper)
    assert found["base", 0] == pytest.approx(0.6251, abs=5e-5)
    for treatment, values in PAPER_MEANS.items():
        assert [found[treatment, n] for n in range(1, 8)] == pytest.approx(values, abs=5.1e-5)


def test_table1_as_the_paper_prints_it(paper):
    table = boosts(paper, {})
    assert [round(100 * row.pooled, 1) for row in table] == [1.6, 1.8, 2.1]
    assert [round(100 * row.pooled_over_selffer, 1) for row in table] == [1.4, 1.4, 1.7]
    assert table[0].ns == tuple(range(1, 8)) and table[2].ns == (5, 6, 7)
    b0, b1 = 0.63408, 0.62498
    split0 = (0.63728, 0.64183, 0.64758, 0.64502, 0.64463, 0.64604, 0.64645)
    own = [value - b0 for value in split0] + [v - b1 for v in (0.62976, 0.63756, 0.63468)]
    assert table[0].paired.value == pytest.approx(sum(own) / 10)


def test_drops_add_up_and_pair_the_same_target(paper):
    table = drops(paper, {})
    assert [drop.n for drop in table] == list(range(1, 8))
    for drop in table:
        assert drop.coadaptation.value + drop.specificity.value == pytest.approx(drop.total.value)
        assert drop.coadaptation.units == 4
    bases = (0.6151, 0.62316, 0.62865, 0.626)
    own = (0.59745, 0.60596, 0.61089, 0.60472)
    by_hand = sum(b - s for b, s in zip(bases, own, strict=True)) / 4
    assert table[3].coadaptation.value == pytest.approx(by_hand)
    assert table[3].means == pytest.approx((0.6251, 0.6048, 0.5998), abs=5.1e-5)


def rename(rows):
    """The same networks with the names of the two tasks exchanged."""
    swap = str.maketrans("AB", "BA")
    return [
        dataclasses.replace(
            r,
            cell=r.cell[0].translate(swap) + r.cell[1:].translate(swap)
            if r.treatment != "base"
            else "base" + r.target.translate(swap),
            target=r.target.translate(swap),
        )
        for r in rows
    ]


def test_directions_are_one_treatment(paper):
    exchanged = grid(rename(read_published()), "random_halves")
    assert means(exchanged) == pytest.approx(means(paper))
    args = ("transfer_frozen", "base", range(1, 8), {})
    assert compare(exchanged, *args).value == pytest.approx(compare(paper, *args).value)


def row(cell, target, n, treatment, value, *, split="0", experiment="random_halves"):
    return Row(experiment, split, cell, target, n, treatment, value, value)


def test_targets_of_unequal_difficulty_are_compared_with_their_own_base():
    rows = [
        row("baseA", "A", 0, "base", 0.9),
        row("baseB", "B", 0, "base", 0.5),
        row("A2B", "B", 2, "transfer_frozen", 0.45),
    ]
    cells = grid(rows, "random_halves")
    assert compare(cells, "transfer_frozen", "base", [2], {}).value == pytest.approx(-0.05)
    assert means(cells)["base", 0] == 0.5
    assert list(treated(cells)) == [("0", "B")]
    assert boosts(cells, {})[0].paired is None and boosts(cells, {})[0].ns == ()
    rows.append(row("B2A", "A", 2, "transfer_frozen", 0.75))
    cells = grid(rows, "random_halves")
    assert compare(cells, "transfer_frozen", "base", [2], {}).value == pytest.approx(-0.10)


def test_failed_networks_take_no_part():
    rows = [
        row("baseB", "B", 0, "base", 0.5),
        row("A2B", "B", 2, "transfer_frozen", None),
        row("A4B", "B", 4, "transfer_frozen", 0.4),
    ]
    assert ns_of(grid(rows, "random_halves"), "transfer_frozen", "base") == [4]


def test_a_base_may_come_from_another_experiment_on_the_same_split():
    rows = [
        row("baseB", "B", 0, "base", 0.5),
        row("baseA", "A", 0, "base", 0.1, split="1", experiment="images_per_class"),
        row("R2B", "B", 2, "random_frozen", 0.3, experiment="random_weights"),
        row("R2A", "A", 2, "random_frozen", 0.3, split="1", experiment="random_weights"),
    ]
    cells = grid(rows, "random_weights")
    assert compare(cells, "random_frozen", "base", [2], {}).value == pytest.approx(-0.2)
    assert ("base", 0) not in cells["1", "A"]


def test_splits_are_sorted_as_numbers():
    rows = [row("baseA", "A", 0, "base", 0.5, split=split) for split in ("10", "natman", "2")]
    assert [split for split, _ in grid(rows, "random_halves")] == ["2", "10", "natman"]


def test_interpretations_name_only_what_exceeds_the_noise(paper):
    found = interpretations(paper, {})
    assert "co-adaptation lost" in found["selffer_frozen"] and "n = 5" in found["selffer_frozen"]
    assert "specificity" in found["transfer_frozen"] and "n = 7" in found["transfer_frozen"]
    assert "fine-tuning boost" in found["transfer_finetuned"]
    rows = [dataclasses.replace(r, hash=str(i)) for i, r in enumerate(read_published())]
    noisy = {r.hash: 5 for r in rows}
    found = interpretations(grid(rows, "random_halves"), noisy)
    assert "no dip beyond noise" in found["selffer_frozen"]
    assert "no boost beyond noise" in found["transfer_finetuned"]
    assert interpretations({}, {}) == {}
    single = grid([r for r in read_published() if r.n in (0, 3)], "random_halves")
    assert interpretations(single, {})["transfer_finetuned"].endswith("at n = 3")
