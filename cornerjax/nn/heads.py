"""The heads that make a detector's maps."""

from functools import partial

import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.nn.functional import applied
from cornerjax.nn.layers import Conv, Rngs
from cornerjax.nn.pooling import CornerPool

HEAT_BIAS = -2.19  # sigmoid(-2.19) = 0.1: most cells are no corner


class Head(nnx.Module):
    """A convolution with ReLU and a 1x1 convolution, both with a bias and without normalisation.

    Args:
        dim: channels between the two.
        cin: channels of the input; None: dim.
        kernel: side of the first convolution.
        bias: initial bias of the output; None: as any other.
    """

    def __init__(
        self, dim: int, cout: int, *, cin: int | None = None, kernel: int, bias: float | None = None, rngs: Rngs
    ):
        self.hidden = Conv(cin or dim, dim, kernel, bias=True, rngs=rngs)
        self.out = Conv(dim, cout, 1, bias=True, rngs=rngs)
        if bias is not None:
            self.out.bias = nnx.Param(np.full(cout, bias, np.float32))

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c2"]:
        del train  # nothing here is done otherwise in training
        return self.out(nnx.relu(self.hidden(x)))


class CornerHeads(nnx.Module):
    """Corner pooling and the three maps of one corner.

    Args:
        dim, pool_dim, corner, pooling, implementation: of the corner pooling module.
        kernel: side of the first convolution of each head.
        remat: the backward pass computes the pooling module again, and each head.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        pool_dim: int,
        kernel: int,
        corner: str,
        pooling: str,
        implementation: str,
        remat: bool = False,
        rngs: Rngs,
    ):
        self.remat = remat
        self.pool = CornerPool(dim, pool_dim, corner=corner, pooling=pooling, implementation=implementation, rngs=rngs)
        self.heat = Head(dim, num_classes, kernel=kernel, bias=HEAT_BIAS, rngs=rngs)
        self.tag = Head(dim, 1, kernel=kernel, rngs=rngs)
        self.off = Head(dim, 2, kernel=kernel, rngs=rngs)
        self.corner = corner

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w _"]]:
        apply = partial(applied, train=train, remat=self.remat)
        x = apply(self.pool, x)
        return {f"{self.corner}_{name}": apply(getattr(self, name), x) for name in ("heat", "tag", "off")}
