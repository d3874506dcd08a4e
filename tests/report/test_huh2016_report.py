"""The report of Huh et al. 2016, drawn from made numbers."""

import math
import statistics
import subprocess
import sys

import numpy as np
import pytest

from tests.report import huh2016_store as store
from tests.report.reading import assert_needs_nothing_else, pictures_on_page, read_csv, text_of
from transfer_jax.report import huh2016_numbers as numbers
from transfer_jax.report import huh2016_tables as report_tables
from transfer_jax.report.analysis_files import AnalysisError
from transfer_jax.report.claims import Claim
from transfer_jax.report.huh2016 import write_report
from transfer_jax.report.huh2016_claims import claims
from transfer_jax.report.huh2016_feature_claims import sibling_excess
from transfer_jax.report.huh2016_files import read_analysis
from transfer_jax.report.huh2016_numbers import Share, contrast
from transfer_jax.report.results import write_results
from transfer_jax.report.statistics import Estimate

PICTURES = {"images", "classes", "neighbours", "siblings", "budget", "overlap", "halves",
            "unrelated", "learning_curves", "filters"}  # fmt: skip


def report_of(directory, **fields):
    path = write_report(directory, title="A <title> & more", **fields)
    assert path == directory / "report" / "index.html"
    return path.parent, text_of(path)


def analysis_of(directory, found, **fields):
    """The analysis of some tables, read back; num_eval of every network is 8000."""
    store.write_tables(directory, found)
    read = read_analysis(directory)
    hashes = {line.hash for line in read.conditions}
    return type(read)(**{f: getattr(read, f) for f in read.__dataclass_fields__} |
                      {"num_eval": dict.fromkeys(hashes, 8000)} | fields)  # fmt: skip


def verdicts(analysis):
    return {claim.number: claim.verdict for claim in claims(analysis)}


def claim(analysis, number) -> Claim:
    return claims(analysis)[number - 1]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    directory = tmp_path_factory.mktemp("full")
    store.write_workdir(directory)
    return directory


@pytest.fixture(scope="module")
def full_report(full):
    return report_of(full, notes=["made by hand", "two < three"])


def test_numbers_that_behave_as_the_paper_says_give_its_claims(full_report):
    folder, text = full_report
    lines = read_csv(folder / "claims.csv")
    assert [line["verdict"] for line in lines] == ["reproduced"] * 10
    assert all(line["rule"] and line["finding"] for line in lines)
    assert "10 of 10" in text and "two < three" in text and "All 249 networks" in text
    for number, (question, *_) in enumerate(
        (("How many pretraining images",), ("How many pretraining classes",), ("Do coarse",),
         ("More classes",), ("What if the target",), ("Does the other half",),
         ("Does unrelated",)), start=1):  # fmt: skip
        assert f"<h2>{number}. {question}" in text


def test_every_figure_is_a_real_picture_on_the_page(full_report):
    folder, _ = full_report
    assert pictures_on_page(folder) == {f"{name}.png" for name in PICTURES}
    assert_needs_nothing_else(folder)
    assert "<title>A &lt;title&gt; &amp; more</title>" in (folder / "index.html").read_text()


def test_detection_is_marked_as_not_built_and_absent_targets_as_not_run(full_report, full):
    _, text = full_report
    analysis = read_analysis(full)
    rows = {row[0]: row[1] for row in report_tables.targets_table(analysis).rows}
    assert rows["VOC 2007 detection"] == "not built"
    assert rows["SUN397 scenes"] == rows["VOC 2012 actions"] == "not run"
    for question in ("images", "classes", "budget", "overlap", "halves", "unrelated"):
        table = report_tables.condition_tables(analysis, question)[0]
        assert table.header[-1] == "VOC 2007 detection (mAP)"
        assert {row[-1] for row in table.rows} == {"not built"}
    assert "riding horse" in text


def test_the_papers_numbers_stand_beside_ours_where_wanted(full, full_report, tmp_path):
    _, text = full_report
    (table,) = report_tables.published_tables(read_analysis(full))
    halving, merging = table.rows
    assert halving[1] == "\u22121.5 mAP, VOC 2007 detection" and merging[1].startswith("\u22122.8")
    assert halving[2] == "200 images a class in place of all"
    assert merging[2] == "20 classes top-down in place of all"
    assert "Beside the paper's numbers" in text
    found = store.tables()
    found["conditions"] = [n for n in found["conditions"] if n[0] in ("images", "classes")][:15]
    store.write_workdir(tmp_path, found, files=False)
    folder, text = report_of(tmp_path, published=False)
    assert "Beside the paper's numbers" not in text and "<h2>1. How many" in text
    assert not (folder / "learning_curves.png").exists()


def test_a_table_cell_is_mean_and_standard_deviation_over_seeds(full):
    analysis = read_analysis(full)
    table, changes = report_tables.condition_tables(analysis, "images")
    found = store.tables()["transfer"]
    half, everything = (
        [line[4] for line in found if line[0] == name and line[2:4] == ["world", "svm"]]
        for name in ("200 images a class", "all")
    )
    column = table.header.index("world, linear SVM (%)")
    expected = f"{100 * statistics.fmean(half):.1f} ± {100 * statistics.stdev(half):.1f}"
    assert {row[0]: row[column] for row in table.rows}["200 images a class"] == expected
    differences = [a - b for a, b in zip(half, everything, strict=True)]
    between = statistics.stdev(differences) / math.sqrt(3)
    binomial = math.sqrt(sum(p * (1 - p) / 5000 for p in half + everything)) / 3
    expected = f"{100 * statistics.fmean(differences):+.1f} ± {100 * max(between, binomial):.1f}"
    column = changes.header.index("world, linear SVM")
    row = {row[0]: row[column] for row in changes.rows}["200 images a class"]
    assert row == expected.replace("-", "\u2212")


def test_contrast_pairs_seeds_and_takes_the_larger_error():
    a = {0: Share(0.5, 100), 1: Share(0.7, 100), 2: Share(0.9, 100)}
    b = {0: Share(0.4, 100), 2: Share(0.6, 100), 3: Share(0.1, 100)}
    found = contrast(((1, a), (-1, b)))
    binomial = math.sqrt((0.25 + 0.24 + 0.09 + 0.24) / 100) / 2
    assert (found.units, found.networks) == (2, 4)
    assert found.value == pytest.approx(0.2)
    assert found.error == pytest.approx(max(binomial, 0.1))
    exact = {s: Share(share.value, 10**9) for s, share in b.items()}
    many = {s: Share(share.value, 10**9) for s, share in a.items()}
    assert contrast(((1, many), (-1, exact))).error == pytest.approx(0.1)
    unknown = {s: Share(share.value, None) for s, share in a.items()}
    assert contrast(((1, {0: unknown[0]}),)).error is None
    assert contrast(((1, a), (-1, {7: Share(0.5, 100)}))) is None and contrast(()) is None


def test_the_slope_is_that_of_least_squares():
    sizes = {"a": 8, "b": 16, "c": 100}
    weights = numbers.slope_weights(sizes)
    accuracies = {"a": 0.5, "b": 0.47, "c": 0.61}
    (slope, _) = np.polyfit(np.log2(list(sizes.values())), list(accuracies.values()), 1)
    assert sum(weights[n] * accuracies[n] for n in sizes) == pytest.approx(slope)
    assert numbers.slope_weights({"a": 8, "b": 8}) == {}


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [(0.03, 0.01, "reproduced"), (-0.03, 0.01, "not reproduced"),
     (0.01, 0.008, "not reproduced"), (0.02, 0.02, "not tested"), (-0.02, 0.05, "not tested")],
)  # fmt: skip
def test_a_gain_is_decided_only_by_more_than_the_noise(value, error, expected):
    gain = Estimate(value, error, 3, 6)
    opposite = {"reproduced": "not reproduced", "not reproduced": "reproduced"}
    assert numbers.verdict_of_gain(gain, 0.6) == expected
    assert numbers.verdict_of_no_gain(gain, 0.6) == opposite.get(expected, expected)
    assert numbers.verdict_of_gain(Estimate(value, error, 1, 2), 0.6) == "not tested"
    assert numbers.verdict_of_gain(None, 0.6) == "not tested"


@pytest.mark.parametrize(
    ("cost", "error", "expected"),
    [(0.01, 0.005, "reproduced"), (0.05, 0.005, "not reproduced"), (0.028, 0.005, "not tested"),
     (-0.02, 0.01, "reproduced")],
)  # fmt: skip
def test_a_cost_is_little_below_a_twentieth_of_the_accuracy(cost, error, expected):
    assert numbers.verdict_of_little(Estimate(cost, error, 3, 6), 0.6) == expected
    assert numbers.verdict_of_little(Estimate(cost, error, 1, 2), 0.6) == "not tested"


OTHERWISE = {
    1: {"200 images a class": -0.09},
    2: {"200 images a class": -0.15},
    3: {"20 classes top-down": -0.10},
    6: {"160 classes of 125 images": -0.02},
    7: {("with target classes", t): 0.0 for t in ("held_out", "held_out_natural")},
    8: {"half random A": 0.0, "half random B": 0.001},
    9: {"half apart A": -0.07, "half apart B": -0.06},
    10: {("natural only", "held_out_natural"): -0.04},
}


@pytest.mark.parametrize("number", sorted(OTHERWISE))
def test_each_claim_about_transfer_can_fail(number, tmp_path):
    analysis = analysis_of(tmp_path, store.tables(changes=OTHERWISE[number]))
    assert verdicts(analysis)[number] == "not reproduced"


def test_claims_about_features_can_fail(tmp_path):
    found = store.tables()
    # Top-1 as good as guessing within one of 20 classes, and siblings as near as chance has it.
    for line in found["neighbours"]:
        line[3] = line[1] / store.CLASSES if line[0] != "all" else line[3]
    for line in found["siblings"]:
        line[5] = line[6] if line[4] == 22 else line[5]
    analysis = analysis_of(tmp_path, found)
    assert (verdicts(analysis)[4], verdicts(analysis)[5]) == ("not tested", "reproduced")
    for line in found["neighbours"]:
        line[3] = 0.05
    for line in found["siblings"]:
        line[5] = 0.0
    analysis = analysis_of(tmp_path, found)
    assert (verdicts(analysis)[4], verdicts(analysis)[5]) == ("not reproduced", "not reproduced")


def test_guessing_within_the_class_is_what_coarse_networks_must_beat(full):
    finding = claim(read_analysis(full), 4).finding
    assert "20 classes top-down: top-1 17.4 %, against 12.5 % by such guessing" in finding
    error = math.sqrt(0.174 * 0.826 / 8000)
    assert f"(+4.9 ± {100 * error:.1f} points) and 0.6 % by chance" in finding
    assert "Trained on all 160 classes: top-1 21.0 %, top-5 47.0 %" in finding


def test_sibling_shares_are_as_noisy_as_their_classes_are_few(full):
    excess = sibling_excess(read_analysis(full))
    assert set(excess) == set(store.LEVELS)  # the level without siblings has no share
    level = excess["bottom-up 118"]
    assert level.value == pytest.approx(0.31 - 0.004, abs=1e-3)
    assert level.error == pytest.approx(math.sqrt(0.31 * 0.69 / 43), rel=0.01)


def test_small_test_sets_leave_small_effects_untested(tmp_path):
    found = store.tables(num_test=60)
    analysis = analysis_of(tmp_path, found)
    assert {n for n, v in verdicts(analysis).items() if v == "not tested"} >= {1, 3, 6, 7, 9, 10}
    assert "Too noisy to tell" in claim(analysis, 1).finding


def test_one_seed_tests_nothing(tmp_path):
    analysis = analysis_of(tmp_path, store.tables(seeds=(0,)))
    assert set(verdicts(analysis).values()) == {"not tested"}
    assert "One seed only" in claim(analysis, 1).finding


def test_the_linear_svm_decides_where_nothing_was_fine_tuned(tmp_path):
    found = store.tables()
    found["transfer"] = [line for line in found["transfer"] if line[3] == "svm"]
    analysis = analysis_of(tmp_path, found)
    assert verdicts(analysis)[8] == "reproduced"
    assert "fine-tuned" not in claim(analysis, 8).finding


def test_overlap_counts_on_the_targets_whose_classes_were_added(tmp_path):
    found = store.tables(changes={("with target classes", "world"): 0.1})
    finding = claim(analysis_of(tmp_path, found), 7).finding
    assert "classes: +3.5" in finding and "On targets that have none of them: +10.0" in finding
    found["targets"] = []
    assert verdicts(analysis_of(tmp_path, found))[7] == "not tested"


def test_without_a_natural_target_every_addition_counts(tmp_path):
    found = store.tables()
    for name in ("transfer", "targets"):
        column = 2 if name == "transfer" else 0
        found[name] = [line for line in found[name] if line[column] != "held_out_natural"]
    analysis = analysis_of(tmp_path, found)
    assert verdicts(analysis)[10] == "not reproduced"
    assert "only partly unrelated" in claim(analysis, 10).finding


def test_a_half_is_the_largest_pair_of_half_and_whole(tmp_path):
    found = store.tables()
    read = analysis_of(tmp_path, found)
    assert [line.condition for line in numbers.halved(read)] == ["all", "200 images a class"]
    found["conditions"] = [n for n in found["conditions"] if n[1] != "200 images a class"]
    read = analysis_of(tmp_path, found)
    pair = numbers.halved(read)
    assert [line.condition for line in pair] == ["100 images a class", "50 images a class"]
    assert numbers.fewer({"a": 127, "b": 10, "c": 753, "d": 79}, 1000) == "a"
    assert numbers.fewer({"b": 10, "c": 753}, 1000) is None


@pytest.mark.parametrize("missing", ["conditions", "transfer", "neighbours", "siblings", "targets",
                                     "actions", "timings"])  # fmt: skip
def test_without_a_file_its_part_is_left_out(tmp_path, missing):
    store.write_workdir(tmp_path, store.small_tables(), files=False)
    (tmp_path / "analysis" / f"{missing}.csv").unlink()
    folder, text = report_of(tmp_path)
    gone = {"neighbours": "neighbours", "siblings": "siblings", "conditions": "overlap"}
    drawn = {path.stem for path in folder.glob("*.png")}
    assert drawn == {"overlap", "neighbours", "siblings"} - {gone.get(missing)}
    absent = "not here: the analysis has none of its conditions"
    assert text.count(absent) == (6 if missing == "conditions" else 5)
    if missing == "transfer":
        assert "not run" in text and "<h2>Timings" in text
    if missing == "timings":
        assert "<h2>Timings" not in text


def test_a_run_without_any_analysis_has_a_report_and_old_pictures_go(tmp_path):
    store.write_workdir(tmp_path, store.small_tables(), files=False)
    assert list(report_of(tmp_path)[0].glob("*.png"))
    for path in (tmp_path / "analysis").iterdir():
        path.unlink()
    folder, text = report_of(tmp_path)
    assert not list(folder.glob("*.png"))
    assert "0 of 0" in text and text.count("not here") == 7 and "not built" in text
    write_results((), tmp_path / "results.csv")
    assert "No network has finished yet" in report_of(tmp_path)[1]


def test_a_question_with_one_condition_and_one_seed_is_drawn(tmp_path):
    found = {name: [] for name in store.COLUMNS}
    whole = store.tables(seeds=(0,))
    found["conditions"] = [n for n in whole["conditions"] if n[0] == "classes" and n[1] == "all"]
    found["neighbours"] = [n for n in whole["neighbours"] if n[0] == "2 classes top-down"]
    store.write_workdir(tmp_path, found, files=False)
    folder, text = report_of(tmp_path)
    assert {path.stem for path in folder.glob("*.png")} == {"classes", "neighbours"}
    assert "48." in text or "47." in text


def test_bad_files_are_refused_by_name(tmp_path, full):
    with pytest.raises(FileNotFoundError, match=r"results\.csv that a run writes"):
        write_report(tmp_path, title="x")
    with pytest.raises(TypeError, match="notes is one string"):
        write_report(full, title="x", notes="one line")
    found = store.tables()
    found["transfer"][0][4] = 62.0
    store.write_tables(tmp_path, found)
    with pytest.raises(AnalysisError, match=r"transfer\.csv, line 2: accuracy = '62.0'; expected"):
        read_analysis(tmp_path)
    (tmp_path / "analysis" / "transfer.csv").write_text("condition,seed\n")
    with pytest.raises(AnalysisError, match=r"transfer\.csv: no column target"):
        read_analysis(tmp_path)


def test_the_report_needs_no_jax():
    code = "import transfer_jax.report.huh2016, sys; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
