"""Precision and recall from matched boxes, and the AP that COCO makes of them."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from cornerjax.evaluation.compare.matching import Boxes, Matches

RECALLS = np.linspace(0, 1, 101)  # at which COCO looks up the precision


@dataclasses.dataclass(frozen=True)
class Curve:
    """What would be found with each threshold on the score, from the highest score down.

    Attributes:
        thresholds: every score that occurs; boxes with this score and more count.
        precision: part of these boxes that is right.
        recall: part of the true boxes that is found.
    """

    thresholds: Float[np.ndarray, "n"]
    precision: Float[np.ndarray, "n"]
    recall: Float[np.ndarray, "n"]

    @property
    def f1(self) -> Float[np.ndarray, "n"]:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0)

    @property
    def best(self) -> int | None:
        """Where F1 is largest; None where nothing right was found."""
        return int(self.f1.argmax()) if self.f1.any() else None

    @property
    def best_threshold(self) -> float | None:
        """The score from which on F1 is largest; None where nothing right was found."""
        return None if self.best is None else float(self.thresholds[self.best])


def curve(boxes: Boxes, matches: Matches, *, label: int | None = None) -> Curve:
    """Precision and recall over the score of one class, or of all boxes of all classes together.

    Args:
        label: of the class; None: all.
    """
    rows = ~matches.ignored if label is None else ~matches.ignored & (boxes.found.classes == label)
    total = boxes.totals().sum() if label is None else boxes.totals()[label]
    scores, right = boxes.found.scores[rows], matches.right[rows]
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(right[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # no threshold parts equal scores
    return Curve(scores[last], found[last] / (last + 1), found[last] / max(int(total), 1))


def interpolated_precision(
    scores: Float[np.ndarray, "n"], right: Bool[np.ndarray, "n"], total: int
) -> Float[np.ndarray, "101"]:
    """The best precision at each of RECALLS or more; the mean of this is COCO's AP.

    Args:
        scores, right: of the boxes of one class that count; equal scores in the order of their images.
        total: boxes to be found, more than 0.
    Source: pycocotools, cocoeval.py, accumulate.
    """
    right = right[np.argsort(-scores, kind="stable")]
    found = np.cumsum(right)
    precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
    at = np.searchsorted(found / total, RECALLS)
    return np.append(precision, 0)[at]


def precision_by_class(
    scores: Float[np.ndarray, "n"],
    right: Bool[np.ndarray, "n"],
    classes: Int[np.ndarray, "n"],
    totals: Int[np.ndarray, "c"],
) -> Float[np.ndarray, "c 101"]:
    """The interpolated precision of every class; nan where there is nothing to find."""
    rows = np.full((len(totals), len(RECALLS)), np.nan)
    for label in np.flatnonzero(totals > 0):
        own = classes == label
        rows[label] = interpolated_precision(scores[own], right[own], int(totals[label]))
    return rows


def matched_precision(boxes: Boxes, matches: Matches) -> Float[np.ndarray, "c 101"]:
    """The interpolated precision of every class, of boxes matched at one IoU; its mean is COCO's AP at this IoU."""
    order = in_coco_order(boxes)
    order = order[~matches.ignored[order]]
    totals, found = boxes.totals(matches.required), boxes.found
    return precision_by_class(found.scores[order], matches.right[order], found.classes[order], totals)


def in_coco_order(boxes: Boxes) -> Int[np.ndarray, "n"]:
    """Rows of the found boxes, image by image and the best of each first: how COCO breaks ties of scores."""
    return np.lexsort((-boxes.found.scores, boxes.found.images))


def mean_precision(rows: Float[np.ndarray, "c 101"]) -> float:
    """The mean over the classes that have something to be found; nan where none has."""
    known = ~np.isnan(rows)
    return float(rows[known].mean()) if known.any() else float("nan")
