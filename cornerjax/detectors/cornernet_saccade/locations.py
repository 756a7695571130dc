"""What CornerNet-Saccade crops next: places in an image, from attention maps and from boxes.

A location is a row y, x, scale, score: a place in pixels of the image, how much the image is enlarged there, and how
promising it is. All of this runs on the host in NumPy, because the original compares distances and truncates positions
that would be whole numbers but for rounding (48 / 0.6 is 79.999997, the scale being a float32): only its float64
arithmetic, in its order, gives its crops.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Real

ALIKE = (0.8, 1.2)  # ratio of two scales at which one crop serves for both


def attention_locations(
    maps: Sequence[Float[np.ndarray, "n _ _"]],
    *,
    threshold: float,
    strides: Sequence[int],
    zooms: Sequence[float],
    scales: Float[np.ndarray, "n"],
    offsets: Real[np.ndarray, "n 2"],
    height: int,
    width: int,
    max_view_scale: float = 2.0,
    max_scale: float = 4.0,
    skip_same: bool = False,
) -> Float64[np.ndarray, "m 4"]:
    """Turn the attention peaks of the crops of one image into locations.

    Args:
        maps: scores in [0, 1] of each crop, one array a stride; 0 at cells that are no peak.
        threshold: a place has more attention than this.
        strides: of the maps, in pixels of the crop.
        zooms: what the scale of the crop is multiplied by, for each map.
        scales, offsets: of each crop: its pixels for one of the image; y, x in the image of its first pixel.
        height, width: of the image; places outside are left out.
        max_view_scale: attention in crops at a larger scale is not followed.
        max_scale: nor are peaks that would lead to a larger one.
        skip_same: leave out maps whose zoom is no more than 1: they would lead to what has been cropped before.
    Returns: crop by crop, in each map by map, in each row by row.
    Source: CornerNet-Lite, core/test/cornernet_saccade.py, decode_atts.
    """
    found = [np.zeros((0, 4))]
    for crop, (scale, offset) in enumerate(zip(scales, offsets, strict=True)):
        for attention, stride, zoom in zip(maps, strides, zooms, strict=True):
            if scale > max_view_scale or zoom * scale > max_scale or (skip_same and zoom <= 1):
                continue
            cells = np.argwhere(attention[crop] > threshold)
            y, x = (cells * stride / scale + offset).T
            scores = attention[crop][tuple(cells.T)]
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            found.append(np.stack([y, x, np.full_like(y, zoom * scale), scores], 1)[inside])
    return np.concatenate(found)


def box_locations(
    boxes: Float[np.ndarray, "k 4"],
    scores: Float[np.ndarray, "k"],
    *,
    least_score: float = 0.5,
    box_px: Sequence[int] = (192, 64, 24),
    large_px: float | int = 96,
    small_px: float | int = 32,
) -> Float64[np.ndarray, "m 4"]:
    """Make a location, of score 1, of each good box: its centre, at the scale that gives the box a standard size.

    Args:
        boxes: x1 y1 x2 y2 in pixels of the image; float32, as the original computes with them.
        least_score: boxes must have more.
        box_px: the longer side of large, medium and small boxes at their scale.
        large_px, small_px: large boxes have a longer side above large_px, small ones of at most small_px.
    Returns: in the order of the boxes; points, which have no scale, are left out.
    Source: CornerNet-Lite, core/test/cornernet_saccade.py, get_ref_locs.
    """
    x1, y1, x2, y2 = boxes.T
    side = np.maximum(x2 - x1, y2 - y1)
    good = (scores > least_score) & (side > 0)
    kinds = [side > large_px, side > small_px]
    px = np.select(kinds, box_px[:2], box_px[2]).astype(boxes.dtype)
    rows = np.stack([(y1 + y2) / 2, (x1 + x2) / 2, px / np.where(good, side, 1), np.ones_like(side)], 1)
    return rows[good].astype(np.float64)


def choose_locations(
    locations: Float64[np.ndarray, "n 4"],
    *,
    apart_px: float = 16.0,
    row_or_column: bool = False,
    num: int | None = None,
) -> Float64[np.ndarray, "m 4"]:
    """Take the best location, drop those that a crop there serves as well, and repeat.

    Args:
        apart_px: places that are closer and have a similar scale are one, in pixels of the better one's crop.
        row_or_column: places on the same row or column are close, however far apart; otherwise both must be near.
        num: locations taken at most; None: all that are apart.
    Returns: best first; of equal scores the last one given comes first.
    Source: CornerNet-Lite, core/test/cornernet_saccade.py, location_nms.
    """
    # Differs from CornerNet-Saccade: without row_or_column, the larger of the two distances counts, not the smaller.
    distance_of = np.min if row_or_column else np.max
    left = locations[np.argsort(locations[:, 3], kind="stable")[::-1]]
    chosen: list[np.ndarray] = []
    while len(left) and len(chosen) != num:
        best, left = left[0], left[1:]
        chosen.append(best)
        distance, ratio = distance_of(np.abs(left[:, :2] - best[:2]), axis=1), best[2] / left[:, 2]
        left = left[(distance > apart_px / best[2]) | (ratio < ALIKE[0]) | (ratio > ALIKE[1])]
    return np.array(chosen).reshape(-1, 4)
