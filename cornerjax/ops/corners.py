"""From the maps of a corner detector to candidate boxes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from cornerjax.ops.gather import gather_cells
from cornerjax.ops.pairs import Corners, Pairs, pair_corners
from cornerjax.ops.peaks import keep_peaks
from cornerjax.ops.top_k import top_cells


def decode_corners(
    maps: dict[str, Any],
    *,
    top_k: int,
    max_pairs: int,
    window: int = 3,
    tag_distance: float = 0.5,
    no_border: bool = False,
    non_peaks: bool = False,
) -> Pairs:
    """Find the best peaks of both heat maps and join them to boxes.

    Args:
        maps: "tl_heat", "br_heat" (b, h, w, c) logits; "tl_tag", "br_tag" (b, h, w, 1); "tl_off", "br_off"
            (b, h, w, 2) as x, y in cells; other names are ignored.
        top_k: corners taken from each heat map, over all classes jointly.
        max_pairs: boxes returned; fewer where top_k corners have fewer pairs.
        window: side of the neighbourhood that a peak dominates, in cells, odd.
        tag_distance: largest difference of the tags of a pair.
        no_border: reject top-left corners in the first row or column, and bottom-right ones in the last.
        non_peaks: cells that are no peak fill up top_k, with score 0, where a map has fewer peaks.
    Returns: boxes in cells, best first, rejected ones with score -1.
    Raises: ValueError: window is even.
    Source: CornerNet, models/py_utils/kp_utils.py, _decode.
    """
    # Differs from CornerNet: without non_peaks, only peaks make boxes.
    lowest = 0.0 if non_peaks else -1.0
    options: dict[str, Any] = {"top_k": top_k, "window": window, "lowest": lowest, "no_border": no_border}
    tl, br = (find_corners(maps, side, **options) for side in ("tl", "br"))
    return pair_corners(tl, br, num=max_pairs, tag_distance=tag_distance)


def find_corners(
    maps: dict[str, Any], side: str, *, top_k: int, window: int = 3, lowest: float = -1.0, no_border: bool = False
) -> Corners:
    """Find the best peaks of the heat map of one kind of corner.

    Args:
        side: "tl" or "br".
        lowest: the score of what fills up top_k where there are fewer peaks.
    Returns: in cells, best first; see decode_corners for the rest.
    """
    # The sigmoid keeps the order, so it is taken of the winners only.
    found = top_cells(keep_peaks(maps[f"{side}_heat"], window=window), top_k)
    tags: Float[Array, "b k 1"] = gather_cells(maps[f"{side}_tag"], found.cells)
    offsets: Float[Array, "b k 2"] = gather_cells(maps[f"{side}_off"], found.cells)
    scores = jnp.where(found.scores == -jnp.inf, lowest, jax.nn.sigmoid(found.scores.astype(jnp.float32)))
    if no_border:
        h, w = maps[f"{side}_heat"].shape[1:3]
        y, x = (0, 0) if side == "tl" else (h - 1, w - 1)
        scores = jnp.where((found.y == y) | (found.x == x), -1, scores)
    return Corners(
        points=found.cells.astype(jnp.float32) + offsets.astype(jnp.float32),
        scores=scores,
        classes=found.classes,
        tags=tags[..., 0].astype(jnp.float32),
    )
