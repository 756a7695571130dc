"""Detections in COCO's result format, and back."""

from collections.abc import Sequence

import numpy as np

from cornerjax.data.records import Source
from cornerjax.detectors.rows import Detections
from cornerjax.evaluation.compare.entries import Detected


def to_results(detections: list[Detections], source: Source, *, decimals: int | None = None) -> list[Detected]:
    """COCO's result format, with the file's own image and category ids; classes that the file lacks are left out.

    Args:
        decimals: x, y, width, height and score are rounded so; None: not at all.
    Source: CornerNet, db/coco.py, convert_to_coco, which rounds to two.
    """
    results: list[Detected] = []
    for record, found in zip(source.records, detections, strict=True):
        xywh = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
        for box, score, label in zip(xywh.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
            if (category_id := source.category_ids[label]) is None:
                continue
            if decimals is not None:
                *box, score = (float(f"{value:.{decimals}f}") for value in (*box, score))
            results.append({"image_id": record.image_id, "category_id": category_id, "bbox": box, "score": score})
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
