"""The modules that pool: corners, cascades, centres; and what may stand in the place of corner pooling."""

import importlib
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.config import Compute
from cornerjax.nn.layers import Conv, ConvBN, ConvBNReLU, Rng
from cornerjax.ops.pools import CORNERS, SCANS, corner_pool, line_max
from cornerjax.ops.running_max import running_max

# A pool is a function (map, direction) -> map of the same shape; direction is "top", "bottom", "left" or "right".
Pool = Callable[[Array, str], Array]


def no_pool(x: Float[Array, "b h w c"], direction: str) -> Float[Array, "b h w c"]:
    """The map as it is: what a network does without pooling."""
    return x


def full_pool(x: Float[Array, "b h w c"], direction: str) -> Float[Array, "b h w c"]:
    """The maximum of the whole column ("top", "bottom") or row ("left", "right") in each of its cells."""
    axis, _ = SCANS[direction]
    return jnp.broadcast_to(x.max(axis, keepdims=True), x.shape)


POOLS: dict[str, Pool | None] = {"corner": None, "full": full_pool, "none": no_pool}  # corner: the fused op instead


def find_pool(pooling: str) -> Pool | None:
    """The pool that `model.pooling` names; None for corner pooling.

    Args:
        pooling: a name in POOLS, or "package.module:function".
    Raises: ValueError: no such name, module or function.
    """
    if pooling in POOLS:
        return POOLS[pooling]
    accepted = f"there are: {', '.join(POOLS)}, and functions (map, direction) -> map as package.module:function"
    module, colon, function = pooling.partition(":")
    if not (module and colon and function):
        raise ValueError(accepted)
    try:
        pool = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ValueError(f"{error}; {accepted}") from error
    if not callable(pool):
        raise ValueError(f"module {module} has no function {function}; {accepted}")
    return pool


class PoolBlock(nnx.Module):
    """Two branches that are pooled and added, with a skip around them.

    Args:
        dim: channels of input and output.
        pool_dim: channels that are pooled.
        pooling: what is computed, see find_pool.
    Source: CornerNet (Law and Deng 2018), section 3.4; core/models/py_utils/utils.py, corner_pool.
    """

    compute = Compute()

    def __init__(self, dim: int, pool_dim: int, *, pooling: str, rng: Rng):
        self.branch1 = ConvBNReLU(dim, pool_dim, 3, rng=rng)
        self.branch2 = ConvBNReLU(dim, pool_dim, 3, rng=rng)
        self.merge = ConvBN(pool_dim, dim, 3, rng=rng)
        self.skip = ConvBN(dim, dim, 1, rng=rng)
        self.out = ConvBNReLU(dim, dim, 3, rng=rng)
        self.pool = find_pool(pooling)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        y = nnx.relu(self.merge(self.branches(x, train=train), train=train) + self.skip(x, train=train))
        return self.out(y, train=train)

    def branches(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w p"]:
        """The pooled branches, added."""
        return self.pooled(self.branch1(x, train=train), self.branch2(x, train=train))

    def pooled(self, x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Both maps pooled, the first along h, the second along w, and added."""
        raise NotImplementedError


class CornerPool(PoolBlock):
    """Two branches pooled towards a corner; see PoolBlock.

    Args:
        corner: "tl" or "br".
    """

    def __init__(self, dim: int, pool_dim: int, *, corner: str, pooling: str, rng: Rng):
        super().__init__(dim, pool_dim, pooling=pooling, rng=rng)
        self.corner = corner

    def pooled(self, x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        if self.pool is None:
            return corner_pool(x1, x2, self.corner, implementation=self.compute.pooling_implementation)
        along_h, along_w = CORNERS[self.corner]
        return self.pool(x1, along_h) + self.pool(x2, along_w)


class CascadeCornerPool(CornerPool):
    """Corner pooling in which each branch first looks along the other direction, into the object; see CornerPool.

    Source: CenterNet (Duan et al. 2019), section 3.3; models/CenterNet-104.py, pool.
    """

    def __init__(self, dim: int, pool_dim: int, *, corner: str, pooling: str, rng: Rng):
        super().__init__(dim, pool_dim, corner=corner, pooling=pooling, rng=rng)
        self.look1 = ConvBNReLU(dim, pool_dim, 3, rng=rng)
        self.look2 = ConvBNReLU(dim, pool_dim, 3, rng=rng)
        self.cascade1 = Conv(pool_dim, pool_dim, 3, rng=rng)
        self.cascade2 = Conv(pool_dim, pool_dim, 3, rng=rng)

    def branches(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w p"]:
        along_h, along_w = CORNERS[self.corner]
        seen1 = self._one(self.look1(x, train=train), along_w)
        seen2 = self._one(self.look2(x, train=train), along_h)
        x1 = self.cascade1(self.branch1(x, train=train) + seen1)
        x2 = self.cascade2(self.branch2(x, train=train) + seen2)
        return self.pooled(x1, x2)

    def _one(self, x: Float[Array, "b h w c"], direction: str) -> Float[Array, "b h w c"]:
        if self.pool is None:
            return running_max(x, *SCANS[direction], self.compute.pooling_implementation)
        return self.pool(x, direction)


class CenterPool(PoolBlock):
    """Two branches of which every cell gets the maximum of its column, and of its row; see PoolBlock.

    Source: CenterNet (Duan et al. 2019), section 3.2; models/py_utils/kp_utils.py, center_pool.
    """

    def pooled(self, x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        pool = self.pool
        if pool is None:  # both directions one after the other give the maximum of the whole line
            return line_max(x1, 1) + line_max(x2, 2)
        return pool(pool(x1, "top"), "bottom") + pool(pool(x2, "left"), "right")
