"""Where a detector's heat maps see keypoints in an image, as maps to lay over it."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from cornerjax.detectors.base import Image, InputMaps
from cornerjax.inference.predictor import Predictor

LARGEST = 320  # cells of the longer side of maps that several network inputs are put together in


class Heat(NamedTuple):
    """Maps of one size over an image, with values in [0, 1].

    Attributes:
        maps: of each keypoint by its name, the maximum over the classes.
        layers: the detector's further maps by name, such as attention; of several of one name the maximum.
        place: x1 y1 x2 y2 of the maps in pixels of the image, may reach beyond it.
    """

    maps: dict[str, Float[np.ndarray, "h w"]]
    layers: dict[str, Float[np.ndarray, "h w"]]
    place: Float[np.ndarray, "4"]


def find_heat(predictor: Predictor, image: Image) -> Heat:
    """The heat of all keypoints in a BGR image; the network runs once more for it.

    Parts of the image that went through the network several times have the maximum. With several scales that is scale
    1, or the first of them; mirrored images are left out.
    """
    inputs, layers, _ = predictor.inspect(image)
    names = [keypoint.name for keypoint in predictor.detector.keypoints]
    if len(inputs) == 1 and not layers:
        maps = {name: _heat(inputs[0], name) for name in names}
        start = inputs[0].start
        end = start + inputs[0].cell * maps[names[0]].shape[::-1]
        return Heat(maps, {}, np.concatenate([start, end]).astype(np.float32))
    height, width = image.shape[:2]
    block = -(-max(height, width) // LARGEST)
    maps = {}
    for name in names:
        over_image = (over_pixels(_heat(one, name), one, height, width) for one in inputs)
        maps[name] = largest_in_blocks(functools.reduce(np.maximum, over_image), block)
    rows, columns = maps[names[0]].shape
    place = np.array([0, 0, columns * block, rows * block], np.float32)
    return Heat(maps, {name: largest_in_blocks(values.max(0), block) for name, values in layers.items()}, place)


def _heat(of_input: InputMaps, name: str) -> Float[np.ndarray, "h w"]:
    return np.asarray(jax.nn.sigmoid(of_input.maps[f"{name}_heat"][0].max(-1)), np.float32)


def over_pixels(
    heat: Float[np.ndarray, "h w"], of_input: InputMaps, height: int, width: int
) -> Float[np.ndarray, "H W"]:
    """The value of the cell that each pixel of the image lies in; 0 where the network input does not reach."""
    columns, rows = (
        np.clip(np.floor((np.arange(pixels) + 0.5 - start) / cell).astype(int), -1, count) + 1
        for pixels, start, cell, count in zip(
            (width, height), of_input.start, of_input.cell, heat.shape[::-1], strict=True
        )
    )
    return np.pad(heat, 1)[rows[:, None], columns]


def largest_in_blocks(pixels: Float[np.ndarray, "H W"], block: int) -> Float[np.ndarray, "h w"]:
    """The maximum of each block x block square; those at the border may have fewer pixels."""
    padded = np.pad(pixels, [(0, -side % block) for side in pixels.shape])
    return padded.reshape(padded.shape[0] // block, block, -1, block).max((1, 3))
