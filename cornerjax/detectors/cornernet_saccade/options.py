"""What only CornerNet-Saccade has options for."""

import dataclasses
from typing import Annotated

from cornerjax.config import Data, Scales
from cornerjax.detectors.cornernet import CornerConfig, CornerLegacy, CornerLoss, CornerModel, CornerTest
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.validation import Count, Natural, NotNegative, Odd, Part, Pixels, Positive, Rows, Scale, Share, some


@dataclasses.dataclass(frozen=True)
class SaccadeData(Data):
    """The data set and what is done to an example before the network sees it."""

    crop_px: tuple[Pixels, Pixels] = (255, 255)  # height and width of a training example
    # scale of images without objects: one of these is drawn for each; others are scaled by one of their objects
    crop_scales: Scales = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
    # the radius of a gaussian is where a box moved so far may overlap the true one this little
    gaussian_iou: Part = 0.5
    min_object_px: Natural = 16  # objects whose longer side in the crop is smaller are left out of the loss
    min_overlap: Share = 0.5  # objects of whose area the crop shows no more than this part are left out, too
    # least and largest longer side, in pixels of the crop, of the objects of each attention map, the coarsest first
    attention_px: Annotated[tuple[tuple[Natural, Count], ...], some(10)] = ((96, 256), (32, 96), (0, 32))


@dataclasses.dataclass(frozen=True)
class SaccadeLoss(CornerLoss):
    """Weights of the parts of the loss; the focal loss of the heat maps has weight 1."""

    attention: NotNegative = 1.0  # the attention maps' focal loss; the original's is 1 / stacks


@dataclasses.dataclass(frozen=True)
class Saccade:
    """Where the network is applied: first to the whole image, then to crops of places that seem to hold something."""

    # the image's longer side is resized to each of these
    view_px: Annotated[tuple[Pixels, ...], some(100)] = (192, 255)
    view_score: NotNegative = 0.3  # boxes found in the whole image with a lower score are dropped
    # least attention of a place to be cropped; one number for each stage of closer crops
    attention: Annotated[tuple[Positive, ...], some(100)] = (0.3,)
    attention_window: Odd = 3  # a place is the maximum of this many cells around it, in each direction
    # how much larger a crop shows a place, for each attention map: large, medium, small objects
    zooms: Annotated[tuple[Scale, ...], some(100)] = (1.0, 2.0, 4.0)
    max_view_scale: Positive = 2.0  # attention of inputs at more than this scale is not followed
    max_scale: Positive = 4.0  # attention that would lead to a larger scale is not followed
    box_score: NotNegative = 0.5  # boxes with a higher score are cropped, too
    # a cropped box is resized so that its longer side is this: large, medium, small boxes
    box_px: tuple[Pixels, Pixels, Pixels] = (192, 64, 24)
    large_px: Count = 96  # the longer side of a large box is more than this
    small_px: Count = 32  # the longer side of a small box is at most this
    apart_px: NotNegative = 16.0  # places closer than this, in pixels of the crop, are one
    max_crops: Rows = 30  # crops an image
    crop_batch: Rows = 32  # crops that go through the network together, from one or several images


@dataclasses.dataclass(frozen=True)
class SaccadeTest(CornerTest):
    """From the network's maps to boxes."""

    saccade: Saccade = Saccade()


@dataclasses.dataclass(frozen=True)
class SaccadeLegacy(CornerLegacy):
    """What the original programs do that changes numbers and is no part of the method."""

    unclipped: bool = False  # boxes may reach beyond the image
    row_or_column: bool = False  # places on the same row or column count as close, however far apart
    count_ignored: bool = False  # corners that the loss leaves out still count in its divisor
    shared_ends: bool = False  # an object of a size at which two attention maps meet is in both


@dataclasses.dataclass(frozen=True)
class SaccadeConfig(CornerConfig):
    """A run of CornerNet-Saccade."""

    model: CornerModel = CornerModel(
        detector="cornernet_saccade",
        backbone=Hourglass(stacks=3, dims=(256, 384, 384, 512), blocks=(1, 1, 1, 1)),
    )
    data: SaccadeData = SaccadeData()
    loss: SaccadeLoss = SaccadeLoss()
    test: SaccadeTest = SaccadeTest(top_k=12, max_pairs=12, tag_distance=0.3, no_border=True, nms_sigma=0.7)
    legacy: SaccadeLegacy = SaccadeLegacy()
