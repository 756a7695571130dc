"""CornerNet-Squeeze: CornerNet with fire modules at twice the stride (Law et al. 2019)."""

from cornerjax.config import Config, Model, Test
from cornerjax.detectors.cornernet import CornerNet
from cornerjax.errors import InputError
from cornerjax.nn.fire import FireBlock
from cornerjax.nn.layers import ConvTranspose


class CornerNetSqueeze(CornerNet):
    """CornerNet but for the network: stride 8, fire modules in the hourglasses, learned up-sampling, 1x1 heads.

    The stem, the blocks between the hourglasses and the corner pooling modules are the ordinary ones.

    Source: CornerNet-Lite, core/models/CornerNet_Squeeze.py.
    """

    defaults = Model(
        detector="cornernet_squeeze", dims=(256, 256, 384, 384, 512), blocks=(2, 2, 2, 2, 4), head_kernel=1
    )
    test_defaults = Test(top_k=20, max_pairs=100)
    block = FireBlock
    upsampling = ConvTranspose

    def stride(self, model: Model) -> int:
        return 8

    def check(self, config: Config) -> None:
        super().check(config)
        if odd := [dim for dim in config.model.dims if dim % 2]:
            raise InputError(f"model.dims has {odd[0]}; fire modules need even numbers of channels")
