import json
import os

import pytest

from tests import small
from tests.grid.small_grid import cell
from transfer_jax.bench import workdir
from transfer_jax.bench.matmul import MatmulRate
from transfer_jax.grid.store import Store, write_json

SECONDS = {"baseA": 4.0, "A1B": 1.0, "A1B+": 3.0}


@pytest.fixture
def finished(tmp_path):
    store = Store(tmp_path)
    cells = [cell(name) for name in SECONDS]
    for number, each in enumerate(cells):
        store.describe(each)
        done = {
            "top1": 0.5,
            "top1_best_mean": 0.5,
            "steps": small.RECIPE.steps,
            "seconds": SECONDS[each.name],
            "images_per_second": 20.0,
        }
        write_json(store.cell_dir(each) / "done.json", done)
        os.utime(store.cell_dir(each) / "cell.json", (1000 + number, 1000 + number))
        os.utime(store.cell_dir(each) / "done.json", (1010 + number, 1010 + number))
    # A network may stand in two experiments; it was trained once.
    store.write_results([(e, "0", c) for c in cells for e in ("random_halves", "man_natural")])
    return tmp_path, cells


def test_operations_and_seconds_of_each_network(finished):
    folder, cells = finished
    found = workdir.read(folder)
    network, images = cells[0].network, small.RECIPE.steps * small.RECIPE.batch_size
    assert [each.name for each in found] == list(SECONDS)
    flops = [network.train_flops(n) * images for n in (0, 1, 0)]
    assert [each.flops for each in found] == flops
    page = workdir.report(folder, found, MatmulRate("float32", 8, 1e6))
    share = 100 * sum(flops) / 8.0 / 1e6
    row = f"| random_halves | 3 | 0.1 | 22.50 | {sum(flops) / 1e12:.2f} | {share:.1f} % |"
    assert row in " ".join(page.split())
    # 12 seconds from the first file to the last.
    assert "0.2 minutes, 15.00 networks a minute" in page


def test_unfinished_networks_do_not_count(finished):
    folder, cells = finished
    for each in cells:
        (folder / "cells" / each.hash / "done.json").unlink()
    with pytest.raises(ValueError, match="holds no finished network"):
        workdir.read(folder)
    assert json.loads((folder / "cells" / cells[0].hash / "cell.json").read_text())["cell"]
