"""Pure array functions; they know no network, no configuration and no detector."""

from cornerjax.ops.deformable import deformable_conv
from cornerjax.ops.edges import RISING_SUMS, aggregate_edges
from cornerjax.ops.gather import gather_cells
from cornerjax.ops.peaks import keep_peaks
from cornerjax.ops.pools import bottom_pool, corner_pool, left_pool, line_max, right_pool, top_pool
from cornerjax.ops.running_max import IMPLEMENTATIONS, check_implementation, runnable, running_max
from cornerjax.ops.soft_nms import soft_nms, soft_nms_merge
from cornerjax.ops.soft_nms_in_place import soft_nms_in_place
from cornerjax.ops.top_k import top_cells

__all__ = [
    "IMPLEMENTATIONS",
    "RISING_SUMS",
    "aggregate_edges",
    "bottom_pool",
    "check_implementation",
    "corner_pool",
    "deformable_conv",
    "gather_cells",
    "keep_peaks",
    "left_pool",
    "line_max",
    "right_pool",
    "runnable",
    "running_max",
    "soft_nms",
    "soft_nms_in_place",
    "soft_nms_merge",
    "top_cells",
    "top_pool",
]
