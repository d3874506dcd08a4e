"""Which networks a config asks for."""

import pytest
from ml_collections import ConfigDict

from configs import yosinski2014 as config_file
from tests import small
from transfer_jax.data.dataset import Dataset
from transfer_jax.grid.cost import dry_run
from transfer_jax.grid.store import Store
from transfer_jax.studies.settings import network_config, planning_opener
from transfer_jax.studies.yosinski2014 import entries


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return small.dataset(num_classes=10)


def config(**experiments) -> ConfigDict:
    """The demo's config with no experiment but those given, for images of 8x8."""
    found = config_file.get_config("demo")
    found.network = network_config("alexnet_mini", input_size=16)
    found.recipe.augmentation.size, found.recipe.augmentation.pad = 16, 4
    found.recipe.steps, found.experiments.random_halves.fine_tuned_ns = 600, ()
    found.experiments.random_halves.splits = found.experiments.man_natural.seeds = ()
    for name, fields in experiments.items():
        found.experiments[name].update(fields)
    return found


def names(found, **tags):
    return [str(cell.treatment) for row, cell in found if tags.items() <= row.items()]


def test_halves_have_their_bases_treatments_and_long_controls(dataset):
    wanted = {"splits": (0, 3), "seeds": (0, 1), "targets": ("B",), "ns": (2, 5)}
    found = entries(config(random_halves=wanted), lambda _: dataset)
    copies = ["B2B", "B5B", "B2B+", "B5B+", "A2B", "A5B", "A2B+", "A5B+"]
    for split in "03":
        for seed in (0, 1):
            unit = {"split": split, "seed": seed, "experiment": "random_halves"}
            plain = names(found, condition="standard", **unit)
            assert plain[:2] == ["baseA", "baseB"] and sorted(plain[2:]) == sorted(copies)
            assert names(found, condition="long", **unit) == ["baseB"]
    hashes = {cell.hash for _, cell in found}
    assert len(hashes) == len(found) == 4 * 11
    bases = {(r["split"], r["seed"], r["target"]): c for r, c in found if r["condition"] != "long"
             and c.kind == "base"}  # fmt: skip
    for row, cell in found:
        if cell.treatment.copies:
            assert cell.source == bases[row["split"], row["seed"], cell.treatment.source]
        factor = 2 if row["condition"] == "long" else 1
        assert cell.recipe.steps == factor * 600


def test_random_layers_meet_distant_ones_on_the_same_task(dataset, tmp_path):
    table = tmp_path / "sides.csv"
    lines = [f"class{i},{'natural' if i % 2 else 'man-made'}" for i in range(10)]
    table.write_text("\n".join(["wnid,superclass", *lines]))
    wanted = {"seeds": (0,), "ns": (3,), "superclass_csv": str(table)}
    found = entries(config(man_natural=wanted), lambda _: dataset)
    assert names(found) == ["baseA", "baseB", "A3B", "R3B"]
    natural = found[1][1].task
    assert natural.class_names == tuple(f"class{i}" for i in range(1, 10, 2))
    assert all(cell.task == natural for _, cell in found[1:])


def test_bases_of_few_images_and_random_weights_learn_the_whole_dataset(dataset):
    few = {"counts": (2, 5), "recipe": {"steps": 30, "batch_size": 8}}
    found = entries(
        config(images_per_class=few, random_weights={"seeds": (4,), "ns": (1,)}), lambda _: dataset
    )
    assert names(found) == ["baseW", "R1W", "baseW", "baseW"]
    assert [len(cell.task.train[0]) for _, cell in found] == [120, 120, 20, 50]
    assert [cell.recipe.steps for _, cell in found] == [600, 600, 30, 30]
    assert [row.get("images_per_class") for row, _ in found] == [None, None, 2, 5]


def test_the_papers_grid_is_planned_without_its_images(tmp_path):
    opener, remarks = planning_opener(str(tmp_path), tmp_path)
    found = entries(config_file.get_config("imagenet"), opener)
    text = dry_run(found, Store(tmp_path / "none"), assumed_tflops=100.0, workers=8)
    assert f"{len({cell.hash for _, cell in found})} to train" in text
    assert "imagenet2012 (outline)" in remarks[0] and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"random_halves": {"splits": (0,), "treatments": ("frozen",)}},
        {"random_halves": {"splits": (0,), "targets": ("C",)}},
    ],
)
def test_what_cannot_be_run_is_refused(dataset, wrong):
    with pytest.raises(ValueError, match=r"config\.experiments"):
        entries(config(**wrong), lambda _: dataset)
