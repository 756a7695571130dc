"""What boxes were made from, in pixels of the image, and how a detector draws what only it has."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from cornerjax.config import Config
from cornerjax.detectors.rows import Detections

Image = UInt8[np.ndarray, "_ _ 3"]  # BGR


class KeypointEvidence(NamedTuple):
    """The keypoints of one kind that were found in an image.

    Attributes:
        points: x, y in pixels of the image.
        scores: in [0, 1].
        classes: from 0.
        inputs: the network input that each was found in, from 0.
        cell_px: pixels of the image for a cell of its map, the larger of both axes.
        values: what further maps of this keypoint say at its cell, by the kind of map.
    """

    points: Float[np.ndarray, "n 2"]
    scores: Float[np.ndarray, "n"]
    classes: Int[np.ndarray, "n"]
    inputs: Int[np.ndarray, "n"]
    cell_px: Float[np.ndarray, "n"]
    values: dict[str, Float[np.ndarray, "n _"]]


class Evidence(NamedTuple):
    """What a detector found in an image before it made boxes of it.

    Attributes:
        keypoints: by name.
        layers: further maps over the image, in [0, 1], by name.
        crops: x1 y1 x2 y2 of the parts that went through the network closer up; may reach beyond the image.
    """

    keypoints: dict[str, KeypointEvidence]
    layers: dict[str, Float[np.ndarray, "_ H W"]]
    crops: Float[np.ndarray, "n 4"]

    def scaled(self, width: int, height: int, *, of: tuple[int, int]) -> "Evidence":
        """The same in an image of this width and height; `of`: those of the image it was found in."""
        if of == (width, height):
            return self
        factor = np.array([width / of[0], height / of[1]], np.float32)
        keypoints = {
            name: part._replace(points=part.points * factor, cell_px=part.cell_px * factor.max())
            for name, part in self.keypoints.items()
        }
        layers = {
            name: np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_NEAREST) for one in maps])
            for name, maps in self.layers.items()
        }
        return Evidence(keypoints, layers, self.crops * np.tile(factor, 2))


class Overlay(NamedTuple):
    """Something besides boxes and keypoints that can be drawn over an image."""

    name: str  # as the option --overlay has it
    draw: Callable[[Image, Evidence, Detections, Config], Image]
    below: bool = False  # drawn before the boxes
