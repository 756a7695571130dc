"""The fire module of CornerNet-Squeeze."""

from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.nn.layers import BatchNorm, Conv, DepthwiseConv, Rng


class FireBlock(nnx.Module):
    """Squeeze to half the channels, then expand by a 1x1 and a depthwise 3x3 convolution side by side.

    There is no ReLU between the two, a stride is on both expanding branches, and there is no skip where the shape
    changes.

    Source: CornerNet-Lite, core/models/CornerNet_Squeeze.py, fire_module.
    """

    folds: ClassVar = {"bn1": ("conv1",), "bn2": ("expand1", "expand3")}

    def __init__(self, cin: int, cout: int, *, stride: int = 1, rng: Rng):
        half = cout // 2
        self.conv1, self.bn1 = Conv(cin, half, 1, rng=rng), BatchNorm(half)
        self.expand1 = Conv(half, half, 1, stride=stride, rng=rng)
        self.expand3 = DepthwiseConv(half, stride=stride, rng=rng)
        self.bn2 = BatchNorm(cout)
        self.skip = stride == 1 and cin == cout

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 c2"]:
        y = self.bn1(self.conv1(x), train=train)
        y = self.bn2(jnp.concatenate([self.expand1(y), self.expand3(y)], axis=3), train=train)
        return nnx.relu(y + x if self.skip else y)
