"""CornerNet: objects as pairs of corners (Law and Deng 2018); and what all detectors of corners share.

Its configuration lists where this differs from the original and how to switch that.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax import ops
from cornerjax.config import Compute, Config, Loss, Model, Test
from cornerjax.detectors.base import Detector, Maps, Outputs, Targets
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.detectors.overlay import Evidence, Image, Overlay
from cornerjax.detectors.rows import Candidates, Detections
from cornerjax.detectors.tags import CORNERS, decode_corners, draw_tags, tag_losses, true_tags
from cornerjax.detectors.truth import replaced
from cornerjax.errors import InputError
from cornerjax.keypoints import Keypoint
from cornerjax.legacy import Legacy
from cornerjax.losses import Losses
from cornerjax.nn.backbones import Features
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.functional import applied
from cornerjax.nn.heads import HEAT_BIAS, Head
from cornerjax.nn.layers import Rng
from cornerjax.nn.pooling import CornerPool, find_pool
from cornerjax.ops.precision import precise
from cornerjax.validation import CODE, Annotated, Channels, NotNegative, Odd, Positive, Rows


@dataclasses.dataclass(frozen=True)
class CornerModel(Model):
    """A network with two corners; the defaults are CornerNet's."""

    detector: str = "cornernet"
    backbone: Hourglass = Hourglass()
    head_kernel: Odd = 3  # side of the first convolution of each head
    pool_dim: Channels = 128  # channels that corner pooling scans
    # what is pooled: corner; full: maxima of whole rows and columns; none: the map itself; or a function of your own,
    # (map, direction) -> map, as package.module:function
    pooling: Annotated[str, CODE] = "corner"


@dataclasses.dataclass(frozen=True)
class CornerLoss(Loss):
    """Weights of the parts of the loss; the focal loss of the heat maps has weight 1."""

    pull: NotNegative = 0.1  # weight of pulling the corners of one object to the same tag
    push: NotNegative = 0.1  # weight of pushing the tags of different objects apart
    # pull and push are means over images times this number, so that the batch size does not change them; the originals
    # sum them over the images of one GPU, whose number stands in their recipes; 1: a plain mean
    group: Positive = 1.0


@dataclasses.dataclass(frozen=True)
class CornerTest(Test):
    """From the network's maps to boxes."""

    max_pairs: Rows = 1000  # pairs kept before non-maximum suppression, of each scale and of the mirrored image
    tag_distance: NotNegative = 0.5  # largest difference of the tags of a pair
    no_border: bool = False  # no box starts in the first row or column of a map, or ends in the last


@dataclasses.dataclass(frozen=True)
class CornerLegacy(Legacy):
    """What the original programs do that changes numbers and is no part of the method."""

    push_itself: bool = False  # the push loss compares an object with itself too, and adds 1e-4 to counts


@dataclasses.dataclass(frozen=True)
class CornerConfig(Config):
    """A run of CornerNet or CornerNet-Squeeze."""

    model: CornerModel = CornerModel()
    loss: CornerLoss = CornerLoss()
    test: CornerTest = CornerTest()
    legacy: CornerLegacy = CornerLegacy()


C = TypeVar("C", bound=CornerConfig)

# Our path -> the key in a checkpoint of CornerNet-Lite, each rule in turn.
LITE_RULES = (
    (r"^backbone\.stem\.", r"hg.pre."),
    (r"^backbone\.hourglasses\.", r"hg.hgs."),
    (r"^backbone\.outs\.", r"hg.cnvs."),
    (r"^backbone\.between\.", r"hg.inters."),
    (r"^backbone\.from_input\.", r"hg.inters_."),
    (r"^backbone\.from_output\.", r"hg.cnvs_."),
    (r"^(tl|br)\.(\d+)\.pool\.branch(\d)\.", r"\1_modules.\2.p\3_conv1."),
    (r"^(tl|br)\.(\d+)\.pool\.merge\.(conv|bn)\.", r"\1_modules.\2.p_\g<3>1."),
    (r"^(tl|br)\.(\d+)\.pool\.skip\.(conv|bn)\.", r"\1_modules.\2.\g<3>1."),
    (r"^(tl|br)\.(\d+)\.pool\.out\.", r"\1_modules.\2.conv2."),
    (r"^(tl|br)\.(\d+)\.(heat|tag|off)\.hidden\.", r"\1_\3s.\2.0.conv."),
    (r"^(tl|br)\.(\d+)\.(heat|tag|off)\.out\.", r"\1_\3s.\2.1."),
    (r"(\.skip|\.inters_\.\d+|\.cnvs_\.\d+)\.conv\.", r"\1.0."),
    (r"(\.skip|\.inters_\.\d+|\.cnvs_\.\d+)\.bn\.", r"\1.1."),
    (r"\.expand1\.", r".conv_1x1."),
    (r"\.expand3\.", r".conv_3x3."),
    (r"\.(kernel|scale)$", r".weight"),
    (r"\.(mean|var)$", r".running_\1"),
)
# CornerNet-Lite's names -> those of CornerNet's first repository.
FIRST_RULES = (
    *LITE_RULES,
    (r"^hg\.hgs\.", r"kps."),
    (r"^hg\.", r""),
    (r"^(tl|br)_modules\.", r"\1_cnvs."),
    (r"^(tl|br)_offs\.", r"\1_regrs."),
)


class CornerHeads(nnx.Module):
    """Corner pooling and the three maps of one corner.

    Args:
        corner: "tl" or "br".
    """

    compute = Compute()
    pool_class: type[CornerPool] = CornerPool

    def __init__(self, model: CornerModel, corner: str, *, rng: Rng):
        dim, kernel = model.backbone.dim, model.head_kernel
        self.pool = self.pool_class(dim, model.pool_dim, corner=corner, pooling=model.pooling, rng=rng)
        self.heat = Head(dim, model.num_classes, kernel=kernel, bias=HEAT_BIAS, rng=rng)
        self.tag = Head(dim, 1, kernel=kernel, rng=rng)
        self.off = Head(dim, 2, kernel=kernel, rng=rng)
        self.corner = corner

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w _"]]:
        apply = partial(applied, train=train, remat=self.compute.remat == "level")
        x = apply(self.pool, x)
        return {f"{self.corner}_{name}": apply(getattr(self, name), x) for name in ("heat", "tag", "off")}


class CornerNetwork(nnx.Module):
    """Stacked hourglasses, each with heads for both corners."""

    compute = Compute()
    heads_class: type[CornerHeads] = CornerHeads

    def __init__(self, model: CornerModel, *, rng: Rng):
        self.backbone = model.backbone.build(rng)
        self.tl, self.br = (
            nnx.List([self.heads_class(model, corner, rng=rng) for _ in range(model.backbone.stacks)])
            for corner in ("tl", "br")
        )

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> Outputs:
        """Maps of every stack in training, otherwise of the last one only.

        Args:
            images: normalised BGR; H and W + 1 divisible by the stride times 2 for each level of the hourglass.
        Returns: "tl_heat", "br_heat" (b, h, w, c) logits; "tl_tag", "br_tag" (b, h, w, 1); "tl_off", "br_off"
            (b, h, w, 2) as x, y in cells.
        """
        head = partial(applied, train=train, remat=self.compute.remat == "stack")
        stacks = list(zip(self.tl, self.br, self.features(images, train=train), strict=True))
        return [jax.tree.map(precise, head(tl, x) | head(br, x)) for tl, br, (x, _) in stacks[0 if train else -1 :]]

    def features(self, images: Float[Array, "b H W 3"], *, train: bool) -> list[Features]:
        """The backbone's, in the type that the network computes in."""
        bfloat16 = self.compute.dtype == "bfloat16"
        return self.backbone(images.astype(jnp.bfloat16) if bfloat16 else images, train=train)


def draw_tags_overlay(image: Image, evidence: Evidence, found: Detections, config: Config) -> Image:
    """See draw_tags."""
    assert isinstance(config, CornerConfig)
    return draw_tags(image, evidence, found, tag_distance=config.test.tag_distance)


class CornerDetector(Detector[C]):
    """Pairs of corners, grouped by tags; base.Detector says what each method is."""

    keypoints: tuple[Keypoint, ...] = CORNERS
    parts: tuple[str, ...] = ("heat maps", "tags", "offsets")
    overlays: tuple[Overlay, ...] = (Overlay("tags", draw_tags_overlay),)

    def stride(self, model: CornerModel) -> int:
        return model.backbone.stride

    def build(self, model: CornerModel, rng: Rng) -> nnx.Module:
        return CornerNetwork(model, rng=rng)

    def check(self, config: C) -> None:
        """Refuse a network that cannot be built and a crop that does not fit it.

        Raises: InputError: naming the field, its value and what is accepted.
        """
        if config.model.num_classes < 1:
            raise InputError(f"model.num_classes is {config.model.num_classes}; a network needs at least 1")
        config.model.backbone.check()
        check_pooling(config.model, config.compute)
        config.model.backbone.check_sides("data.crop_px", config.data.crop_px)

    def input_size(self, height: int, width: int, model: CornerModel) -> tuple[int, int]:
        return model.backbone.padded(height), model.backbone.padded(width)

    def stack_losses(self, maps: Maps, targets: Mapping[str, Array], config: C, counts: Losses) -> Losses:
        shared = super().stack_losses(maps, targets, config, counts)
        return shared | tag_losses(maps, targets, counts, push_itself=config.legacy.push_itself)

    def loss_weights(self, config: C) -> dict[str, float]:
        loss = config.loss
        return {"focal": 1.0, "pull": loss.pull * loss.group, "push": loss.push * loss.group, "offset": loss.offset}

    def decode(self, outputs: Outputs, config: C) -> Candidates:
        test = config.test
        return decode_corners(
            outputs[-1],
            top_k=test.top_k,
            max_pairs=test.max_pairs,
            window=test.peak_window,
            tag_distance=test.tag_distance,
            no_border=test.no_border,
            rounded=config.legacy.rounded_peaks,
            non_peaks=config.legacy.non_peaks,
        )

    def heads(self, model: CornerModel) -> list[dict[str, str]]:
        corners, kinds = [corner.name for corner in CORNERS], ("heat", "tag", "off")
        return [
            {f"{corner}_{kind}": f"{corner}.{stack}.{kind}" for corner in corners for kind in kinds}
            for stack in range(model.backbone.stacks)
        ]

    def with_truth(self, outputs: Outputs, targets: Targets, config: C) -> Outputs:
        maps = outputs[-1]
        tags = {name: maps[name] for name in ("tl_tag", "br_tag")}
        encoded = jax.tree.map(jnp.asarray, targets.encoded)
        true = jax.vmap(partial(true_tags, tag_distance=config.test.tag_distance))(encoded, tags)
        tags = {name: replaced(tags[name], true[name], targets.replaced["tags"]) for name in tags}
        return super().with_truth([*outputs[:-1], maps | tags], targets, config)


def check_pooling(model: CornerModel, compute: Compute) -> None:
    """Refuse pooling that is not there, or not on this machine.

    Raises: InputError: naming the field, its value and what is accepted.
    """
    try:
        find_pool(model.pooling)
    except ValueError as error:
        raise InputError(f"model.pooling is {model.pooling}; {error}") from error
    name = compute.pooling_implementation
    try:
        ops.check_implementation(name)
    except ValueError as error:
        raise InputError(f"compute.pooling_implementation is {name}; {error}") from error
    if model.pooling != "corner" and name != "auto":
        raise InputError(
            f"compute.pooling_implementation is {name}; only auto goes with model.pooling={model.pooling}, which is no "
            "corner pooling"
        )


class CornerNet(CornerDetector[CornerConfig]):
    """Source: CornerNet-Lite, core/models/CornerNet.py; CornerNet, models/CornerNet.py."""

    defaults = CornerConfig(test=CornerTest(flip=True))
    torch_layouts = (
        TorchLayout("CornerNet-Lite", LITE_RULES),
        # Its weights were trained with the legacy radius at an overlap of 0.7; its test procedure is the same.
        TorchLayout(
            "CornerNet's first repository",
            FIRST_RULES,
            preset="released_eccv18",
            changes={"data.gaussian_radius": "legacy", "data.gaussian_iou": 0.7},
        ),
    )
