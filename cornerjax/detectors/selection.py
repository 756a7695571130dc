"""The last step of every test procedure: from the candidates for an image to its boxes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from cornerjax.config import Test
from cornerjax.detectors.base import Candidates, Found
from cornerjax.legacy import Legacy
from cornerjax.ops.soft_nms import soft_nms, soft_nms_merge
from cornerjax.ops.soft_nms_in_place import soft_nms_in_place


def select(found: Candidates, *, test: Test, legacy: Legacy) -> Found:
    """The best boxes of each image after non-maximum suppression within each class.

    Source: CornerNet-Lite, test/cornernet.py.
    """
    return jax.vmap(partial(_select_one, test=test, legacy=legacy))(found)


def _select_one(found: Candidates, *, test: Test, legacy: Legacy) -> Found:
    suppressed = _suppress(found, test, legacy)
    num = min(test.max_detections, len(suppressed.scores))
    # Differs from CornerNet: exactly max_detections boxes; there, all boxes that tie with the last are kept as well.
    scores, best = lax.top_k(suppressed.scores, len(suppressed.scores) if legacy.ties else num)
    if legacy.ties:
        scores = jnp.where(scores >= scores[num - 1], scores, -1)
    return Found(suppressed.boxes[best], scores, suppressed.classes[best])


def _suppress(found: Candidates, test: Test, legacy: Legacy) -> Found:
    boxes, scores, classes, corner_scores = found
    if test.nms == "none":
        return Found(boxes, scores, classes)
    options: dict[str, Any] = {"method": test.nms, "sigma": test.nms_sigma, "iou_threshold": test.nms_iou}
    options["floor"] = test.nms_floor
    if legacy.stale_rows or (legacy.misplaced_weights and test.merge):
        buffer = soft_nms_in_place(
            *found,
            merge_exp=test.merge_exp if test.merge else None,
            misplaced_weights=legacy.misplaced_weights,
            **options,
        )
        # Differs from CornerNet: there, rows beyond those kept are reported too.
        kept: Array = buffer.kept | legacy.stale_rows
        return Found(buffer.boxes, jnp.where(kept, buffer.scores, -1), buffer.classes)
    num = len(scores) if legacy.ties else min(test.max_detections, len(scores))
    if test.merge:
        best = soft_nms_merge(boxes, scores, classes, corner_scores, num=num, merge_exp=test.merge_exp, **options)
    else:
        best = soft_nms(boxes, scores, classes, num=num, **options)
    return Found(best.boxes, best.scores, classes[best.place])
