"""Extreme points: what they are, how they are found in heat maps, and boxes made of points of several objects."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

from cornerjax.keypoints import Keypoint, Objects
from cornerjax.ops.edges import aggregate_edges
from cornerjax.ops.partial_sort import partial_sort
from cornerjax.ops.peaks import keep_peaks
from cornerjax.ops.precision import precise
from cornerjax.ops.quadruples import Points
from cornerjax.ops.top_k import top_cells

GHOST_FLOOR = 0.2  # boxes of lower scores are no ghosts
GHOST_FACTOR = 3  # a ghost holds boxes whose scores add up to more than this many times its own


def _extreme(place: int) -> Callable[[Objects], Float[np.ndarray, "n 2"]]:
    return lambda objects: objects["extreme_points"][:, place]


def middle(objects: Objects) -> Float[np.ndarray, "n 2"]:
    """Halfway between the leftmost and the rightmost point in x, the topmost and the bottommost in y."""
    top, left, bottom, right = objects["extreme_points"].transpose(1, 0, 2)
    return np.stack([(left[:, 0] + right[:, 0]) / 2, (top[:, 1] + bottom[:, 1]) / 2], 1)


# In the order of "extreme_points"; strokes lie along the edge.
EXTREMES = tuple(
    Keypoint(name, f"{side} point", _extreme(i), strokes=strokes)
    for i, (name, side, strokes) in enumerate(
        (
            ("t", "topmost", ((1, 0), (-1, 0))),
            ("l", "leftmost", ((0, 1), (0, -1))),
            ("b", "bottommost", ((1, 0), (-1, 0))),
            ("r", "rightmost", ((0, 1), (0, -1))),
        )
    )
)
CENTRE = Keypoint("ct", "centre", middle, offset=False)
ALONG = {"t": 2, "l": 1, "b": 2, "r": 1}  # the axis of a map (b, h, w, c) along which an edge with such a point lies


def find_extremes(
    heat: Float[Array, "b h w c"],
    along: int,
    *,
    top_k: int,
    window: int = 3,
    edge_weight: float = 0.1,
    edge_implementation: str = "auto",
    pytorch_ties: bool = False,
) -> Points:
    """The best points of one kind; places left over have the score -1.

    Args:
        heat: logits.
        along: the axis along which edges lie.
        top_k: points returned.
        window: of keep_peaks.
        edge_weight, edge_implementation: of aggregate_edges; weight 0: points gather no scores.
        pytorch_ties: the original's form: scores above 1 become 1 before the best are taken, and which of these are
            taken depends on how PyTorch sorts; mostly those of the first classes are.
    """
    scores = jax.nn.sigmoid(precise(heat))
    if edge_weight > 0:
        scores = aggregate_edges(scores, along, weight=edge_weight, implementation=edge_implementation)
    peaks = keep_peaks(scores, window=window)
    # Differs from ExtremeNet: there, scores above 1 are equal; pytorch_ties.
    if not pytorch_ties:
        best = top_cells(peaks, top_k)
        return Points(best.cells, jnp.where(best.scores == -jnp.inf, -1, jnp.minimum(best.scores, 1)), best.classes)
    b, h, w, c = peaks.shape
    by_class = jnp.moveaxis(jnp.clip(peaks, 0, 1), 3, 1).reshape(b, -1)
    values, places = lax.map(lambda x: partial_sort(x, min(top_k, h * w * c)), by_class)
    return Points(jnp.stack([places % w, places // w % h], -1), values, places // (h * w))


def suppress_ghosts(
    boxes: Float[Array, "n 4"], scores: Float[Array, "n"], classes: Int[Array, "n"]
) -> Float[Array, "n"]:
    """Scores with those of ghosts halved: boxes with others of their class inside that are better together.

    Four points of several objects in a row may make one large box. The boxes are taken in order, and what is halved
    counts as such for those that follow.

    Source: ExtremeNet (Zhou et al. 2019), section 4.2; test/coco.py, kp_detection.
    """

    def look(i, scores):
        inside = (boxes[:, :2] >= boxes[i, :2]).all(-1) & (boxes[:, 2:] <= boxes[i, 2:]).all(-1)
        inside &= (classes == classes[i]) & (scores > 0)
        held = jnp.where(inside, scores, 0).sum()
        ghost = (scores[i] > GHOST_FLOOR) & (held > GHOST_FACTOR * scores[i])
        return scores.at[i].set(jnp.where(ghost, scores[i] / 2, scores[i]))

    return lax.fori_loop(0, len(scores), look, scores)
