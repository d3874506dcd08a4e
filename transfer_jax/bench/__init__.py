"""Benchmarks: `python -m transfer_jax.bench step` and `python -m transfer_jax.bench grid`."""
