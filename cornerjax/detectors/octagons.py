"""The octagon that four extreme points stand for: a rough mask of an object."""

import numpy as np
from jaxtyping import Bool, Float, Num

from cornerjax.data.extreme_points import mask_of

EDGE = 1 / 8  # how far the edge at an extreme point reaches to both sides, as a part of the object's extent


def octagons(points: Num[np.ndarray, "n 4 2"]) -> Float[np.ndarray, "n 8 2"]:
    """Each extreme point becomes an edge along its side of the box, which ends with the side.

    Args:
        points: x, y of the topmost, leftmost, bottommost and rightmost point.
    Returns: x, y; from the right end of the topmost edge on, counter-clockwise as seen.
    Source: ExtremeNet (Zhou et al. 2019), section 4.4; utils/keypoint.py, extreme_point_to_octagon.
    """
    top, left, bottom, right = np.moveaxis(points.astype(np.result_type(points, np.float32)), 1, 0)
    first, last = np.stack([left[:, 0], top[:, 1]], 1), np.stack([right[:, 0], bottom[:, 1]], 1)
    reach = (last - first) * EDGE
    ends = []
    for point, axis, sign in (
        (top, 0, 1), (top, 0, -1), (left, 1, -1), (left, 1, 1),
        (bottom, 0, -1), (bottom, 0, 1), (right, 1, 1), (right, 1, -1),
    ):  # fmt: skip
        end = point.copy()
        if sign > 0:
            end[:, axis] = np.minimum(point[:, axis] + reach[:, axis], last[:, axis])
        else:
            end[:, axis] = np.maximum(point[:, axis] - reach[:, axis], first[:, axis])
        ends.append(end)
    return np.stack(ends, 1)


def filled(polygons: Float[np.ndarray, "n p 2"], height: int, width: int) -> Bool[np.ndarray, "n height width"]:
    """The pixels inside each polygon, by COCO's rule."""
    from pycocotools import mask as coco_mask  # not before it is needed: no network and no training step does

    masks = np.zeros((len(polygons), height, width), bool)
    for mask, polygon in zip(masks, polygons, strict=True):
        runs = coco_mask.frPyObjects([polygon.astype(np.float64).reshape(-1).tolist()], height, width)
        mask[:] = mask_of(coco_mask.merge(runs), height, width)
    return masks
