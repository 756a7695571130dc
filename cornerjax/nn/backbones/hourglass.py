"""Hourglass modules, and several of them one after the other."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.config import Compute
from cornerjax.errors import InputError
from cornerjax.nn.backbones import Features
from cornerjax.nn.backbones.fire import FireBlock
from cornerjax.nn.functional import applied, recomputed
from cornerjax.nn.layers import ConvBN, ConvBNReLU, ConvTranspose, ResidualBlock, Rng
from cornerjax.validation import Channels, Few, Odd, some

LEAST_BUCKET_PX = 128  # padded test images have sides of at least this, minus 1


@dataclasses.dataclass(frozen=True)
class Hourglass:
    """Stacked hourglasses; the defaults are the Hourglass-104 of CornerNet."""

    stacks: Few = 2  # hourglasses, one after the other, each with heads of its own
    stride: Literal[4, 8] = 4  # image pixels a cell of the outermost level
    stem_dim: Channels = 128  # channels of the first convolution
    stem_kernel: Odd = 7  # side of the first convolution's kernel, in pixels
    # channels at each level of an hourglass, outermost first
    dims: Annotated[tuple[Channels, ...], some(10)] = (256, 256, 384, 384, 384, 512)
    blocks: Annotated[tuple[Few, ...], some(10)] = (2, 2, 2, 2, 2, 4)  # residual or fire blocks at each level
    block: Literal["residual", "fire"] = "residual"  # what blocks are; fire: light ones, and learned up-sampling
    dim: Channels = 256  # channels of the features that the heads get

    @property
    def unit_px(self) -> int:
        """Image pixels a cell of the innermost level; sides of images are multiples of it, minus 1."""
        return self.stride * 2 ** (len(self.dims) - 1)

    def check(self) -> None:
        """Refuse what cannot be built.

        Raises: InputError: naming the option, its value and what is accepted.
        """
        if len(self.dims) < 2:
            raise InputError(f"model.backbone.dims is {self.dims}; an hourglass needs at least two levels")
        if len(self.blocks) != len(self.dims):
            raise InputError(
                f"model.backbone.blocks is {self.blocks}; it needs one number for each of the {len(self.dims)} levels "
                "of model.backbone.dims"
            )
        if self.block == "fire" and (odd := [dim for dim in self.dims if dim % 2]):
            raise InputError(f"model.backbone.dims has {odd[0]}; fire blocks need even numbers of channels")

    def check_sides(self, name: str, sides: Iterable[int]) -> None:
        """Refuse sides of images that cannot be halved down to the innermost level.

        Args:
            name: of the option that has them.
        Raises: InputError: naming the option, the side and the nearest ones that can.
        """
        unit = self.unit_px
        for side in sides:
            below = (side + 1) // unit * unit - 1
            if side != below or side <= 0:
                legal = [str(px) for px in (below, below + unit) if px > 0]
                raise InputError(
                    f"{name} has the side {side}; sides that fit this network are multiples of {unit}, minus 1: "
                    f"nearest {' and '.join(legal)}"
                )

    def padded(self, side: int) -> int:
        """The least legal side that an image with this one is padded to; few different ones, as each is compiled."""
        unit = max(LEAST_BUCKET_PX, self.unit_px)  # both powers of 2: the result is side | (unit - 1)
        return -(-(side + 1) // unit) * unit - 1

    def build(self, rng: Rng) -> "StackedHourglass":
        return StackedHourglass(self, rng=rng)


class Nearest(nnx.Module):
    """Up-sampling by 2 without parameters: every cell becomes four equal ones."""

    def __init__(self, dim: int, *, rng: Rng):
        del dim, rng  # made like ConvTranspose

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        b, h, w, c = x.shape
        return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def through(
    layers: Iterable[nnx.Module], x: Float[Array, "b h w c"], *, train: bool, remat: bool = False
) -> Float[Array, "b h2 w2 c2"]:
    """Apply layers one after the other; with remat the backward pass computes again what is between them."""
    if remat:
        return recomputed(partial(through, train=train), layers, x)
    for layer in layers:
        x = layer(x, train=train)
    return x


class HourglassModule(nnx.Module):
    """One level: blocks at full resolution plus blocks at half, between which the next level lies.

    Args:
        dims: channels of this level and of those inside, at least two.
        blocks: blocks of each.
        block, upsampling: their classes.
    Source: CornerNet (Law and Deng 2018), section 3.5; core/models/py_utils/modules.py, hg_module.
    """

    compute = Compute()

    def __init__(
        self, dims: tuple[int, ...], blocks: tuple[int, ...], *, block: Callable, upsampling: Callable, rng: Rng
    ):
        dim, inner, n = dims[0], dims[1], blocks[0]

        def row(*sizes: tuple[int, int], **first: int) -> Any:
            return nnx.List([block(*size, rng=rng, **(first if i == 0 else {})) for i, size in enumerate(sizes)])

        self.up1 = row(*[(dim, dim)] * n)
        self.low1 = row((dim, inner), *[(inner, inner)] * (n - 1), stride=2)
        if len(dims) > 2:
            self.low2 = HourglassModule(dims[1:], blocks[1:], block=block, upsampling=upsampling, rng=rng)
        else:
            self.low2 = row(*[(inner, inner)] * blocks[1])
        self.low3 = row(*[(inner, inner)] * (n - 1), (inner, dim))
        self.up2 = upsampling(dim, rng=rng)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> list[Float[Array, "b _ _ _"]]:
        """The output of every level, the innermost but one first, that of this level last."""
        row = partial(through, train=train, remat=self.compute.remat == "level")
        low, outputs = row(self.low1, x), []
        if isinstance(self.low2, HourglassModule):
            outputs = self.low2(low, train=train)
            low = outputs[-1]
        else:
            low = row(self.low2, low)
        low = row(self.low3, low)
        return [*outputs, row(self.up1, x) + self.up2(low)]


class StackedHourglass(nnx.Module):
    """A stem, then hourglasses one after the other, each seeing what those before it made.

    Source: CornerNet (Law and Deng 2018), section 3.5; core/models/py_utils/modules.py, hg.
    """

    compute = Compute()

    def __init__(self, options: Hourglass, *, rng: Rng):
        first, dim, last = options.dims[0], options.dim, options.stacks - 1
        halvings = options.stride.bit_length() - 2  # after that of the first convolution; residual blocks do them
        widths = [options.stem_dim, *[first] * halvings]
        self.stem = nnx.List(
            [
                ConvBNReLU(3, options.stem_dim, options.stem_kernel, stride=2, rng=rng),
                *(ResidualBlock(widths[i], first, stride=2, rng=rng) for i in range(halvings)),
            ]
        )
        self.innermost = options.unit_px // options.stride  # cells of the outermost level for an innermost one
        kinds: dict[str, tuple[Callable, Callable]] = {
            "residual": (ResidualBlock, Nearest),
            "fire": (FireBlock, ConvTranspose),
        }
        block, upsampling = kinds[options.block]
        self.hourglasses = nnx.List(
            [
                HourglassModule(options.dims, options.blocks, block=block, upsampling=upsampling, rng=rng)
                for _ in range(options.stacks)
            ]
        )
        self.outs = nnx.List([ConvBNReLU(first, dim, 3, rng=rng) for _ in range(options.stacks)])
        # From one hourglass to the next: its input and its output are projected, added and passed through a block.
        self.from_input = nnx.List([ConvBN(first, first, 1, rng=rng) for _ in range(last)])
        self.from_output = nnx.List([ConvBN(dim, first, 1, rng=rng) for _ in range(last)])
        self.between = nnx.List([ResidualBlock(first, first, rng=rng) for _ in range(last)])

    def __call__(self, images: Float[Array, "b H W 3"], *, train: bool) -> list[Features]:
        """Of every hourglass the features for the heads, and the outputs of its levels.

        Args:
            images: normalised; they are computed with in their own type.
        Raises: ValueError: a side of the image cannot be halved down to the innermost level.
        """
        remat = self.compute.remat
        x = through(self.stem, images, train=train, remat=remat != "none")
        if x.shape[1] % self.innermost or x.shape[2] % self.innermost:
            (H, W), (h, w) = images.shape[1:3], x.shape[1:3]
            raise ValueError(
                f"images of {W}x{H} pixels give {w}x{h} cells; this network needs multiples of {self.innermost} cells"
            )
        features = []
        for i, (hourglass, out) in enumerate(zip(self.hourglasses, self.outs, strict=True)):
            levels = applied(hourglass, x, train=train, remat=remat == "stack")
            y = out(levels[-1], train=train)
            features.append(Features(y, levels))
            if i < len(self.between):
                both = self.from_input[i](x, train=train) + self.from_output[i](y, train=train)
                x = self.between[i](nnx.relu(both), train=train)
        return features
