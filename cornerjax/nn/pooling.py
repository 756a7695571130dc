"""The corner pooling module."""

from collections.abc import Callable

from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.nn.layers import ConvBN, ConvBNReLU, Rngs
from cornerjax.ops.pools import bottom_pool, left_pool, right_pool, top_pool

# The two pools of each corner, in the order of the branches that feed them.
POOLS: dict[str, tuple[Callable, Callable]] = {"tl": (top_pool, left_pool), "br": (bottom_pool, right_pool)}


class CornerPool(nnx.Module):
    """Two branches pooled towards a corner and added, with a skip around them.

    Args:
        dim: channels of input and output.
        pool_dim: channels that are pooled.
        corner: "tl" or "br".
        implementation: a name in cornerjax.ops.IMPLEMENTATIONS.
    Source: CornerNet (Law and Deng 2018), section 3.4; core/models/py_utils/utils.py, corner_pool.
    """

    def __init__(self, dim: int, pool_dim: int, *, corner: str, implementation: str, rngs: Rngs):
        self.branch1 = ConvBNReLU(dim, pool_dim, 3, rngs=rngs)
        self.branch2 = ConvBNReLU(dim, pool_dim, 3, rngs=rngs)
        self.merge = ConvBN(pool_dim, dim, 3, rngs=rngs)
        self.skip = ConvBN(dim, dim, 1, rngs=rngs)
        self.out = ConvBNReLU(dim, dim, 3, rngs=rngs)
        self.corner, self.implementation = corner, implementation

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        pool1, pool2 = POOLS[self.corner]
        pooled = pool1(self.branch1(x, train=train), implementation=self.implementation)
        pooled = pooled + pool2(self.branch2(x, train=train), implementation=self.implementation)
        y = nnx.relu(self.merge(pooled, train=train) + self.skip(x, train=train))
        return self.out(y, train=train)
