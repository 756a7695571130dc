"""CornerNet-Squeeze: CornerNet with fire modules at twice the stride (Law et al. 2019)."""

from cornerjax.detectors.cornernet import LITE_RULES, CornerConfig, CornerDetector, CornerModel, CornerTest
from cornerjax.detectors.layouts import TorchLayout
from cornerjax.nn.backbones.hourglass import Hourglass


class CornerNetSqueeze(CornerDetector[CornerConfig]):
    """CornerNet but for the network: stride 8, fire modules in the hourglasses, learned up-sampling, 1x1 heads.

    The stem, the blocks between the hourglasses and the corner pooling modules are the ordinary ones.

    Source: CornerNet-Lite, core/models/CornerNet_Squeeze.py.
    """

    defaults = CornerConfig(
        model=CornerModel(
            detector="cornernet_squeeze",
            backbone=Hourglass(stride=8, dims=(256, 256, 384, 384, 512), blocks=(2, 2, 2, 2, 4), block="fire"),
            head_kernel=1,
        ),
        test=CornerTest(top_k=20, max_pairs=100),
    )
    torch_layouts = (TorchLayout("CornerNet-Lite", LITE_RULES),)
