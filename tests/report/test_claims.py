import csv
import dataclasses

import pytest

from transfer_jax.report.claims import Claim, write_claims
from transfer_jax.report.published import read_published
from transfer_jax.report.yosinski2014_claims import claims

SEVEN = range(1, 8)


def verdicts(rows, num_eval=None):
    return {claim.number: claim.verdict for claim in claims(rows, num_eval)}


def with_hashes(rows):
    return [dataclasses.replace(row, hash=str(index)) for index, row in enumerate(rows)]


def moved(treatment, experiment, change):
    """The published networks, with one treatment's accuracies changed by n."""
    return [
        dataclasses.replace(row, top1_best_mean=row.top1_best_mean + change(row.n))
        if (row.treatment, row.experiment) == (treatment, experiment)
        else row
        for row in read_published()
    ]


def test_the_papers_own_networks_reproduce_its_claims():
    assert verdicts(read_published()) == dict.fromkeys(SEVEN, "reproduced")
    rows = with_hashes(read_published())
    images = {row.hash: 25_000 for row in rows}
    assert verdicts(rows, images) == dict.fromkeys(SEVEN, "reproduced")


@pytest.mark.parametrize(
    ("number", "treatment", "experiment", "change"),
    [
        (1, "transfer_frozen", "random_halves", lambda n: -0.05 if n == 2 else 0.0),
        (2, "selffer_frozen", "random_halves", lambda n: 0.03 if n in (4, 5) else 0.0),
        (2, "selffer_frozen", "random_halves", lambda n: -0.05 if n in (1, 2, 7) else 0.0),
        (3, "selffer_finetuned", "random_halves", lambda n: -0.05),
        (4, "transfer_frozen", "random_halves", lambda n: 0.08 if n >= 6 else 0.0),
        (5, "transfer_finetuned", "random_halves", lambda n: -0.012),
        (5, "transfer_finetuned", "random_halves", lambda n: -0.06 if n == 3 else 0.01),
        (6, "transfer_frozen", "man_natural", lambda n: 0.17 if n == 7 else 0.0),
        (7, "random_frozen", "random_weights", lambda n: 0.40),
        (7, "random_frozen", "random_weights", lambda n: 0.15 if n == 1 else 0.0),
    ],
)
def test_other_numbers_turn_a_verdict(number, treatment, experiment, change):
    rows = moved(treatment, experiment, change)
    assert verdicts(rows)[number] == "not reproduced"


@pytest.mark.parametrize(
    ("gone", "untested"),
    [
        (lambda r: r.treatment == "transfer_frozen", {1, 4, 6, 7}),
        (lambda r: r.treatment == "selffer_frozen", {2, 4}),
        (lambda r: r.treatment == "selffer_finetuned", {3}),
        (lambda r: r.treatment == "transfer_finetuned", {5}),
        (lambda r: r.experiment == "man_natural", {6, 7}),
        (lambda r: r.experiment == "random_weights", {7}),
        (lambda r: r.treatment == "base", {1, 2, 3, 5, 6, 7}),
        (lambda r: True, set(SEVEN)),
    ],
)
def test_claims_without_their_networks_are_not_tested(gone, untested):
    found = verdicts([row for row in read_published() if not gone(row)])
    assert {number for number, verdict in found.items() if verdict == "not tested"} == untested


def test_few_images_hide_effects_rather_than_invent_them():
    rows = with_hashes(read_published())
    images = {row.hash: 20 for row in rows}
    found = verdicts(rows, images)
    assert found[5] == "not reproduced"
    assert "within the noise" in claims(rows, images)[4].finding
    assert found[1] == found[3] == "not tested"
    assert found[7] == "reproduced"


def test_a_grid_of_n_2_4_6_is_judged_by_what_it_has():
    rows = [row for row in read_published() if row.n in (0, 2, 4, 6)]
    found = {claim.number: claim for claim in claims(rows)}
    assert all(claim.verdict == "reproduced" for claim in found.values())
    assert "n = 2" in found[1].finding and "n = 1" not in found[1].finding
    assert "n = 6" in found[6].finding


def test_findings_state_our_numbers():
    found = {claim.number: claim.finding for claim in claims(read_published())}
    assert "\u22128.3" in found[6] and "\u221225.0" in found[6]
    assert "7 of 7 n" in found[5]


def test_claims_as_csv(tmp_path):
    write_claims(tmp_path / "claims.csv", claims(read_published()))
    with (tmp_path / "claims.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["number"] for line in lines] == [str(number) for number in SEVEN]
    assert list(lines[0]) == ["number", "claim", "finding", "rule", "verdict"]
    with pytest.raises(ValueError, match="unknown verdict 'perhaps' of claim 3"):
        Claim(3, "", "", "", "perhaps")
