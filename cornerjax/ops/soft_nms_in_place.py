"""Soft-NMS as the originals do it, in a buffer whose rows change places; for parity with released results only."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from cornerjax.ops.soft_nms import overlap_weight


def soft_nms_in_place(
    rows: Float[Array, "n m"],
    count: int | Int[Array, ""],
    *,
    method: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    floor: float = 0.001,
    weight_exp: int | None = None,
) -> tuple[Float[Array, "n m"], Int[Array, ""]]:
    """Reorder and rescore the boxes of one class; all rows of the result match the original's, also those not kept.

    A dropped row is overwritten by the last one, which stays where it is: rows beyond the number kept are left-overs,
    some of them duplicates of kept boxes. All systems but CornerNet-Saccade report them as detections.

    Args:
        rows: x1 y1 x2 y2 in pixels and score; in further columns what stays in place when boxes are moved: for
            merging the tl_scores and br_scores, which so come to belong to other boxes.
        count: rows in use, the first ones; the others are returned as they are.
        weight_exp: merge boxes as in soft_nms_merge, with this exponent; None: do not merge.
    The other arguments are those of soft_nms.
    Returns: the rows, and how many of them are kept; these are the first, best first.
    Raises: ValueError: unknown method.
    Source: CornerNet-Lite, core/external/nms.pyx, soft_nms and soft_nms_merge.
    """
    weigh = overlap_weight(method, sigma, iou_threshold)
    place = jnp.arange(len(rows))

    def corners(row):
        return row[jnp.array([5, 5, 6, 6])]

    def take_best(i, state):
        rows, kept = state
        scores = jnp.where((place >= i) & (place < kept), rows[:, 4], -jnp.inf)
        best = jnp.where(i < kept, jnp.argmax(scores), i)
        top, other = rows[best, :5], rows[i, :5]
        rows = rows.at[best, :5].set(other).at[i, :5].set(top)
        share = jnp.ones(4, rows.dtype) if weight_exp is None else corners(rows[i])

        def lower(state):
            pos, rows, kept, sums, shares = state
            row = rows[pos]
            factor, touches = weigh(top[:4], row[:4])
            if weight_exp is not None:
                share = jnp.where(touches, (1 - factor) ** weight_exp, 0) * corners(row)
                sums, shares = sums + share * row[:4], shares + share
            rows = rows.at[pos, 4].multiply(jnp.where(touches, factor, 1))
            drop = touches & (rows[pos, 4] < floor)
            rows = rows.at[pos, :5].set(rows[jnp.where(drop, kept - 1, pos), :5])
            # What was moved here is looked at next.
            return jnp.where(drop, pos, pos + 1), rows, jnp.where(drop, kept - 1, kept), sums, shares

        state = i + 1, rows, kept, top[:4] * share, share
        _, rows, kept, sums, shares = lax.while_loop(lambda state: state[0] < state[2], lower, state)
        return rows if weight_exp is None else rows.at[i, :4].set(sums / shares), kept

    count = jnp.asarray(count, jnp.int32)
    return lax.fori_loop(0, count, take_best, (rows, count)) if len(rows) else (rows, count)
