"""Hourglass modules, and several of them one after the other."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.nn.functional import applied, recomputed
from cornerjax.nn.layers import ConvBN, ConvBNReLU, ResidualBlock, Rngs


class Nearest(nnx.Module):
    """Up-sampling by 2 without parameters: every cell becomes four equal ones."""

    def __init__(self, dim: int, *, rngs: Rngs):
        del dim, rngs  # made like ConvTranspose

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


class Hourglass(nnx.Module):
    """One level: blocks at full resolution plus blocks at half, between which the next level lies.

    Args:
        dims: channels of this level and of those inside, at least two.
        blocks: blocks of each.
        block, upsampling: their classes.
        remat: every row of blocks is computed again in the backward pass.
    Source: CornerNet (Law and Deng 2018), section 3.5; core/models/py_utils/modules.py, hg_module.
    """

    def __init__(
        self,
        dims: tuple[int, ...],
        blocks: tuple[int, ...],
        *,
        block: Callable,
        upsampling: Callable,
        remat: bool = False,
        rngs: Rngs,
    ):
        dim, inner, n = dims[0], dims[1], blocks[0]
        self.remat = remat

        def row(*sizes: tuple[int, int], **first: int) -> Any:
            return nnx.List([block(*size, rngs=rngs, **(first if i == 0 else {})) for i, size in enumerate(sizes)])

        self.up1 = row(*[(dim, dim)] * n)
        self.low1 = row((dim, inner), *[(inner, inner)] * (n - 1), stride=2)
        if len(dims) > 2:
            self.low2 = Hourglass(dims[1:], blocks[1:], block=block, upsampling=upsampling, remat=remat, rngs=rngs)
        else:
            self.low2 = row(*[(inner, inner)] * blocks[1])
        self.low3 = row(*[(inner, inner)] * (n - 1), (inner, dim))
        self.up2 = upsampling(dim, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> list[Float[Array, "b _ _ _"]]:
        """The output of every level, the innermost but one first, that of this level last."""
        row = partial(through, train=train, remat=self.remat)
        low, outputs = row(self.low1, x), []
        if isinstance(self.low2, Hourglass):
            outputs = self.low2(low, train=train)
            low = outputs[-1]
        else:
            low = row(self.low2, low)
        low = row(self.low3, low)
        return [*outputs, row(self.up1, x) + self.up2(low)]


class StackedHourglass(nnx.Module):
    """A stem, then hourglasses one after the other, each seeing what those before it made.

    Args:
        stem_dim, stem_kernel: of the first convolution, which has stride 2.
        stride: of all the stem, a power of 2, at least 4: residual blocks of stride 2 do the rest.
        dims, blocks, block, upsampling: of each hourglass.
        dim: channels of the outputs.
        remat: what the backward pass computes again: "none"; "stack": the stem and each hourglass as a whole; "level":
            the stem and each row of blocks in the hourglasses.
    Source: CornerNet (Law and Deng 2018), section 3.5; core/models/py_utils/modules.py, hg.
    """

    def __init__(
        self,
        *,
        stacks: int,
        stem_dim: int,
        stem_kernel: int,
        stride: int,
        dims: tuple[int, ...],
        blocks: tuple[int, ...],
        dim: int,
        block: Callable,
        upsampling: Callable,
        remat: str = "none",
        rngs: Rngs,
    ):
        self.remat = remat
        first, last = dims[0], stacks - 1
        halvings = stride.bit_length() - 2  # those left to the residual blocks
        widths = [stem_dim, *[first] * halvings]
        self.stem = nnx.List(
            [
                ConvBNReLU(3, stem_dim, stem_kernel, stride=2, rngs=rngs),
                *(ResidualBlock(widths[i], first, stride=2, rngs=rngs) for i in range(halvings)),
            ]
        )
        self.innermost = 2 ** (len(dims) - 1)  # cells of the outermost level along a side of an innermost one
        self.hourglasses = nnx.List(
            [
                Hourglass(dims, blocks, block=block, upsampling=upsampling, remat=remat == "level", rngs=rngs)
                for _ in range(stacks)
            ]
        )
        self.outs = nnx.List([ConvBNReLU(first, dim, 3, rngs=rngs) for _ in range(stacks)])
        # From one hourglass to the next: its input and its output are projected, added and passed through a block.
        self.from_input = nnx.List([ConvBN(first, first, 1, rngs=rngs) for _ in range(last)])
        self.from_output = nnx.List([ConvBN(dim, first, 1, rngs=rngs) for _ in range(last)])
        self.between = nnx.List([ResidualBlock(first, first, rngs=rngs) for _ in range(last)])

    def __call__(
        self, images: Float[Array, "b H W 3"], *, train: bool
    ) -> list[tuple[Float[Array, "b h w c"], list[Float[Array, "b _ _ _"]]]]:
        """Of every hourglass the features for the heads, and the outputs of its levels, innermost first.

        Raises: ValueError: a side of the image cannot be halved down to the innermost level.
        """
        x = through(self.stem, images, train=train, remat=self.remat != "none")
        if x.shape[1] % self.innermost or x.shape[2] % self.innermost:
            (H, W), (h, w) = images.shape[1:3], x.shape[1:3]
            raise ValueError(
                f"images of {W}x{H} pixels give {w}x{h} cells; this network needs multiples of {self.innermost} cells"
            )
        features = []
        for i, (hourglass, out) in enumerate(zip(self.hourglasses, self.outs, strict=True)):
            levels = applied(hourglass, x, train=train, remat=self.remat == "stack")
            y = out(levels[-1], train=train)
            features.append((y, levels))
            if i < len(self.between):
                both = self.from_input[i](x, train=train) + self.from_output[i](y, train=train)
                x = self.between[i](nnx.relu(both), train=train)
        return features
