"""The same network and train step written in PyTorch, for comparison where torch is installed."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transfer_jax.bench.training import SyntheticData
from transfer_jax.networks import Network
from transfer_jax.networks.description import (
    AdaptiveAvgPool,
    Conv,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Relu,
)
from transfer_jax.training.recipe import Recipe, learning_rate_schedule


def why_not() -> str | None:
    """The reason why PyTorch cannot be measured here, or None."""
    if importlib.util.find_spec("torch") is None:
        return "torch cannot be imported by this interpreter"
    import torch

    backend = jax.default_backend()
    if backend == "gpu" and not torch.cuda.is_available():
        return f"JAX runs on {jax.devices()[0].device_kind}, this build of torch on the CPU only"
    if backend not in ("cpu", "gpu"):
        return f"JAX runs on {backend}, torch does not"
    if backend == "gpu" and jax.local_device_count() > 1:
        return f"JAX runs on {jax.local_device_count()} GPUs, torch would run on one"
    return None


def can_compile() -> bool:
    """Whether `torch.compile` is a contender: on GPUs."""
    return why_not() is None and _device() == "cuda"


def describe() -> str:
    """Version, device and number of threads of torch."""
    import torch

    if _device() == "cuda":
        name = torch.cuda.get_device_name()
        return f"torch {torch.__version__} on {name}, float32 products as TF32, cuDNN benchmark"
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def torch_network(network: Network, params: Any):
    """The network as a torch.nn.Sequential over NCHW images, with the given weights.

    Args:
      network: any Network.
      params: its params.
    """
    import torch

    class FlattenRows(torch.nn.Module):
        """(N, C, H, W) to (N, H * W * C): row by row, as the dense kernels expect."""

        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    modules, is_map = [], True
    for layer in network.layers:
        kernel, bias = (np.asarray(params[layer.name][entry]) for entry in ("kernel", "bias"))
        if isinstance(layer, Conv):
            module = torch.nn.Conv2d(
                kernel.shape[2] * layer.groups,
                layer.features,
                layer.kernel,
                layer.stride,
                layer.padding,
                groups=layer.groups,
            )
            weights = kernel.transpose(3, 2, 0, 1)
        else:
            if is_map:
                modules.append(FlattenRows())
                is_map = False
            module = torch.nn.Linear(*kernel.shape)
            weights = kernel.T
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(weights.copy()))
            module.bias.copy_(torch.from_numpy(bias.copy()))
        modules.append(module)
        modules += [_module(after) for after in layer.then]
    return torch.nn.Sequential(*modules).to(memory_format=torch.channels_last)


def train_loop(
    network: Network,
    params: Any,
    recipe: Recipe,
    data: SyntheticData,
    *,
    compiled: bool = False,
) -> tuple[Callable[[int], None], list[float]]:
    """A training loop that does a step's whole work: views of uint8 images, dropout, SGD.

    On a GPU float32 products run as TF32, as JAX's do by default, and cuDNN searches its
    algorithms.

    Args:
      network: what is trained.
      params: its initial params.
      recipe: how; the solver must be 'sgd'. 'bfloat16' is torch's autocast.
      data: images, moved to torch's device once.
      compiled: views, network and loss go through `torch.compile`.

    Returns:
      run and losses: run(steps) makes that many updates and returns when they are done; the last
      loss of each run is appended to losses.

    Raises:
      ValueError: for a recipe that torch's SGD does not have.
    """
    import torch

    if recipe.solver != "sgd" or recipe.mean != "channel":
        raise ValueError(f"torch is compared at sgd and channel means, not at {recipe}")
    device = _device()
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    model = torch_network(network, params).to(device).train()
    optimizer = _sgd(model, recipe)
    count = recipe.steps
    rates = np.asarray(jax.vmap(learning_rate_schedule(recipe))(jnp.arange(count)), float)
    images, labels, mean = (torch.from_numpy(np.array(a)).to(device) for a in data.source)
    labels = labels.long()
    batches = itertools.cycle(torch.from_numpy(data.batches).long().to(device))
    numbers, losses = itertools.count(), []

    def loss_of(indices):
        x = _views(images[indices], mean, recipe)
        with torch.autocast(device, torch.bfloat16, enabled=recipe.dtype == "bfloat16"):
            logits = model(x)
        return torch.nn.functional.cross_entropy(
            logits.float(), labels[indices], label_smoothing=recipe.label_smoothing
        )

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step():
        loss = loss_of(next(batches))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        rate = float(rates[min(next(numbers), count - 1)])
        for group in optimizer.param_groups:
            group["lr"] = rate * group["multiplier"]
        optimizer.step()
        return loss

    def run(steps: int) -> None:
        for _ in range(steps):
            loss = step()
        losses.append(float(loss.detach()))
        if device == "cuda":
            torch.cuda.synchronize()

    return run, losses


def _device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def _module(after):
    import torch

    match after:
        case Relu():
            return torch.nn.ReLU(inplace=True)
        case MaxPool(window, stride, padding, round_up):
            return torch.nn.MaxPool2d(window, stride, padding, ceil_mode=round_up)
        case AdaptiveAvgPool(size):
            return torch.nn.AdaptiveAvgPool2d(size)
        case LocalResponseNorm(size, alpha, beta, k):
            return torch.nn.LocalResponseNorm(size, alpha, beta, k)
        case Dropout(rate):
            return torch.nn.Dropout(rate)
    raise TypeError(f"no torch module for {after}")


def _sgd(model, recipe: Recipe):
    import torch

    named = list(model.named_parameters())
    groups = [
        {
            "params": [p for name, p in named if name.endswith("weight")],
            "weight_decay": recipe.weight_decay,
            "multiplier": 1.0,
        },
        {
            "params": [p for name, p in named if name.endswith("bias")],
            "weight_decay": 0.0,
            "multiplier": recipe.bias_lr_multiplier,
        },
    ]
    return torch.optim.SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )


def _views(images, mean, recipe: Recipe):
    """A random crop of each padded image, mirrored with probability 1/2, as NCHW."""
    import torch

    size, pad = recipe.augmentation.size, recipe.augmentation.pad
    x = (images.float() - mean) * recipe.pixel_scale
    x = torch.nn.functional.pad(x, (0, 0, pad, pad, pad, pad))
    count, height, width, _ = x.shape
    device = x.device
    pixels = torch.arange(size, device=device)
    rows = torch.randint(height - size + 1, (count, 1), device=device) + pixels
    columns = torch.randint(width - size + 1, (count, 1), device=device) + pixels
    if recipe.augmentation.mirror:
        mirrored = torch.rand(count, 1, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    examples = torch.arange(count, device=device)[:, None, None]
    return x[examples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
