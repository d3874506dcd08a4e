"""The report of Zeiler & Fergus 2013, drawn from made files."""

import json
import math
import re
import shutil

import numpy as np
import pytest

from tests.report.reading import (
    assert_needs_nothing_else,
    pictures_on_page,
    text_of,
    verdicts_in,
)
from tests.report.zeiler2013_store import (
    COLUMNS,
    paper_arrays,
    paper_tables,
    write_tables,
    write_workdir,
)
from transfer_jax.grid.cell import to_json
from transfer_jax.networks import build
from transfer_jax.networks.architectures import BUILT_IN
from transfer_jax.report import zeiler2013_tables as tables
from transfer_jax.report.analysis_files import AnalysisError
from transfer_jax.report.claims import Claim
from transfer_jax.report.network_table import layer_table
from transfer_jax.report.published import read_published, read_published_table
from transfer_jax.report.zeiler2013 import write_report
from transfer_jax.report.zeiler2013_claims import claims
from transfer_jax.report.zeiler2013_files import read_analysis
from transfer_jax.report.zeiler2013_numbers import (
    fold_difference,
    folds,
    inside_box,
    seed_spread,
)

PICTURES = {
    "figure2_conv1.png",
    "figure2_conv2.png",
    "figure2_conv3.png",
    "rules.png",
    "figure4.png",
    "figure5_layer1.png",
    "figure5_layer2.png",
    "figure5_energy.png",
    "figure6.png",
    "figure7_caltech256.png",
    "figure7_caltech101.png",
    "duplicates.png",
    "learning_curves.png",
}


@pytest.fixture(scope="module")
def full_store(tmp_path_factory):
    directory = tmp_path_factory.mktemp("zeiler2013")
    write_workdir(directory, paper_tables(), paper_arrays())
    return directory


@pytest.fixture(scope="module")
def full_page(full_store):
    return text_of(write_report(full_store, title="A <title>", notes=["two < three"]))


def analysis_of(directory, **changed):
    """The paper's analysis with some tables replaced: lists of lines, or None to leave one out."""
    lines = {name: value for name, value in {**paper_tables(), **changed}.items() if value}
    write_tables(directory, lines)
    return read_analysis(directory)


def column(table, name):
    return COLUMNS[table].split().index(name)


def with_values(table, field, change, /, **where):
    """A table's lines with `change` applied to one column in the lines that match `where`."""
    lines = paper_tables()[table]
    for line in lines:
        if all(line[column(table, key)] == value for key, value in where.items()):
            line[column(table, field)] = change(line[column(table, field)])
    return lines


def verdict(analysis, number) -> str:
    return next(claim.verdict for claim in claims(analysis) if claim.number == number)


def test_the_papers_numbers_give_the_papers_verdicts(tmp_path):
    found = claims(analysis_of(tmp_path))
    assert [claim.number for claim in found] == list(range(1, 16))
    assert {c.number: c.finding for c in found if c.verdict != "reproduced"} == {}


def test_nothing_gives_no_verdict(tmp_path):
    assert {claim.verdict for claim in claims(read_analysis(tmp_path))} == {"not tested"}


def raised(by):
    return lambda value: round(value + by, 6)


@pytest.mark.parametrize(
    "number, table, name, change, where",
    [
        (1, "networks", "val_top1_error", raised(-0.016), {"name": "alexnet"}),
        (2, "ensembles", "val_top1_error", raised(0.02), {"name": "zfnet x 5"}),
        (3, "networks", "val_top1_error", raised(0.05), {"name": "alexnet without_6_7"}),
        (4, "networks", "val_top1_error", raised(0.05), {"name": "alexnet without_3_4"}),
        (5, "networks", "val_top1_error", raised(-0.25), {"name": "alexnet without_3_4_6_7"}),
        (6, "networks", "val_top1_error", raised(0.09), {"name": "zfnet fc_half"}),
        (7, "networks", "val_top1_error", raised(0.01), {"name": "zfnet conv345_wide"}),
        (8, "filters", "strongest_energy_share", raised(-0.56), {"dead_share": 0.3}),
        (9, "filters", "dead_share", raised(-0.24), {"network": "alexnet"}),
        (10, "transfer", "accuracy", raised(0.5), {"readout": "scratch", "target": "caltech101"}),
        (11, "transfer", "accuracy", raised(-0.3), {"target": "caltech256", "train_per_class": 6}),
        (12, "transfer", "accuracy", raised(0.3), {"readout": "svm", "layer": "conv2"}),
        (13, "occlusion", "inside", lambda value: 0, {}),
        (14, "evolution", "overlap", lambda value: 0.6, {}),
        (15, "multilabel", "ap_area", raised(-0.05), {"readout": "sigmoid"}),
    ],
)  # fmt: skip
def test_other_numbers_do_not_reproduce_a_claim(tmp_path, number, table, name, change, where):
    lines = with_values(table, name, change, **where)
    found = claims(analysis_of(tmp_path, **{table: lines}))
    assert [c.number for c in found if c.verdict == "not reproduced"] == [number]


@pytest.mark.parametrize(
    "number, changes",
    [
        (1, {"networks": with_values("networks", "num_val", lambda n: 400)}),
        (2, {"ensembles": with_values("ensembles", "num_val", lambda n: 400)}),
        (3, {"networks": [n for n in paper_tables()["networks"] if n[0] != "alexnet without_7"]}),
        (4, {"networks": with_values("networks", "num_val", lambda n: 400)}),
        (6, {"networks": with_values("networks", "num_val", lambda n: 400)}),
        (7, {"networks": with_values("networks", "num_val", lambda n: 400)}),
        (8, {"filters": with_values("filters", "strongest_energy_share", lambda n: 0.03)}),
        (9, {"filters": with_values("filters", "dead_share", lambda n: 0.05, network="alexnet")}),
        (11, {"transfer": [n for n in paper_tables()["transfer"] if n[0] == "caltech101"]}),
        (13, {"occlusion": with_values("occlusion", "inside", lambda n: "")}),
        (14, {"evolution": [n for n in paper_tables()["evolution"] if n[1] == 64]}),
        (15, {"multilabel": [n for n in paper_tables()["multilabel"] if n[1] == "softmax"]}),
    ],
)  # fmt: skip
def test_what_noise_hides_or_was_not_run_is_not_tested(tmp_path, number, changes):
    assert verdict(analysis_of(tmp_path, **changes), number) == "not tested"


def test_few_images_are_compared_with_ten_times_as_many(tmp_path):
    found = next(c for c in claims(analysis_of(tmp_path)) if c.number == 11)
    assert "caltech256, 6 against 60 a class" in found.finding and "caltech101" not in found.finding


def test_fold_differences_carry_the_larger_error(tmp_path):
    lines = analysis_of(tmp_path).transfer
    plus = folds(lines, "caltech256", "softmax", "fc7", 60)
    minus = folds(lines, "caltech256", "scratch", None, 60)
    found = fold_difference(plus, minus)
    differences = [plus[f].accuracy - minus[f].accuracy for f in range(5)]
    assert found.value == pytest.approx(0.742 - 0.388, abs=1e-6)
    assert found.error == pytest.approx(np.std(differences, ddof=1) / math.sqrt(5))
    one = fold_difference({0: plus[0]}, {0: minus[0]})
    p, q, n = plus[0].accuracy, minus[0].accuracy, 40 * 256
    assert one.error == pytest.approx(math.sqrt((p * (1 - p) + q * (1 - q)) / n))
    assert fold_difference(plus, {}) is None


def test_the_spread_between_seeds_and_the_box_follow_their_definitions(tmp_path):
    analysis = analysis_of(tmp_path)
    assert seed_spread(analysis) == pytest.approx(np.std([0.384, 0.385, 0.383], ddof=1))
    share, chance, error, count = inside_box(analysis.occlusion)
    assert (share, chance, count) == (0.75, pytest.approx(0.2), 60)
    assert error == pytest.approx(math.sqrt(0.75 * 0.25 / 60))


def test_every_part_is_on_the_page_and_it_needs_nothing_else(full_store, full_page):
    folder = full_store / "report"
    assert pictures_on_page(folder) == PICTURES
    assert_needs_nothing_else(folder)
    headings = re.findall(r"<h2>(.*)</h2>", full_page)
    assert [heading.split(":")[0] for heading in headings] == [
        "Figure 2", "One unit by three rules", "Figure 3", "Figure 4", "Figure 5", "Figure 6",
        "Table 1", "Table 2", "Tables 3 and 4", "Figure 7", "Table 5", "Table 6",
        "Near-duplicates", "Where each table and figure of the paper stands",
        "The paper's claims, tested", "Timings", "Every network",
    ]  # fmt: skip
    assert "15 of 15" in full_page and "two < three" in full_page
    assert "1 planned but not finished" in full_page and "not here" not in full_page
    places = re.findall(r"<td>((?:Figure|Table) \d)</td>", full_page)
    assert places == [f"Figure {n}" for n in range(1, 8)] + [f"Table {n}" for n in range(1, 7)]
    assert verdicts_in(folder) == ["reproduced"] * 15


def test_missing_files_leave_their_sections_out(full_store, tmp_path):
    shutil.copy(full_store / "results.csv", tmp_path)
    (tmp_path / "plan.json").write_text("[]")
    kept = {name: paper_tables()[name] for name in ("networks", "evolution")}
    kept["networks"] = [line for line in kept["networks"] if line[2] == "base"]
    write_tables(tmp_path, kept)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "figure6.png").write_bytes(b"of an earlier report")
    page = text_of(write_report(tmp_path, title="partial"))
    headings = [h.split(":")[0] for h in re.findall(r"<h2>(.*)</h2>", page)]
    assert headings == ["Figure 4", "Table 1", "Where each table and figure of the paper stands",
                        "The paper's claims, tested", "Every network"]  # fmt: skip
    assert "not here: there is no evolution.npz" in page and "multilabel.csv" in page
    assert not list((tmp_path / "report").glob("*.png"))


def test_a_page_without_the_papers_numbers(full_store, tmp_path):
    shutil.copytree(full_store, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "analysis").glob("*.npz"):
        path.unlink()
    page = text_of(write_report(tmp_path, title="ours", published=False))
    assert "Clarifai" not in page and "paper: change" not in page and "Sohn" not in page
    assert "paper, pretrained" not in page and "<td>zfnet x 5 and wide</td>" in page


def test_layers_without_a_live_map_are_left_out(tmp_path):
    arrays = paper_arrays()
    for file, layer in (("projections", "conv2"), ("evolution", "conv3")):
        for name in [n for n in arrays[file] if n.startswith(f"{layer}/")]:
            arrays[file][name] = arrays[file][name][:0]
    arrays["filters"]["zfnet/conv2_projections"] = np.zeros((0, 20, 20, 3))
    wanted = {name: arrays[name] for name in ("projections", "evolution", "filters")}
    lines = {"evolution": [["conv1", 1, "nan", ""], ["conv1", 2, 1.0, 1.0]]}
    write_workdir(tmp_path, lines, wanted)
    page = text_of(write_report(tmp_path, title="dead maps"))
    names = {path.name for path in (tmp_path / "report").glob("figure2_*.png")}
    assert names == {"figure2_conv1.png", "figure2_conv3.png"}
    assert (tmp_path / "report" / "figure4.png").exists() and "No network has finished" in page


def cells_of(table, first):
    return next(row for row in table.rows if row[0] == first)


def test_tables_put_the_papers_numbers_beside_ours(tmp_path):
    analysis = analysis_of(tmp_path)
    (errors, printed) = tables.table1(analysis, tables.published("table1"))
    wide = cells_of(errors, "zfnet x 5 and wide")
    assert wide == ("zfnet x 5 and wide", "6", "36.0 ± 0.2", "14.7", "50,000",
                    "6 convnets, (a) and (b)", "36.0", "14.7")  # fmt: skip
    assert cells_of(errors, "zfnet seed 2")[-3:] == ("", "", "") and len(printed.rows) == 13
    (ablations,) = tables.table2(analysis, tables.published("table2"))
    row = next(row for row in ablations.rows if row[5] == "71.3")
    assert row[5:] == ("71.3", "+30.8 ± 0.3", "50.1", "71.3", "+30.8", "50.1")
    ours, *theirs = tables.tables_3_and_4(analysis, tables.published("table3"), ())
    row = next(row for row in ours.rows if row[0] == "caltech101" and row[3] == "15")
    assert row[4:7] == ("5", "83.8 ± 0.5", "22.8 ± 1.5")
    assert cells_of(theirs[0], "Bo et al.") == ("Bo et al.", "", "81.4 ± 0.33")
    voc = tables.table5(analysis, tables.published("table5"))[0]
    assert cells_of(voc, "cat") == ("cat", "107", "91.2", "93.4", "89.2", "91.2", "91.2")
    assert cells_of(voc, "mean")[2] == "79.0" == cells_of(voc, "mean")[-1]
    layers = tables.table6(analysis, tables.published("table6"))[1]
    assert cells_of(layers, "conv5") == ("conv5", "65.6 ± 0.3", "65.7 ± 0.5", "86.2 ± 0.8",
                                         "65.6 ± 0.3", "82.9 ± 0.4", "65.7 ± 0.5")  # fmt: skip


def test_ablations_that_were_not_run_say_so(tmp_path):
    lines = [n for n in paper_tables()["networks"] if n[0] in ("zfnet", "zfnet fc_half")]
    analysis = analysis_of(tmp_path, networks=lines)
    (ablations,) = tables.table2(analysis, tables.published("table2"))
    assert [row[2] == "not run" for row in ablations.rows] == [True] * 7 + [False] * 2 + [True] * 3
    (ablations,) = tables.table2(analysis, ())
    assert [row[1] for row in ablations.rows] == ["base", tables.VARIANTS["fc_half"]]


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_layer_table_agrees_with_the_network(name):
    network = build(name, num_classes=1000)
    table = layer_table(json.loads(json.dumps(to_json(network))), "")
    shapes = network.kernel_shapes
    for layer, shape in shapes.items():
        count = math.prod(shape) + shape[-1]
        assert cells_of(table, layer)[-1] == f"{count:,}"
    if name == "zfnet":
        assert table.rows[-1][-1] == "62,357,608"
        assert [cells_of(table, n)[5] for n in ("conv1", "conv2", "conv5")] == [
            "110 x 110, then 55 x 55", "26 x 26, then 13 x 13", "13 x 13, then 6 x 6"]  # fmt: skip


def test_the_published_tables_hold_what_the_paper_prints():
    table5 = read_published_table("zeiler2013", "table5")
    for name, mean, tolerance in (("zeiler_fergus", 79.0, 0.06), ("yan", 82.2, 0.6)):
        values = [float(line[name]) for line in table5 if line["voc_name"]]
        assert len(values) == 20 and np.mean(values) == pytest.approx(mean, abs=tolerance)
    base = {line["variant"]: line for line in read_published_table("zeiler2013", "table2")}
    assert base["without_3_4_6_7"]["val_top5"] == "50.1"
    with pytest.raises(ValueError, match="no published numbers for 'zeiler2013_table7'"):
        read_published_table("zeiler2013", "table7")
    with pytest.raises(ValueError, match=r"there are: yosinski2014$"):
        read_published("zeiler2013_table1")


@pytest.mark.parametrize(
    "table, name, value, message",
    [
        ("evolution", "overlap", 1.01, "expected a fraction between 0 and 1 or nothing"),
        ("networks", "val_top1_error", 38.4, "expected a fraction between 0 and 1"),
        ("transfer", "fold", "first", "line 3: fold = 'first'; expected a whole number"),
        ("occlusion", "inside", "maybe", "inside = 'maybe'; expected 0 or 1 or nothing"),
        ("timings", "seconds", "inf", "seconds = 'inf'; expected a number"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, table, name, value, message):
    lines = paper_tables()[table]
    lines[1][column(table, name)] = value
    with pytest.raises(AnalysisError, match=message):
        analysis_of(tmp_path, **{table: lines})


def test_bad_files_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results\.csv that a run writes"):
        write_report(tmp_path, title="empty")
    folder = tmp_path / "analysis"
    folder.mkdir()
    (folder / "timings.csv").write_text("part\nvisual\n")
    with pytest.raises(AnalysisError, match=r"timings\.csv: no column seconds"):
        read_analysis(tmp_path)
    (folder / "timings.csv").unlink()
    (folder / "rules.npz").write_bytes(b"PK no zip")
    with pytest.raises(AnalysisError, match=r"rules\.npz: not a readable \.npz"):
        read_analysis(tmp_path).arrays("rules")
    assert read_analysis(tmp_path).arrays("filters") == {}


def test_claims_have_rules_in_words(tmp_path):
    for claim in claims(analysis_of(tmp_path)):
        assert isinstance(claim, Claim) and len(claim.rule) > 60 and claim.finding.endswith(".")
