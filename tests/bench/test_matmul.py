import pytest

from transfer_jax.bench import matmul


def test_rate_is_of_the_fastest_size(monkeypatch):
    durations = {16: 1e-3, 32: 2e-3, 64: 64e-3}
    monkeypatch.setattr(matmul, "_timed", lambda product, x, y, calls: durations[len(x)] * calls)
    rate = matmul.measure("bfloat16", (16, 32, 64), repeats=2, seconds=0.1)
    assert (rate.size, rate.dtype) == (32, "bfloat16")
    assert rate.flops_per_second == pytest.approx(2 * 32**3 / 2e-3)


def test_measures_this_machine():
    rate = matmul.measure("float32", (128,), repeats=2, seconds=0.01)
    assert 1e8 < rate.flops_per_second < 1e14
    assert "float32 products of 128 x 128 matrices" in str(rate)
