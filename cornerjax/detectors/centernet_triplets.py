"""CenterNet triplets: pairs of corners that a keypoint in the middle of the box confirms (Duan et al. 2019).

What it shares with CornerNet stands in cornernet.py, how corners are paired in tags.py.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.config import Compute, Data
from cornerjax.detectors.base import Outputs, View
from cornerjax.detectors.cornernet import (
    FIRST_RULES,
    CornerConfig,
    CornerDetector,
    CornerHeads,
    CornerLegacy,
    CornerModel,
    CornerNetwork,
    CornerTest,
)
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.detectors.rows import Candidates, Extra
from cornerjax.detectors.selection import clip_to_images
from cornerjax.detectors.tags import CORNERS
from cornerjax.keypoints import Keypoint
from cornerjax.nn.functional import applied
from cornerjax.nn.heads import HEAT_BIAS, Head
from cornerjax.nn.layers import Rng
from cornerjax.nn.pooling import CascadeCornerPool, CenterPool
from cornerjax.ops.keypoints import find_keypoints
from cornerjax.ops.precision import precise
from cornerjax.validation import NotNegative

CENTRE = Keypoint("ct", "centre", lambda objects: (objects["boxes"][:, :2] + objects["boxes"][:, 2:]) / 2, sigma=1 / 5)
OUTSIDE_PX = 5  # pixels of the resized image

# Our path -> the key in a checkpoint of CenterNet-104 or -52.
RULES = (
    (r"^(tl|br)\.(\d+)\.pool\.look(\d)\.", r"\1_modules.\2.look_conv\3."),
    (r"^(tl|br)\.(\d+)\.pool\.cascade(\d)\.", r"\1_modules.\2.P\3_look_conv."),
    *((pattern.replace("(tl|br)", "(tl|br|ct)"), replacement) for pattern, replacement in FIRST_RULES),
)


@dataclasses.dataclass(frozen=True)
class TripletModel(CornerModel):
    """A network with two corners and a centre; the defaults are those of CenterNet-104."""

    detector: str = "centernet_triplets"


@dataclasses.dataclass(frozen=True)
class TripletTest(CornerTest):
    """From the network's maps to boxes."""

    # a centre confirms a box in the middle third of its sides; of boxes with more square pixels, in the middle fifth
    third_px: NotNegative = 22_500.0


@dataclasses.dataclass(frozen=True)
class TripletLegacy(CornerLegacy):
    """What the original program does that changes numbers and is no part of the method."""

    first_centre: bool = False  # of several centres that confirm a box the first counts, not the best
    drop_outside: bool = False  # boxes that reach 5 px of the resized image beyond it are dropped, others are clipped


@dataclasses.dataclass(frozen=True)
class TripletConfig(CornerConfig):
    """A run of CenterNet with triplets."""

    model: TripletModel = TripletModel()
    data: Data = Data(gaussian_radius="legacy", gaussian_iou=0.7)
    test: TripletTest = TripletTest(top_k=70, flip=True)
    legacy: TripletLegacy = TripletLegacy()


class CascadeHeads(CornerHeads):
    """Cascade corner pooling and the three maps of one corner."""

    pool_class = CascadeCornerPool


class CentreHeads(nnx.Module):
    """Centre pooling and the two maps of the centre."""

    compute = Compute()

    def __init__(self, model: CornerModel, *, rng: Rng):
        dim, kernel = model.backbone.dim, model.head_kernel
        self.pool = CenterPool(dim, model.pool_dim, pooling=model.pooling, rng=rng)
        self.heat = Head(dim, model.num_classes, kernel=kernel, bias=HEAT_BIAS, rng=rng)
        self.off = Head(dim, 2, kernel=kernel, rng=rng)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w _"]]:
        apply = partial(applied, train=train, remat=self.compute.remat == "level")
        x = apply(self.pool, x)
        return {f"ct_{name}": apply(getattr(self, name), x) for name in ("heat", "off")}


class TripletNetwork(CornerNetwork):
    """Stacked hourglasses, each with heads for both corners and for the centre."""

    heads_class = CascadeHeads

    def __init__(self, model: CornerModel, *, rng: Rng):
        super().__init__(model, rng=rng)
        self.ct = nnx.List([CentreHeads(model, rng=rng) for _ in range(model.backbone.stacks)])

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> Outputs:
        """As CornerNetwork's, and "ct_heat" (b, h, w, c) logits and "ct_off" (b, h, w, 2) as x, y in cells."""
        head = partial(applied, train=train, remat=self.compute.remat == "stack")
        stacks = list(zip(self.tl, self.br, self.ct, self.features(images, train=train), strict=True))
        return [
            jax.tree.map(precise, head(tl, x) | head(br, x) | head(ct, x))
            for tl, br, ct, (x, _) in stacks[0 if train else -1 :]
        ]


class CenterNetTriplets(CornerDetector[TripletConfig]):
    """Source: CenterNet of Duankaiwen, models/CenterNet-104.py, CenterNet-52.py; test/coco.py."""

    keypoints = (*CORNERS, CENTRE)
    defaults = TripletConfig()
    precision = np.float64
    torch_layouts = (
        TorchLayout("CenterNet-104", RULES),
        TorchLayout("CenterNet-52", RULES, model={"backbone.stacks": 1}),
    )

    def build(self, model: CornerModel, rng: Rng) -> TripletNetwork:
        return TripletNetwork(model, rng=rng)

    def heads(self, model: CornerModel) -> list[dict[str, str]]:
        return [
            corners | {f"ct_{kind}": f"ct.{stack}.{kind}" for kind in ("heat", "off")}
            for stack, corners in enumerate(super().heads(model))
        ]

    def decode(self, outputs: Outputs, config: TripletConfig) -> Candidates:
        """Pairs of corners, and behind them test.top_k rejected rows with the centres that `combine` confirms them by.

        A centre is a box without size; its score stands in extra "centre_scores", which is -1 in all other rows.
        """
        pairs, test, maps = super().decode(outputs, config), config.test, outputs[-1]
        found = find_keypoints(
            maps["ct_heat"],
            maps["ct_off"],
            top_k=test.top_k,
            window=test.peak_window,
            rounded=config.legacy.rounded_peaks,
            non_peaks=config.legacy.non_peaks,
        )
        none = jnp.full_like(found.scores, -1)
        extra: Extra = {"corner_scores": jnp.stack([none, none], -1), "centre_scores": found.scores}
        centres = Candidates(jnp.tile(found.points, 2), none, found.classes, extra)
        missing = test.top_k - none.shape[1]  # of maps with fewer cells
        centres = jax.tree.map(
            lambda x: jnp.pad(x, [(0, 0), (0, missing), *[(0, 0)] * (x.ndim - 2)], constant_values=-1), centres
        )
        pairs = pairs._replace(extra=pairs.extra | {"centre_scores": jnp.full_like(pairs.scores, -1)})
        return _concatenated([pairs, centres])

    def combine(self, candidates: Sequence[Candidates], views: Sequence[View], config: TripletConfig) -> Candidates:
        """The pairs of all views that a centre confirms, best first; centres are those at the scale nearest to 1.

        Source: CenterNet of Duankaiwen, test/coco.py, kp_detection.
        """
        legacy, nearest = config.legacy, min(abs(view.scale - 1) for view in views)
        pairs, centres = [], []
        for of_view, view in zip(candidates, views, strict=True):
            boxes, points = _split(of_view, config.test.top_k)
            if legacy.drop_outside:
                boxes = drop_outside(boxes, view)
            pairs.append(clip_to_images(boxes, jnp.asarray(view.sizes), drop_empty=not legacy.padding_boxes))
            if abs(view.scale - 1) == nearest:
                centres.append(points)
        boxes, points = _concatenated(pairs), _concatenated(centres)
        scores = confirmed(boxes, points, third_px=config.test.third_px, first=legacy.first_centre)
        extra = {"corner_scores": boxes.extra["corner_scores"]}
        best = jnp.argsort(-scores, axis=1, stable=True)
        return jax.tree.map(
            lambda values: jax.vmap(jnp.take, (0, 0, None))(values, best, 0), boxes._replace(scores=scores, extra=extra)
        )


def drop_outside(found: Candidates, view: View) -> Candidates:
    """Reject boxes that reach OUTSIDE_PX or more beyond the resized image."""
    ratios, sizes = jnp.asarray(view.ratios)[:, None], jnp.asarray(view.sizes)[:, None]
    boxes = jnp.asarray(found.boxes)
    before, after = boxes[..., :2] * ratios, (boxes[..., 2:] - sizes) * ratios
    outside = (before <= -OUTSIDE_PX).any(-1) | (after >= OUTSIDE_PX).any(-1)
    return found._replace(scores=jnp.where(outside, -1, found.scores))


def confirmed(pairs: Candidates, centres: Candidates, *, third_px: float, first: bool = False) -> Float[Array, "b k"]:
    """The scores of boxes in the middle of which a centre of their class lies; -1 of all others.

    A box of at most third_px square pixels has its middle third, a larger one its middle fifth. The score is the mean
    of those of both corners and of the centre.

    Args:
        centres: of CenterNetTriplets.decode.
        first: of several centres in a box the first one counts, otherwise the best.
    Source: CenterNet (Duan et al. 2019), section 3.1; test/coco.py, kp_detection.
    """
    boxes, points = jnp.asarray(pairs.boxes), jnp.asarray(centres.boxes)[:, None, :, :2]
    start, end = boxes[..., None, :2], boxes[..., None, 2:]
    parts = jnp.where((end - start).prod(-1) <= third_px, 3, 5)[..., None]
    part = (parts // 2).astype(jnp.float32)  # before the middle one
    left, right = ((parts - part) * a + part * b for a, b in ((start, end), (end, start)))
    inside = ((points > left / parts) & (points < right / parts)).all(-1)
    inside &= jnp.asarray(pairs.classes)[..., None] == jnp.asarray(centres.classes)[:, None]
    of_centres = jnp.asarray(centres.extra["centre_scores"])[:, None]
    inside &= of_centres >= 0
    scores = jnp.where(inside, of_centres, -1)
    # Differs from CenterNet: the best centre counts, unless first.
    chosen = jnp.argmax(inside, -1) if first else jnp.argmax(scores, -1)
    centre = jnp.take_along_axis(scores, chosen[..., None], -1)[..., 0]
    good = (jnp.asarray(pairs.scores) >= 0) & (centre >= 0)
    return jnp.where(good, (2 * jnp.asarray(pairs.scores) + centre) / 3, -1)


def _split(found: Candidates, centres: int) -> tuple[Candidates, Candidates]:
    """The pairs and the centres of decode."""
    return jax.tree.map(lambda x: x[:, :-centres], found), jax.tree.map(lambda x: x[:, -centres:], found)


def _concatenated(parts: Sequence[Candidates]) -> Candidates:
    return jax.tree.map(lambda *rows: jnp.concatenate(rows, axis=1), *parts)
