"""What the original programs do that changes numbers and is no part of the method: one switch each, and presets.

Three more are quantities and stand with their kind: `data.crowd`, `data.gaussian_radius` and `loss.group`.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Legacy:
    """All off: what we would do. All on: what the originals do, for which released weights give released numbers."""

    # testing
    stale_rows: bool = False  # boxes that soft-NMS dropped stay in the result, some of them twice
    misplaced_weights: bool = False  # merging weighs a box by the corner scores of another, after a change of rows
    ties: bool = False  # boxes that tie with the last of max_detections are kept too
    # a test image as wide or as high as its padded size loses its last column or row; in a look of Saccade, on or off,
    # an odd number of pixels does
    cut_last: bool = False
    nominal_scale: bool = False  # boxes scale back by the scale asked for, not by that of the whole pixels it gave
    padding_boxes: bool = False  # boxes that lie in the padding stay, as lines on the image's border
    non_peaks: bool = False  # where a map has fewer peaks than top_k, other cells fill up, with score 0
    round_results: bool = False  # results.json has two decimals
    unclipped: bool = False  # Saccade: boxes may reach beyond the image
    row_or_column: bool = False  # Saccade: places on the same row or column count as close, however far apart
    # training
    push_itself: bool = False  # the push loss compares an object with itself too, and adds 1e-4 to counts
    count_ignored: bool = False  # Saccade: corners that the loss leaves out still count in its divisor
    shared_ends: bool = False  # Saccade: an object of a size at which two attention maps meet is in both


CLEAN, RELEASED = Legacy(), Legacy(**{field.name: True for field in dataclasses.fields(Legacy)})
PRESETS = ("released", "released_eccv18", "clean")


def apply_preset(config: Any, name: str) -> Any:
    """The configuration with all switches and `data.crowd` set as in one of PRESETS.

    "released_eccv18" is CornerNet's first repository, whose weights were trained with the legacy radius at an overlap
    of 0.7, which it sets too; its test procedure is that of "released".
    """
    legacy = name != "clean"
    data: dict[str, Any] = {"crowd": legacy}
    if name == "released_eccv18":
        data |= {"gaussian_radius": "legacy", "gaussian_iou": 0.7}
    return dataclasses.replace(
        config, legacy=RELEASED if legacy else CLEAN, data=dataclasses.replace(config.data, **data)
    )
