"""Detections in COCO's result format, for predictions and evaluations alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cornerjax.detectors.rows import Detections


def to_coco(
    found: Detections, image_id: int, category_ids: Sequence[int | None], *, decimals: int | None = None
) -> list[dict[str, Any]]:
    """The boxes of an image; where the detector finds extreme points, there is their octagon as "segmentation".

    Args:
        category_ids: the data set's own number of each class; boxes of classes with None are left out.
        decimals: all numbers are rounded so; None: not at all.
    Source: CornerNet, db/coco.py, convert_to_coco, which rounds to two.
    """
    xywh = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
    rows = zip(_rounded(xywh, decimals), _rounded(found.scores, decimals), found.classes.tolist(), strict=True)
    polygons = None if found.polygons is None else _rounded(found.polygons, decimals)
    results = []
    for i, (box, score, label) in enumerate(rows):
        if (category_id := category_ids[label]) is None:
            continue
        entry = {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
        if polygons is not None:
            entry["segmentation"] = [[value for point in polygons[i] for value in point]]
        results.append(entry)
    return results


def _rounded(values: np.ndarray, decimals: int | None) -> list:
    """As nested lists of numbers."""
    if decimals is None:
        return values.tolist()
    text = np.vectorize(lambda value: float(f"{value:.{decimals}f}"), otypes=[np.float64])
    return text(values).tolist() if values.size else values.tolist()
