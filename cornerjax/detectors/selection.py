"""The last steps of every test procedure: from the candidates for an image to its boxes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from cornerjax.config import Config
from cornerjax.data.geometry import is_points
from cornerjax.detectors.rows import Candidates, Extra, Found
from cornerjax.ops.soft_nms import Kept, soft_nms, soft_nms_merge
from cornerjax.ops.soft_nms_in_place import Buffer, soft_nms_in_place


def clip_to_images(found: Candidates, sizes: Float[Array, "b 2"], *, drop_empty: bool) -> Candidates:
    """Boxes and points end where their images do.

    Args:
        found: in pixels of the images.
        sizes: width and height of each.
        drop_empty: boxes of which nothing is left get the score -1.
    """
    limits = jnp.tile(sizes, 2)[:, None]
    boxes, scores = jnp.clip(jnp.asarray(found.boxes), 0, limits), found.scores
    if drop_empty:
        scores = jnp.where((boxes[..., 2:] <= boxes[..., :2]).any(-1), -1, scores)
    points: Extra = {
        name: jnp.clip(jnp.asarray(values), 0, sizes[:, None, None])
        for name, values in found.extra.items()
        if is_points(name)
    }
    return found._replace(boxes=boxes, scores=scores, extra=found.extra | points)


def select(
    found: Candidates, config: Config, *, finish: Callable[[Found, Config], Found] | None = None, stale: bool = True
) -> Found:
    """The best boxes of each image after non-maximum suppression within each class.

    Args:
        config: test and legacy are used.
        finish: of a detector: what is done to the boxes that are left, in the order in which NMS leaves them; they are
            sorted after it.
        stale: False: with legacy.stale_rows, boxes go in the original's order, but none that were dropped stay.
    Source: CornerNet-Lite, test/cornernet.py.
    """
    rows = found.scores.shape[1]
    num = rows if config.legacy.ties else min(config.test.max_detections, rows)
    best = _best(jax.vmap(partial(_suppress, config=config, num=num, stale=stale))(found), config, sort=finish is None)
    if finish is None:
        return best
    finished = finish(best, config)
    return _taken(finished, *lax.top_k(finished.scores, finished.scores.shape[1]))


def _best(found: Found, config: Config, *, sort: bool) -> Found:
    """The first max_detections of all boxes, by their scores; not sorted, they stay in the order in which they are."""
    num, ties = min(config.test.max_detections, found.scores.shape[1]), config.legacy.ties
    # Differs from CornerNet: exactly max_detections boxes; there, all boxes that tie with the last are kept as well.
    scores, best = lax.top_k(found.scores, found.scores.shape[1] if ties else num)
    if ties:
        scores = jnp.where(scores >= scores[:, num - 1 : num], scores, -1)
    if not sort:
        order = jnp.argsort(best, axis=1)
        scores, best = (jnp.take_along_axis(values, order, 1) for values in (scores, best))
    return _taken(found, scores, best)


def _taken(found: Found, scores: Float[Array, "b n"], rows: Int[Array, "b n"]) -> Found:
    """Some rows of each image, with these scores."""
    taken = jax.tree.map(lambda values: jax.vmap(jnp.take, (0, 0, None))(values, rows, 0), found)
    return taken._replace(scores=scores)


def _suppress(found: Candidates, config: Config, num: int, stale: bool) -> Found:
    """Non-maximum suppression in one image, of which num boxes are wanted."""
    test, legacy = config.test, config.legacy
    boxes, scores, classes, extra = jax.tree.map(jnp.asarray, found)
    if test.nms == "none":
        return Found(*found)
    options: dict[str, Any] = {"method": test.nms, "sigma": test.nms_sigma, "iou_threshold": test.nms_iou}
    options |= {"floor": test.nms_floor, "inclusive": legacy.inclusive_overlap}
    weights = extra.get("corner_scores", jnp.stack([scores, scores], -1))
    kept: Kept | Buffer
    if legacy.stale_rows or (legacy.misplaced_weights and test.merge):
        merge_exp = test.merge_exp if test.merge else None
        kept = soft_nms_in_place(
            boxes,
            scores,
            classes,
            weights,
            merge_exp=merge_exp,
            misplaced_weights=legacy.misplaced_weights,
            num=test.max_detections,
            **options,
        )
        # Differs from CornerNet: there, rows beyond those kept are reported too.
        kept = kept._replace(scores=jnp.where(kept.kept | (legacy.stale_rows and stale), kept.scores, -1))
    else:
        options["num"] = num
        if test.merge:
            kept = soft_nms_merge(boxes, scores, classes, weights, merge_exp=test.merge_exp, **options)
        else:
            kept = soft_nms(boxes, scores, classes, **options)
    rows = kept.source
    return Found(kept.boxes, kept.scores, classes[rows], {name: values[rows] for name, values in extra.items()})
