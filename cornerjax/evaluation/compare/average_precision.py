"""COCO's average precision, computed by pycocotools."""

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cornerjax.data.coco_entries import is_side
from cornerjax.data.extreme_points import mask_of, polygons_of
from cornerjax.evaluation.compare.entries import Annotation, Detected, GroundTruth
from cornerjax.evaluation.compare.matching import labels

# In the order of COCOeval.stats.
NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
Metrics = dict[str, float]
Kind = Literal["bbox", "segm"]


def average_precision(
    ground_truth: GroundTruth, results: Sequence[Detected], image_ids: Iterable[int], *, of: Kind = "bbox"
) -> tuple[Metrics, dict[str, Metrics]]:
    """Compare results with the ground truth.

    Args:
        ground_truth: crowd regions count as COCO counts them: boxes on them are neither right nor wrong.
        results: of each box found; may be empty.
        image_ids: images that count; what is said of others is left out on both sides.
        of: what is compared, boxes or masks; for masks see why_no_masks.
    Returns: the twelve numbers by name, and {class name: {"AP", "AP50"}}; nan where there is nothing to find, as
        AP_large in a set without large objects (pycocotools says -1).
    """
    images = set(image_ids)
    truth = _index(ground_truth["annotations"], images, ground_truth)
    found = _index([_bare(box, of) for box in results], images, ground_truth)
    if of == "segm":
        for entry in found.dataset["annotations"]:  # as pycocotools measures what it loads from a file
            entry["area"] = float(coco_mask.area(found.annToRLE(entry)))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every step
        evaluation = COCOeval(truth, found, of)
        evaluation.params.imgIds = sorted(images)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = {name: _number(value) for name, value in zip(NAMES, evaluation.stats, strict=True)}

    precision = evaluation.eval["precision"][
        ..., 0, -1
    ]  # (iou, recall, class): objects of all sizes, 100 boxes an image
    names = labels(ground_truth["categories"])
    per_class = {
        names[category_id]: {"AP": _mean(precision[..., k]), "AP50": _mean(precision[0, :, k])}
        for k, category_id in enumerate(evaluation.params.catIds)
    }
    return metrics, per_class


def why_no_masks(ground_truth: GroundTruth, results: Sequence[Detected], image_ids: Iterable[int]) -> str | None:
    """Why masks cannot be compared, as a sentence; empty: no detection has any. None: they can.

    They can where in these images every object and every detection has one, polygons or run-length encoded, of an image
    whose size is known; and there are detections.
    """
    images = set(image_ids)
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in ground_truth["images"]}

    def sound(entry: Annotation | Detected) -> bool:
        height, width = sizes[entry["image_id"]]
        if height is None or width is None or not is_side(height) or not is_side(width):
            return False
        segmentation = entry.get("segmentation")
        return bool(polygons_of(segmentation)) or mask_of(segmentation, height, width) is not None

    found = [entry for entry in results if entry["image_id"] in images]
    true = [entry for entry in ground_truth["annotations"] if entry["image_id"] in images]
    if not any(entry.get("segmentation") for entry in found):
        return ""
    if not any(entry.get("segmentation") for entry in true):
        return "no true box has a segmentation"
    sides: tuple[tuple[str, Sequence[Annotation] | Sequence[Detected]], ...] = (("found", found), ("true", true))
    for which, entries in sides:
        if wrong := next((entry for entry in entries if not sound(entry)), None):
            return (
                f"a {which} box in image id {wrong['image_id']} has no segmentation that can be used: polygons, or a "
                "run-length encoded mask, of an image whose height and width the file says"
            )
    return None


def _index(entries: Sequence[Annotation] | Sequence[Detected], images: set[int], ground_truth: GroundTruth) -> COCO:
    """A COCO object of the entries of some images; made in memory, as pycocotools cannot load an empty list."""
    kept = [entry for entry in entries if entry["image_id"] in images]
    coco = COCO()
    coco.dataset = {
        "images": [image for image in ground_truth["images"] if image["id"] in images],
        "categories": ground_truth["categories"],
        # Numbered anew: an annotation with the id 0 would never count as found.
        "annotations": [_complete(entry) | {"id": i} for i, entry in enumerate(kept, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _bare(box: Detected, of: Kind) -> Detected:
    """Without what else a file may say of a found box: its size, as in pycocotools, is that of the box."""
    bare = Detected(image_id=box["image_id"], category_id=box["category_id"], bbox=box["bbox"], score=box["score"])
    return bare if of == "bbox" else {**bare, "segmentation": box["segmentation"]}


def _complete(entry: Annotation | Detected) -> dict[str, object]:
    _, _, width, height = entry["bbox"]
    area = entry.get("area")
    return {**entry, "area": width * height if area is None else area, "iscrowd": entry.get("iscrowd") or 0}


def _number(value: float) -> float:
    return float(value) if value >= 0 else float("nan")


def _mean(precision: np.ndarray) -> float:
    known = precision[precision >= 0]
    return float(known.mean()) if known.size else float("nan")
