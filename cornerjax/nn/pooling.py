"""The corner pooling module, and what may stand in the place of corner pooling."""

import importlib
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.config import Compute
from cornerjax.nn.layers import ConvBN, ConvBNReLU, Rng
from cornerjax.ops.pools import CORNERS, SCANS, corner_pool

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


class CornerPool(nnx.Module):
    """Two branches pooled towards a corner and added, with a skip around them.

    Args:
        dim: channels of input and output.
        pool_dim: channels that are pooled.
        corner: "tl" or "br".
        pooling: what is computed, see find_pool.
    Source: CornerNet (Law and Deng 2018), section 3.4; core/models/py_utils/utils.py, corner_pool.
    """

    compute = Compute()

    def __init__(self, dim: int, pool_dim: int, *, corner: str, pooling: str, rng: Rng):
        self.branch1 = ConvBNReLU(dim, pool_dim, 3, rng=rng)
        self.branch2 = ConvBNReLU(dim, pool_dim, 3, rng=rng)
        self.merge = ConvBN(pool_dim, dim, 3, rng=rng)
        self.skip = ConvBN(dim, dim, 1, rng=rng)
        self.out = ConvBNReLU(dim, dim, 3, rng=rng)
        self.corner, self.pool = corner, find_pool(pooling)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        pooled = self.pooled(self.branch1(x, train=train), self.branch2(x, train=train))
        y = nnx.relu(self.merge(pooled, train=train) + self.skip(x, train=train))
        return self.out(y, train=train)

    def pooled(self, x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        if self.pool is None:
            return corner_pool(x1, x2, self.corner, implementation=self.compute.pooling_implementation)
        along_h, along_w = CORNERS[self.corner]
        return self.pool(x1, along_h) + self.pool(x2, along_w)
