"""The benchmark: what was measured, beside its peer in the same run, as `python -m m3adapter bench` prints it."""
