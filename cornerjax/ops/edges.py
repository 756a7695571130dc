"""Edge aggregation: a heat map of points that may lie anywhere along an edge gathers the scores along it.

Where an edge of an object lies along an axis of the image, every point of it is extreme, and the network spreads its
score over all of them. From a cell outwards, scores are added up as long as none is higher than the one before.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def rising_sum_loop(x: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    """Of each element the sum up to it of those before it that rise to it, itself included, row after row."""
    n = x.shape[axis]

    def body(i, total):
        here, before = (n - 1 - i, n - i) if reverse else (i, i - 1)
        arriving = jnp.where(_row(x, here, axis) >= _row(x, before, axis), _row(total, before, axis), 0)
        return lax.dynamic_update_slice_in_dim(total, _row(x, here, axis) + arriving, here, axis)

    return lax.fori_loop(1, n, body, x)


def rising_sum_scan(x: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    """The same by `jax.lax.associative_scan`, as a segmented sum: a segment ends where x falls."""

    def add(before, here):
        return here[0] + jnp.where(here[1], before[0], 0), here[1] & before[1]

    goes_on = x >= jnp.roll(x, -1 if reverse else 1, axis)  # what wraps round is never added to anything
    return lax.associative_scan(add, (x, goes_on), axis=axis, reverse=reverse)[0]


def _by_platform(x: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    return lax.platform_dependent(
        x,
        cpu=lambda x: rising_sum_loop(x, axis, reverse),
        default=lambda x: rising_sum_scan(x, axis, reverse),
    )


# They differ in the order of addition, so by rounding; the loop's is the original's.
RISING_SUMS: dict[str, Callable[[Array, int, bool], Array]] = {
    "auto": _by_platform,  # the loop on CPUs, where a row is one vector operation
    "loop": rising_sum_loop,
    "scan": rising_sum_scan,
}


def aggregate_edges(
    heat: Float[Array, "..."], axis: int, *, weight: float = 0.1, implementation: str = "auto"
) -> Float[Array, "..."]:
    """Add to each score, from both sides, the scores that rise to it along an axis, times a weight.

    Args:
        heat: scores, not logits.
        axis: along the edge: that of x for the topmost and bottommost points, that of y for the others.
        weight: of what is added.
        implementation: a name in RISING_SUMS.
    Returns: may exceed 1.
    Raises: ValueError: there is no such implementation.
    Source: ExtremeNet (Zhou et al. 2019), section 4.3; models/py_utils/kp_utils.py, _h_aggregate, _v_aggregate.
    """
    if implementation not in RISING_SUMS:
        raise ValueError(f"no edge aggregation {implementation!r}; there are: {', '.join(RISING_SUMS)}")
    before, after = (RISING_SUMS[implementation](heat, axis, reverse) - heat for reverse in (False, True))
    return weight * before + weight * after + heat


def _row(x: Array, i: int | Array, axis: int) -> Array:
    return lax.dynamic_slice_in_dim(x, i, 1, axis)
