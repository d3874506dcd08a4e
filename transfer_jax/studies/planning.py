"""Plans a study's grid: what it would train, where, and at what cost. No image is needed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from transfer_jax.data.dataset_spec import DatasetSpec
from transfer_jax.data.images import size_name
from transfer_jax.data.outline import Outline, outline
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.executors import Executor, RayExecutor
from transfer_jax.grid.executors.local import devices_per_group
from transfer_jax.grid.forecast import Forecast, forecast
from transfer_jax.grid.plan import Group, all_cells, build_plan
from transfer_jax.grid.run import labels
from transfer_jax.grid.store import Store
from transfer_jax.grid.supply import DataSupply
from transfer_jax.studies import Study
from transfer_jax.studies.settings import Opener, dataset_opener
from transfer_jax.training import devices
from transfer_jax.training.runtime import Runtime

log = logging.getLogger(__name__)


def planned(
    study: Study,
    config: ConfigDict,
    workdir: Path,
    runtime: Runtime,
    executor: Executor,
    assumed_tflops: float | None = None,
    workers: int | None = None,
) -> Forecast | None:
    """What is left to train of a study, its cost and its schedule.

    Args:
      study: declares the cells.
      config: of the study.
      workdir: whose finished cells are left out; nothing is written there.
      runtime, executor: as the config describes them.
      assumed_tflops: speed that a worker sustains, in 10**12 operations a second; None measures it.
      workers: how many accelerators there are; None plans for the devices of this process, or for
        one task of Ray at a time.

    Returns:
      the forecast, or None where every cell is finished.
    """
    opener = PlanningOpener(config.data_dir, workdir)
    work = study.plan(config, opener)
    store = Store(workdir)
    cells = all_cells(cell for _, _, cell in work.entries)
    finished = [cell.hash for cell in cells if store.outcome(cell) is not None]
    most = runtime.largest_trained
    plan = build_plan(cells, finished, store.opened_groups(), largest_trained=most)
    if not plan:
        return None
    whole = build_plan(cells, largest_trained=most)
    workers, width = _workers(executor, runtime, whole, workers)
    return forecast(
        plan,
        DataSupply(work.datasets, runtime),
        runtime,
        labels(work.entries),
        snapshots=work.snapshots,
        assumed_tflops=assumed_tflops,
        workers=workers,
        width=width,
        remarks=(*opener.remarks, *_imported(cells)),
    )


def _imported(cells: Sequence[Cell]) -> dict[str, None]:
    """What a reader of the plan must know of each base that comes from a file."""
    return dict.fromkeys(
        f"{cell.name} comes from {cell.imported.file_name}, a network of "
        f"{cell.network.num_classes:,} classes, and is not trained."
        for cell in cells
        if cell.imported is not None
    )


def _workers(
    executor: Executor, runtime: Runtime, whole: Sequence[Group], wanted: int | None
) -> tuple[int, Callable[[Group], int]]:
    """How many accelerators there are, and how many of them train a group together."""
    if isinstance(executor, RayExecutor):
        of_task = max(1, int(executor.num_gpus))
        return max(wanted or of_task, of_task), lambda group: of_task
    if wanted is not None:
        return wanted, lambda group: 1
    count = devices.num_devices()
    return count, devices_per_group(runtime.placement, count, whole)


class PlanningOpener:
    """A study's opener that makes do with outlines, and remembers of which datasets.

    A dataset that `outline` knows is outlined unless it is prepared under data_dir, so that nothing
    is downloaded, and no preparation of hours begins, for a plan.

    Args:
      data_dir: as in the config.
      workdir: of the run that is planned.
    """

    def __init__(self, data_dir: str, workdir: Path):
        self._folders = (Path(data_dir).expanduser(), workdir / "data")
        self._open: Opener = dataset_opener(data_dir, workdir)
        self._outlined: dict[str, Outline] = {}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the plan must know of each outline, a sentence each."""
        return tuple(
            f"{each.name}: the dataset is not here, or not prepared yet, so it is planned with "
            f"{len(each.class_names)} classes and {sum(each.num_records.values()):,} images, "
            "spread evenly over the classes where their numbers are not known. Networks that are "
            "trained already are not recognised."
            for each in self._outlined.values()
        )

    def __call__(self, config: Mapping, *, multilabel: bool = False) -> Any:
        """The dataset, or its outline where it is not at hand.

        Raises:
          FileNotFoundError: there is neither.
        """
        # Without its path a spec would be refused before it can be looked for.
        spec = DatasetSpec(**{**dict(config), "path": config["path"] or "."})
        known = outline(spec)
        if known is None:
            return self._open(config, multilabel=multilabel)
        if self._is_prepared(spec):
            try:
                return self._open(config, multilabel=multilabel)
            except FileNotFoundError as error:
                log.info("%s", error)
        key = json.dumps(dict(config), sort_keys=True, default=str)
        return self._outlined.setdefault(key, known)

    def _is_prepared(self, spec: DatasetSpec) -> bool:
        if spec.kind in ("voc", "voc_actions"):
            # They are read as they lie.
            path = Path(spec.path).expanduser()
            return any((folder / path).exists() for folder in (Path(), *self._folders))
        if spec.kind == "tfds":
            pattern = f"{spec.name.replace(':', '/')}/**/dataset_info.json"
        else:
            pattern = f"{spec.kind}*/{size_name(spec.image_size, spec.fit)}_*/*/dataset_info.json"
        return any(True for folder in self._folders for _ in folder.glob(pattern))
