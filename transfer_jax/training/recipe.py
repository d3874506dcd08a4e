"""Recipe: how a network is trained, and its learning rate as a function of the step."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import optax

from transfer_jax.data.augment import CROPS, Augmentation

SCHEDULES = ("step", "one_cycle", "cosine", "constant", "plateau")
SOLVERS = ("caffe", "sgd", "adamw")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are those of Yosinski et al. 2014.

    A field that equals its default is left out of a cell's hash: new fields need a default under
    which everything stays as it was, and no default may change (see `grid.cell`).

    Attributes:
      batch_size: images a step, over all devices.
      steps: number of parameter updates.
      solver: 'caffe', 'sgd' or 'adamw', see `solvers.optimizer`.
      learning_rate: the largest learning rate of the schedule.
      schedule: 'step' (times decay_factor every decay_every steps), 'one_cycle' (optax's cosine
        one-cycle: up from learning_rate / 25 during warmup_fraction of the steps, then down to
        nothing), 'cosine' (linear warm-up, then half a cosine to 0), 'constant', or 'plateau'
        (times decay_factor whenever the validation error stops falling, see `plateau`).
      decay_every: steps between drops of the step schedule.
      decay_factor: factor of each drop of the step and plateau schedules.
      warmup_fraction: share of the steps in which one_cycle and cosine rise.
      momentum: factor of the momentum buffer.
      nesterov: Nesterov momentum, for 'sgd' and 'adamw'.
      weight_decay: factor of the weights (not of the biases) added to their gradients.
      bias_lr_multiplier: learning rate of biases relative to that of weights; Caffe's networks
        use 2.
      label_smoothing: share of the target probability spread over all classes.
      dtype: 'float32', or 'bfloat16' for the forward and backward computation; parameters,
        their updates and the loss stay float32.
      augmentation: crop, padding and mirroring of the training images.
      mean: what is subtracted: 'image' (a mean image, cropped with the image) or 'channel'.
      pixel_scale: factor after mean subtraction. Caffe's networks take 1; small ones do better
        with inputs of unit variance, about 1 / 60.
      eval_every: steps between evaluations.
      best_evals: how many of the best evaluations are averaged in top1_best_mean.
      ten_crop: evaluate on ten crops (averaged probabilities) instead of the centre crop.
      crops: where training views are cut: 'random', or 'ten' for one of the ten fixed views
        (corners, centre, mirrored), drawn anew for each example and step.
      plateau_patience: evaluations in a row without an improvement that make the plateau schedule
        drop.
      plateau_rtol, plateau_atol: an evaluation improves when its top-1 error, as a share of the
        images, is below (1 - plateau_rtol) * the lowest so far - plateau_atol.
      max_filter_rms: root mean square above which a convolution filter is scaled back after each
        update, see `solvers.limit_filter_rms`; None sets no limit.

    Example, the recipe of Zeiler & Fergus 2013, section 3 (dropout and the initial weights belong
    to the network; they lowered the rate by hand, so steps and patience are choices):
      >>> recipe = Recipe(batch_size=128, steps=700_000, learning_rate=1e-2, momentum=0.9,
      ...                 schedule='plateau', weight_decay=0.0, bias_lr_multiplier=1.0,
      ...                 augmentation=Augmentation(size=224), crops='ten', ten_crop=True,
      ...                 max_filter_rms=1e-1, eval_every=10_000)
    """

    batch_size: int = 256
    steps: int = 450_000
    solver: str = "caffe"
    learning_rate: float = 0.01
    schedule: str = "step"
    decay_every: int = 100_000
    decay_factor: float = 0.1
    warmup_fraction: float = 0.3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    bias_lr_multiplier: float = 2.0
    label_smoothing: float = 0.0
    dtype: str = "float32"
    augmentation: Augmentation = Augmentation(size=227, pad=0, mirror=True)  # noqa: RUF009  frozen
    mean: str = "image"
    pixel_scale: float = 1.0
    eval_every: int = 1000
    best_evals: int = 10
    ten_crop: bool = False
    crops: str = "random"
    plateau_patience: int = 5
    plateau_rtol: float = 1e-4
    plateau_atol: float = 0.0
    max_filter_rms: float | None = None

    def __post_init__(self):
        counts = ("batch_size", "steps", "decay_every", "eval_every", "best_evals")
        for name in (*counts, "plateau_patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"recipe.{name}={value!r}: expected an integer of at least 1")
        for name, legal in (
            ("solver", SOLVERS),
            ("schedule", SCHEDULES),
            ("dtype", tuple(DTYPES)),
            ("mean", ("image", "channel")),
            ("crops", CROPS),
        ):
            if getattr(self, name) not in legal:
                raise ValueError(f"recipe.{name}={getattr(self, name)!r}: expected one of {legal}")
        for name, high in (
            ("learning_rate", math.inf),
            ("momentum", 1),
            ("weight_decay", math.inf),
            ("bias_lr_multiplier", math.inf),
            ("label_smoothing", 1),
            ("warmup_fraction", 1),
            ("decay_factor", math.inf),
            ("pixel_scale", math.inf),
            ("plateau_rtol", 1),
            ("plateau_atol", math.inf),
            ("max_filter_rms", math.inf),
        ):
            value = getattr(self, name)
            if name == "max_filter_rms" and value is None:
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value < high:
                raise ValueError(f"recipe.{name}={value!r}: expected a number in [0, {high})")
            # So that 0 and 0.0 are one recipe, with one hash.
            object.__setattr__(self, name, float(value))
        for name, kind in (
            ("nesterov", bool),
            ("ten_crop", bool),
            ("augmentation", Augmentation),
        ):
            if not isinstance(getattr(self, name), kind):
                found = getattr(self, name)
                raise ValueError(f"recipe.{name}={found!r}: expected one of type {kind.__name__}")
        if self.solver == "caffe" and self.nesterov:
            raise ValueError("recipe.nesterov=True: expected False with recipe.solver='caffe'")
        if self.max_filter_rms == 0:
            raise ValueError("recipe.max_filter_rms=0.0: expected a number above 0, or None")
        if self.schedule == "plateau":
            if not 0 < self.decay_factor < 1:
                raise ValueError(
                    f"recipe.decay_factor={self.decay_factor}: expected a number between 0 and 1 "
                    "with recipe.schedule='plateau'"
                )
            if self.plateau_rtol == self.plateau_atol == 0:
                raise ValueError(
                    "recipe.plateau_rtol=0.0 and recipe.plateau_atol=0.0: expected one above 0"
                )


def learning_rate_schedule(recipe: Recipe) -> optax.Schedule:
    """The recipe's learning rate as a function of the step, counted from 0.

    Of the plateau schedule this is the rate before any drop: the drops are part of the train state,
    see `plateau`.
    """
    peak, steps = recipe.learning_rate, recipe.steps
    match recipe.schedule:
        case "step":
            # Not optax.exponential_decay: compiled, it multiplies by 1 / decay_every in float32,
            # which for some values drops a step late.
            return lambda step: peak * recipe.decay_factor ** (step // recipe.decay_every)
        case "one_cycle":
            return optax.cosine_onecycle_schedule(steps, peak, recipe.warmup_fraction)
        case "cosine":
            warmup = round(steps * recipe.warmup_fraction)
            return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1))
        case _:
            return optax.constant_schedule(peak)
