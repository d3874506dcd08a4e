"""Tasks of the transfer studies: the 17 of Azizpour et al. 2014 and a user's own.

A `Benchmark` says what is asked and where the images lie; `open_task` turns it into rows and
labels, or into queries and references.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from transfer_jax.data.batches import permutation
from transfer_jax.data.dataset import Dataset, digest
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.data.tasks import (
    Task,
    classes_without,
    fold_task,
    single_labels,
    subset_task,
)

GROUPS = (
    "image classification",
    "attributes",
    "fine-grained",
    "compositional",
    "instance retrieval",
)
"""In the paper's order of distance from ImageNet's task."""

METRICS = {
    "single": ("accuracy", "class_accuracy"),
    "multilabel": ("mean_ap", "voc2007_ap", "mean_auc"),
    "retrieval": ("mean_ap", "ns_score"),
}
"""What each protocol may be measured by, its own default first: the share of right answers, its
mean over classes; the mean over classes of average precision, by the rule of VOC 2007, of the area
under the ROC curve; the mean over queries of average precision, of how many of the first four are
relevant (UKBench)."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A task. The first five fields make one; the others have defaults.

    Attributes:
      name: what reports call it.
      group: one of GROUPS.
      protocol: 'single' (one of several classes, one-vs-all SVM), 'multilabel' (each class is there
        or not), 'retrieval' (the nearest references of each query).
      metric: one of its METRICS; '' for the first of them.
      dataset: fields of `DatasetSpec`; 'kind' and 'path' are enough for images in files.
      distance: rank in the paper's order, nearest first; None where only the group's is known.
      classes: names of classes, or of what lies above them in the dataset's hierarchy; () for all.
      without: names of classes that are left out, as Caltech-101's background.
      splits: learned from and tested on; of retrieval, the references and the queries.
      train_per_class, test_per_class: images of each class that are drawn anew for each seed (times
        the number of classes where an image has several); of retrieval test_per_class queries. 0:
        the dataset's own splits (all the rest to be tested on), or, where it has none, 30 and 50.
    """

    name: str
    group: str
    protocol: str = "single"
    metric: str = ""
    dataset: Mapping = dataclasses.field(default_factory=dict)
    distance: float | None = None
    classes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    splits: tuple[str, str] = ("train", "val")
    train_per_class: int = 0
    test_per_class: int = 0

    def __post_init__(self):
        metrics = ("", *METRICS.get(self.protocol, ()))
        known = (("group", GROUPS), ("protocol", METRICS), ("metric", metrics))
        for field, values in known:
            if getattr(self, field) not in values:
                raise ValueError(
                    f"{field} of task {self.name!r} must be one of {', '.join(values)}; got "
                    f"{getattr(self, field)!r}"
                )
        object.__setattr__(self, "metric", self.metric or METRICS[self.protocol][0])


_NEAR, _ATTRIBUTES, _FINE, _COMPOSED, _INSTANCES = GROUPS

# Name, group, protocol, metric, kind and path, nearest first: groups as the paper orders them, the
# tasks of one as its table of results does, written down from memory.
_TABLE = (
    ("voc2007", _NEAR, "multilabel", "voc2007_ap", "voc", "VOCdevkit/VOC2007"),
    ("mit67", _NEAR, "single", "class_accuracy", "mit67", "indoorCVPR_09"),
    ("sun397", _NEAR, "single", "class_accuracy", "sun397", "SUN397"),
    ("sun_attributes", _ATTRIBUTES, "multilabel", "mean_ap", "sun_attributes", "SUNAttributes"),
    ("apascal", _ATTRIBUTES, "multilabel", "mean_auc", "apascal", "aPascal_aYahoo"),
    ("h3d", _ATTRIBUTES, "multilabel", "mean_ap", "people_attributes", "attributes_dataset"),
    ("pets", _FINE, "single", "class_accuracy", "pets", "oxford-iiit-pet"),
    ("cub200", _FINE, "single", "class_accuracy", "cub200", "CUB_200_2011"),
    ("flowers102", _FINE, "single", "class_accuracy", "flowers102", "102flowers"),
    ("voc_actions", _COMPOSED, "multilabel", "mean_ap", "voc_actions", "VOCdevkit/VOC2012"),
    ("stanford40", _COMPOSED, "multilabel", "mean_ap", "stanford40", "Stanford40"),
    ("visual_phrases", _COMPOSED, "multilabel", "mean_ap", "visual_phrases", "visual_phrases"),
    ("holidays", _INSTANCES, "retrieval", "mean_ap", "holidays", "holidays"),
    ("ukbench", _INSTANCES, "retrieval", "ns_score", "ukbench", "ukbench/full"),
    ("oxford5k", _INSTANCES, "retrieval", "mean_ap", "landmarks", "oxbuildings"),
    ("paris6k", _INSTANCES, "retrieval", "mean_ap", "landmarks", "paris"),
    ("sculptures", _INSTANCES, "retrieval", "mean_ap", "landmarks", "sculptures6k/test"),
)

BENCHMARKS = {
    name: Benchmark(name, *asked, {"kind": kind, "path": path}, rank)
    for rank, (name, *asked, kind, path) in enumerate(_TABLE, start=1)
}
"""The paper's 17 tasks by name. Change one by `dataclasses.replace(BENCHMARKS['pets'], ...)`."""

BENCHMARKS["voc2007"] = dataclasses.replace(BENCHMARKS["voc2007"], splits=("trainval", "test"))
BENCHMARKS["paris6k"].dataset["on_broken"] = "skip"  # Some of its images are broken as published.


@dataclasses.dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Queries, each with the references that show the same thing.

    Attributes:
      name, dataset: as in `Task`.
      queries: (Q,) rows of the dataset; references: (R,) rows.
      relevant: for each query the places in `references` that should come first.
      junk: for each query the places that are neither right nor wrong.
    """

    name: str
    dataset: Dataset
    queries: np.ndarray
    references: np.ndarray
    relevant: tuple[np.ndarray, ...]
    junk: tuple[np.ndarray, ...]

    @functools.cached_property
    def digest(self) -> str:
        """Identity of the content, as in `Task`."""
        return digest(
            self.dataset.name, self.queries, self.references, list(self.relevant), list(self.junk)
        )


def open_task(
    benchmark: Benchmark, open_dataset: Callable[[Mapping], Dataset], seed: int = 0
) -> Task | RetrievalTask:
    """The rows and labels of a benchmark; `open_dataset` takes all fields of a `DatasetSpec`.

    FileNotFoundError where its files are not; ValueError where they cannot serve the protocol.
    """
    dataset = open_dataset({**_SPEC, **benchmark.dataset})
    name, splits, classes = benchmark.name, benchmark.splits, _classes(benchmark, dataset)
    train, test = benchmark.train_per_class or None, benchmark.test_per_class or None
    if not set(splits) <= set(dataset.splits):
        if dataset.splits:
            raise ValueError(
                f"task {name!r}: {dataset.name} has the splits {', '.join(dataset.splits)}, not "
                f"{' and '.join(splits)}"
            )
        train, test = train or 30, test or 50  # as of Caltech-101
    if benchmark.protocol == "retrieval":
        return _retrieval_task(benchmark, dataset, classes, seed, test)
    if test and not train:
        raise ValueError(f"task {name!r}: test_per_class is given without train_per_class")
    if benchmark.protocol == "multilabel":
        return _multilabel_task(benchmark, dataset, classes, seed, train, test)
    if not train:
        return subset_task(name, dataset, classes, splits=splits)
    drawn = {"seed": seed, "train_per_class": train, "test_per_class": test}
    return fold_task(name, dataset, classes=classes, splits=splits, **drawn)


def open_tasks(
    benchmarks: Iterable[Benchmark], open_dataset: Callable[[Mapping], Dataset], seed: int = 0
) -> tuple[dict[str, Task | RetrievalTask], list[str]]:
    """The tasks whose images are there, by name, and a line on each that is left out."""
    tasks, missing = {}, []
    for benchmark in benchmarks:
        try:
            tasks[benchmark.name] = open_task(benchmark, open_dataset, seed)
        except FileNotFoundError as error:
            missing.append(f"{benchmark.name} is left out: {error}")
    return tasks, missing


_SPEC = {field.name: field.default for field in dataclasses.fields(DatasetSpec)}


def _classes(benchmark: Benchmark, dataset: Dataset) -> list[int]:
    paths = dataset.class_paths or [(name,) for name in dataset.class_names]
    wanted = set(benchmark.classes or dataset.class_names)
    if unknown := wanted - {name for path in paths for name in path}:
        raise ValueError(f"task {benchmark.name!r}: {dataset.name} has no class {min(unknown)!r}")
    left = classes_without(dataset.class_names, benchmark.without)
    return [label for label in left if wanted & set(paths[label])]


def _multilabel_task(
    benchmark: Benchmark,
    dataset: Dataset,
    classes: list[int],
    seed: int,
    train_per_class: int | None,
    test_per_class: int | None,
) -> Task:
    labels = dataset.labels
    if labels.ndim == 1:  # of one class each, one against all others
        labels = (labels[:, None] == np.arange(len(dataset.class_names))).astype(np.int8)
    labels = labels[:, classes]
    train, val = (dataset.splits.get(split, np.arange(len(labels))) for split in benchmark.splits)
    if train_per_class:
        pool = np.union1d(train, val)
        pool = pool[permutation(len(pool), seed, 0)]
        count = len(classes) * train_per_class
        if count >= len(pool):
            raise ValueError(
                f"task {benchmark.name!r}: {count} training images leave none of {len(pool)}"
            )
        tested = pool[count:][: test_per_class and len(classes) * test_per_class]
        train, val = np.sort(pool[:count]), np.sort(tested)
    class_names = tuple(dataset.class_names[label] for label in classes)
    return Task(benchmark.name, dataset, class_names, (train, labels[train]), (val, labels[val]))


def _retrieval_task(
    benchmark: Benchmark, dataset: Dataset, classes: list[int], seed: int, per_class: int | None
) -> RetrievalTask:
    """A query shows one class, and relevant are the references that show it too; junk are those
    that show it with difficulty, and the query itself, but for the N-S score, which counts it."""
    labels, own, every = dataset.labels, single_labels(dataset), np.arange(len(dataset.labels))
    references, queries = (dataset.splits.get(split, every) for split in benchmark.splits)
    if per_class:
        pool = np.union1d(references, queries)
        members = {label: pool[own[pool] == label] for label in classes}
        drawn = [m[permutation(len(m), seed, k)][:per_class] for k, m in members.items()]
        queries = np.sort(np.concatenate(drawn))
        references = np.setdiff1d(pool, queries)
    queries = queries[np.isin(own[queries], classes)]
    relevant, junk = [], []
    for query in queries:
        shown = own[query]
        marks = labels[references, shown] if labels.ndim == 2 else labels[references] == shown
        itself = (references == query) & (benchmark.metric != "ns_score")
        relevant.append(np.flatnonzero((marks == 1) & ~itself))
        junk.append(np.flatnonzero((marks == -1) | itself))
    name = benchmark.name
    return RetrievalTask(name, dataset, queries, references, tuple(relevant), tuple(junk))
