"""Running maximum by `jax.lax.associative_scan`: logarithmic depth, for accelerators."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float


def running_max_scan(x: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    """The maximum of all elements up to each one; see running_max."""
    return lax.associative_scan(jnp.maximum, x, axis=axis, reverse=reverse)


def gradient_scan(starts: Bool[Array, "..."], g: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    """Sum g from each start up to the next one: a segmented sum against the direction of the running maximum."""

    def add(before, here):
        return here[0] + jnp.where(here[1], 0, before[0]), before[1] | here[1]

    # An element ends a segment where the next one starts a segment; what wraps round at the very end is a start too.
    ends = jnp.roll(starts, 1 if reverse else -1, axis)
    precise = g.astype(np.promote_types(g.dtype, jnp.float32))
    total, _ = lax.associative_scan(add, (precise, ends), axis=axis, reverse=not reverse)
    return jnp.where(starts, total, 0).astype(g.dtype)
