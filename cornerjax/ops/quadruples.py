"""Four extreme points make a box where a centre lies amid them: all K^4 quadruples, of which none is kept for long.

A quadruple is a pair of a topmost and a bottommost point, and one of a leftmost and a rightmost point. What only one
pair decides is tested on the K^2 pairs; two pairs fit together where their classes are the same and where four sides
hold, which only the least and the largest coordinates of a pair decide. The pairs that can be part of a box are moved
to the front, and rows of them are compared with all pairs of the other kind, block after block.
"""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from cornerjax.ops.partial_sort import partial_sort
from cornerjax.ops.top_k import block_top_k

BLOCK = 2**15  # quadruples that are compared at a time on CPUs: what stays in the cache
LARGE_BLOCK = 2**22  # elsewhere: all 2.6 million that 40 points of each kind make
MOST_POINTS = 215  # of a kind: with more, the places of quadruples would not fit into 32 bits


class Points(NamedTuple):
    """The points of one kind that were found in an image."""

    cells: Int[Array, "k 2"]  # x, y
    scores: Float[Array, "k"]
    classes: Int[Array, "k"]


class Quadruples(NamedTuple):
    """The best quadruples, best first; places left over have the score -1 and the points 0."""

    scores: Float[Array, "n"]
    points: Int[Array, "n 4"]  # places in the lists of topmost, leftmost, bottommost and rightmost points


class _Pairs(NamedTuple):
    """Pairs of points on opposite sides, those that can be part of a box before all others, in order.

    Attributes:
        first, second: places of the points in their lists.
        low, high: their coordinates across: y of topmost and bottommost points, x of the others.
        least, most: the lesser and the larger of their coordinates along the sides.
        middle: cell halfway between them, across.
    """

    first: Int[Array, "p"]
    second: Int[Array, "p"]
    valid: Bool[Array, "p"]
    classes: Int[Array, "p"]
    first_scores: Float[Array, "p"]
    second_scores: Float[Array, "p"]
    low: Int[Array, "p"]
    high: Int[Array, "p"]
    least: Int[Array, "p"]
    most: Int[Array, "p"]
    middle: Int[Array, "p"]


def group_quadruples(
    points: tuple[Points, Points, Points, Points],
    centre_heat: Float[Array, "b h w c"],
    *,
    num: int,
    floor: float,
    centre_floor: float,
    block: int | None = None,
) -> Quadruples:
    """The best quadruples of extreme points with a centre in the middle, of each image of a batch.

    The points are of one class, each on its side of the others or level with them. The score is the mean of theirs and
    of twice that of the centre's cell. Of equal scores those come first whose topmost point does, then the bottommost,
    the leftmost and the rightmost one.

    Args:
        points: topmost, leftmost, bottommost, rightmost ones, each (b, k, ...).
        centre_heat: logits.
        num: quadruples wanted.
        floor, centre_floor: least score of each point, and of the centre.
        block: quadruples that are compared at a time; None: BLOCK on CPUs, LARGE_BLOCK elsewhere.
    Source: ExtremeNet (Zhou et al. 2019), algorithm 1; models/py_utils/kp_utils.py, exct_decode.
    """

    def with_block(size: int):
        def run(points, heat):
            return lax.map(
                lambda image: _group(*image, num=num, floor=floor, centre_floor=centre_floor, block=size),
                (points, heat),
            )

        return run

    if block is not None:
        return with_block(block)(points, centre_heat)
    return lax.platform_dependent(points, centre_heat, cpu=with_block(BLOCK), default=with_block(LARGE_BLOCK))


def group_as_pytorch(
    points: tuple[Points, Points, Points, Points],
    centre_heat: Float[Array, "b h w c"],
    *,
    num: int,
    floor: float,
    centre_floor: float,
) -> Quadruples:
    """The same, but of quadruples with equal scores those that the original takes on CPUs, see ops.partial_sort.

    It depends on all quadruples, the wrong ones too: here all of an image are held, 4 K^4 bytes.

    Args: as of group_quadruples.
    """

    def of_image(given):
        scores = all_scores(*given, floor=floor, centre_floor=centre_floor)
        most = min(num, scores.size)
        spare = [(0, num - most)]
        values, places = (jnp.pad(x, spare) for x in partial_sort(scores.reshape(-1), most))
        values = jnp.where(values > 0, values, -1)
        chosen = jnp.stack(jnp.unravel_index(places, scores.shape), -1)
        return Quadruples(values, jnp.where(values[:, None] > 0, chosen, 0).astype(jnp.int32))

    return lax.map(of_image, (points, centre_heat))


def all_scores(
    points: tuple[Points, Points, Points, Points], heat: Float[Array, "h w c"], *, floor: float, centre_floor: float
) -> Float[Array, "k k k k"]:
    """The scores of all quadruples of an image; every broken rule costs 1."""
    shaped = [
        jax.tree.map(lambda x, i=i: x.reshape(*(-1 if i == axis else 1 for axis in range(4)), *x.shape[1:]), kind)
        for i, kind in enumerate(points)
    ]
    classes, scores = [kind.classes for kind in shaped], [kind.scores for kind in shaped]
    (tx, ty), (lx, ly), (bx, by), (rx, ry) = (jnp.unstack(kind.cells, axis=-1) for kind in shaped)
    centres = jax.nn.sigmoid(heat[(ty + by) // 2, (lx + rx) // 2, classes[0]].astype(jnp.float32))
    total = scores[0] + scores[1] + scores[2] + scores[3] + 2 * centres
    total = _sixth(total)
    broken = (
        functools.reduce(operator.or_, (one < floor for one in scores)) | (centres < centre_floor),
        functools.reduce(operator.or_, (classes[0] != other for other in classes[1:])),
        (ty > ly) | (ty > by) | (ty > ry),
        (lx > tx) | (lx > bx) | (lx > rx),
        (by < ty) | (by < ly) | (by < ry),
        (rx < tx) | (rx < lx) | (rx < bx),
    )
    for rule in broken:
        total = total - rule.astype(jnp.float32)
    return total


def _group(
    points: tuple[Points, Points, Points, Points],
    heat: Float[Array, "h w c"],
    *,
    num: int,
    floor: float,
    centre_floor: float,
    block: int,
) -> Quadruples:
    """The quadruples of one image; see group_quadruples."""
    top, left, bottom, right = points
    upright, level = _pairs(top, bottom, 1, floor), _pairs(left, right, 0, floor)
    width = len(level.valid)
    rows = min(max(1, block // width), len(upright.valid))
    spare = -len(upright.valid) % rows
    upright = jax.tree.map(lambda x: jnp.pad(x, (0, spare)), upright)

    def compare(number, best):
        some = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, number * rows, rows)[:, None], upright)
        fit = some.valid & level.valid & (some.classes == level.classes)
        fit &= (some.low <= level.least) & (some.high >= level.most)
        fit &= (level.low <= some.least) & (level.high >= some.most)
        lines = jax.nn.sigmoid(heat[some.middle[:, 0], :, some.classes[:, 0]].astype(jnp.float32))
        centres = jnp.take(lines, level.middle, axis=1, mode="clip")
        # In the original's order of addition.
        sums = some.first_scores + level.first_scores + some.second_scores + level.second_scores
        scores = _sixth(sums + 2 * centres)
        scores = jnp.where(fit & (centres >= centre_floor) & (scores > 0), scores, -1)
        return lax.cond((scores > best[0][-1]).any(), _merge, lambda best, *_: best, best, scores, number * rows)

    def _merge(best, scores, first_row):
        values, places = block_top_k(scores.reshape(1, -1), min(num, rows * width))
        places = first_row * width + places[0]
        together = jnp.concatenate([best[0], values[0]])
        values, chosen = lax.top_k(together, num)  # of equal ones the first: the pairs come in order
        return values, jnp.concatenate([best[1], places])[chosen]

    blocks = -(-upright.valid.sum() // rows)
    start = jnp.full(num, -1, jnp.float32), jnp.zeros(num, jnp.int32)
    scores, places = lax.fori_loop(0, blocks, compare, start)
    one, other = places // width, places % width
    chosen = jnp.stack([upright.first[one], level.first[other], upright.second[one], level.second[other]], -1)
    return Quadruples(scores, jnp.where(scores[:, None] > 0, chosen, 0))


def _sixth(total: Float[Array, "..."]) -> Float[Array, "..."]:
    """Divided by 6; by a constant XLA would multiply by a sixth, which rounds otherwise."""
    return total / jnp.where(total < jnp.inf, jnp.float32(6), jnp.float32(1))


def _pairs(first: Points, second: Points, across: int, floor: float) -> _Pairs:
    """All pairs of points on opposite sides; across: the axis in which they are opposite."""
    i, j = (places.reshape(-1) for places in jnp.indices((len(first.scores), len(second.scores)), dtype=jnp.int32))
    low, high = first.cells[i, across], second.cells[j, across]
    along = first.cells[i, 1 - across], second.cells[j, 1 - across]
    valid = (first.classes[i] == second.classes[j]) & (low <= high)
    valid &= (first.scores[i] >= floor) & (second.scores[j] >= floor)
    pairs = _Pairs(
        first=i,
        second=j,
        valid=valid,
        classes=first.classes[i],
        first_scores=first.scores[i],
        second_scores=second.scores[j],
        low=low,
        high=high,
        least=jnp.minimum(*along),
        most=jnp.maximum(*along),
        middle=(low + high) // 2,
    )
    order = jnp.argsort(~valid, stable=True)
    return jax.tree.map(lambda x: x[order], pairs)
