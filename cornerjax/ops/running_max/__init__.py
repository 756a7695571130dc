"""The running maximum along an axis: one op, several implementations, a gradient of its own."""

from cornerjax.ops.running_max.api import IMPLEMENTATIONS, running_max

__all__ = ["IMPLEMENTATIONS", "running_max"]
