"""A detector whose network can be worked out by hand: class 0 is what is blue in an image, class 1 what is green.

Its maps are as large as the image; its candidates are in cells of 4 pixels, as those of a real detector. Of each colour
there is one box, round all its pixels; its score is the weight of the class.
"""

import jax.numpy as jnp
import numpy as np

from cornerjax.detectors.base import Candidates
from cornerjax.detectors.cornernet import CornerNet
from cornerjax.ops.pixels import MEAN, STD

NAMES = ("blue", "green")
WEIGHTS = {"score": np.array([0.9, 0.8], np.float32)}


def apply(params, model_state, images, train):
    assert not train
    colours = images[..., :2] * STD[:2] + MEAN[:2] > 0.75
    return [{"colours": colours, "score": params["score"]}], model_state


def decode(outputs, config):
    colours = outputs[-1]["colours"]
    b, *sides = colours.shape[:3]
    edges = []
    for axis, side in ((2, sides[1]), (1, sides[0])):
        line = colours.any(3 - axis)  # (b, side, class)
        cells = np.float32(-(-side // 4) / side)
        first, last = jnp.argmax(line, 1), side - jnp.argmax(line[:, ::-1], 1)
        edges.append((first.astype(jnp.float32) * cells, last.astype(jnp.float32) * cells))
    (x1, x2), (y1, y2) = edges
    boxes = jnp.stack([x1, y1, x2, y2], -1)
    scores = jnp.where(colours.any((1, 2)), outputs[-1]["score"], -1)
    classes = jnp.tile(jnp.arange(2, dtype=jnp.int32), (b, 1))
    rejected = jnp.full((b, 1), -1.0), jnp.zeros((b, 1), jnp.int32)
    scores = jnp.concatenate([scores, rejected[0]], 1)
    return Candidates(
        jnp.concatenate([boxes, jnp.ones((b, 1, 4))], 1),
        scores,
        jnp.concatenate([classes, rejected[1]], 1),
        jnp.stack([scores, scores], -1),
    )


class ColourDetector(CornerNet):
    def stride(self, model):
        return 4

    def input_size(self, height, width, model):
        return height | 31, width | 31

    def decode(self, outputs, config):
        return decode(outputs, config)


DETECTOR = ColourDetector()


def draw(height, width, blue=None, green=None):
    """A dark BGR image with a blue and a green rectangle, x1 y1 x2 y2."""
    image = np.full((height, width, 3), 60, np.uint8)
    for channel, box in enumerate((blue, green)):
        if box is not None:
            x1, y1, x2, y2 = box
            image[y1:y2, x1:x2, channel] = 255
    return image
