"""A whole run of a study whose config and data are small."""

from types import SimpleNamespace

from transfer_jax.grid.run import run_grid
from transfer_jax.grid.store import Store
from transfer_jax.report import load
from transfer_jax.seal import write_json
from transfer_jax.studies.settings import build
from transfer_jax.training import Runtime


def whole_run(study, config, open_dataset, workdir):
    """Trains and measures everything: the config, the store, its entries and results."""
    store, entries = Store(workdir), study.entries(config, open_dataset)
    about = {"study": config.study, "title": "small"}
    about["files"] = {"entries.json": store.write_entries(entries)}
    write_json(workdir / "about.json", about, "about")
    run_grid(entries, store, build(Runtime, config.runtime, "runtime"))
    study.measure(config, open_dataset, entries, store)
    write_json(workdir / "about.json", about | {"measures": sorted(store.measured)}, "about")
    return SimpleNamespace(config=config, store=store, entries=entries, results=load(workdir))


def changes_nothing(study, run, open_dataset):
    """Whether the same once more leaves every file as it is."""
    files = [path for path in run.store.workdir.rglob("*") if path.is_file()]
    before = [path.stat().st_mtime_ns for path in files]
    run_grid(run.entries, run.store, build(Runtime, run.config.runtime, "runtime"))
    study.measure(run.config, open_dataset, run.entries, run.store)
    return before == [path.stat().st_mtime_ns for path in files]
