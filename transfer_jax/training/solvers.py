"""Solvers: what a recipe makes of gradients, built from optax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from transfer_jax.training.recipe import Recipe, learning_rate_schedule


def is_kernel(params) -> dict:
    """A tree like params that says True at kernels (weights) and False at biases."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """The recipe's solver as an optax transformation, for all layers; `transfer.freeze` wraps it.

    'caffe': Caffe's SGD, v = momentum v + lr (g + wd w); w = w - v. The learning rate is *inside*
    the momentum buffer, so after a drop of the learning rate the old, larger steps still ring for
    about 1 / (1 - momentum) updates. 'sgd': v = momentum v + (g + wd w); w = w - lr v, the
    convention of optax.sgd and PyTorch, where a drop acts at once. The two are equal while the
    learning rate is constant.

    'adamw': optax.adamw with `momentum` as its b1 and weight decay apart from the gradient
    (Loshchilov & Hutter 2019); it needs the fewest steps on small data.

    In all three, weight decay acts on kernels only, and biases learn bias_lr_multiplier times
    faster. With recipe.max_filter_rms, `limit_filter_rms` comes last.

    Returns:
      an optax.GradientTransformation. With recipe.schedule='plateau' its update takes one more
      keyword, `rate_scale`, a float32 scalar: the product of the drops so far, see `plateau`.
    """
    plateau = recipe.schedule == "plateau"
    schedule = recipe.learning_rate if plateau else learning_rate_schedule(recipe)
    drops = [_scale_by_rate_scale()] if plateau else []
    biases = []
    if recipe.bias_lr_multiplier != 1.0:
        is_bias = lambda params: jax.tree.map(lambda kernel: not kernel, is_kernel(params))  # noqa: E731
        biases = [optax.masked(optax.scale(recipe.bias_lr_multiplier), is_bias)]
    limit = [limit_filter_rms(recipe.max_filter_rms)] if recipe.max_filter_rms is not None else []
    if recipe.solver == "adamw":
        adamw = optax.adamw(
            schedule,
            b1=recipe.momentum,
            weight_decay=recipe.weight_decay,
            mask=is_kernel,
            nesterov=recipe.nesterov,
        )
        return optax.chain(adamw, *biases, *drops, *limit)
    steps = [optax.add_decayed_weights(recipe.weight_decay, mask=is_kernel), *biases]
    if recipe.solver == "caffe":
        steps += [
            optax.scale_by_learning_rate(schedule, flip_sign=False),
            *drops,
            optax.trace(recipe.momentum),
            optax.scale(-1.0),
        ]
    else:
        steps += [
            optax.trace(recipe.momentum, nesterov=recipe.nesterov),
            optax.scale_by_learning_rate(schedule),
            *drops,
        ]
    return optax.chain(*steps, *limit)


def limit_filter_rms(max_rms: float) -> optax.GradientTransformation:
    """Keeps the root mean square of every convolution filter at or below a limit.

    A filter that an update has carried beyond the limit is scaled back onto it, which stops single
    first-layer filters from dominating the others (Zeiler & Fergus 2013, section 3.1). A filter is
    what makes one output map: kernel[..., o], its mean square taken over height, width and input
    maps. Only entries of the name 'kernel' with four axes are filters; dense layers and biases
    pass. Like optax.keep_params_nonnegative it changes updates by what the params will be, so it
    should be the last of a chain.

    Args:
      max_rms: the limit, in units of the weights; the paper's is 0.1, for pixels within
        [-128, 128].

    Returns:
      an optax.GradientTransformation without state, whose update needs params. The updates of
      filters that stay within the limit are returned as they are.

    Raises:
      ValueError: when max_rms is not above 0; by its update, when params are missing.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.sgd(0.01, 0.9), limit_filter_rms(0.1))
      >>> params = {'conv1': {'kernel': jnp.full((3, 3, 3, 8), 0.2)}}
      >>> still = {'conv1': {'kernel': jnp.zeros((3, 3, 3, 8))}}
      >>> updates, _ = tx.update(still, tx.init(params), params)
      >>> round(float(optax.apply_updates(params, updates)['conv1']['kernel'].max()), 6)
      0.1
    """
    if not max_rms > 0:
        raise ValueError(f"max_rms={max_rms}: expected a number above 0")

    def limit(path, update, param):
        if path[-1].key != "kernel" or param.ndim != 4:
            return update
        moved = param + update
        rms = jnp.sqrt(jnp.mean(jnp.square(moved), axis=(0, 1, 2), keepdims=True))
        return jnp.where(rms > max_rms, moved * (max_rms / rms) - param, update)

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("limit_filter_rms looks at the params: call update with them")
        return jax.tree_util.tree_map_with_path(limit, updates, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _scale_by_rate_scale() -> optax.GradientTransformationExtraArgs:
    def update(updates, state, params=None, *, rate_scale, **others):
        del params, others
        return jax.tree.map(lambda u: rate_scale * u, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
