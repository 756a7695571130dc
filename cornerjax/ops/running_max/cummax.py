"""Running maximum by `jax.lax.cummax`, which leaves the algorithm to the compiler."""

from jax import Array, lax
from jaxtyping import Float


def running_max_cummax(x: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    """The maximum of all elements up to each one; see running_max."""
    return lax.cummax(x, axis, reverse)
