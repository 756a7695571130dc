"""The detector; base.Detector says what each method is."""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, UInt8

from cornerjax.config import Compute, Nms
from cornerjax.data.crop import Cropped, Draws, warped
from cornerjax.data.geometry import clipped, fitted, mirrored, moved, typed
from cornerjax.detectors.base import Detector, Maps, Outputs, Targets, View
from cornerjax.detectors.centernet_points.names import IMAGENET_LAYOUTS, KINDS, LAYOUTS
from cornerjax.detectors.centernet_points.options import PointConfig, PointModel
from cornerjax.detectors.rows import Candidates
from cornerjax.detectors.selection import clip_to_images
from cornerjax.detectors.truth import owners, replaced
from cornerjax.errors import InputError
from cornerjax.keypoints import Keypoint, Objects
from cornerjax.losses import Losses, heat_loss
from cornerjax.nn.backbones.dla import DLA
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.nn.functional import applied
from cornerjax.nn.heads import HEAT_BIAS, Head
from cornerjax.nn.layers import Rng, normal
from cornerjax.ops.gather import gather_cells
from cornerjax.ops.keypoints import find_keypoints
from cornerjax.ops.precision import precise
from cornerjax.targets import Encoded, fill_up

CENTRE = Keypoint("ct", "centre", lambda objects: (objects["boxes"][:, :2] + objects["boxes"][:, 2:]) / 2)
REGRESSION_STD = 0.001  # of the first weights of sizes and offsets on residual networks


class PointHeads(nnx.Module):
    """The three maps of one stack."""

    compute = Compute()

    def __init__(self, model: PointModel, *, rng: Rng):
        def head(cout: int, bias: float | None = None) -> Head:
            return Head(model.head_dim, cout, cin=model.backbone.dim, kernel=3, bias=bias, rng=rng)

        self.heat, self.size, self.off = head(model.num_classes, HEAT_BIAS), head(2), head(2)
        for regression in (self.size, self.off):
            start_regression(regression, model.backbone, rng)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w _"]]:
        apply = partial(applied, train=train, remat=self.compute.remat == "level")
        return {f"ct_{name}": apply(getattr(self, name), x) for name in KINDS}


def start_regression(head: Head, backbone: Hourglass | ResNet | DLA, rng: Rng) -> None:
    """The original's initial values, which differ from one backbone to the next."""
    if isinstance(backbone, Hourglass):
        return  # PyTorch's
    every = isinstance(backbone, DLA) or backbone.deformable
    for conv in (head.hidden, head.out) if every else (head.out,):
        if isinstance(backbone, ResNet):
            conv.kernel = normal(rng, conv.kernel[...].shape, REGRESSION_STD)
        conv.bias = nnx.Param(np.zeros(conv.kernel[...].shape[-1], np.float32))


class PointNetwork(nnx.Module):
    """A backbone with heads for one keypoint on each of its stacks."""

    compute = Compute()

    def __init__(self, model: PointModel, *, rng: Rng):
        self.backbone = model.backbone.build(rng)
        self.ct = nnx.List([PointHeads(model, rng=rng) for _ in range(model.backbone.stacks)])

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> Outputs:
        """Maps of every stack in training, otherwise of the last one only.

        Args:
            images: normalised BGR; H and W are multiples of the backbone's unit_px.
        Returns: "ct_heat" (b, h, w, c) logits; "ct_size" (b, h, w, 2) as width, height, and "ct_off" (b, h, w, 2) as
            x, y, both in cells.
        """
        bfloat16 = self.compute.dtype == "bfloat16"
        features = self.backbone(images.astype(jnp.bfloat16) if bfloat16 else images, train=train)
        head = partial(applied, train=train, remat=self.compute.remat == "stack")
        stacks = list(zip(self.ct, features, strict=True))[0 if train else -1 :]
        return [jax.tree.map(precise, head(heads, of_stack.map)) for heads, of_stack in stacks]


class CenterNetPoints(Detector[PointConfig]):
    """Source: CenterNet of xingyizhou, src/lib: models/decode.py, trains/ctdet.py, detectors/ctdet.py."""

    keypoints = (CENTRE,)
    defaults = PointConfig()
    parts = ("heat maps", "sizes", "offsets")
    torch_layouts = LAYOUTS
    backbone_layouts = IMAGENET_LAYOUTS

    def stride(self, model: PointModel) -> int:
        return model.backbone.stride

    def build(self, model: PointModel, rng: Rng) -> PointNetwork:
        return PointNetwork(model, rng=rng)

    def check(self, config: PointConfig) -> None:
        """Refuse a network that cannot be built, and sides that do not fit it.

        Raises: InputError: naming the field, its value and what is accepted.
        """
        if config.model.num_classes < 1:
            raise InputError(f"model.num_classes is {config.model.num_classes}; a network needs at least 1")
        backbone, fixed = config.model.backbone, config.test.fixed_px
        backbone.check()
        if len(fixed) not in (0, 2):
            raise InputError(f"test.fixed_px is {fixed}; accepted are a height and a width, or nothing")
        for name, sides in (("data.crop_px", config.data.crop_px), ("test.fixed_px", fixed)):
            for side in sides:
                if side % backbone.unit_px:
                    below = side // backbone.unit_px * backbone.unit_px
                    legal = [str(px) for px in (below, below + backbone.unit_px) if px > 0]
                    raise InputError(
                        f"{name} has the side {side}; sides that fit this network are multiples of "
                        f"{backbone.unit_px}: nearest {' and '.join(legal)}"
                    )

    def input_size(self, height: int, width: int, model: PointModel) -> tuple[int, int]:
        unit = model.backbone.unit_px  # an image always gets a border
        return (height // unit + 1) * unit, (width // unit + 1) * unit

    def fixed_size(self, config: PointConfig) -> tuple[int, int] | None:
        return (config.test.fixed_px[0], config.test.fixed_px[1]) if config.test.fixed_px else None

    def nms(self, config: PointConfig) -> Nms:
        several = len(config.test.scales) > 1
        return "gaussian" if several and config.test.nms == "none" else config.test.nms

    def crop(self, image: UInt8[np.ndarray, "h0 w0 3"], objects: Objects, draws: Draws, config: PointConfig) -> Cropped:
        """The image mirrored, then a square round a random place brought to the crop's size.

        The side of the square is a multiple of the longer side of the image, so that how large objects are does not
        depend on the size of the image.

        Source: CenterNet of xingyizhou, src/lib/datasets/sample/ctdet.py.
        """
        height, width = image.shape[:2]
        minus_one = config.legacy.mirror_minus_one
        objects = typed(objects, self.precision)
        # Differs from CenterNet: there, objects beyond max_objects are left out before the crop; first_objects.
        if config.legacy.first_objects:
            objects = {name: values[: config.data.max_objects] for name, values in objects.items()}
        x, y, side = width / 2, height / 2, float(max(height, width))
        if config.data.random_crop:
            (x, y), side = map(float, draws.centre), side * draws.scale
        if draws.flip:
            image, objects = image[:, ::-1], mirrored(objects, width, minus_one=minus_one)
            x = width - x - minus_one
        affine = fitted((x, y), side, config.data.crop_px)
        (H, W), last = config.data.crop_px, config.legacy.clip_to_last_cell
        border = self.stride(config.model) if last else 0
        objects = clipped(
            typed(moved(typed(objects, np.float64), affine), self.precision),  # moved in float64 there
            (H - border, W - border),
            to_last_pixel=config.legacy.clip_to_last_pixel and not last,
        )
        return Cropped(warped(image, affine, config.data.crop_px), objects, affine, mirrored=True)

    def encode(self, objects: Objects, config: PointConfig) -> Encoded:
        """Those of all detectors, and "sizes" (n, 2), width and height in cells."""
        data, (h, w) = config.data, self.map_size(config)
        ratio = np.array([w / data.crop_px[1], h / data.crop_px[0]], np.float32)
        boxes = objects["boxes"][: data.max_objects]
        sizes = (boxes[:, 2:] - boxes[:, :2]) * ratio
        return super().encode(objects, config) | {"sizes": fill_up(sizes, data.max_objects)}

    def stack_losses(self, maps: Maps, targets: Mapping[str, Array], config: PointConfig, counts: Losses) -> Losses:
        per_object = 2 if config.loss.mean_of == "coordinates" else 1
        cells, valid = targets["ct_cells"], targets["valid"]

        def l1(name: str, target: Array) -> Array:
            apart = jnp.abs(gather_cells(maps[name], cells) - target)
            return jnp.where(valid[..., None], apart, 0).sum() / (per_object * counts["objects"] + 1e-4)

        return {
            "focal": heat_loss(maps, targets, self.keypoints, counts),
            "size": l1("ct_size", targets["sizes"]),
            "offset": l1("ct_off", targets["ct_off"]),
        }

    def loss_weights(self, config: PointConfig) -> dict[str, float]:
        return {"focal": 1.0, "size": config.loss.size, "offset": config.loss.offset}

    def decode(self, outputs: Outputs, config: PointConfig) -> Candidates:
        """The peaks of the heat map as boxes.

        Source: CenterNet of xingyizhou, src/lib/models/decode.py, ctdet_decode.
        """
        maps, test = outputs[-1], config.test
        found = find_keypoints(
            maps["ct_heat"],
            maps["ct_off"],
            top_k=test.top_k,
            window=test.peak_window,
            rounded=config.legacy.rounded_peaks,
            non_peaks=config.legacy.non_peaks,
        )
        half = precise(gather_cells(maps["ct_size"], found.cells)) / 2
        return Candidates(
            jnp.concatenate([found.points - half, found.points + half], -1), found.scores, found.classes, {}
        )

    def combine(self, candidates: Sequence[Candidates], views: Sequence[View], config: PointConfig) -> Candidates:
        """The boxes of all views."""
        # Differs from CenterNet: boxes end where the image does, unless unclipped_boxes.
        if not config.legacy.unclipped_boxes:
            drop = not config.legacy.padding_boxes
            candidates = [
                clip_to_images(found, jnp.asarray(view.sizes), drop_empty=drop)
                for found, view in zip(candidates, views, strict=True)
            ]
        return jax.tree.map(lambda *rows: jnp.concatenate(rows, axis=1), *candidates)

    def average_mirrored(self, plain: Outputs, mirror: Outputs, config: PointConfig) -> Outputs:
        """Heat and sizes are means over both; offsets are those of the images as they are.

        Source: CenterNet of xingyizhou, src/lib/detectors/ctdet.py, process.
        """
        one, other = plain[-1], jax.tree.map(lambda x: x[:, :, ::-1], mirror[-1])
        heat = (jax.nn.sigmoid(one["ct_heat"]) + jax.nn.sigmoid(other["ct_heat"])) / 2
        logits = jnp.log(heat) - jnp.log1p(-heat)
        return [one | {"ct_heat": logits, "ct_size": (one["ct_size"] + other["ct_size"]) / 2}]

    def with_truth(self, outputs: Outputs, targets: Targets, config: PointConfig) -> Outputs:
        maps = outputs[-1]
        encoded = jax.tree.map(jnp.asarray, targets.encoded)
        true = jax.vmap(true_sizes)(encoded, maps["ct_size"])
        sizes = replaced(maps["ct_size"], true, targets.replaced["sizes"])
        return super().with_truth([*outputs[:-1], maps | {"ct_size": sizes}], targets, config)

    def heads(self, model: PointModel) -> list[dict[str, str]]:
        return [{f"ct_{kind}": f"ct.{stack}.{kind}" for kind in KINDS} for stack in range(model.backbone.stacks)]


def true_sizes(encoded: Mapping[str, Array], predicted: Float[Array, "h w 2"]) -> Float[Array, "h w 2"]:
    """The sizes of one image, true round the true centres, see truth.owners; as predicted elsewhere."""
    owner, near = owners(CENTRE, encoded, *predicted.shape[:2])
    return jnp.where(near[..., None], encoded["sizes"][owner], predicted)
