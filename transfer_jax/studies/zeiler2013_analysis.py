"""Everything that is read out of the networks of Zeiler & Fergus 2013, part by part."""

from __future__ import annotations

import logging
from typing import Any

from ml_collections import ConfigDict

from transfer_jax.data.datasets import Dataset
from transfer_jax.grid.store import Store
from transfer_jax.studies import zeiler2013 as study
from transfer_jax.studies import zeiler2013_duplicates as duplicates
from transfer_jax.studies import zeiler2013_readout as readout
from transfer_jax.studies import zeiler2013_visual as visual
from transfer_jax.studies.analysis import Parts, Trained, merged, trained
from transfer_jax.studies.settings import Opener
from transfer_jax.studies.zeiler2013_targets import all_source_images, targets

log = logging.getLogger(__name__)


def analyse(config: ConfigDict, open_dataset: Opener, store: Store) -> None:
    """Computes what is missing of the workdir's `analysis`; networks that failed are left out."""
    parts = Parts(store.workdir / "analysis")
    cache = store.workdir / "features"
    source = open_dataset(config.dataset)
    networks = study.source_networks(config, open_dataset)
    found = {n.cell.hash: trained(store, n.cell) for n in networks}
    usable = {n.name: (n, found[n.cell.hash]) for n in networks if found[n.cell.hash] is not None}
    # A network from a file may tell other classes apart than the source's.
    tested = {name: n for name, n in usable.items() if _is_of(n[1], source)}
    hashes = {name: network.cell.hash for name, (network, _) in tested.items()}
    if tested:
        parts.compute("errors", hashes, lambda: readout.errors(tested, source))
    name = study.main_architecture(config)
    main = usable.get(name, (None, None))[1]
    if main is None:
        log.warning("%s failed: nothing is read out of it", name)
    else:
        _look(config, parts, store, source, main, {n: t for n, (_, t) in usable.items()})
        _transfer(config, parts, store, open_dataset, main, cache)
    _duplicates(config, parts, open_dataset)
    parts.write_timings()


def _is_of(trained: Trained, source: Dataset) -> bool:
    return trained.cell.task.dataset == source.name


def _look(config, parts, store, source, main: Trained, networks) -> None:
    """Figures 2, 4, 5 and 6."""
    wanted, cell = config.experiments, main.cell
    settings = wanted.projections
    shown = cell.task if _is_of(main, source) else all_source_images(config, source)
    val = visual.Images.of_task(source, "val", shown, settings.images)
    inputs = {"cell": cell.hash, **settings}
    parts.compute("projections", inputs, lambda: visual.projections(main, val, settings.maps))
    parts.compute("rules", inputs, lambda: visual.rules(main, val))
    compared = {n: networks[n] for n in ("zfnet", "alexnet", study.NO_RULE) if n in networks}
    hashes = {name: network.cell.hash for name, network in compared.items()}
    parts.compute(
        "filters",
        [hashes, dict(settings)],
        lambda: visual.filters(compared, val, settings.second_layer),
    )
    if _is_of(main, source):
        parts.compute(
            "occlusion",
            {"cell": cell.hash, **wanted.occlusion},
            lambda: visual.occlusion(main, val, wanted.occlusion),
        )
    else:
        log.info("no occlusion: the source's images are of none of the classes of %s", cell.name)
    steps = study.snapshot_steps(config, source)
    kept = set(store.snapshots(cell))
    if steps and not kept.issuperset(steps):
        log.warning("%s was not kept at steps %s: Figure 4 shows the others",
                    cell.network.name, sorted(set(steps) - kept))  # fmt: skip
    snapshots = {epoch: trained(store, cell, step) for step, epoch in steps.items() if step in kept}
    if snapshots:
        train = visual.Images.of_task(source, "train", cell.task, settings.images)
        parts.compute(
            "evolution",
            [cell.hash, list(snapshots), dict(settings)],
            lambda: visual.evolution(snapshots, train, settings.evolution_maps),
        )


def _transfer(config, parts, store, open_dataset, main: Trained, cache) -> None:
    """Tables 3 to 6 and Figure 7."""
    wanted_targets = list(targets(config, open_dataset))
    for target in wanted_targets:
        scratch = [
            (size, seed, network, fold)
            for size, seed, fold, cell in study.scratch_cells(config, target)
            for network in (trained(store, cell),)
            if network is not None
        ]
        inputs = [main.cell.hash, target.pool.name, target.classes, target.settings.to_dict()]
        parts.compute(
            f"transfer-{target.name}",
            [*inputs, [network.cell.hash for _, _, network, _ in scratch]],
            lambda target=target, scratch=scratch: readout.transfer(main, target, scratch, cache),
        )
    names = [f"transfer-{target.name}.csv" for target in wanted_targets]
    merged(parts.directory, names, "transfer.csv")
    wanted = config.experiments.multilabel
    if wanted.name:
        dataset = open_dataset(wanted.dataset, multilabel=True)
        alone = None
        if wanted.scratch:
            alone = trained(store, study.multilabel_scratch_cell(config, open_dataset)[1])
        parts.compute(
            "multilabel",
            [main.cell.hash, dataset.name, wanted.name, alone and alone.cell.hash],
            lambda: readout.multilabel(main, alone, wanted.name, dataset, cache),
        )


def _duplicates(config, parts, open_dataset: Opener) -> None:
    """Near-duplicates of the targets' images among the source's training images."""
    wanted: Any = config.experiments.duplicates
    if wanted.targets:
        pairs = duplicates.find(config, open_dataset)
        inputs = [wanted.to_dict(), duplicates.digest(pairs)]
        parts.compute("duplicates", inputs, lambda: duplicates.files(config, open_dataset, pairs))
