"""What one line of each table means that the analysis of Zeiler & Fergus 2013 writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from transfer_jax.report.analysis_files import Fraction, Timing


@dataclasses.dataclass(frozen=True)
class NetworkErrors:
    """A network trained on the source classes, and its errors; a line of networks.csv.

    Attributes:
      name: unique, such as 'zfnet', 'alexnet without_7', 'zfnet seed 2'.
      architecture: 'zfnet' or 'alexnet'.
      variant: 'base' or an ablation such as 'without_3_4'.
      filter_rule: whether filters above a fixed RMS were scaled back while it trained.
      hash: names its folder in `cells`.
      train_gflop_per_image: of one training step, divided by its images.
      num_val: validation images that its errors are measured on.
    """

    name: str
    architecture: str
    variant: str
    seed: int
    filter_rule: bool
    hash: str
    params: int | None
    train_gflop_per_image: float | None
    train_top1_error: Fraction | None
    val_top1_error: Fraction
    val_top5_error: Fraction | None
    num_val: int


@dataclasses.dataclass(frozen=True)
class EnsembleErrors:
    """Networks whose probabilities are averaged; a line of ensembles.csv."""

    name: str
    members: int
    val_top1_error: Fraction
    val_top5_error: Fraction | None
    num_val: int


@dataclasses.dataclass(frozen=True)
class Transferred:
    """One fold of a readout on a target; a line of transfer.csv.

    Attributes:
      readout: 'svm' or 'softmax' on a frozen layer's features, or 'scratch': the same network
        trained anew on the fold.
      layer: the features' layer, empty for 'scratch'.
      train_per_class: training images of each class.
      accuracy: mean of the classes' accuracies over num_test test images.
    """

    target: str
    dataset: str
    num_classes: int
    readout: str
    layer: str
    train_per_class: int
    fold: int
    accuracy: Fraction
    num_test: int


@dataclasses.dataclass(frozen=True)
class Precision:
    """Average precision of one class of multi-label images; a line of multilabel.csv.

    Attributes:
      readout: 'softmax' or 'sigmoid', the loss that the classifier was trained with, or 'scratch':
        the same network trained on the target alone.
      class_name: column `class`.
      positives: images that show the class.
      ap_area: area under the precision-recall curve.
      ap_voc2007: mean precision at 11 recalls.
    """

    target: str
    readout: str
    class_name: str = dataclasses.field(metadata={"column": "class"})
    positives: int
    ap_area: Fraction | None
    ap_voc2007: Fraction | None


@dataclasses.dataclass(frozen=True)
class Occluded:
    """An image under a sliding grey square; a line of occlusion.csv.

    Attributes:
      image: its number in the dataset.
      class_name: column `class`.
      correct: whether the whole image is classified correctly.
      probability, lowest_probability: of the true class, for the whole image and the worst place.
      inside: whether the centre of the square at the worst place lies in the object's box; None
        without boxes.
      box_share: share of all places of which that is true.
    """

    image: int
    class_name: str = dataclasses.field(metadata={"column": "class"})
    correct: bool
    probability: Fraction
    lowest_probability: Fraction
    inside: bool | None
    box_share: Fraction | None


@dataclasses.dataclass(frozen=True)
class Evolved:
    """A layer at one snapshot of training; a line of evolution.csv.

    Attributes:
      overlap: share of the nine strongest images of a map at the last snapshot that are among its
        nine strongest already, averaged over maps; None where no map is ever active.
      kernel_cosine: cosine between the layer's kernel and what it is at the last snapshot.
    """

    layer: str
    epoch: float
    overlap: Fraction | None
    kernel_cosine: float | None


@dataclasses.dataclass(frozen=True)
class FilterNumbers:
    """A network's filters in numbers; a line of filters.csv.

    Attributes:
      filters: how many the layer has.
      dead_share: share of them that answer to nothing.
      strongest_energy_share: share of all squared weights that the strongest filter holds.
      low_frequency_share: share of the filters' energy at low frequencies.
      noise_low_frequency_share: what white noise of the same size would have.
      noise_share: share of the filters that cannot be told from white noise.
    """

    network: str
    layer: str
    filters: int
    dead_share: Fraction
    strongest_energy_share: Fraction | None
    low_frequency_share: Fraction | None
    noise_low_frequency_share: Fraction | None
    noise_share: Fraction | None = None


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """A pair of near-identical images; a line of duplicates.csv.

    Attributes:
      source_position, target_position: places in the source's training set and in the target.
      correlation: normalised, at most 1.
      removed: whether the source image was taken out of training.
    """

    target: str
    source_position: int
    target_position: int
    correlation: float
    removed: bool


KINDS: Mapping[str, type] = {
    "networks": NetworkErrors,
    "ensembles": EnsembleErrors,
    "transfer": Transferred,
    "multilabel": Precision,
    "occlusion": Occluded,
    "evolution": Evolved,
    "filters": FilterNumbers,
    "duplicates": Duplicate,
    "timings": Timing,
}
"""Name of each .csv file -> what its lines are."""
