"""The hierarchy of the embedded world and its contact sheet."""

import collections
import itertools

import numpy as np
import PIL.Image
import pytest

from transfer_jax.data import world


def test_hierarchy_is_balanced_and_well_formed():
    names = world.class_names()
    assert len(names) == len(set(names)) == len(world.CLASSES) >= 32
    assert list(names) == sorted(names)
    kingdoms = collections.Counter(record.kingdom for record in world.CLASSES)
    assert set(kingdoms) == {"natural", "man_made"}
    assert kingdoms["natural"] == kingdoms["man_made"]
    parents = {}
    for record, path in zip(world.CLASSES, world.class_paths(), strict=True):
        assert path == ("world", record.kingdom, record.family, record.name)
        for parent, child in itertools.pairwise(path):
            assert parents.setdefault(child, parent) == parent
    families = collections.Counter(record.family for record in world.CLASSES)
    assert min(families.values()) >= 2
    assert not set(families) & set(names)


def test_class_id_inverts_class_names():
    assert [world.class_id(name) for name in world.class_names()] == list(range(40))
    with pytest.raises(ValueError, match=r"no class 'unicorn'.*zebra"):
        world.class_id("unicorn")


def test_contact_sheet(tmp_path):
    path = world.contact_sheet(tmp_path / "sheet.png", examples=2)
    with PIL.Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert path.stat().st_size < 300_000
    # Every tile is on it: the pixels of one picture are found where the sheet shows them.
    image, _ = world.render_images(world.class_id("duck"), 0, split="train")
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (32, 32, 3))[:, :, 0]
    corner = (windows[:, :, 0, 0] == image[0, 0, 0]).all(axis=-1)
    assert any(np.array_equal(windows[y, x], image[0]) for y, x in np.argwhere(corner))
    assert callable(world.contact_sheet)
