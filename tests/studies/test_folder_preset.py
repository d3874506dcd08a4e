"""The preset 'folder' fits every study to the photographs that a user has."""

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
    scope = {"__name__": "config"}
    with open(f"configs/{study}.py") as file:
        exec(compile(file.read(), study, "exec"), scope)
    return scope["get_config"](preset)


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("classes", [2, 5, 9])
def test_every_study_plans_for_any_number_of_classes(tmp_path, study, classes):
    config = config_of(study, f"folder={write_folder(tmp_path / 'mine', classes, 20)}")
    opener = dataset_opener(str(tmp_path / "data"), tmp_path)
    cells = all_cells(cell for _, cell in study_of(study).entries(config, opener))
    assert any("folder" in cell.task.dataset.name for cell in cells)
    assert all(len(cell.task.train[0]) and len(cell.task.val[0]) for cell in cells)
    assert bool(config.notes) == any("world" in cell.task.dataset.name for cell in cells) or (
        classes == 2 and config.notes
    )


def test_a_folder_without_splits_keeps_a_fifth_of_each_class_for_testing(tmp_path):
    config = config_of("yosinski2014", f"folder={write_folder(tmp_path / 'mine', 3, 10)}")
    dataset = dataset_opener(str(tmp_path / "data"), tmp_path)(config.dataset)
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert sorted([*train, *val]) == list(range(30))
    np.testing.assert_array_equal(np.bincount(dataset.labels[val]), [2, 2, 2])


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_no_folder_is_said_before_anything_is_read(tmp_path, monkeypatch, path):
    with pytest.raises(ValueError, match="expected folder=PATH"):
        config_of("huh2016", f"folder={path}")
