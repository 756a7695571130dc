"""Checks a data set before anyone trains on it: `python -m cornerjax.check`."""
