"""Residual networks that are brought back to a quarter of the image's size, with or without deformable convolutions."""

import dataclasses
import itertools
from functools import partial
from typing import ClassVar, Literal, get_args

import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.config import Compute
from cornerjax.nn.backbones import Features
from cornerjax.nn.functional import applied
from cornerjax.nn.layers import (
    BatchNorm,
    Conv,
    ConvBN,
    ConvBNReLU,
    ConvTranspose,
    DeformableConvBNReLU,
    ResidualBlock,
    Rng,
    max_pool,
    normal,
)
from cornerjax.validation import Channels

Depth = Literal[18, 34, 50, 101, 152]
DEPTHS: tuple[Depth, ...] = get_args(Depth)
BLOCKS: dict[Depth, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
EXPANSION = 4  # a bottleneck has this many times the channels of its 3x3 convolution
DECONVOLUTION_STD = 0.001


@dataclasses.dataclass(frozen=True)
class ResNet:
    """A residual network and three up-samplings; the defaults are the ResNet-18 of CenterNet points."""

    depth: Depth = 18  # layers with weights, without the up-samplings; from 50 on bottlenecks
    width: Channels = 64  # channels of the first of four rows of blocks; each of the others has twice as many
    up_dims: tuple[Channels, Channels, Channels] = (256, 256, 256)  # channels after each up-sampling
    deformable: bool = False  # a deformable convolution before each up-sampling

    stacks = 1
    stride = 4
    unit_px = 32  # sides of images are multiples of this

    @property
    def dim(self) -> int:
        return self.up_dims[-1]

    def check(self) -> None:
        """Every one can be built."""

    def build(self, rng: Rng) -> "ResNetFeatures":
        return ResNetFeatures(self, rng=rng)


class Bottleneck(nnx.Module):
    """A 3x3 convolution between two 1x1 ones, and a skip.

    Args:
        dim: channels of the 3x3 convolution.
    """

    folds: ClassVar = {"bn1": ("conv1",), "bn2": ("conv2",), "bn3": ("conv3",)}

    def __init__(self, cin: int, dim: int, *, stride: int = 1, rng: Rng):
        cout = EXPANSION * dim
        self.conv1, self.bn1 = Conv(cin, dim, 1, rng=rng), BatchNorm(dim)
        self.conv2, self.bn2 = Conv(dim, dim, 3, stride=stride, rng=rng), BatchNorm(dim)
        self.conv3, self.bn3 = Conv(dim, cout, 1, rng=rng), BatchNorm(cout)
        self.skip = ConvBN(cin, cout, 1, stride=stride, rng=rng) if stride > 1 or cin != cout else None

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 c2"]:
        y = nnx.relu(self.bn1(self.conv1(x), train=train))
        y = nnx.relu(self.bn2(self.conv2(y), train=train))
        y = self.bn3(self.conv3(y), train=train)
        return nnx.relu(y + (x if self.skip is None else self.skip(x, train=train)))


class Upsampling(nnx.Module):
    """Twice as many rows and columns, with or without a deformable convolution before."""

    folds: ClassVar = {"bn": ("up",)}

    def __init__(self, cin: int, cout: int, *, deformable: bool, rng: Rng):
        self.dcn = DeformableConvBNReLU(cin, cout, rng=rng) if deformable else None
        self.up = ConvTranspose(cout if deformable else cin, cout, bias=False, rng=rng)
        self.bn = BatchNorm(cout)
        if deformable:
            self._start_bilinear()
        else:
            self.up.kernel = normal(rng, self.up.kernel[...].shape, DECONVOLUTION_STD)

    def _start_bilinear(self) -> None:
        """As the original, which means to fill all channels and reaches the first one of the output."""
        ramp = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
        kernel = np.array(self.up.kernel[...])
        kernel[:, :, 0] = (ramp[:, None] * ramp)[..., None]
        self.up.kernel = nnx.Param(kernel)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b 2*h 2*w c2"]:
        if self.dcn is not None:
            x = self.dcn(x, train=train)
        return nnx.relu(self.bn(self.up(x), train=train))


class ResNetFeatures(nnx.Module):
    """See ResNet.

    Source: CenterNet of xingyizhou, models/networks/msra_resnet.py, resnet_dcn.py.
    """

    compute = Compute()

    def __init__(self, options: ResNet, *, rng: Rng):
        bottlenecks = options.depth >= 50
        block, expansion = (Bottleneck, EXPANSION) if bottlenecks else (ResidualBlock, 1)
        self.stem = ConvBNReLU(3, options.width, 7, stride=2, rng=rng)
        rows, cin = [], options.width
        for i, count in enumerate(BLOCKS[options.depth]):
            dim = options.width << i
            row = []
            for j in range(count):
                row.append(block(cin, dim, stride=2 if i and not j else 1, rng=rng))
                cin = dim * expansion
            rows.append(nnx.List(row))
        self.rows = nnx.List(rows)
        widths = [cin, *options.up_dims]
        self.ups = nnx.List(
            [Upsampling(a, b, deformable=options.deformable, rng=rng) for a, b in itertools.pairwise(widths)]
        )

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> list[Features]:
        """One stack of features.

        Args:
            images: normalised; H and W are multiples of 32.
        """
        apply = partial(applied, train=train, remat=self.compute.remat != "none")
        x = max_pool(self.stem(images, train=train), 3, stride=2, padding=1)
        levels = []
        for row in self.rows:
            for block in row:
                x = apply(block, x)
            levels.append(x)
        for up in self.ups:
            x = apply(up, x)
        return [Features(x, levels[::-1])]
