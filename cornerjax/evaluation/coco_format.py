"""The detections of a data set in COCO's result format, and back."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from cornerjax.data.records import Source
from cornerjax.detectors.rows import Detections
from cornerjax.evaluation.compare.entries import Detected
from cornerjax.inference.coco_format import to_coco


def to_results(detections: list[Detections], source: Source, *, decimals: int | None = None) -> list[Detected]:
    """COCO's result format, with the file's own image and category ids; classes that the file lacks are left out.

    Args:
        decimals: all numbers are rounded so; None: not at all.
    """
    results: list[Detected] = []
    for record, found in zip(source.records, detections, strict=True):
        results += cast(list[Detected], to_coco(found, record.image_id, source.category_ids, decimals=decimals))
    return results


def from_results(results: Sequence[Detected], source: Source) -> list[Detections]:
    """The way back: the boxes of every record from COCO's result format, whose ids must be the source's."""
    order = {category_id: label for label, category_id in enumerate(source.category_ids)}
    of_image: dict[int, list[Detected]] = {record.image_id: [] for record in source.records}
    for entry in sorted(results, key=lambda entry: -entry["score"]):
        of_image[entry["image_id"]].append(entry)
    detections = []
    for entries in of_image.values():
        boxes = np.array([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.array([entry["score"] for entry in entries], np.float32)
        classes = np.array([order[entry["category_id"]] for entry in entries], np.int32)
        detections.append(Detections(boxes, scores, classes, source.class_names))
    return detections
