"""The highest cells of a map, over all classes jointly."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int


class Cells(NamedTuple):
    """The k highest cells of each map of a batch, best first."""

    scores: Float[Array, "b k"]  # as in the map: logits stay logits
    place: Int[Array, "b k"]  # place in the flattened map, (y * w + x) * c + class
    classes: Int[Array, "b k"]
    y: Int[Array, "b k"]
    x: Int[Array, "b k"]

    @property
    def cells(self) -> Int[Array, "b k 2"]:
        return jnp.stack([self.x, self.y], -1)


def top_cells(x: Float[Array, "b h w c"], k: int) -> Cells:
    """Find the k highest entries of each (h, w, c) map; fewer where the map has fewer.

    Source: CornerNet, models/py_utils/kp_utils.py, _topk (equal scores may come in another order there).
    """
    b, h, w, c = x.shape
    scores, index = block_top_k(x.reshape(b, h * w * c), min(k, h * w * c))
    cell = index // c
    return Cells(scores, index, classes=index % c, y=cell // w, x=cell % w)


def block_top_k(x: Float[Array, "b n"], k: int) -> tuple[Float[Array, "b k"], Int[Array, "b k"]]:
    """The same values and indices as `jax.lax.top_k`, equal values included, several times faster for long rows.

    The k highest elements lie in the k blocks with the highest maxima; only these are searched.
    """
    b, n = x.shape
    # Both searches together are shortest with n / size == k * size. Sizes that divide n: padding would copy all of x.
    size = max(s for s in range(1, 2 * math.isqrt(n // k) + 2) if n % s == 0)
    blocks = n // size
    if blocks <= k or n < 100_000:  # for short rows one search is as fast
        values, places = lax.top_k(x, k)
        return values, places
    split = x.reshape(b, blocks, size)
    _, chosen = lax.top_k(split.max(2), k)
    chosen = jnp.sort(chosen, 1)  # so that of equal values the first one wins, as in one search of the whole row
    values, place = lax.top_k(jnp.take_along_axis(split, chosen[:, :, None], 1).reshape(b, k * size), k)
    return values, jnp.take_along_axis(chosen, place // size, 1) * size + place % size
