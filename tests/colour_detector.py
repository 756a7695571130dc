"""A detector whose network can be worked out by hand: class 0 is what is blue in an image, class 1 what is green.

Of each colour there is one box, round all its pixels; its score is the weight of the class. Its keypoint, without
offset, is the cell of the box's middle; candidates are in cells of 4 pixels.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cornerjax.config import Config, Model
from cornerjax.detectors.base import Detector
from cornerjax.detectors.rows import Candidates
from cornerjax.keypoints import Keypoint
from cornerjax.nn.functional import functional
from cornerjax.ops.pixels import MEAN, STD

NAMES = ("blue", "green")
WEIGHTS = {"score": np.array([0.9, 0.8], np.float32)}
STRIDE = 4
MIDDLE = Keypoint(
    "middle", "middle of the box", lambda objects: objects["boxes"].reshape(-1, 2, 2).mean(1), offset=False
)


class ColourNetwork(nnx.Module):
    """Says of every pixel which colours it has, and of every cell whether a colour has its middle there."""

    def __init__(self):
        self.score = nnx.Param(jnp.asarray(WEIGHTS["score"]))

    def __call__(self, images, *, train):
        assert not train
        colours = images[..., :2] * STD[:2] + MEAN[:2] > 0.75  # (b, H, W, class)
        h, w = (-(-side // STRIDE) for side in images.shape[1:3])
        middles = boxes_of(colours).reshape(-1, 2, 2, 2).mean(2).astype(jnp.int32)  # (b, class, xy), in cells
        here = (jnp.arange(w)[None, :, None] == middles[:, None, None, :, 0]) & (
            jnp.arange(h)[:, None, None] == middles[:, None, None, :, 1]
        )
        scores = jnp.where(colours.any((1, 2)), self.score[...], -1)
        logits = jax.scipy.special.logit(jnp.clip(scores, 1e-4, 1 - 1e-4))
        return [{"colours": colours, "scores": scores, "middle_heat": jnp.where(here, logits[:, None, None], -9.0)}]


def boxes_of(colours):
    """(b, H, W, class) bool -> (b, class, 4) x1 y1 x2 y2 in cells, of no meaning where there is nothing of a colour."""
    edges = []
    for axis, side in ((2, colours.shape[2]), (1, colours.shape[1])):
        line = colours.any(3 - axis)  # (b, side, class)
        cells = np.float32(-(-side // STRIDE) / side)
        first, last = jnp.argmax(line, 1), side - jnp.argmax(line[:, ::-1], 1)
        edges.append((first.astype(jnp.float32) * cells, last.astype(jnp.float32) * cells))
    (x1, x2), (y1, y2) = edges
    return jnp.stack([x1, y1, x2, y2], -1)


class ColourDetector(Detector[Config]):
    keypoints = (MIDDLE,)
    defaults = Config(model=Model(detector="colours", num_classes=2))

    def build(self, model, rng):
        return ColourNetwork()

    def stride(self, model):
        return STRIDE

    def check(self, config):
        pass

    def input_size(self, height, width, model):
        return height | 31, width | 31

    def decode(self, outputs, config):
        """A box a colour, and a rejected one."""
        boxes, scores = boxes_of(outputs[-1]["colours"]), outputs[-1]["scores"]
        classes = jnp.tile(jnp.array([0, 1, 0], jnp.int32), (len(boxes), 1))
        boxes = jnp.concatenate([boxes, jnp.ones_like(boxes[:, :1])], 1)
        return Candidates(boxes, jnp.pad(scores, ((0, 0), (0, 1)), constant_values=-1), classes, {})


DETECTOR = ColourDetector()
apply, _, _ = functional(ColourNetwork())


def draw(height, width, blue=None, green=None):
    """A dark BGR image with a blue and a green rectangle, x1 y1 x2 y2."""
    image = np.full((height, width, 3), 60, np.uint8)
    for channel, box in enumerate((blue, green)):
        if box is not None:
            x1, y1, x2, y2 = box
            image[y1:y2, x1:x2, channel] = 255
    return image


def compiled_shapes(predictor):
    """For how many shapes a BatchPredictor or Predictor has compiled the detector."""
    procedure: Any = predictor.procedure  # a WholeImage, whose `find` is a jitted function
    return procedure.find._cache_size()
