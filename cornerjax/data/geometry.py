"""Where objects lie: one move, one mirror and one clip for everything that an object has.

"boxes" (n, 4) are x1 y1 x2 y2, every field ending in "_points" (n, p, 2) is x, y; both in pixels, in which 0 is where
the first pixel begins and the width where the last one ends. All other fields stay as they are. Everything is computed
in the precision of what is given: the last bit decides in which cell a point on the border of two lies.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

from cornerjax.keypoints import Objects

# Of points with a left and a right, the order in which they stand in a mirrored object.
MIRRORED_ORDER = {"extreme_points": (0, 3, 2, 1)}  # top, left, bottom, right


class Affine(NamedTuple):
    """A move without rotation: x, y of a point are multiplied by `scale`, then `shift` is added."""

    scale: Float[np.ndarray, "2"]
    shift: Float[np.ndarray, "2"]

    def then(self, after: "Affine") -> "Affine":
        """This move and another one after it."""
        return Affine(self.scale * after.scale, self.shift * after.scale + after.shift)


def fitted(centre: tuple[float, float], side: float, size_px: tuple[int, int]) -> Affine:
    """The move that brings a square to an image of a height and width: its side to the width, its centre to the middle.

    It is found from three points in float32, as in the original: their rounding decides in which cell an object lies.

    Args:
        centre: x, y.
    Source: CenterNet of xingyizhou, src/lib/utils/image.py, get_affine_transform.
    """
    height, width = size_px
    places = []
    for (x, y), half in ((centre, np.float32(side) / 2), ((width / 2, height / 2), np.float32(width) / 2)):
        middle = np.array([x, y], np.float32)
        above = middle - np.array([0, half], np.float32)
        places.append(np.stack([middle, above, above - [middle[1] - above[1], 0]]).astype(np.float32))
    matrix = cv2.getAffineTransform(*places)
    return Affine(np.diag(matrix[:, :2]).copy(), matrix[:, 2].copy())


def typed(objects: Objects, dtype: DTypeLike) -> Objects:
    """The objects, with places in numbers of this type, in which what follows is computed."""
    return {
        name: values.astype(dtype) if name == "boxes" or is_points(name) else values for name, values in objects.items()
    }


def is_points(name: str) -> bool:
    """Whether a field holds points."""
    return name.endswith("_points")


def moved(objects: Objects, affine: Affine) -> Objects:
    """The objects elsewhere."""

    def move(values: np.ndarray) -> np.ndarray:
        dtype = np.result_type(values, np.float32)
        scale, shift = (part.astype(dtype) for part in affine)
        return (values.reshape(-1, 2).astype(dtype) * scale + shift).reshape(values.shape)

    return {name: move(values) if name == "boxes" or is_points(name) else values for name, values in objects.items()}


def mirrored(objects: Objects, width: int, *, minus_one: bool = False) -> Objects:
    """The objects in an image of this width that is mirrored left to right: x becomes width - x.

    Args:
        minus_one: the original's form: x becomes width - x - 1, as it would for the number of a pixel.
    """

    # Differs from CornerNet: there, mirrored boxes lie one pixel left of the mirrored pixels, unless minus_one.
    def opposite(x: np.ndarray) -> np.ndarray:
        return width - x - 1 if minus_one else width - x

    mirror = dict(objects)
    x1, y1, x2, y2 = objects["boxes"].T
    mirror["boxes"] = np.stack([opposite(x2), y1, opposite(x1), y2], axis=1)
    for name in filter(is_points, objects):
        points = objects[name].copy()
        points[..., 0] = opposite(points[..., 0])
        mirror[name] = points[:, MIRRORED_ORDER.get(name, range(points.shape[1]))]
    return mirror


def clipped(
    objects: Objects, size_px: tuple[int, int], *, first_px: tuple[int, int] = (0, 0), to_last_pixel: bool = False
) -> Objects:
    """Clip objects to an image of this height and width; those whose box is left without area are dropped.

    Points are clipped each by itself; only the box decides whether an object is dropped.

    Args:
        first_px: where the image is a part of a larger one, the y, x of its first pixel there.
        to_last_pixel: the original's form: boxes end where the last pixel begins.
    """
    # Differs from CornerNet: there, boxes lose the last pixel of a crop, unless to_last_pixel.
    first = np.array(first_px[::-1])
    last = first + size_px[::-1] - to_last_pixel
    inside = dict(objects)
    for name, values in objects.items():
        if name == "boxes" or is_points(name):
            inside[name] = np.clip(values.reshape(-1, 2), first, last).astype(values.dtype).reshape(values.shape)
    boxes = inside["boxes"]
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return {name: values[keep] for name, values in inside.items()}


def overlap(boxes: Float[np.ndarray, "n 4"], whole: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    """The part of the area of each whole box that its clipped box has."""
    left, all_of_it = ((of_these[:, 2:] - of_these[:, :2]).prod(1) for of_these in (boxes, whole))
    return left / all_of_it
