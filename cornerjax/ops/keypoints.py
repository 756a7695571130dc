"""From the heat map of a keypoint to the best points in it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from cornerjax.ops.gather import gather_cells
from cornerjax.ops.peaks import keep_peaks
from cornerjax.ops.precision import precise
from cornerjax.ops.top_k import top_cells


class Peaks(NamedTuple):
    """Points found in a heat map, best first."""

    points: Float[Array, "b k 2"]  # x, y in cells, offsets added
    scores: Float[Array, "b k"]  # in [0, 1]; below 0: takes no part
    classes: Int[Array, "b k"]
    cells: Int[Array, "b k 2"]  # x, y


def find_keypoints(
    heat: Float[Array, "b h w c"],
    offsets: Float[Array, "b h w 2"] | None,
    *,
    top_k: int,
    window: int = 3,
    rounded: bool = False,
    non_peaks: bool = False,
) -> Peaks:
    """Find the best peaks of a heat map, over all classes jointly.

    Args:
        heat: logits.
        offsets: x, y in cells, from a cell to the point; None: there are none.
        top_k: points returned.
        window: side of the neighbourhood that a peak dominates, in cells, odd.
        rounded: peaks are those of the scores; otherwise those of the logits, of which float32 tells more apart.
        non_peaks: cells that are no peak fill up top_k, with score 0, where a map has fewer peaks; otherwise rows with
            score -1 do.
    Raises: ValueError: window is even.
    Source: CornerNet, models/py_utils/kp_utils.py, _nms, _topk, _decode.
    """
    # The sigmoid keeps the order, so it is taken of the winners only.
    # Differs from CornerNet: there, neighbours whose sigmoids round to the same number are peaks both; rounded.
    found = top_cells(keep_peaks(jax.nn.sigmoid(precise(heat)) if rounded else heat, window=window), top_k)
    # Differs from CornerNet: without non_peaks, only peaks make boxes.
    lowest = 0.0 if non_peaks else -1.0
    scores = found.scores if rounded else jax.nn.sigmoid(precise(found.scores))
    scores = jnp.where(found.scores == -jnp.inf, lowest, scores)
    points = found.cells.astype(jnp.float32)
    if offsets is not None:
        points = points + gather_cells(offsets, found.cells).astype(jnp.float32)
    return Peaks(points, scores, found.classes, found.cells)
