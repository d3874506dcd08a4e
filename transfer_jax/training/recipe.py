"""Recipe: how a network is trained, its learning rate and its optimiser."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from transfer_jax.data.views import Augmentation
from transfer_jax.networks.network import SCHEMES

CHOICES = {
    "solver": ("caffe", "sgd", "adamw"),
    "schedule": ("step", "cosine", "constant", "plateau"),
    "mean": ("image", "channel"),
    "crops": ("random", "ten"),
    "init": SCHEMES,
    "precision": ("float32", "tf32", "bfloat16"),
}
_COUNTS = ("batch_size", "steps", "decay_every", "eval_every", "best_evals", "plateau_patience")
_BELOW = {"momentum": 1, "label_smoothing": 1, "warmup_fraction": 1}
_BELOW |= {"learning_rate": 1e4, "weight_decay": 1, "bias_lr_multiplier": 1e3, "pixel_scale": 1e3}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are those of Yosinski et al. 2014.

    A field that equals its default is left out of a cell's hash.

    Attributes:
      batch_size: images a step, over all devices.
      steps: number of updates.
      solver: 'caffe', 'sgd' or 'adamw', see `optimizer`.
      learning_rate: the largest of the schedule.
      schedule: 'step' (times decay_factor every decay_every steps), 'cosine' (linear warm-up, then
        half a cosine to 0), 'constant', or 'plateau' (times decay_factor whenever the validation
        error stops falling, see `plateau_scale`).
      warmup_fraction: share of the steps in which a cosine rises.
      momentum, nesterov, weight_decay: weight decay acts on kernels, not on biases.
      bias_lr_multiplier: learning rate of biases relative to that of kernels; Caffe uses 2.
      label_smoothing: share of the target probability spread over all classes.
      precision: of convolutions and products. 'float32' is float32 on every device; 'tf32' lets
        GPUs round their inputs; 'bfloat16' computes all layers but the last in bfloat16. Params,
        updates, logits and the loss are float32 always.
      init: how weights are drawn, see `Network.init`.
      augmentation, crops: training views: random crops and mirrors, or ('ten') one of the ten
        fixed crops, drawn anew for each example and step.
      mean: what is subtracted: a mean image ('image') or one value a channel.
      pixel_scale: factor after it; Caffe's networks take 1, small ones do better near 1 / 60.
      eval_every: steps between evaluations; best_evals: how many of the best ones are averaged in
        top1_best_mean.
      ten_crop: evaluate on ten crops (averaged probabilities) instead of the centre.
      plateau_patience: evaluations in a row without improvement that make the plateau drop; one
        improves when its top-1 error is below 0.9999 times the lowest so far.
      frozen_once: frozen lower layers see each image once, in the evaluation's view and without
        dropout, and what is above learns from what left them: no augmentation, many times faster.
      max_filter_rms: root mean square above which a convolution filter is scaled back, see
        `limit_filter_rms`; None sets no limit.
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
    precision: str = "float32"
    init: str = "own"
    augmentation: Augmentation = Augmentation(size=227, pad=0, mirror=True)  # noqa: RUF009  frozen
    mean: str = "image"
    pixel_scale: float = 1.0
    eval_every: int = 1000
    best_evals: int = 10
    ten_crop: bool = False
    crops: str = "random"
    plateau_patience: int = 5
    frozen_once: bool = False
    max_filter_rms: float | None = None

    def __post_init__(self):
        def refuse(name, expected):
            raise ValueError(f"recipe.{name}={getattr(self, name)!r}: expected {expected}")

        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in CHOICES and value not in CHOICES[name]:
                refuse(name, f"one of {CHOICES[name]}")
            if name in _COUNTS and (isinstance(value, bool) or int(value) != value or value < 1):
                refuse(name, "an integer of at least 1")
            if field.type.startswith("float") and value is not None:
                if isinstance(value, bool) or not 0 <= value < _BELOW.get(name, math.inf):
                    refuse(name, f"a number in [0, {_BELOW.get(name, 'inf')})")
                # So that 0 and 0.0 are one recipe, with one hash.
                object.__setattr__(self, name, float(value))
        if self.solver == "caffe" and self.nesterov:
            refuse("nesterov", "False with recipe.solver='caffe'")
        if self.decay_factor > 1:
            refuse("decay_factor", "at most 1")
        if self.augmentation.pad < 0:
            refuse("augmentation", "a pad of at least 0")
        if self.schedule == "plateau" and not 0 < self.decay_factor < 1:
            refuse("decay_factor", "a number between 0 and 1 with recipe.schedule='plateau'")
        if self.ten_crop and self.frozen_once:
            refuse("ten_crop", "False with recipe.frozen_once, which sees the centre crop alone")


SMALL_IMAGES = Recipe(
    batch_size=64,
    steps=6000,
    solver="sgd",
    learning_rate=0.02,
    schedule="cosine",
    warmup_fraction=0.1,
    nesterov=True,
    weight_decay=2e-3,
    bias_lr_multiplier=1.0,
    init="he_quiet_conv1",
    augmentation=Augmentation(size=32, pad=2, mirror=True),
    mean="channel",
    pixel_scale=1 / 60,
    best_evals=1,
)
"""For images of about 32x32 pixels and networks such as `alexnet_mini`, without dropout; what else
was tried is in results/benchmarks/recipe.md."""


def twice_as_long(recipe: Recipe) -> Recipe:
    """The recipe over twice the steps, its drops twice as late: the control that says whether
    networks were still learning."""
    return dataclasses.replace(recipe, steps=2 * recipe.steps, decay_every=2 * recipe.decay_every)


def as_long_as_both(recipe: Recipe, before: Recipe) -> Recipe:
    """The recipe for the steps of both, its drops as much later: the control from scratch of what
    was pretrained by `before`."""
    steps = recipe.steps + before.steps
    later = steps / recipe.steps if recipe.schedule == "step" else 1
    return dataclasses.replace(recipe, steps=steps, decay_every=round(later * recipe.decay_every))


def learning_rate_schedule(recipe: Recipe) -> optax.Schedule:
    """The learning rate as a function of the step, counted from 0; a plateau's drops apart."""
    peak, steps = recipe.learning_rate, recipe.steps
    match recipe.schedule:
        case "step":
            # Not optax.exponential_decay: compiled, it multiplies by 1 / decay_every in float32,
            # which for some values drops a step late.
            return lambda step: peak * recipe.decay_factor ** (step // recipe.decay_every)
        case "cosine":
            warmup = round(steps * recipe.warmup_fraction)
            return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1))
        case _:
            return optax.constant_schedule(peak)


def plateau_scale(recipe: Recipe, errors: Sequence[float]) -> float:
    """Factor of the learning rate after evaluations with these top-1 errors, in order.

    Zeiler & Fergus (2013, section 3.1) lowered the rate by hand when the validation error stopped
    falling; here it drops after plateau_patience evaluations in a row that do not improve.
    """
    scale, best, waited = 1.0, math.inf, 0
    if recipe.schedule != "plateau":
        return scale
    for error in errors:
        improved = error < 0.9999 * best
        best, waited = (error, 0) if improved else (best, waited + 1)
        if waited >= recipe.plateau_patience:
            scale, waited = scale * recipe.decay_factor, 0
    return scale


def optimizer(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """The recipe's solver for all layers; `transfer.freeze` wraps it.

    'caffe': v = momentum v + lr (g + wd w); w = w - v. The learning rate is *inside* the momentum
    buffer, so after a drop the older, larger steps still ring for about 1 / (1 - momentum) updates.
    'sgd': v = momentum v + (g + wd w); w = w - lr v, as optax and PyTorch have it. 'adamw':
    optax.adamw with `momentum` as b1. Weight decay acts on kernels only; biases learn
    bias_lr_multiplier times faster; `limit_filter_rms` comes last.

    Its update takes one more keyword, `rate_scale`: the plateau schedule's factor, a scalar.
    """
    schedule = learning_rate_schedule(recipe)
    biases = optax.masked(
        optax.scale(recipe.bias_lr_multiplier),
        lambda params: jax.tree.map(lambda kernel: not kernel, is_kernel(params)),
    )
    decayed = optax.add_decayed_weights(recipe.weight_decay, mask=is_kernel)
    rate = optax.scale_by_learning_rate(schedule)
    if recipe.solver == "caffe":
        # Sign and rate go into the buffer together.
        steps = [decayed, biases, rate, _scale_by_rate_scale(), optax.trace(recipe.momentum)]
    elif recipe.solver == "sgd":
        trace = optax.trace(recipe.momentum, nesterov=recipe.nesterov)
        steps = [decayed, biases, trace, rate, _scale_by_rate_scale()]
    else:
        adamw = optax.adamw(
            schedule,
            b1=recipe.momentum,
            weight_decay=recipe.weight_decay,
            mask=is_kernel,
            nesterov=recipe.nesterov,
        )
        steps = [adamw, biases, _scale_by_rate_scale()]
    if recipe.max_filter_rms is not None:
        steps.append(limit_filter_rms(recipe.max_filter_rms))
    return optax.chain(*steps)


def is_kernel(params) -> dict:
    """A tree like params: True at kernels, False at biases."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def limit_filter_rms(max_rms: float) -> optax.GradientTransformation:
    """Keeps the root mean square of every convolution filter at or below a limit.

    A filter kernel[..., o] that an update has carried beyond the limit is scaled back onto it,
    which stops single first-layer filters from dominating (Zeiler & Fergus 2013, section 3.1, who
    use 0.1 for pixels within [-128, 128]). Dense layers and biases pass.
    """

    def limit(path, update, param):
        if path[-1].key != "kernel" or param.ndim != 4:
            return update
        moved = param + update
        rms = jnp.sqrt(jnp.mean(jnp.square(moved), axis=(0, 1, 2), keepdims=True))
        return jnp.where(rms > max_rms, moved * (max_rms / rms) - param, update)

    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(limit, updates, params)
    )


def _scale_by_rate_scale() -> optax.GradientTransformationExtraArgs:
    def update(updates, state, params=None, *, rate_scale, **others):
        del params, others
        return jax.tree.map(lambda u: rate_scale * u, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
