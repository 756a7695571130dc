"""Boxes from pairs of corners."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int


class Corners(NamedTuple):
    """Candidates for one corner of a box."""

    points: Float[Array, "b k 2"]  # x, y in cells, offsets added
    scores: Float[Array, "b k"]  # in [0, 1]; below 0: takes no part
    classes: Int[Array, "b k"]
    tags: Float[Array, "b k"]


class Pairs(NamedTuple):
    """Boxes, best first; rejected ones have score -1, their other fields mean nothing."""

    boxes: Float[Array, "b n 4"]  # x1 y1 x2 y2 in cells
    scores: Float[Array, "b n"]
    classes: Int[Array, "b n"]
    corner_scores: Float[Array, "b n 2"]  # of the top-left and the bottom-right corner


def pair_corners(tl: Corners, br: Corners, *, num: int, tag_distance: float) -> Pairs:
    """Join every top-left corner with every bottom-right corner that may belong to the same object.

    A pair is rejected if its classes differ, its tags differ by more than tag_distance, or the bottom-right corner
    lies left of or above the top-left one. Its score is the mean of the two.

    Args:
        num: pairs kept; with fewer than num pairs there are, all of them.
    Source: CornerNet, models/py_utils/kp_utils.py, _decode.
    """

    def each(array):  # all pairs (i, j) in one axis, top-left i outermost
        return array.reshape(array.shape[0], -1)

    (tl_x, tl_y), (br_x, br_y) = (jnp.unstack(corners.points, axis=-1) for corners in (tl, br))
    rejected = (
        (tl.classes[:, :, None] != br.classes[:, None])
        | (jnp.abs(tl.tags[:, :, None] - br.tags[:, None]) > tag_distance)
        | (br_x[:, None] < tl_x[:, :, None])
        | (br_y[:, None] < tl_y[:, :, None])
    )
    rejected |= (tl.scores[:, :, None] < 0) | (br.scores[:, None] < 0)
    scores = jnp.where(rejected, -1, (tl.scores[:, :, None] + br.scores[:, None]) / 2)
    k = br.scores.shape[1]
    scores, index = lax.top_k(each(scores), min(num, each(scores).shape[1]))

    def take(array, at):
        return jnp.take_along_axis(array, at.reshape(*at.shape, *[1] * (array.ndim - 2)), 1)

    i, j = index // k, index % k
    boxes = jnp.concatenate([take(tl.points, i), take(br.points, j)], -1)
    corner_scores = jnp.stack([take(tl.scores, i), take(br.scores, j)], -1)
    return Pairs(boxes, scores, take(tl.classes, i), corner_scores)
