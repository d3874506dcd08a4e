"""What Oquab et al. 2014 claim of transferred layers, decided by our own networks.

Transfer is the mean average precision over test images of the layers adapted on a frozen base.
Seeds are the units: each draws weights, order, pretraining classes and windows anew, and, where
the config gives each seed test images of its own, these as well; otherwise their noise is not in
the intervals, which the notes say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd

from transfer_jax.report import MINUS, Claim, Effect, Results, Verdict, all_of, paired
from transfer_jax.studies.settings import SCRATCH

CUT, ADAPTATION = "fc7", 2
"""The paper's choice: FCa and FCb on fc7."""

LITTLE = 0.03
"""A loss of less than three points of mAP is little."""


def reference(results: Results) -> str:
    """The base that layers and amounts are studied on, which is named first."""
    # Rows of networks come in the order of the config; measures, which follow, in that of files.
    bases = results.select(None, experiment="frozen")
    return bases["condition"].iloc[0] if len(bases) else "all"


def networks(results: Results, measure: str = "mean_ap", **tags) -> pd.DataFrame:
    """Rows of one measure: of layers adapted on the reference, as the paper does it, unless `tags`
    say otherwise; scores are the mean of fifth powers."""
    usual = {"experiment": "frozen", "condition": reference(results), "images_per_class": 0}
    usual |= {"layer": CUT, "adaptation": ADAPTATION}
    if measure in ("mean_ap", "ap"):
        usual |= {"k": "5", "rule": "area"}
    return results.select(measure, **(usual | tags))


def scratch(results: Results, condition: str = "scratch", **tags) -> pd.DataFrame:
    """Networks of the same layers that learned from the target alone."""
    return networks(results, experiment="scratch", condition=condition, **tags)


def gain(results: Results, treated: pd.DataFrame, against: pd.DataFrame) -> Effect:
    """Treated minus reference of the same seed."""
    effect = paired(results, treated, against)
    shown = treated.groupby("seed")["tested"].first() if len(treated) else pd.Series()
    if effect.noise is None and shown.is_unique and len(shown) > 1:
        # Each seed has test images of its own: their noise is in the spread between seeds.
        return dataclasses.replace(effect, noise=())
    return effect


def _pretraining_beats_scratch(results: Results) -> Verdict:
    adapted = networks(results)
    return all_of(
        *(
            gain(results, adapted, scratch(results, name)).above(0.0, f"adapted {MINUS} {name}")
            for name in SCRATCH
        )
    )


def _mid_layers_beat_fc8(results: Results) -> Verdict:
    top = networks(results, layer="fc8")
    return all_of(
        *(
            gain(results, networks(results, layer=layer), top).above(0.0, f"{layer} {MINUS} fc8")
            for layer in ("fc6", "fc7")
        )
    )


def _near_classes_help(results: Results) -> Verdict:
    sides = (networks(results, condition=name) for name in ("near", "random"))
    return gain(results, *sides).above(0.0, f"near {MINUS} random classes")


def few(results: Results) -> int | None:
    """The largest number of images a class below all of them."""
    rows = results.select("mean_ap", experiment="frozen")
    amounts = rows.get("images_per_class", pd.Series(dtype=float))
    return int(amounts.max()) if amounts.max() > 0 else None


def _few_images_suffice(results: Results) -> Verdict:
    count = few(results)
    some = networks(results, images_per_class=count)
    loss, over = gain(results, some, networks(results)), scratch(results, images_per_class=count)
    return all_of(
        loss.above(-LITTLE, f"{count} images a class {MINUS} all"),
        gain(results, some, over).above(0.0, f"adapted {MINUS} scratch, {count} images a class"),
    )


def _maps_localise(results: Results) -> Verdict:
    sides = (networks(results, measure) for measure in ("pointing", "pointing_permuted"))
    return gain(results, *sides).above(0.0, f"own boxes {MINUS} boxes of other images")


def _better_pooled(k: str, other: str) -> Callable[[Results], Verdict]:
    def test(results: Results) -> Verdict:
        sides = (networks(results, k=power) for power in (k, other))
        return gain(results, *sides).above(0.0, f"k = {k} {MINUS} k = {other}")

    return test


CLAIMS = (
    Claim(
        "Layers adapted on a pretrained network beat the same network trained from scratch, also "
        "if that trains as many steps as pretraining and adaptation together.",
        _pretraining_beats_scratch,
        "+7.8 mAP (78.7, 70.9)",
    ),
    Claim("Mid layers transfer better than the classifier: fc6 and fc7, each beats fc8.",
          _mid_layers_beat_fc8),
    Claim("Pretraining on classes near the targets beats as many random classes of as many "
          "images.", _near_classes_help, "+2.4 mAP (78.7 of ILSVRC's classes, 76.3); "
          "+6.5 with 512 near classes more (82.8)"),
    Claim("A few images a class suffice: the largest number below all loses less than 3 points "
          "and beats training from scratch on as many.", _few_images_suffice, "hundreds suffice"),
    Claim("Score maps localise: their peak lies in a box of the class more often than in a box "
          "of that class in another image.", _maps_localise),
    Claim("The mean of fifth powers of the windows' scores ranks images better than their plain "
          "mean.", _better_pooled("5", "1")),
)  # fmt: skip
