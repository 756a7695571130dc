"""Why the AP is not higher: every found box is right or one of five kinds of error, every true box found or missed.

The kinds, and what each costs, are those of TIDE (Bolya et al. 2020, A General Toolbox for Identifying Object Detection
Errors): the cost of a kind is the AP50 gained if all errors of this kind, and no others, were mended.
"""

import dataclasses
import enum

import numpy as np
from jaxtyping import Float, Int

from cornerjax.evaluation.compare.curves import in_coco_order, mean_precision, precision_by_class
from cornerjax.evaluation.compare.matching import Boxes, Matches, by_image, match

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU from which a box is on an object, and up to which it is on none


class Kind(enum.IntEnum):
    """What a found box is."""

    CORRECT = 0
    CLASS = 1  # on an object of another class
    LOCALISATION = 2  # its class is right, but it overlaps the object too little
    BOTH = 3  # overlaps an object of another class too little
    DUPLICATE = 4  # on an object that a box of a higher score has found
    BACKGROUND = 5  # on nothing
    IGNORED = 6  # on a crowd region, or beyond the boxes that count in an image: neither right nor wrong


class TrueKind(enum.IntEnum):
    """What became of a true box."""

    FOUND = 0
    MISTAKEN = 1  # not found, but a box of the kind CLASS or LOCALISATION is on it
    MISSED = 2
    CROWD = 3  # a region that need not be found


ERRORS = ("class", "localisation", "both", "duplicate", "background", "missed")  # the last is of true boxes


@dataclasses.dataclass(frozen=True)
class Errors:
    """Every box explained; rows are those of the boxes compared.

    Attributes:
        kinds: the Kind of every found box.
        true_index: row of the true box a found box is about: the one it found, found again, named wrongly or overlaps
            too little, or the crowd region; -1 for BACKGROUND, and for what is IGNORED off crowd regions.
        ious: IoU with this box, with a crowd region the part of the found box on it; 0 where true_index is -1.
        true_kinds: the TrueKind of every true box.
        found_index: row of the found box that found a true one; -1: none.
        ap50: of the boxes as they are.
        gains: AP50 gained by mending each of ERRORS, of boxes of any score, as AP counts them all; nan where there is
            nothing to find, or nothing left.
    """

    kinds: Int[np.ndarray, "n"]
    true_index: Int[np.ndarray, "n"]
    ious: Float[np.ndarray, "n"]
    true_kinds: Int[np.ndarray, "m"]
    found_index: Int[np.ndarray, "m"]
    ap50: float
    gains: dict[str, float]


def find_errors(boxes: Boxes, matches: Matches | None = None) -> Errors:
    """Explain every box.

    Args:
        matches: of `match(boxes, iou=FOREGROUND)`, where they are at hand.
    """
    matches = match(boxes, iou=FOREGROUND) if matches is None else matches
    kinds = np.where(matches.ignored, Kind.IGNORED, Kind.CORRECT)
    true_index, ious = matches.true_index.copy(), np.zeros(len(kinds))
    for true_rows, found_rows in by_image(boxes):
        wrong = found_rows[(kinds[found_rows] == Kind.CORRECT) & (true_index[found_rows] < 0)]
        kinds[wrong], true_index[wrong] = _explain(boxes, matches, wrong, true_rows)
        about = found_rows[true_index[found_rows] >= 0]
        column = np.searchsorted(true_rows, true_index[about])
        ious[about] = boxes.overlaps(about, true_rows)[np.arange(len(about)), column]

    true_kinds = np.where(matches.found_index >= 0, TrueKind.FOUND, TrueKind.MISSED)
    mistaken = true_index[(kinds == Kind.CLASS) | (kinds == Kind.LOCALISATION)]
    true_kinds[mistaken[true_kinds[mistaken] == TrueKind.MISSED]] = TrueKind.MISTAKEN
    true_kinds[boxes.true.crowd] = TrueKind.CROWD

    ap50 = _average_precision(boxes, kinds, true_index, true_kinds)
    gains = {name: _average_precision(boxes, kinds, true_index, true_kinds, mended=name) - ap50 for name in ERRORS}
    return Errors(kinds, true_index, ious, true_kinds, matches.found_index, ap50, gains)


def count_errors(boxes: Boxes, errors: Errors, *, threshold: float = -np.inf) -> dict[str, int]:
    """How many there are of each of ERRORS if only the boxes with this score or a higher one were there.

    The kind of a found box is the same with every threshold, as it depends on boxes of higher scores only.
    """
    kept = boxes.found.scores >= threshold
    counts = {name: int((errors.kinds[kept] == Kind[name.upper()]).sum()) for name in ERRORS[:-1]}
    on_object = kept & np.isin(errors.kinds, (Kind.CORRECT, Kind.CLASS, Kind.LOCALISATION))
    missed = ~boxes.true.crowd
    missed[errors.true_index[on_object]] = False
    return counts | {"missed": int(missed.sum())}


def _explain(
    boxes: Boxes, matches: Matches, wrong: Int[np.ndarray, "n"], true_rows: Int[np.ndarray, "m"]
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Kind and true box of the wrong boxes of an image; the first kind that fits, in the order of TIDE's program."""
    true_rows = true_rows[~boxes.true.crowd[true_rows]]
    if not len(true_rows):
        return np.full(len(wrong), Kind.BACKGROUND), np.full(len(wrong), -1)
    ious = boxes.overlaps(wrong, true_rows)
    same = boxes.found.classes[wrong, None] == boxes.true.classes[true_rows]
    taken = matches.found_index[true_rows] >= 0
    of_class, of_others, of_taken = (np.where(those, ious, 0) for those in (same, ~same, same & taken))
    highest = of_class.max(1)
    fits = {
        Kind.LOCALISATION: ((highest >= BACKGROUND) & (highest < FOREGROUND), of_class),
        Kind.CLASS: (of_others.max(1) >= FOREGROUND, of_others),
        Kind.DUPLICATE: (of_taken.max(1) >= FOREGROUND, of_taken),
        Kind.BACKGROUND: (ious.max(1) <= BACKGROUND, None),
    }
    kinds, rows = np.full(len(wrong), Kind.BOTH), true_rows[ious.argmax(1)]
    for kind, (fit, by) in reversed(fits.items()):
        kinds[fit] = kind
        rows[fit] = -1 if by is None else true_rows[by.argmax(1)][fit]
    return kinds, rows


def _average_precision(
    boxes: Boxes,
    kinds: Int[np.ndarray, "n"],
    true_index: Int[np.ndarray, "n"],
    true_kinds: Int[np.ndarray, "m"],
    *,
    mended: str = "",
) -> float:
    """AP50 with one of ERRORS mended.

    Of the boxes of a wrong class or place on an object, the best becomes right if nothing else has found it, and the
    others go; boxes of another kind go; what is missed need not be found.
    """
    order = in_coco_order(boxes)
    order = order[kinds[order] != Kind.IGNORED]
    kinds, about, scores = kinds[order], true_index[order], boxes.found.scores[order]
    right, classes, totals = kinds == Kind.CORRECT, boxes.found.classes[order], boxes.totals()
    keep = np.ones(len(order), bool)
    if mended == "missed":
        missed = boxes.true.classes[true_kinds == TrueKind.MISSED]
        totals = totals - np.bincount(missed, minlength=len(totals))
    elif mended:
        keep = kinds != Kind[mended.upper()]
    if mended in ("class", "localisation"):
        rows = np.flatnonzero(~keep)
        rows = rows[true_kinds[about[rows]] == TrueKind.MISTAKEN]
        rows = rows[np.unique(about[rows], return_index=True)[1]]  # the first of an image is its best
        keep[rows] = right[rows] = True
        classes[rows] = boxes.true.classes[about[rows]]
    return mean_precision(precision_by_class(scores[keep], right[keep], classes[keep], totals))
