"""Checks a data set before anyone trains on it: `cornerjax check`."""
