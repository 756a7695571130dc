"""PASCAL VOC's average precision."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from cornerjax.evaluation.compare.matching import Boxes, overlaps

ELEVEN = np.linspace(0, 1, 11)  # recalls at which VOC 2007 looks up the precision


@dataclasses.dataclass(frozen=True)
class VocAP:
    """AP of one class, nan where there is nothing to find: under the whole curve, since 2010, and at eleven points."""

    all_points: float
    eleven_points: float


def voc_average_precision(boxes: Boxes, *, iou: float = 0.5) -> dict[str, VocAP]:
    """VOC's AP of every class, by name.

    A found box belongs to the true box that it overlaps most, taken or not: the first one there is right, others are
    wrong; on difficult objects and crowd regions it is neither. The last row and column belong to a box:
    its width is x2 - x1 + 1, with x2 = x + width of a COCO file.

    Args:
        iou: least overlap, in (0, 1].
    Source: VOCdevkit, VOCevaldet.m and VOCap.m.
    """
    optional = boxes.true.difficult | boxes.true.crowd
    results = {}
    for label, name in enumerate(boxes.class_names):
        own = boxes.true.classes == label
        total = int((own & ~optional).sum())
        if not total:
            results[name] = VocAP(np.nan, np.nan)
            continue
        right, wrong = _judge(boxes, np.flatnonzero(own), np.flatnonzero(boxes.found.classes == label), optional, iou)
        found = np.cumsum(right)
        recall, precision = found / total, found / np.maximum(found + np.cumsum(wrong), 1)
        results[name] = VocAP(_area(recall, precision), _at_eleven(recall, precision))
    return results


def mean_voc(results: dict[str, VocAP]) -> VocAP:
    """The mean over the classes that have something to be found; nan where none has."""
    known = [ap for ap in results.values() if not np.isnan(ap.all_points)]
    if not known:
        return VocAP(np.nan, np.nan)
    return VocAP(float(np.mean([ap.all_points for ap in known])), float(np.mean([ap.eleven_points for ap in known])))


def _judge(
    boxes: Boxes,
    true_rows: Int[np.ndarray, "m"],
    found_rows: Int[np.ndarray, "n"],
    optional: Bool[np.ndarray, "_"],
    iou: float,
) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Which boxes of one class are right and which are wrong, best first."""
    found_rows = found_rows[np.argsort(-boxes.found.scores[found_rows], kind="stable")]
    right, wrong = np.zeros(len(found_rows), bool), np.ones(len(found_rows), bool)
    for image in np.intersect1d(boxes.true.images[true_rows], boxes.found.images[found_rows]):
        there = true_rows[boxes.true.images[true_rows] == image]
        places = np.flatnonzero(boxes.found.images[found_rows] == image)
        inclusive = np.array([0, 0, 1, 1])
        found, true = boxes.found.boxes[found_rows[places]] + inclusive, boxes.true.boxes[there] + inclusive
        areas = (found[:, 2:] - found[:, :2]).prod(-1), (true[:, 2:] - true[:, :2]).prod(-1)
        ious = overlaps(found, true, areas=areas)
        free = np.ones(len(there), bool)
        for place, row in zip(places, ious, strict=True):
            best = row.argmax()
            if row[best] < iou:
                continue
            right[place] = free[best] and not optional[there[best]]
            wrong[place] = not free[best]
            free[best] = optional[there[best]]
    return right, wrong


def _area(recall: Float[np.ndarray, "n"], precision: Float[np.ndarray, "n"]) -> float:
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * best).sum())


def _at_eleven(recall: Float[np.ndarray, "n"], precision: Float[np.ndarray, "n"]) -> float:
    return float(np.mean([precision[recall >= least].max(initial=0) for least in ELEVEN]))
