"""Networks of corners that can be worked out by hand, of a CornerNet and of a CornerNet-Saccade."""

import colour_detector
import jax.numpy as jnp
import numpy as np
from colour_detector import NAMES

from cornerjax.config import Data
from cornerjax.detectors.cornernet import CornerConfig, CornerNet, CornerTest
from cornerjax.detectors.cornernet_saccade.detector import CornerNetSaccade
from cornerjax.detectors.cornernet_saccade.options import Saccade, SaccadeConfig, SaccadeData, SaccadeTest
from cornerjax.inference.predictor import Predictor
from cornerjax.ops.pixels import MEAN, STD

BLUE, GREEN = (8, 16, 64, 96), (40, 24, 112, 56)
LOGITS, TAGS = (2.0, 1.5), (1.0, -2.0)  # of what is blue, and green
WHOLE = CornerConfig(data=Data(crop_px=(127, 127)), test=CornerTest(batch=2, top_k=4, max_pairs=8))
SACCADE = SaccadeConfig(
    data=SaccadeData(crop_px=(63, 63)),
    test=SaccadeTest(batch=4, top_k=4, max_pairs=4, saccade=Saccade(view_px=(48, 63), max_crops=3, crop_batch=4)),
)


def apply(params, model_state, images, train):
    """A corner map with one sure corner of each kind round what is blue, and one round what is green."""
    height, width = images.shape[1:3]
    colours = images[..., :2] * STD[:2] + MEAN[:2] > 0.75
    maps = {}
    for side in ("tl", "br"):
        x, y = (edge(colours, axis, first=side == "tl") for axis in (2, 1))
        h, w = -(-height // 4), -(-width // 4)
        x, y = x * np.float32(w / width), y * np.float32(h / height)
        column, row = (jnp.minimum(place.astype(jnp.int32), n - 1) for place, n in ((x, w), (y, h)))
        at = (jnp.arange(h)[:, None, None] == row[:, None, None]) & (jnp.arange(w)[:, None] == column[:, None, None])
        there = colours.any((1, 2))[:, None, None]
        maps[f"{side}_heat"] = jnp.where(at & there, np.array(LOGITS, np.float32), -9.0)
        maps[f"{side}_tag"] = jnp.where(at, np.array(TAGS, np.float32), 0).sum(-1, keepdims=True)
        offset = jnp.stack([x - column, y - row], -1)  # (b, class, 2)
        maps[f"{side}_off"] = (at[..., None] * offset[:, None, None]).sum(3)
    return [maps], model_state


def edge(colours, axis, *, first):
    """(b, class): the first pixel of a colour along an axis, or the one after its last."""
    line, side = colours.any(3 - axis), colours.shape[axis]
    return (jnp.argmax(line, 1) if first else side - jnp.argmax(line[:, ::-1], 1)).astype(jnp.float32)


def with_attention(params, model_state, images, train):
    """Attention to where the middle of what is blue lies, in the map for large objects only."""
    (maps,), _ = apply(params, model_state, images, train)
    blue = images[..., 0] * STD[0] + MEAN[0] > 0.75
    side = images.shape[1]
    x, y = (((edge(blue[..., None], a, first=True) + edge(blue[..., None], a, first=False)) / 2)[:, 0] for a in (2, 1))
    attention = []
    for n in (4, 8, 16):
        cells = jnp.arange(n)
        here = (cells[:, None] == (y * n / side).astype(int)[:, None, None]) & (
            cells == (x * n / side).astype(int)[:, None, None]
        )
        attention.append(jnp.where(here & blue.any((1, 2))[:, None, None] & (n == 4), 4.0, -9.0)[..., None])
    return [maps | {"attention": attention}], model_state


def whole_predictor(config=WHOLE):
    return Predictor(CornerNet(), apply, {}, {}, config, NAMES)


def saccade_predictor():
    return Predictor(CornerNetSaccade(), with_attention, {}, {}, SACCADE, NAMES)


def picture(height=101, width=131):
    return colour_detector.draw(height, width, BLUE, GREEN)
