"""What detectors find objects by: each is a list of these, and a way to group them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Objects = dict[str, np.ndarray]  # "boxes" (n, 4) x1 y1 x2 y2, "classes" (n,) int32, more where a source has it


class Keypoint(NamedTuple):
    """One kind of point that every object has.

    Attributes:
        name: the network's maps are f"{name}_heat" and f"{name}_off", targets f"{name}_cells" and so on.
        label: for people, such as "top-left corner".
        at: objects -> (n, 2) x, y of their points, in the pixels that the objects are in.
        offset: whether there is a map of offsets from cells to the exact points.
        sigma: of the gaussian round a point in the heat map, as a part of its diameter.
        strokes: how it is drawn: the directions of lines that begin at the point, in x and y.
    """

    name: str
    label: str
    at: Callable[[Objects], Float[np.ndarray, "n 2"]]
    offset: bool = True
    sigma: float = 1 / 6
    strokes: tuple[tuple[int, int], ...] = ((1, 0), (-1, 0), (0, 1), (0, -1))
