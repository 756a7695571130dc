"""All the numbers of one comparison of found with true boxes."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from cornerjax.evaluation.compare.average_precision import Metrics, average_precision, why_no_masks
from cornerjax.evaluation.compare.curves import Curve, curve, matched_precision
from cornerjax.evaluation.compare.entries import Detected, GroundTruth
from cornerjax.evaluation.compare.errors import Errors, count_errors, find_errors
from cornerjax.evaluation.compare.false_discovery import false_discovery
from cornerjax.evaluation.compare.matching import Boxes, as_arrays, match
from cornerjax.evaluation.compare.voc import VocAP, voc_average_precision


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What `analyse` finds out.

    Attributes:
        boxes: what was compared.
        metrics: COCO's twelve numbers by name; nan where there is nothing to find, as everywhere below.
        per_class: {class name: {"AP", "AP50", "boxes": to be found, "threshold": on the score with the best F1 at IoU
            0.5, and with it "F1", "precision" and "recall"}}.
        false_discovery: FD and its parts by name.
        errors: the kind of every box, and what each kind of error costs.
        error_counts: how many there are of each kind of error, of the boxes from curve.best_threshold on: a detector
            gives many boxes of low scores, which nobody uses; of all boxes where there is no such threshold.
        precision: at 101 recalls, of every class, for the IoUs 0.5 and 0.75.
        curve: precision and recall over the score, of all boxes together, at IoU 0.5.
        voc: PASCAL VOC's AP of every class at IoU 0.5, if asked for.
        masks: COCO's twelve numbers of the masks, where objects and detections have some.
        no_masks: why there are none, where detections have some.
    """

    boxes: Boxes
    metrics: Metrics
    per_class: dict[str, dict[str, int | float]]
    false_discovery: dict[str, float]
    errors: Errors
    error_counts: dict[str, int]
    precision: dict[float, Float[np.ndarray, "c 101"]]
    curve: Curve
    voc: dict[str, VocAP] | None = None
    masks: Metrics | None = None
    no_masks: str = ""


def analyse(
    ground_truth: GroundTruth, results: Sequence[Detected], image_ids: Iterable[int], *, voc: bool = False
) -> Analysis:
    """Compare results with the ground truth in every way there is.

    Args: as in average_precision.
        voc: PASCAL VOC's AP, too.
    """
    images = set(image_ids)
    metrics, per_class = average_precision(ground_truth, results, images)
    boxes = as_arrays(ground_truth, results, images)
    matches = match(boxes)
    totals = boxes.totals().tolist()
    details: dict[str, dict[str, int | float]] = {
        name: numbers | {"boxes": totals[label]} | _at_best(curve(boxes, matches, label=label))
        for label, (name, numbers) in enumerate(per_class.items())
    }
    together, errors = curve(boxes, matches), find_errors(boxes, matches)
    no_masks = why_no_masks(ground_truth, results, images)
    threshold = -np.inf if together.best_threshold is None else together.best_threshold
    return Analysis(
        boxes,
        metrics,
        details,
        false_discovery(boxes),
        errors,
        count_errors(boxes, errors, threshold=threshold),
        {0.5: matched_precision(boxes, matches), 0.75: matched_precision(boxes, match(boxes, iou=0.75))},
        together,
        voc_average_precision(boxes) if voc else None,
        average_precision(ground_truth, results, images, of="segm")[0] if no_masks is None else None,
        no_masks or "",
    )


def _at_best(of_class: Curve) -> dict[str, float]:
    best = of_class.best
    if best is None:
        return dict.fromkeys(("threshold", "F1", "precision", "recall"), float("nan"))
    arrays = {"threshold": of_class.thresholds, "F1": of_class.f1}
    arrays |= {"precision": of_class.precision, "recall": of_class.recall}
    return {name: float(array[best]) for name, array in arrays.items()}
