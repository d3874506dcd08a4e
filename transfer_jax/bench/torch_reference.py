"""The same network and training step in PyTorch, for comparison where it is installed."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transfer_jax.networks import (
    AdaptiveAvgPool,
    Conv,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Network,
    Relu,
)
from transfer_jax.training import Recipe
from transfer_jax.training.recipe import learning_rate_schedule
from transfer_jax.training.step import Source


def why_not() -> str | None:
    """Why PyTorch cannot be measured on JAX's device, or None."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    backend, devices = jax.default_backend(), jax.device_count()
    if backend not in ("cpu", "gpu") or devices > 1:
        return f"JAX runs on {devices} {backend} devices, torch would run on one CPU or GPU"
    if backend == "gpu" and not torch.cuda.is_available():
        return "JAX runs on a GPU, this build of torch on the CPU only"
    return None


def describe() -> str:
    """Version, device and threads of torch."""
    import torch

    device = torch.cuda.get_device_name() if _device() == "cuda" else "CPU"
    threads = torch.get_num_threads()
    return f"torch {torch.__version__} on {device}, {threads} threads, channels_last"


def loops(network: Network, recipe: Recipe, params: Any, data: tuple[Source, np.ndarray]) -> dict:
    """The rivals: PyTorch as it runs by itself and, on a GPU, through `torch.compile`."""
    rivals = {"PyTorch": loop(network, recipe, params, data)}
    if _device() == "cuda":
        rivals["PyTorch compiled"] = loop(network, recipe, params, data, compiled=True)
    return rivals


def loop(
    network: Network,
    recipe: Recipe,
    params: Any,
    data: tuple[Source, np.ndarray],
    *,
    compiled: bool = False,
) -> Callable[[int], float]:
    """A step with all the work of ours: views of uint8 images, dropout, loss, SGD with momentum.

    Args:
      network, params: what is trained, from these weights.
      recipe: of the solver 'sgd' and channel means; 'bfloat16' is torch's autocast.
      data: images and batches of places in them, as of `step.noise`; all of it goes to torch's
        device beforehand.
      compiled: views, network and loss go through `torch.compile`.

    Returns:
      run(steps), which makes so many updates, waits for them, and returns the last one's loss.
    """
    import torch

    device = _device()
    torch.backends.cudnn.benchmark = True
    if device == "cuda":
        tf32 = recipe.precision != "float32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    model = torch_network(network, params).to(device).train()
    optimizer = _sgd(model, recipe)
    rates = np.asarray(jax.vmap(learning_rate_schedule(recipe))(jnp.arange(recipe.steps)))
    images, labels, mean = (torch.from_numpy(np.array(a)).to(device) for a in data[0])
    labels, numbers = labels.long(), itertools.count()
    batches = torch.from_numpy(data[1]).long().to(device)

    def loss_of(indices):
        x = views(images[indices], mean, recipe)
        with torch.autocast(device, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = model(x)
        smoothing = recipe.label_smoothing
        loss = torch.nn.functional.cross_entropy
        return loss(logits.float(), labels[indices], label_smoothing=smoothing)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def run(steps: int) -> float:
        for number in itertools.islice(numbers, steps):
            loss = loss_of(batches[number % len(batches)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = float(rates[number]) * group["multiplier"]
            optimizer.step()
        # Waits for the device.
        return float(loss.detach())

    return run


def torch_network(network: Network, params: Any):
    """The network as a torch.nn.Sequential over images (N, 3, H, W), with the given weights."""
    import torch

    class FlattenRows(torch.nn.Module):
        """Maps (N, C, H, W) as (N, H * W * C), row by row, as our dense kernels take them."""

        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    modules, flat = [], False
    for layer in network.layers:
        kernel, bias = (np.array(params[layer.name][entry]) for entry in ("kernel", "bias"))
        if isinstance(layer, Conv):
            maps = (kernel.shape[2] * layer.groups, layer.features)
            geometry = (layer.kernel, layer.stride, layer.padding)
            module = torch.nn.Conv2d(*maps, *geometry, groups=layer.groups)
            kernel = kernel.transpose(3, 2, 0, 1)
        else:
            modules += [] if flat else [FlattenRows()]
            flat, module, kernel = True, torch.nn.Linear(*kernel.shape), kernel.T
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(kernel.copy()))
            module.bias.copy_(torch.from_numpy(bias))
        modules += [module, *map(_module, layer.then)]
    return torch.nn.Sequential(*modules).to(memory_format=torch.channels_last)


def views(images, mean, recipe: Recipe):
    """A random crop of each padded image (N, h, w, 3), half of them mirrored: (N, 3, h, w) with
    channels last in memory."""
    import torch

    size, pad, device = recipe.augmentation.size, recipe.augmentation.pad, images.device
    x = (images.float() - mean) * recipe.pixel_scale
    x = torch.nn.functional.pad(x, (0, 0, pad, pad, pad, pad))
    count, height, width, _ = x.shape
    pixels = torch.arange(size, device=device)
    rows = torch.randint(height - size + 1, (count, 1), device=device) + pixels
    columns = torch.randint(width - size + 1, (count, 1), device=device) + pixels
    if recipe.augmentation.mirror:
        mirrored = torch.rand(count, 1, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    examples = torch.arange(count, device=device)[:, None, None]
    return x[examples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def _module(after):
    from torch import nn

    match after:
        case Relu():
            return nn.ReLU(inplace=True)
        case MaxPool(window, stride, padding, round_up):
            return nn.MaxPool2d(window, stride, padding, ceil_mode=round_up)
        case AdaptiveAvgPool(size):
            return nn.AdaptiveAvgPool2d(size)
        case LocalResponseNorm(size, alpha, beta, k):
            return nn.LocalResponseNorm(size, alpha, beta, k)
        case Dropout(rate):
            return nn.Dropout(rate)


def _sgd(model, recipe: Recipe):
    import torch

    kernels = [p for name, p in model.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    groups = [
        {"params": kernels, "weight_decay": recipe.weight_decay, "multiplier": 1.0},
        {"params": biases, "weight_decay": 0.0, "multiplier": recipe.bias_lr_multiplier},
    ]
    options = {"lr": recipe.learning_rate, "momentum": recipe.momentum, "fused": True}
    return torch.optim.SGD(groups, nesterov=recipe.nesterov, **options)
