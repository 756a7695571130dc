"""The options that only CenterNet points have."""

import dataclasses
from typing import Literal

from cornerjax.config import Config, Data, Loss, Model, Nms, Test
from cornerjax.legacy import Legacy
from cornerjax.nn.backbones.dla import DLA
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import ResNet
from cornerjax.validation import Channels, NotNegative, Pixels


@dataclasses.dataclass(frozen=True)
class PointModel(Model):
    """A network with one keypoint; the defaults are those of DLA-34."""

    detector: str = "centernet_points"
    backbone: Hourglass | ResNet | DLA = DLA()
    head_dim: Channels = 256  # channels of the first convolution of each head


@dataclasses.dataclass(frozen=True)
class PointLoss(Loss):
    """Weights of the parts of the loss; the focal loss of the heat maps has weight 1."""

    size: NotNegative = 0.1  # weight of the sizes, in cells
    # what the L1 losses of sizes and offsets are means of: coordinates, two of each object, as in the original; objects
    # make both count twice
    mean_of: Literal["coordinates", "objects"] = "coordinates"


@dataclasses.dataclass(frozen=True)
class PointTest(Test):
    """From the network's maps to boxes."""

    # none: the peaks of a heat map need no suppression; with several scales none means gaussian
    nms: Nms = "none"
    # height and width that images, small ones too, are fitted into by their longer side; of an image at a scale above 1
    # that is its middle; empty: images are padded
    fixed_px: tuple[Pixels, ...] = ()


@dataclasses.dataclass(frozen=True)
class PointLegacy(Legacy):
    """What the original program does that changes numbers and is no part of the method."""

    clip_to_last_cell: bool = False  # boxes of a training crop end where the last cell begins
    first_objects: bool = False  # of more than data.max_objects in an image the first count, whatever a crop shows
    unclipped_boxes: bool = False  # boxes may reach beyond the image


@dataclasses.dataclass(frozen=True)
class PointConfig(Config):
    """A run of CenterNet with points."""

    model: PointModel = PointModel()
    data: Data = Data(crop_px=(512, 512), gaussian_radius="legacy", gaussian_iou=0.7)
    loss: PointLoss = PointLoss()
    test: PointTest = PointTest()
    legacy: PointLegacy = PointLegacy()
