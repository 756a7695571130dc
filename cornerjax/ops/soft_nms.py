"""Soft non-maximum suppression, for all classes of an image at once."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

# What a box's score is multiplied by, given its overlap with a better box.
METHODS = {
    "hard": lambda iou, sigma, threshold: jnp.where(iou > threshold, 0, 1).astype(iou.dtype),
    "linear": lambda iou, sigma, threshold: jnp.where(iou > threshold, 1 - iou, 1),
    "gaussian": lambda iou, sigma, threshold: jnp.exp(-(iou**2) / sigma),
}


class Kept(NamedTuple):
    """The boxes kept, best first; places left over have score -1."""

    source: Int[Array, "k"]  # place of each box among those given; 0 at places left over
    scores: Float[Array, "k"]
    boxes: Float[Array, "k 4"]


def soft_nms(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, "n"],
    classes: Int[Array, "n"],
    *,
    method: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    floor: float = 0.001,
    inclusive: bool = False,
    num: int | None = None,
) -> Kept:
    """Take the best box, lower the scores of the boxes of its class that overlap it, and repeat.

    A box that touches a better one is dropped when its score falls below the floor; one that touches none stays
    whatever its score, as in the original. Under `jax.vmap` this works on a batch.

    Args:
        boxes: x1 y1 x2 y2 in pixels; a box reaches from the start of its first pixel to the end of its last.
        scores: boxes with a negative score take no part.
        method: a name in METHODS.
        sigma: of "gaussian": scores are multiplied by exp(-iou^2 / sigma).
        iou_threshold: of "linear" and "hard": boxes that overlap more lose that part of their score, or all of it.
        floor: lowest score of boxes that touch a better one.
        inclusive: the originals' form: sides are a pixel longer, as of whole pixels from the first to the last.
        num: boxes kept at most, over all classes; None: as many as there are.
    Raises: ValueError: unknown method.
    Source: Soft-NMS (Bodla et al. 2017); CornerNet-Lite, core/external/nms.pyx, soft_nms (one class at a time).
    """
    return _select(
        boxes, scores, classes, None, 0, num, floor, overlap_weight(method, sigma, iou_threshold, inclusive=inclusive)
    )


def soft_nms_merge(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, "n"],
    classes: Int[Array, "n"],
    corner_scores: Float[Array, "n 2"],
    *,
    method: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.5,
    floor: float = 0.001,
    inclusive: bool = False,
    num: int | None = None,
    merge_exp: int = 10,
) -> Kept:
    """Soft-NMS that also moves each box it takes to the weighted mean of itself and the boxes it suppresses.

    A suppressed box has the weight (1 - what its score is multiplied by) ** merge_exp, times its corner_scores
    for the first and the second corner. The other arguments are those of soft_nms.

    Source: CornerNet-Lite, core/external/nms.pyx, soft_nms_merge.
    """
    # Differs from CornerNet: there corner_scores stay behind when boxes change places in the buffer, so weights belong
    # to other boxes; soft_nms_in_place does it that way.
    weigh = overlap_weight(method, sigma, iou_threshold, inclusive=inclusive)
    return _select(boxes, scores, classes, corner_scores.repeat(2, axis=1), merge_exp, num, floor, weigh)


def overlap_weight(method: str, sigma: float, iou_threshold: float, *, inclusive: bool):
    """A function (box (4,), boxes (..., 4)) -> (what each score is multiplied by, whether the boxes touch)."""
    if method not in METHODS:
        raise ValueError(f"no soft-NMS method {method!r}; there are: {', '.join(METHODS)}")
    # Differs from CornerNet: there, overlaps are those of boxes whose sides are a pixel longer, unless inclusive.
    pixel = 1 if inclusive else 0

    def weigh(box, boxes):
        ax1, ay1, ax2, ay2 = jnp.unstack(box)
        bx1, by1, bx2, by2 = jnp.unstack(boxes, axis=-1)  # columns: with rows of four the loop is twice as slow
        w = jnp.minimum(ax2, bx2) - jnp.maximum(ax1, bx1) + pixel
        h = jnp.minimum(ay2, by2) - jnp.maximum(ay1, by1) + pixel
        areas = (ax2 - ax1 + pixel) * (ay2 - ay1 + pixel) + (bx2 - bx1 + pixel) * (by2 - by1 + pixel)
        touches = (w > 0) & (h > 0)
        iou = jnp.where(touches, w * h / jnp.where(touches, areas - w * h, 1), 0)
        return METHODS[method](iou, sigma, iou_threshold), touches

    return weigh


def weighted_mean(
    boxes: Float[Array, "n 4"], share: Float[Array, "n 4"], otherwise: Float[Array, "4"]
) -> Float[Array, "4"]:
    """The mean box; a side that nothing has a share in is that of the other box."""
    total = share.sum(0)
    return jnp.where(total > 0, (share * boxes).sum(0) / jnp.where(total > 0, total, 1), otherwise)


def _select(boxes, scores, classes, corners, merge_exp, num, floor, weigh) -> Kept:
    n = len(scores)
    num = n if num is None else min(num, n)
    kept = Kept(jnp.zeros(num, jnp.int32), jnp.full(num, -1, scores.dtype), jnp.zeros((num, 4), boxes.dtype))
    if num == 0:
        return kept

    def any_left(state):
        step, best, left, _ = state
        return (step < num) & (left[best] >= 0)

    def take_best(state):
        step, best, left, kept = state
        factor, touches = weigh(boxes[best], boxes)
        touches &= (classes == classes[best]) & (left >= 0)
        box = boxes[best]
        if corners is not None:
            itself = jnp.arange(n) == best
            share = jnp.where(itself, 1, jnp.where(touches, (1 - factor) ** merge_exp, 0))[:, None] * corners
            box = weighted_mean(boxes, share, box)
        kept = Kept(kept.source.at[step].set(best), kept.scores.at[step].set(left[best]), kept.boxes.at[step].set(box))
        lowered = jnp.where(touches, left * factor, left)
        left = jnp.where(touches & (lowered < floor), -1, lowered).at[best].set(-1)
        return step + 1, _first_max(left), left, kept

    left = jnp.where(scores >= 0, scores, -1)  # -1: rejected, dropped or taken
    return lax.while_loop(any_left, take_best, (0, _first_max(left), left, kept))[-1]


def _first_max(x):
    """The first of the highest; on CPUs this is twice as fast as argmax."""
    place = jnp.arange(len(x), dtype=jnp.int32)
    return jnp.where(x == x.max(), place, len(x) - 1).min()
