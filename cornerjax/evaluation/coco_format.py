"""Detections in COCO's result format, and back."""

from collections.abc import Sequence

import numpy as np

from cornerjax.data.records import Source
from cornerjax.detectors.rows import Detections
from cornerjax.evaluation.compare.entries import Detected


def to_results(detections: list[Detections], source: Source, *, decimals: int | None = None) -> list[Detected]:
    """COCO's result format, with the file's own image and category ids; classes that the file lacks are left out.

    Where the detector finds extreme points, there is their octagon as "segmentation".

    Args:
        decimals: all numbers are rounded so; None: not at all.
    Source: CornerNet, db/coco.py, convert_to_coco, which rounds to two.
    """
    results: list[Detected] = []
    for record, found in zip(source.records, detections, strict=True):
        xywh = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
        rows = zip(_rounded(xywh, decimals), _rounded(found.scores, decimals), found.classes.tolist(), strict=True)
        polygons = None if found.polygons is None else _rounded(found.polygons, decimals)
        for i, (box, score, label) in enumerate(rows):
            if (category_id := source.category_ids[label]) is None:
                continue
            entry: Detected = {"image_id": record.image_id, "category_id": category_id, "bbox": box, "score": score}
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
