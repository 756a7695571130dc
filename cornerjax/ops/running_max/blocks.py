"""Running maximum in two levels: over blocks, then inside each; every step is one parallel operation on the whole map.

What is read and written is 3 maps and little more, against 14 of an associative scan.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

SIZE = 8  # elements of a block: inside, each one looks at all of them


def running_max_blocks(x: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    """The maximum of all elements up to each one; see running_max."""
    n = x.shape[axis]
    shape = (int(np.prod(x.shape[:axis])), n, int(np.prod(x.shape[axis + 1 :])))
    lowest = jnp.array(-jnp.inf, x.dtype)
    more = (-n % SIZE, 0, 0) if reverse else (0, -n % SIZE, 0)
    blocks = lax.pad(x.reshape(shape), lowest, ((0, 0, 0), more, (0, 0, 0)))
    blocks = blocks.reshape(shape[0], -1, SIZE, shape[2])

    # Of each block the maximum of all blocks before it.
    upto = lax.associative_scan(jnp.maximum, blocks.max(2, keepdims=True), axis=1, reverse=reverse)
    y = jnp.broadcast_to(
        lax.pad(upto, lowest, ((0, 0, 0), (-1, 1, 0) if reverse else (1, -1, 0), *[(0, 0, 0)] * 2)), blocks.shape
    )
    at = lax.broadcasted_iota(jnp.int32, blocks.shape, 2)
    for i in range(SIZE):
        sees = at <= i if reverse else at >= i
        y = jnp.where(sees, jnp.maximum(y, lax.slice_in_dim(blocks, i, i + 1, axis=2)), y)
    y = y.reshape(shape[0], -1, shape[2])
    return lax.slice_in_dim(y, more[0], more[0] + n, axis=1).reshape(x.shape)
