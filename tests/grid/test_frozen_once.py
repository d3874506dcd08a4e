"""Layers above stored activations learn what they learn above the layers themselves."""

import dataclasses

import jax
import numpy as np

from tests import small
from transfer_jax.data.views import Augmentation
from transfer_jax.grid.frozen_once import frozen_once
from transfer_jax.grid.run import run_grid
from transfer_jax.grid.store import Store
from transfer_jax.training.loop import Runtime, train_group

PLAIN = Augmentation(size=small.SIZE, pad=0, mirror=False)
ONCE = dataclasses.replace(small.RECIPE, augmentation=PLAIN, frozen_once=True)


def cell_above(n, recipe=ONCE):
    return small.cells("baseA", f"A{n}B", recipe=recipe)[1]


def test_without_random_views_the_weights_are_those_of_ordinary_training(tmp_path):
    cell = cell_above(2)
    params = cell.init_params(cell.source.init_params())
    of = cell.network, cell.recipe, [cell.treatment], [params]
    mean, stream = cell.mean(), {"stream_seed": cell.stream_seed}
    ((ordinary, row),) = train_group(*of, cell.task, mean, **stream)
    ((stored, row_once),) = train_group(*of, frozen_once(tmp_path, cell, params), mean, **stream)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ordinary, stored)
    np.testing.assert_array_equal(row["right"], row_once["right"])


def test_activations_are_kept_for_their_weights_and_images_alone(tmp_path, caplog):
    cell, deeper = cell_above(1), cell_above(2)
    base = cell.source.init_params()
    params = cell.init_params(base)
    expected = np.array(frozen_once(tmp_path, cell, params).dataset.source.pixels)
    (kept,) = tmp_path.glob("*.npy")
    stamp = kept.stat().st_mtime_ns
    frozen_once(tmp_path, cell, params)
    assert kept.stat().st_mtime_ns == stamp
    kept.write_bytes(kept.read_bytes()[:-4] + np.float32(7).tobytes())
    again = frozen_once(tmp_path, cell, params)
    np.testing.assert_array_equal(again.dataset.source.pixels, expected)
    assert f"{kept} is damaged or was not made from {kept.stem}: it is made again" in caplog.text
    frozen_once(tmp_path, deeper, deeper.init_params(base))
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    frozen_once(tmp_path, cell, other)
    assert len(list(tmp_path.glob("*.npy"))) == 3


def test_a_grid_of_such_cells_ends_as_it_would_uninterrupted(tmp_path):
    entries = [({}, cell) for cell in small.cells("baseA", "A1B", "A2B", recipe=ONCE)]
    runtime = Runtime(checkpoint_every=3, log_every=5)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")

    class Killed(Exception):
        pass

    def kill():
        raise Killed

    with whole.lock():
        run_grid(entries, whole, runtime)
    for after_each in (kill, kill, lambda: None):
        try:
            with cut.lock():
                run_grid(entries, cut, runtime, after_each=after_each)
        except Killed:
            pass
    for _, cell in entries:
        assert small.same_bits(whole.params(cell), cut.params(cell))
        assert "top1" in whole.outcome(cell)
