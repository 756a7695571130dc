"""Soft-NMS as the originals do it, in a buffer whose rows change places; for parity with released results only."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from cornerjax.ops.soft_nms import overlap_weight, weighted_mean


class Buffer(NamedTuple):
    """All rows of all classes, one class after the other; rows that took no part have score -1, at the end."""

    boxes: Float[Array, "n 4"]
    scores: Float[Array, "n"]
    classes: Int[Array, "n"]
    kept: Bool[Array, "n"]  # the others are left-overs: dropped boxes, and copies of kept ones
    source: Int[Array, "n"]  # place of each row among those given


class _Places(NamedTuple):
    """What a round does to the places of the buffer."""

    source: Int[Array, "n"]  # place that each place takes its row from
    rescored: Bool[Array, "n"]  # whether with the new score
    seen_at: Int[Array, "n"]  # place at which each row was when it was compared with the best


def soft_nms_in_place(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, "n"],
    classes: Int[Array, "n"],
    corner_scores: Float[Array, "n 2"],
    *,
    method: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    floor: float = 0.001,
    inclusive: bool = True,
    merge_exp: int | None = None,
    misplaced_weights: bool = True,
    num: int | None = None,
) -> Buffer:
    """Rescore and reorder boxes of each class; every row matches the original's, also those not kept.

    In the original the best row is swapped to the front and the others are compared with it one by one. A dropped row
    is overwritten by the last one, which is compared next and also stays where it was. All systems but
    CornerNet-Saccade report these left-overs as detections. Here a round is a few operations on whole arrays.

    Args:
        corner_scores: for merging, weights of the first and the second corner of each box.
        merge_exp: merge boxes as soft_nms_merge does, with this exponent; None: do not merge.
        misplaced_weights: corner scores stay at their places when boxes are moved, as in the original.
        num: rows, kept or not, that are wanted of all classes together: as soon as the best so many and all that tie
            with the last of them are known, the others, whose scores are lower, stay as they are; None: all.
    The other arguments are those of soft_nms.
    Raises: ValueError: unknown method.
    Source: CornerNet-Lite, core/external/nms.pyx, soft_nms and soft_nms_merge.
    """
    weigh = overlap_weight(method, sigma, iou_threshold, inclusive=inclusive)
    place = jnp.arange(len(scores), dtype=jnp.int32)
    by_class = jnp.where(scores < 0, jnp.iinfo(jnp.int32).max, classes.astype(jnp.int32))
    order = jnp.argsort(by_class, stable=True).astype(jnp.int32)
    boxes, scores, classes, corner_scores = (x[order] for x in (boxes, scores, classes, corner_scores))
    total = (scores >= 0).sum(dtype=jnp.int32)
    # A class is known by the place where its rows begin; that is where its entries in front and end are.
    starts, stops = (
        jnp.searchsorted(by_class[order], by_class[order], side=side).astype(jnp.int32) for side in ("left", "right")
    )

    def best_of(scores, front, end):
        left = (place >= front[starts]) & (place < end[starts]) & (place < total)
        best = jnp.argmax(jnp.where(left, scores, -jnp.inf)).astype(jnp.int32)
        return best, jnp.where(left[best], scores[best], -jnp.inf)

    def one_round(state):
        (best, score), count, _, front, end, boxes, scores, corners, source, kept = state
        start = starts[best]
        i, stop = front[start], end[start]
        in_use = (place >= i) & (place < stop)
        boxes, scores, source = (_swapped(x, i, best) for x in (boxes, scores, source))
        corners = corners if misplaced_weights else _swapped(corners, i, best)

        factor, touches = weigh(boxes[i], boxes)
        touches &= in_use & (place != i)
        lowered = jnp.where(touches, scores * factor, scores)
        dropped = touches & (lowered < floor)
        rest = in_use & (place != i) & ~dropped
        new_end = i + 1 + rest.sum(dtype=jnp.int32)
        places = _compaction(dropped, rest, new_end, stop)

        box = boxes[i]
        if merge_exp is not None:
            weights = corners[places.seen_at] if misplaced_weights else corners
            share = jnp.where(touches, (1 - factor) ** merge_exp, 0)[:, None] * weights
            share = jnp.where((place == i)[:, None], weights, share).repeat(2, axis=1)
            box = weighted_mean(boxes, share, box)
        scores = jnp.where(places.rescored, lowered[places.source], scores[places.source])
        boxes = boxes[places.source].at[i].set(box)
        source = source[places.source]
        corners = corners if misplaced_weights else corners[places.source]

        front, end, kept = front.at[start].set(i + 1), end.at[start].set(new_end), kept.at[i].set(True)
        return best_of(scores, front, end), count + 1, score, front, end, boxes, scores, corners, source, kept

    def goes_on(state):
        (_, score), count, last, *_ = state
        # No box that is left gets a better score than it has: after num rounds, only ties with the last one matter.
        return (score > -jnp.inf) & ((count < num) | (score >= last) if num is not None else True)

    kept = jnp.zeros(len(scores), bool)
    if len(scores):
        state = (best_of(scores, place, stops), 0, scores[0], place, stops, boxes, scores, corner_scores, order, kept)
        *_, boxes, scores, _, order, kept = lax.while_loop(goes_on, one_round, state)
    return Buffer(boxes, jnp.where(place < total, scores, -1), classes, kept, order)


def _swapped(x: Array, i: Array, j: Array) -> Array:
    """With the rows i and j in each other's place."""
    return x.at[i].set(x[j]).at[j].set(x[i])


def _compaction(dropped, rest, new_end, end) -> _Places:
    """How the rows left close up: each hole in front takes the last row that is left at that moment."""
    n = len(dropped)
    place = jnp.arange(n, dtype=jnp.int32)
    tail = rest & (place >= new_end)
    hole = dropped & (place <= new_end)  # row new_end, where it is dropped, is a hole that nothing fills
    tails_after = jnp.cumsum(tail[::-1].astype(jnp.int32))[::-1] - tail.astype(jnp.int32)
    holes_before = jnp.cumsum(hole.astype(jnp.int32)) - hole.astype(jnp.int32)

    def by_rank(mask, rank):
        return jnp.zeros(n, jnp.int32).at[jnp.where(mask, rank, n)].set(place, mode="drop")

    filled = hole & (place < new_end)
    source = jnp.where(filled, by_rank(tail, tails_after)[holes_before], place)
    seen_at = jnp.where((place >= new_end) & (place < end), by_rank(hole, holes_before)[tails_after], place)
    # In the hole that nothing fills, copies of the dropped rows behind it come and go; the last one is its neighbour's.
    last = hole & (place == new_end)
    neighbour = jnp.minimum(place + 1, n - 1)
    source = jnp.where(last & dropped[neighbour] & (neighbour > place), neighbour, source)
    return _Places(source, (place < new_end) | last, seen_at)
