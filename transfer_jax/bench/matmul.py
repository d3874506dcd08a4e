"""The best rate of large matrix products on this device: what utilisation is measured against."""

from __future__ import annotations

import dataclasses
import time

import jax
import jax.numpy as jnp

from transfer_jax.training.recipe import DTYPES

SIZES = {"cpu": (1024, 2048, 3072)}
SIZES_OF_ACCELERATORS = (4096, 8192, 12288, 16384)


@dataclasses.dataclass(frozen=True)
class MatmulRate:
    """The fastest product found.

    Attributes:
      dtype: 'float32' or 'bfloat16', of operands and result.
      size: rows and columns of the square matrices.
      flops_per_second: two operations for each multiply-add.
    """

    dtype: str
    size: int
    flops_per_second: float

    def __str__(self) -> str:
        rate = self.flops_per_second / 1e12
        return f"{rate:,.3g} TFLOP/s, {self.dtype} products of {self.size} x {self.size} matrices"


def measure(
    dtype: str, sizes: tuple[int, ...] | None = None, *, repeats: int = 5, seconds: float = 0.2
) -> MatmulRate:
    """Times square matrix products of several sizes on one device.

    Args:
      dtype: 'float32' or 'bfloat16'. On GPUs the first runs at JAX's default precision, TF32.
      sizes: of the matrices; None takes some that fit the backend.
      repeats: rounds of each size; the fastest counts.
      seconds: least duration of a round.
    """
    sizes = sizes or SIZES.get(jax.default_backend(), SIZES_OF_ACCELERATORS)
    rates = {}
    for size in sizes:
        left, right = (
            jax.random.normal(jax.random.key(i), (size, size), DTYPES[dtype]) for i in range(2)
        )
        product = jax.jit(jnp.matmul)
        product(left, right).block_until_ready()
        best, calls = float("inf"), 1
        for _ in range(repeats):
            while (duration := _timed(product, left, right, calls)) < seconds:
                calls = max(calls + 1, int(1.2 * calls * seconds / duration))
            best = min(best, duration / calls)
        rates[size] = 2 * size**3 / best
    size = max(rates, key=rates.get)
    return MatmulRate(dtype, size, rates[size])


def _timed(product, left, right, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        result = product(left, right)
    result.block_until_ready()
    return time.perf_counter() - started
