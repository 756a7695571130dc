"""A detector that is thrown away: two keypoints, a backbone, an option, a row extra and a hook of its own, in one file.

An object is found by the middle of its box and by the top of the post that stands on it: half the height of the box is
how far the two are apart, and the boxes are squares. It is not a good detector; it has to fit into the house.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cornerjax.config import Compute, Config, Data, Model, Test
from cornerjax.detectors.base import Detector
from cornerjax.detectors.rows import Candidates
from cornerjax.keypoints import Keypoint
from cornerjax.nn.backbones import Features
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.heads import HEAT_BIAS, Head
from cornerjax.nn.layers import ConvBNReLU
from cornerjax.ops.keypoints import find_keypoints
from cornerjax.validation import Count, Part


@dataclasses.dataclass(frozen=True)
class Plain:
    """A few convolutions."""

    dim: Count = 16  # channels
    stacks: Count = 1
    stride: Count = 4  # image pixels a cell

    def check(self):
        pass

    def build(self, rng):
        return PlainNetwork(self.dim, rng=rng)


class PlainNetwork(nnx.Module):
    compute = Compute()

    def __init__(self, width, *, rng):
        strides = (2, 2, 1, 1)
        self.layers = nnx.List(
            [ConvBNReLU(width if i else 3, width, 3, stride=stride, rng=rng) for i, stride in enumerate(strides)]
        )

    def __call__(self, x, *, train):
        for layer in self.layers:
            x = layer(x, train=train)
        return [Features(x, [])]


@dataclasses.dataclass(frozen=True)
class PostModel(Model):
    """The network of posts."""

    detector: str = "posts"
    backbone: Plain | Hourglass = Plain()


@dataclasses.dataclass(frozen=True)
class PostTest(Test):
    """From the network's maps to boxes."""

    trust: Part = 0.5  # the scores of boxes wider than a crop are multiplied by this


@dataclasses.dataclass(frozen=True)
class PostConfig(Config):
    """A run of posts."""

    model: PostModel = PostModel()
    data: Data = Data(crop_px=(128, 128))
    test: PostTest = PostTest()


class PostNetwork(nnx.Module):
    def __init__(self, model, *, rng):
        self.backbone = model.backbone.build(rng)
        width = model.backbone.dim

        def heads(cout, bias):
            return nnx.List([Head(width, cout, kernel=1, bias=bias, rng=rng) for _ in ("hub", "tip")])

        self.heats, self.offs = heads(model.num_classes, HEAT_BIAS), heads(2, None)

    def __call__(self, images, *, train):
        x = self.backbone(images, train=train)[-1].map
        maps: dict[str, jax.Array] = {}
        for name, heat, off in zip(("hub", "tip"), self.heats, self.offs, strict=True):
            maps |= {f"{name}_heat": heat(x, train=train), f"{name}_off": off(x, train=train)}
        return [maps]


def middle(objects):
    return (objects["boxes"][:, :2] + objects["boxes"][:, 2:]) / 2


def top(objects):
    return np.stack([middle(objects)[:, 0], objects["boxes"][:, 1]], 1)


class Posts(Detector[PostConfig]):
    keypoints = (Keypoint("hub", "middle", middle), Keypoint("tip", "top of the post", top, sigma=1 / 5))
    defaults = PostConfig()
    extras = ("tip_points", "height")

    def build(self, model, rng):
        return PostNetwork(model, rng=rng)

    def stride(self, model):
        return model.backbone.stride

    def check(self, config):
        pass

    def input_size(self, height, width, model):
        return -(-height // 32) * 32, -(-width // 32) * 32

    def decode(self, outputs, config):
        maps, test = outputs[-1], config.test
        hub, tip = (
            find_keypoints(maps[f"{name}_heat"], maps[f"{name}_off"], top_k=test.top_k, window=test.peak_window)
            for name in ("hub", "tip")
        )
        apart = hub.points[:, :, None] - tip.points[:, None]  # (b, hubs, tips, 2)
        fits = (apart[..., 1] > 0) & (abs(apart[..., 0]) < 1 + apart[..., 1] / 4)
        fits &= (hub.classes[:, :, None] == tip.classes[:, None]) & (tip.scores[:, None] >= 0)
        scores = jnp.where(fits, (hub.scores[:, :, None] + tip.scores[:, None]) / 2, -1)
        best = scores.argmax(-1)
        taken = jnp.take_along_axis(apart[..., 1], best[..., None], 2)
        boxes = jnp.concatenate([hub.points - taken, hub.points + taken], -1)
        tips = jnp.take_along_axis(tip.points, best[..., None], 1)[:, :, None]
        return Candidates(boxes, scores.max(-1), hub.classes, {"tip_points": tips, "height": 2 * taken[..., 0]})

    def finish(self, found, config):
        wide = found.boxes[..., 2] - found.boxes[..., 0] > config.data.crop_px[0]
        return found._replace(scores=jnp.where(wide, found.scores * config.test.trust, found.scores))
