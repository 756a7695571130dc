"""Where a detector sees corners in an image, as maps to lay over it."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt8

from cornerjax.inference.overlays import Look, available, look_again
from cornerjax.inference.predictor import Predictor

LARGEST = 320  # cells of the longer side of maps that several looks are put together in


class Heat(NamedTuple):
    """Maps of one size over an image, with values in [0, 1]."""

    top_left: Float[np.ndarray, "h w"]  # the maximum over the classes
    bottom_right: Float[np.ndarray, "h w"]
    attention: Float[np.ndarray, "h w"] | None  # the maximum over its maps, of the largest view; None: it has none
    place: Float[np.ndarray, "4"]  # x1 y1 x2 y2 of the maps in pixels of the image, may reach beyond it


def find_heat(predictor: Predictor, image: UInt8[np.ndarray, "H W 3"]) -> Heat | None:
    """The heat of the corners; the network runs once more for it. None: the detector has no corners.

    What is looked at several times has the maximum of the looks. With several scales there is one look, at scale 1 or
    the first of them; mirrored images are left out.

    Args:
        image: BGR.
    """
    if "corners" not in available(predictor):
        return None
    looks, attention, _ = look_again(predictor, image)
    if not len(attention):
        first, second = _heat(looks[0], "tl"), _heat(looks[0], "br")
        end = looks[0].start + looks[0].cell * first.shape[::-1]
        return Heat(first, second, None, np.concatenate([looks[0].start, end]).astype(np.float32))
    height, width = image.shape[:2]
    block = -(-max(height, width) // LARGEST)
    first, second = (
        largest_in_blocks(np.max([over_pixels(_heat(look, side), look, height, width) for look in looks], 0), block)
        for side in ("tl", "br")
    )
    place = np.array([0, 0, first.shape[1] * block, first.shape[0] * block], np.float32)
    return Heat(first, second, largest_in_blocks(attention.max(0), block), place)


def _heat(look: Look, side: str) -> Float[np.ndarray, "h w"]:
    return np.asarray(jax.nn.sigmoid(look.maps[f"{side}_heat"][0].max(-1)), np.float32)


def over_pixels(heat: Float[np.ndarray, "h w"], look: Look, height: int, width: int) -> Float[np.ndarray, "H W"]:
    """The value of the cell that each pixel of the image lies in; 0 where the look does not reach."""
    columns, rows = (
        np.clip(np.floor((np.arange(pixels) + 0.5 - start) / cell).astype(int), -1, count) + 1
        for pixels, start, cell, count in zip((width, height), look.start, look.cell, heat.shape[::-1], strict=True)
    )
    return np.pad(heat, 1)[rows[:, None], columns]


def largest_in_blocks(pixels: Float[np.ndarray, "H W"], block: int) -> Float[np.ndarray, "h w"]:
    """The maximum of each block x block square; those at the border may have fewer pixels."""
    padded = np.pad(pixels, [(0, -side % block) for side in pixels.shape])
    return padded.reshape(padded.shape[0] // block, block, -1, block).max((1, 3))
