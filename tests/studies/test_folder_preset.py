"""The preset 'folder' fits every study to the photographs that a user has."""

import importlib

import numpy as np
import pytest
from PIL import Image

from transfer_jax.grid.cell import all_cells
from transfer_jax.main import STUDIES, study_of
from transfer_jax.studies.settings import dataset_opener


def write_folder(root, classes, images):
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class {label}"
        folder.mkdir(parents=True)
        for index in range(images):
            pixels = rng.integers(0, 255, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def config_of(study, preset):
    return importlib.import_module(f"configs.{study}").get_config(preset)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder whose prepared data all studies share, photographs of some classes in it."""
    folder = tmp_path_factory.mktemp("prepared")
    for classes in (2, 5, 9):
        write_folder(folder / f"{classes}", classes, 20)
    return folder


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("classes", [2, 5, 9])
def test_every_study_plans_for_any_number_of_classes(prepared, study, classes):
    config = config_of(study, f"folder={prepared / str(classes)}")
    opener = dataset_opener(str(prepared), prepared)
    cells = all_cells(cell for _, cell in study_of(study).entries(config, opener))
    assert any("folder" in cell.task.dataset.name for cell in cells)
    assert all(len(cell.task.train[0]) and len(cell.task.val[0]) for cell in cells)
    assert bool(config.notes) == any("world" in cell.task.dataset.name for cell in cells) or (
        classes == 2 and config.notes
    )


def test_a_few_photographs_of_each_class_are_enough_for_tables_of_targets(tmp_path):
    config = config_of("zeiler2013", f"folder={write_folder(tmp_path / 'few', 9, 4)}")
    entries = study_of("zeiler2013").entries(config, dataset_opener(str(tmp_path), tmp_path))
    assert {tags["size"] for tags, _ in entries if tags["experiment"] == "scratch"} == {1}


def test_targets_of_few_classes_are_not_said_to_be_pretrained_on(tmp_path):
    config = config_of("huh2016", f"folder={write_folder(tmp_path / 'few', 3, 20)}")
    entries = study_of("huh2016").entries(config, dataset_opener(str(tmp_path), tmp_path))
    assert "overlap" not in {tags.get("question") for tags, _ in entries}


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_no_folder_is_said_before_anything_is_read(path):
    with pytest.raises(ValueError, match="expected folder=PATH"):
        config_of("huh2016", f"folder={path}")
