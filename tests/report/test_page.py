"""Workdirs read, judged and shown."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.report.fakes import fake, write_sealed, write_workdir
from transfer_jax import seal
from transfer_jax.report import (
    Claim,
    Effect,
    Section,
    judge,
    load,
    networks as network_table,
    plots,
    write_report,
)
from transfer_jax.report.claims import converged, holm, wrong_by_chance
from transfer_jax.studies import yosinski2014

GAIN = {"base": 0.0, "long": 0.2, "selffer_frozen": -0.02, "transfer_frozen": -0.1}


def results(rng, splits=3):
    rows = []
    for split in range(splits):
        for kind, gain in GAIN.items():
            for n in (2, 6) if "_" in kind else (0,):
                tags = {"experiment": "random_halves", "split": str(split), "seed": 0, "n": n}
                tags |= {"condition": "long" if kind == "long" else "standard", "target": "B"}
                tags |= {"treatment": "base" if kind == "long" else kind, "images": "all"}
                rows.append(tags | {"accuracy": 0.6 + gain})
    return fake(rows, rng, images=300)


@pytest.fixture(scope="module")
def known():
    return results(np.random.default_rng(0))


@pytest.fixture(scope="module")
def workdir(known, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_workdir(known, folder, failed=["0002"], planned=["0003", "0004"])
    return folder


@pytest.fixture(scope="module")
def page(workdir):
    return write_report(yosinski2014, load(workdir))


def test_what_was_written_is_read(known, workdir):
    found = load(workdir)
    top1 = found.select("top1").set_index("hash")["value"]
    expected = known.frame.set_index("hash")["value"].drop(["0002", "0003", "0004"])
    pd.testing.assert_series_equal(top1.sort_index(), expected, check_names=False)
    digest, right = found.right("0001")
    assert digest == "all" and (right == known.right("0001")[1]).all()
    assert found.select("top1", split=["0", "2"], n=range(1, 9))["split"].isin(["0", "2"]).all()
    assert list(found.metrics("0000")["step"]) == [1, 2, 3]
    table = network_table(found).set_index("hash")
    assert len(table) == len(known.frame)
    assert table.loc["0002", "error"] == "loss is nan"
    assert list(table["state"].value_counts()[["planned", "failed"]]) == [2, 1]
    assert table.loc["0000", "seconds"] == 2.5 and pd.isna(table.loc["0003", "top1"])


def test_readouts_join_the_frame_with_their_own_right_images(known, tmp_path):
    write_workdir(known, tmp_path, measures=["svm/a: one"])
    folder = tmp_path / "measures" / "svm"
    folder.mkdir(parents=True)
    rows = [{"measure": "accuracy", "value": 0.5, "split": "0", "right": "bits", "images": "test"}]
    np.savez(folder / "a: one.npz", bits=np.array([True, False]))
    kept = {"rows": rows, "files": seal.digests(folder)}
    for name in ("a: one", "of another config"):
        write_sealed(folder / f"{name}.json", kept, f"svm/{name}")
    found = load(tmp_path)
    (row,) = found.select("accuracy").to_dict("records")
    digest, right = found.right(row["right"])
    assert (digest, list(right), row["value"]) == ("test", [True, False], 0.5)
    assert found.arrays("svm/a: one")["bits"].sum() == 1
    assert found.arrays("svm/of another config") == {}
    assert len(network_table(found)) == len(known.frame)


def test_a_page_says_what_it_leaves_out(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    damaged = tmp_path / "run" / "cells" / "0001" / "done.json"
    damaged.write_text("null")
    found = load(tmp_path / "run")
    assert "0001" not in set(found.select("top1")["hash"])
    assert network_table(found).set_index("hash").loc["0001", "state"] == "damaged"
    html = write_report(yosinski2014, found).read_text()
    assert f"{damaged} is not what was written there: its network is left out" in html


def test_a_page_needs_nothing_but_itself(page):
    html = page.read_text()
    sources = re.findall(r'src="([^"]*)"', html)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert len(set(sources)) == len(sources) and "http" not in re.sub(r'"data:[^"]*"', "", html)
    assert "A &lt;title&gt;" in html and "run --it" in html and "loss is nan" in html
    assert sorted(path.name for path in page.parent.iterdir()) == ["claims.csv", "index.html"]
    judged = pd.read_csv(page.parent / "claims.csv")
    counts = judged[judged["claim"].notna()]["verdict"].value_counts()
    for outcome in ("holds", "fails", "undecided"):
        assert f"<b>{counts.get(outcome, 0)}</b>{outcome}" in html


@pytest.mark.parametrize("planned", [range(100), range(1, 100)])
def test_a_run_that_has_just_begun_has_a_page(known, tmp_path, planned):
    write_workdir(known, tmp_path, planned=[f"{i:04x}" for i in planned])
    write_report(yosinski2014, load(tmp_path))
    judged = pd.read_csv(tmp_path / "report" / "claims.csv")
    assert set(judged["verdict"]) == {"undecided"}


def test_bases_trained_twice_as_long_tell_whether_they_converged(known, page):
    assert converged(known).outcome == "fails"
    assert converged(known).effect.mean == pytest.approx(0.2, abs=0.05)
    assert 'class="line fails"' in page.read_text()


def test_holm_against_its_definition():
    p = pd.Series([0.01, np.nan, 0.04, 0.03, 0.005])
    ranked = sorted(p.dropna())
    raised = [max(min(1.0, (4 - j) * ranked[j]) for j in range(i + 1)) for i in range(4)]
    expected = {value: up for value, up in zip(ranked, raised, strict=True)}
    found = holm(p)
    assert np.isnan(found[1])
    assert [found[i] for i in (0, 2, 3, 4)] == pytest.approx([expected[p[i]] for i in (0, 2, 3, 4)])


def test_claims_without_an_interval_are_no_tests():
    decided, one = Effect(0.1, 0.01, 4, 5), Effect(0.1, units=1)
    claims = [
        Claim("a", lambda _: decided.above(0.0)),
        Claim("b", lambda _: one.above(0.0)),
    ]
    judged = judge(claims, SimpleNamespace())
    assert list(judged["verdict"]) == ["holds", "undecided"]
    assert wrong_by_chance(judged) == 0.025
    assert judged["holm"][0] == judged["p"][0] and np.isnan(judged["holm"][1])


def test_filters_are_laid_out_row_by_row():
    kernel = np.random.default_rng(0).normal(size=(2, 3, 3, 5))
    picture = plots.filter_tiles(kernel)
    assert picture.shape == (2 * 3, 3 * 4, 3)
    fourth = kernel[..., 3] / np.abs(kernel[..., 3]).max() / 2 + 0.5
    np.testing.assert_allclose(picture[3:5, 0:3], 255 * fourth, atol=0.5)
    assert (picture[:, 3] == 255).all() and (picture[3:, 8:] == 255).all()


def test_sections_without_anything_to_show_are_left_out(workdir):
    sections = [Section("Empty", [(None, ""), (pd.DataFrame(), "")], "text")]
    study = SimpleNamespace(CLAIMS=yosinski2014.CLAIMS, sections=lambda results: sections)
    table = pd.DataFrame({"known": ["+1.5", ""], "blank": ["", None]}, ["run", "not run"])
    sections.append(Section("Table", [(table, "")], "text"))
    page = write_report(study, load(workdir)).read_text()
    assert "Empty" not in page
    assert "<th>run</th>" in page and "<th>known</th>" in page
    assert "<th>not run</th>" not in page and "<th>blank</th>" not in page
