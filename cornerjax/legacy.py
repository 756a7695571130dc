"""What the original programs do that changes numbers and is no part of the method: one switch each.

Detectors add switches of their own. Three more are quantities and stand with their kind: `data.crowd`,
`data.gaussian_radius` and `loss.group`.
"""

import dataclasses
from typing import TypeVar

L = TypeVar("L", bound="Legacy")


@dataclasses.dataclass(frozen=True)
class Legacy:
    """All off: what we would do. All on: what the originals do, for which released weights give released numbers."""

    # testing
    stale_rows: bool = False  # boxes that soft-NMS dropped stay in the result, some of them twice
    misplaced_weights: bool = False  # merging weighs a box by the corner scores of another, after a change of rows
    inclusive_overlap: bool = False  # soft-NMS counts the last pixel of a box as inside: sides are one pixel longer
    ties: bool = False  # boxes that tie with the last of max_detections are kept too
    cut_last: bool = False  # a test image as wide or as high as its padded size loses its last column or row
    nominal_scale: bool = False  # boxes scale back by the scale asked for, not by that of the whole pixels it gave
    padding_boxes: bool = False  # boxes that lie in the padding stay, as lines on the image's border
    rounded_peaks: bool = False  # neighbours whose scores float32 makes equal, as near 1, are peaks both
    non_peaks: bool = False  # where a map has fewer peaks than top_k, other cells fill up, with score 0
    round_results: bool = False  # results.json has two decimals
    # training
    mirror_minus_one: bool = False  # mirrored boxes lie one pixel left of the mirrored pixels
    clip_to_last_pixel: bool = False  # boxes end where the last pixel of the crop begins
    lost_odd_side: bool = False  # the last column or row of a crop with an odd side is black


def switched(legacy: L, on: bool) -> L:
    """The same kind of switches, all on or all off."""
    return type(legacy)(**{field.name: on for field in dataclasses.fields(legacy)})
