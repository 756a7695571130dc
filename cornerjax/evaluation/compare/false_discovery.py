"""The false discovery rate: how many of the boxes found are nowhere near an object."""

import dataclasses

import numpy as np

from cornerjax.evaluation.compare.curves import matched_precision, mean_precision
from cornerjax.evaluation.compare.matching import Boxes, match_at

IOUS = np.linspace(0.05, 0.5, 10)
NAMED = {"FD_5": 0, "FD_25": 4, "FD_50": 9}
SIZES = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, np.inf),
}  # least and largest area, in pixels


def false_discovery(boxes: Boxes) -> dict[str, float]:
    """1 - AP at low IoUs.

    Returns: FD, over the IoUs 0.05, 0.10 ... 0.50; FD_5, FD_25 and FD_50 at one of them; FD_small, FD_medium and
        FD_large of objects of one size; nan where there is nothing to find.
    Source: Duan et al. 2019, CenterNet: Keypoint Triplets for Object Detection, table 3.
    """
    aps = _average_precisions(boxes, 0.0, np.inf)
    rates = {"FD": 1 - float(np.mean(aps))} | {name: 1 - aps[at] for name, at in NAMED.items()}
    return rates | {f"FD_{size}": 1 - float(np.mean(_average_precisions(boxes, *area))) for size, area in SIZES.items()}


def _average_precisions(boxes: Boxes, least: float, largest: float) -> list[float]:
    """AP at each of IOUS, of objects of some areas: others need not be found, and a box of theirs is not wrong."""
    area = boxes.found.box_areas
    other_size = (area < least) | (area > largest)
    required = (boxes.true.areas >= least) & (boxes.true.areas <= largest)
    aps = []
    for matches in match_at(boxes, IOUS.tolist(), required=required):
        ignored = matches.ignored | (other_size & (matches.true_index < 0))
        aps.append(mean_precision(matched_precision(boxes, dataclasses.replace(matches, ignored=ignored))))
    return aps
