"""The topmost, leftmost, bottommost and rightmost point of an object, from its outline, its mask or its box."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cornerjax.config import Data
from cornerjax.data.coco_entries import is_number
from cornerjax.data.images import MOST_PIXELS

NAME = "extreme_points"  # of the field of annotations, records, objects and detections
LONGEST_OUTLINE = 2**21  # pixels of the sides of a polygon together
NUMBER = 4  # of an object: topmost, leftmost, bottommost, rightmost
IN_ORDER = "its topmost, leftmost, bottommost and rightmost point, x and y of each, in this order"
ROUNDING_PX = 1.0  # by so much another point may lie further out: files round
NEAR = 0.02  # points of an outline so near to the extreme one, as a part of the object's extent, are as extreme
Polygon = Float[np.ndarray, "n 2"]


def of_outline(points: Polygon) -> Float[np.ndarray, "4 2"]:
    """The extreme points of a closed outline; of a side that lies along an axis, its middle.

    Args:
        points: x, y, one after the other.
    Returns: x, y of the topmost, leftmost, bottommost and rightmost point.
    Source: ExtremeNet, tools/gen_coco_extreme_points.py, _get_extreme_points.
    """
    least, most = points.min(0), points.max(0)
    near = NEAR * (most - least + 1)
    closed = np.concatenate([points[-1:], points, points[:1]])

    def extreme(axis: int, *, far: bool) -> Float[np.ndarray, "2"]:
        along = closed[:, axis]
        first = int(along.argmax() if far else along.argmin())
        apart = along[first] - along if far else along - along[first]
        beyond = np.flatnonzero(apart > near[axis])  # the walk from the extreme point ends before these
        start = beyond[beyond < first].max(initial=-1) + 1
        end = beyond[beyond > first].min(initial=len(closed))
        across = closed[start:end, 1 - axis]
        point = np.empty(2)
        point[axis], point[1 - axis] = (most if far else least)[axis], (across.max() + across.min()) // 2
        return point

    return np.stack([extreme(1, far=False), extreme(0, far=False), extreme(1, far=True), extreme(0, far=True)])


def of_mask(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "4 2"]:
    """The extreme points of the pixels of a mask, of which there is at least one; see of_outline."""
    y, x = np.nonzero(mask)
    return of_outline(np.stack([x, y], 1).astype(np.float64))


def of_pixels(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "4 2"]:
    """The extreme points of a mask to the edge of its pixels, as boxes are measured: no pixel of it lies beyond them.

    A side that several pixels share has its point in the middle of them.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))

    def middle(line: Bool[np.ndarray, "n"]) -> float:
        there = np.flatnonzero(line)
        return (there[0] + there[-1] + 1) / 2

    (top, bottom), (left, right) = rows[[0, -1]], columns[[0, -1]]
    return np.array(
        [
            [middle(mask[top]), top],
            [left, middle(mask[:, left])],
            [middle(mask[bottom]), bottom + 1],
            [right + 1, middle(mask[:, right])],
        ],
        np.float64,
    )


def of_segmentation(segmentation: Any, height: int, width: int) -> Int[np.ndarray, "4 2"] | None:
    """The extreme points of a COCO annotation's segmentation, as the original's tool has them.

    The parts of a polygon make one outline, one after the other. Fractions are cut off.

    Args:
        segmentation: polygons or a run-length encoded mask, compressed or not.
        height, width: of the image.
    Returns: None: it is neither, or empty.
    """
    parts = polygons_of(segmentation, corners=1)
    if sum(map(len, parts)) >= 3:
        return of_outline(np.concatenate(parts)).astype(np.int32)
    mask = mask_of(segmentation, height, width)
    return None if mask is None or not mask.any() else of_mask(mask).astype(np.int32)


def of_box(box: Sequence[float | int]) -> Float[np.ndarray, "4 2"]:
    """The middles of the sides of a box, x, y, width, height: where nothing better is known."""
    x, y, width, height = box
    middle_x, middle_y = x + width / 2, y + height / 2
    return np.array([[middle_x, y], [x, middle_y], [middle_x, y + height], [x + width, middle_y]])


def polygons_of(segmentation: Any, *, corners: int = 3) -> list[Polygon]:
    """The parts of a polygon, each with at least so many corners.

    Returns: empty: it is none, or longer than pycocotools, which takes memory by length, may get.
    """
    if not isinstance(segmentation, list):
        return []
    parts = [
        part for part in segmentation if isinstance(part, list) and len(part) >= 2 * corners and len(part) % 2 == 0
    ]
    if len(parts) < len(segmentation) or not all(is_number(v) for part in parts for v in part):
        return []
    polygons = [np.array(part, np.float64).reshape(-1, 2) for part in parts]
    if any(np.abs(polygon - np.roll(polygon, 1, axis=0)).sum() > LONGEST_OUTLINE for polygon in polygons):
        return []
    return polygons


def mask_of(segmentation: Any, height: int, width: int) -> Bool[np.ndarray, "h w"] | None:
    """The pixels of a run-length encoded mask; None: it is none of an image of this size."""
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        return None
    if height * width > MOST_PIXELS:
        return None
    counts = segmentation.get("counts")
    if isinstance(counts, str | bytes):
        counts = runs_of(counts)
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        return None
    if sum(counts) != height * width:
        return None
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def runs_of(text: str | bytes) -> list[int]:
    """The lengths of the runs in COCO's compressed form, five bits a character; of a damaged text any numbers.

    Written out here because pycocotools reads beyond the end of damaged texts.

    Source: pycocotools, common/maskApi.c, rleFrString.
    """
    runs: list[int] = []
    number = shift = 0
    for code in text if isinstance(text, bytes) else text.encode("utf-8"):
        bits = code - 48
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (1 << shift) if bits & 16 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return runs


def own_points(entry: dict[str, Any]) -> Float[np.ndarray, "4 2"] | None:
    """Those that an annotation has in a field of its own, "extreme_points"; None: it has none that can be used."""
    points = entry.get("extreme_points")
    if not isinstance(points, list) or len(points) != 4:
        return None
    numbers = [v for point in points if isinstance(point, list) and len(point) == 2 for v in point]
    if len(numbers) != 8 or not all(map(is_number, numbers)):
        return None
    return np.array(numbers, np.float64).reshape(4, 2)


def are_in_order(points: Float[np.ndarray, "4 2"]) -> bool:
    """Whether they can be the topmost, leftmost, bottommost and rightmost point of one object."""
    (left, top), (right, bottom) = points.min(0) + ROUNDING_PX, points.max(0) - ROUNDING_PX
    return bool(points[0, 1] <= top and points[1, 0] <= left and points[2, 1] >= bottom and points[3, 0] >= right)


class Finder:
    """Finds the extreme points of the objects of a file, and counts those for which there is nothing to make them of.

    Args:
        data: extreme_from is used, where the options of the detector have it.
    Attributes:
        missing: objects that have neither points nor a segmentation.
        total: all that were asked for.
    """

    def __init__(self, data: Data):
        self.otherwise: str = getattr(data, "extreme_from", "segmentation")
        self.missing = self.total = 0

    def __call__(self, entry: dict[str, Any], height: int, width: int) -> Float[np.ndarray, "4 2"] | None:
        """Those of an annotation with a sound bbox; None: it is to be left out."""
        self.total += 1
        points = own_points(entry)
        if points is None and (made := of_segmentation(entry.get("segmentation"), height, width)) is not None:
            points = made.astype(np.float64)
        if points is None:
            self.missing += 1
            if self.otherwise == "box":
                points = of_box(entry["bbox"])
            elif self.otherwise == "zero":
                points = np.zeros((4, 2))
        return points

    def warning(self) -> str:
        """What is to be said in the end; empty: nothing."""
        if not self.missing:
            return ""
        have = f"{self.missing:,} of {self.total:,} objects have no {NAME} and no segmentation to make them from"
        what = {
            "box": "they get the middles of the sides of their boxes, which are only near the true ones",
            "zero": "they get four points at 0, 0, as in the original",
        }.get(
            self.otherwise,
            "they are left out; --data.extreme-from box takes the middles of the sides of their boxes",
        )
        return f"{have}: {what}"
