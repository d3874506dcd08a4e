"""The targets of Huh et al. 2016, which pretrained networks are fine-tuned on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from transfer_jax.data.dataset_spec import MULTILABEL_KINDS
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.folds import Fold, FoldedDataset, fold_dataset
from transfer_jax.data.single_label import SingleLabelDataset
from transfer_jax.studies.huh2016_conditions import QUESTIONS, Condition
from transfer_jax.studies.huh2016_source import Source
from transfer_jax.studies.settings import Opener, asked_targets


@dataclasses.dataclass(frozen=True)
class Target:
    """A task that pretrained networks are fine-tuned on.

    Attributes:
      name: as in the config.
      pool: the dataset that its images are drawn from.
      classes: classes of it that take part.
      settings: the target's fields of the config.
      splits: of the pool that images are drawn from; pretraining sees none of them.
    """

    name: str
    pool: Dataset | SingleLabelDataset
    classes: tuple[int, ...]
    settings: ConfigDict
    splits: tuple[str, ...]

    def asked_of(self, conditions: Sequence[Condition]) -> list[Condition]:
        """The conditions whose networks are tried on this target: those of its questions."""
        asked = self.settings.questions or tuple(QUESTIONS)
        return [condition for condition in conditions if condition.question in asked]

    def fold(self, seed: int) -> Dataset | FoldedDataset | SingleLabelDataset:
        """One draw of training and test images; the pool's own split where none are drawn."""
        if self.settings.train_per_class == 0:
            return self.pool
        return fold_dataset(
            self.pool,
            Fold(
                seed=seed,
                train_per_class=self.settings.train_per_class,
                test_per_class=self.settings.test_per_class,
                classes=self.classes,
                splits=self.splits,
            ),
        )


def wanted_targets(config: ConfigDict, source: Source, open_dataset: Opener) -> Iterator[Target]:
    """The targets that the config asks for.

    Raises:
      ValueError: for a target or set of classes that there is not.
    """
    for name, settings in asked_targets(config):
        if unknown := set(settings.questions) - set(QUESTIONS):
            raise ValueError(
                f"config.targets.{name}.questions holds {sorted(unknown)}; expected some of "
                f"{sorted(QUESTIONS)}"
            )
        kinds = {
            "held_out": set(source.held_out),
            "held_out_natural": set(source.held_out) & source.natural,
        }
        if settings.classes == "held_out_natural" and not config.experiments.unrelated:
            raise ValueError(
                f"config.targets.{name}.classes='held_out_natural': expected "
                "config.experiments.unrelated=True, without which natural is not told from man-made"
            )
        if settings.classes in kinds:
            # Pretraining learns from 'train': the target's images are others, whatever the class.
            pool, classes, splits = source.dataset, kinds[settings.classes], ("val",)
        elif settings.classes == "all":
            if settings.dataset.kind in MULTILABEL_KINDS:
                pool = SingleLabelDataset(open_dataset(settings.dataset, multilabel=True))
            else:
                pool = open_dataset(settings.dataset)
            classes, splits = range(len(pool.class_names)), ("train", "val")
        else:
            raise ValueError(
                f"config.targets.{name}.classes={settings.classes!r}: expected 'all' or one of "
                f"{sorted(kinds)}"
            )
        if settings.train_per_class == 0 and settings.classes in kinds:
            raise ValueError(
                f"config.targets.{name}.train_per_class=0 takes a dataset's own splits: expected "
                f"at least 1 with classes={settings.classes!r}"
            )
        if len(classes) < 2:
            raise ValueError(
                f"config.targets.{name}: {len(classes)} classes of {pool.name} are left for it; "
                f"hold out more than config.held_out={config.held_out}"
            )
        yield Target(name, pool, tuple(sorted(classes)), settings, splits)
