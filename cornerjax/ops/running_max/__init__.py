"""The running maximum along an axis: one op, several implementations, a gradient of its own."""

from cornerjax.ops.running_max.api import IMPLEMENTATIONS, check_implementation, corner_max, runnable, running_max

__all__ = ["IMPLEMENTATIONS", "check_implementation", "corner_max", "runnable", "running_max"]
