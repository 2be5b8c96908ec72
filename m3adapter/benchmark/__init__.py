"""The benchmark that `python -m m3adapter bench` runs: each measurement beside its peer, in the same run."""
