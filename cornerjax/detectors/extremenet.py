"""ExtremeNet: objects as four extreme points and a centre, grouped by where they lie (Zhou et al. 2019)."""

import dataclasses
from functools import partial
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.config import Compute, Config, Data, Model, Test
from cornerjax.detectors.base import Detector, Image, Outputs, Targets
from cornerjax.detectors.cornernet import FIRST_RULES
from cornerjax.detectors.extremes import ALONG, CENTRE, EXTREMES, find_extremes, suppress_ghosts
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.detectors.overlay import Evidence, Overlay
from cornerjax.detectors.rows import Candidates, Detections, Found
from cornerjax.drawing import draw_points, draw_polygons
from cornerjax.errors import InputError
from cornerjax.keypoints import Keypoint
from cornerjax.legacy import Legacy
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.functional import applied
from cornerjax.nn.heads import HEAT_BIAS, Head
from cornerjax.nn.layers import Rng
from cornerjax.ops.edges import RISING_SUMS
from cornerjax.ops.gather import gather_cells
from cornerjax.ops.precision import precise
from cornerjax.ops.quadruples import MOST_POINTS, group_as_pytorch, group_quadruples
from cornerjax.validation import NotNegative, Odd, Rows, Share, replaced

# Our path -> the key in a checkpoint.
RULES = tuple((pattern.replace("(tl|br)", "(t|l|b|r|ct)"), replacement) for pattern, replacement in FIRST_RULES)


@dataclasses.dataclass(frozen=True)
class ExtremeModel(Model):
    """A network with five keypoints; the defaults are the published ones."""

    detector: str = "extremenet"
    backbone: Hourglass = Hourglass()
    head_kernel: Odd = 3  # side of the first convolution of every head


@dataclasses.dataclass(frozen=True)
class ExtremeData(Data):
    """The data set and what is done to an example before the network sees it."""

    needs: ClassVar[tuple[str, ...]] = ("extreme_points",)
    # where extreme points come from that the annotations do not give. segmentation: from that, objects without one are
    # left out of training, with a warning; box: where there is no segmentation, the middles of the sides of the box;
    # zero: where there is none, four points at 0, 0, as in the original
    extreme_from: Literal["segmentation", "box", "zero"] = "segmentation"

    def for_evaluation(self) -> Data:
        """Every object counts, and what nobody knows of it is the same as in its box."""
        return replaced(super().for_evaluation(), {"extreme_from": "box"})


@dataclasses.dataclass(frozen=True)
class ExtremeTest(Test):
    """From the network's maps to boxes."""

    quadruples: Rows = 1000  # kept before non-maximum suppression, of each scale and of the mirrored image
    # an edge of an object may be extreme all along: its points get the scores beside them, times this; 0: they do not
    edge_weight: NotNegative = 0.1
    edge_implementation: str = "auto"  # how scores along edges are added up: a name in cornerjax.ops.RISING_SUMS
    point_floor: Share = 0.1  # least score of an extreme point
    centre_floor: Share = 0.1  # least score of a centre
    suppress_ghosts: bool = True  # the score of a box that holds much better ones of its class is halved


@dataclasses.dataclass(frozen=True)
class ExtremeLegacy(Legacy):
    """What the original program does that changes numbers and is no part of the method."""

    # scores above 1 become 1 before the best points are taken, and of equal ones those win that win in PyTorch on CPUs;
    # slow on accelerators
    pytorch_ties: bool = False


@dataclasses.dataclass(frozen=True)
class ExtremeConfig(Config):
    """A run of ExtremeNet."""

    model: ExtremeModel = ExtremeModel()
    data: ExtremeData = ExtremeData(gaussian_radius="legacy", gaussian_iou=0.7)
    test: ExtremeTest = ExtremeTest(top_k=40, flip=True)
    legacy: ExtremeLegacy = ExtremeLegacy()


class KeypointHeads(nnx.Module):
    """The maps of one keypoint on one stack."""

    compute = Compute()

    def __init__(self, model: ExtremeModel, keypoint: Keypoint, *, rng: Rng):
        dim, kernel = model.backbone.dim, model.head_kernel
        self.name = keypoint.name
        self.heat = Head(dim, model.num_classes, kernel=kernel, bias=HEAT_BIAS, rng=rng)
        self.off = Head(dim, 2, kernel=kernel, rng=rng) if keypoint.offset else None

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w _"]]:
        apply = partial(applied, train=train, remat=self.compute.remat == "level")
        heads = {"heat": self.heat, "off": self.off}
        return {f"{self.name}_{kind}": apply(head, x) for kind, head in heads.items() if head is not None}


class ExtremeNetwork(nnx.Module):
    """Stacked hourglasses, each with heads for four extreme points and the centre."""

    compute = Compute()

    def __init__(self, model: ExtremeModel, *, rng: Rng):
        self.backbone = model.backbone.build(rng)
        for keypoint in (*EXTREMES, CENTRE):
            heads = [KeypointHeads(model, keypoint, rng=rng) for _ in range(model.backbone.stacks)]
            setattr(self, keypoint.name, nnx.List(heads))

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> Outputs:
        """Maps of every stack in training, otherwise of the last one only.

        Args:
            images: normalised BGR; H and W + 1 divisible by the stride times 2 for each level of the hourglass.
        Returns: "t_heat", "l_heat", "b_heat", "r_heat", "ct_heat" (b, h, w, c) logits; "t_off", "l_off", "b_off",
            "r_off" (b, h, w, 2) as x, y in cells.
        """
        bfloat16 = self.compute.dtype == "bfloat16"
        features = self.backbone(images.astype(jnp.bfloat16) if bfloat16 else images, train=train)
        head = partial(applied, train=train, remat=self.compute.remat == "stack")
        outputs = []
        for stack, (x, _) in list(enumerate(features))[0 if train else -1 :]:
            maps: dict[str, Array] = {}
            for keypoint in (*EXTREMES, CENTRE):
                maps |= head(getattr(self, keypoint.name)[stack], x)
            outputs.append(jax.tree.map(precise, maps))
        return outputs


def draw_extremes(image: Image, evidence: Evidence, found: Detections, config: Config) -> Image:
    """The four extreme points of every detection."""
    return draw_points(image, found.extra["extreme_points"], found.classes)


def draw_masks(image: Image, evidence: Evidence, found: Detections, config: Config) -> Image:
    """The octagon of every detection."""
    assert found.polygons is not None
    return draw_polygons(image, found.polygons, found.classes)


class ExtremeNet(Detector[ExtremeConfig]):
    """Source: ExtremeNet, models/ExtremeNet.py, models/py_utils/exkp.py, test/coco.py."""

    keypoints = (*EXTREMES, CENTRE)
    defaults = ExtremeConfig()
    precision = np.float64
    extras = ("extreme_points",)
    overlays = (Overlay("extremes", draw_extremes), Overlay("masks", draw_masks, below=True))
    torch_layouts = (TorchLayout("ExtremeNet", RULES, changes={"data.extreme_from": "zero"}),)

    def stride(self, model: ExtremeModel) -> int:
        return model.backbone.stride

    def build(self, model: ExtremeModel, rng: Rng) -> ExtremeNetwork:
        return ExtremeNetwork(model, rng=rng)

    def check(self, config: ExtremeConfig) -> None:
        """Refuse a network that cannot be built and a crop that does not fit it.

        Raises: InputError: naming the field, its value and what is accepted.
        """
        if config.model.num_classes < 1:
            raise InputError(f"model.num_classes is {config.model.num_classes}; a network needs at least 1")
        config.model.backbone.check()
        config.model.backbone.check_sides("data.crop_px", config.data.crop_px)
        if config.test.top_k > MOST_POINTS:
            raise InputError(f"test.top_k is {config.test.top_k}; at most {MOST_POINTS} points of a kind are grouped")
        if config.test.merge:
            raise InputError("test.merge is True; merged boxes would no longer be those of their extreme points")
        if (name := config.test.edge_implementation) not in RISING_SUMS:
            raise InputError(f"test.edge_implementation is {name}; accepted are {', '.join(RISING_SUMS)}")

    def input_size(self, height: int, width: int, model: ExtremeModel) -> tuple[int, int]:
        return model.backbone.padded(height), model.backbone.padded(width)

    def heads(self, model: ExtremeModel) -> list[dict[str, str]]:
        return [
            {
                f"{keypoint.name}_{kind}": f"{keypoint.name}.{stack}.{kind}"
                for keypoint in self.keypoints
                for kind in ("heat", "off")
                if kind == "heat" or keypoint.offset
            }
            for stack in range(model.backbone.stacks)
        ]

    def decode(self, outputs: Outputs, config: ExtremeConfig) -> Candidates:
        """Source: ExtremeNet, models/py_utils/kp_utils.py, exct_decode."""
        maps, test = outputs[-1], config.test
        found, places = [], []
        for keypoint in EXTREMES:
            points = find_extremes(
                maps[f"{keypoint.name}_heat"],
                ALONG[keypoint.name],
                top_k=test.top_k,
                window=test.peak_window,
                edge_weight=test.edge_weight,
                edge_implementation=test.edge_implementation,
                pytorch_ties=config.legacy.pytorch_ties,
            )
            found.append(points)
            offsets = gather_cells(maps[f"{keypoint.name}_off"], points.cells).astype(jnp.float32)
            places.append(points.cells.astype(jnp.float32) + offsets)
        top, left, bottom, right = found
        group = group_as_pytorch if config.legacy.pytorch_ties else group_quadruples
        best = group(
            (top, left, bottom, right),
            maps["ct_heat"],
            num=test.quadruples,
            floor=test.point_floor,
            centre_floor=test.centre_floor,
        )
        extremes = jnp.stack(
            [jnp.take_along_axis(xy, best.points[..., i, None], 1) for i, xy in enumerate(places)], axis=2
        )
        classes = jnp.take_along_axis(top.classes, best.points[..., 0], 1)
        boxes = jnp.stack([extremes[:, :, 1, 0], extremes[:, :, 0, 1], extremes[:, :, 3, 0], extremes[:, :, 2, 1]], -1)
        return Candidates(boxes, best.scores, classes, {"extreme_points": extremes})

    def with_truth(self, outputs: Outputs, targets: Targets, config: ExtremeConfig) -> Outputs:
        """The true centre lies where `decode` looks for it: amid the cells of the extreme points."""
        top, left, bottom, right = (jnp.asarray(targets.encoded[f"{keypoint.name}_cells"]) for keypoint in EXTREMES)
        x, y = (left[..., 0] + right[..., 0]) // 2, (top[..., 1] + bottom[..., 1]) // 2
        centred = targets._replace(encoded=targets.encoded | {"ct_cells": jnp.stack([x, y], -1)})
        return super().with_truth(outputs, centred, config)

    @staticmethod
    def finish(found: Found, config: ExtremeConfig) -> Found:
        """Halve the scores of ghosts, if the options say so."""
        if not config.test.suppress_ghosts:
            return found
        boxes, scores, classes = (jnp.asarray(part) for part in found[:3])
        return found._replace(scores=jax.vmap(suppress_ghosts)(boxes, scores, classes))
