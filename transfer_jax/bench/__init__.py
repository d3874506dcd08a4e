"""Benchmarks against rivals in the same run: `python -m transfer_jax.bench --help`."""
