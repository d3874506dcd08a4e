"""Recipe: how a network is trained. Schedules and optimisers are built from optax."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from transfer_jax.data.augment import Augmentation

SCHEDULES = ("step", "one_cycle", "cosine", "constant")
SOLVERS = ("caffe", "sgd", "adamw")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are those of Yosinski et al. 2014.

    Attributes:
      batch_size: images a step, over all devices.
      steps: number of parameter updates.
      solver: 'caffe', 'sgd' or 'adamw', see `optimizer`.
      learning_rate: the largest learning rate of the schedule.
      schedule: 'step' (times decay_factor every decay_every steps), 'one_cycle' (optax's cosine
        one-cycle: up from learning_rate / 25 during warmup_fraction of the steps, then down to
        nothing), 'cosine' (linear warm-up, then half a cosine to 0) or 'constant'.
      decay_every: steps between drops of the step schedule.
      decay_factor: factor of each drop.
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

    def __post_init__(self):
        for name in ("batch_size", "steps", "decay_every", "eval_every", "best_evals"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"recipe.{name}={value!r}: expected an integer of at least 1")
        for name, legal in (
            ("solver", SOLVERS),
            ("schedule", SCHEDULES),
            ("dtype", tuple(DTYPES)),
            ("mean", ("image", "channel")),
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
        ):
            value = getattr(self, name)
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


def learning_rate_schedule(recipe: Recipe) -> optax.Schedule:
    """The recipe's learning rate as a function of the step, counted from 0."""
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


def is_kernel(params) -> dict:
    """A tree like params that says True at kernels (weights) and False at biases."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """The recipe's solver as an optax transformation, for all layers; `transfer.freeze` wraps it.

    'caffe': Caffe's SGD, v = momentum v + lr (g + wd w); w = w - v. The learning rate is *inside*
    the momentum buffer, so after a drop of the learning rate the old, larger steps still ring for
    about 1 / (1 - momentum) updates. 'sgd': v = momentum v + (g + wd w); w = w - lr v, the
    convention of optax.sgd and PyTorch, where a drop acts at once. The two are equal while the
    learning rate is constant. In both, weight decay acts on kernels only, and biases learn
    bias_lr_multiplier times faster.

    'adamw': optax.adamw with `momentum` as its b1 and weight decay apart from the gradient
    (Loshchilov & Hutter 2019), on kernels only; it needs the fewest steps on small data.
    """
    schedule = learning_rate_schedule(recipe)
    if recipe.solver == "adamw":
        return optax.adamw(
            schedule,
            b1=recipe.momentum,
            weight_decay=recipe.weight_decay,
            mask=is_kernel,
            nesterov=recipe.nesterov,
        )
    steps = [optax.add_decayed_weights(recipe.weight_decay, mask=is_kernel)]
    if recipe.bias_lr_multiplier != 1.0:
        biases = lambda params: jax.tree.map(lambda kernel: not kernel, is_kernel(params))  # noqa: E731
        steps.append(optax.masked(optax.scale(recipe.bias_lr_multiplier), biases))
    if recipe.solver == "caffe":
        steps += [
            optax.scale_by_learning_rate(schedule, flip_sign=False),
            optax.trace(recipe.momentum),
            optax.scale(-1.0),
        ]
    else:
        steps += [
            optax.trace(recipe.momentum, nesterov=recipe.nesterov),
            optax.scale_by_learning_rate(schedule),
        ]
    return optax.chain(*steps)
