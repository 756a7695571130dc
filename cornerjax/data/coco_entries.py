"""What the entries of a COCO file may hold: asked by training, evaluation, check, pack and comparisons alike."""

import os
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]  # an object of a JSON file

LARGEST_ID = 2**63  # ids are smaller: arrays and TFDS hold them in 64 bits
MOST_PX = 2**20  # a side of an image; OpenCV reads no larger ones
TOO_FAR = 2.0**24  # numbers of a box are smaller: up to here float32 tells whole pixels apart
MOST_BYTES = 255  # of a part of a path; file systems take no more


def is_id(value: Any) -> bool:
    """Whether it is a whole number of 64 bits."""
    return type(value) is int and -LARGEST_ID <= value < LARGEST_ID


def is_name(value: Any) -> bool:
    """Whether it is text that can be written."""
    return isinstance(value, str) and "\0" not in value and _encodes(value)


def is_file_name(value: Any) -> bool:
    """Whether it is the name of a file that there could be, with folders before it or not."""
    return bool(value) and is_name(value) and all(len(os.fsencode(part)) <= MOST_BYTES for part in value.split("/"))


def is_side(value: Any) -> bool:
    """Whether it is the height or width of an image."""
    return type(value) is int and 0 < value <= MOST_PX


def is_box(box: Any) -> bool:
    """Whether it is x, y, width, height: numbers below TOO_FAR, no size negative."""
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and box[2] >= 0 and box[3] >= 0


def is_number(value: Any) -> bool:
    """Whether it is a finite number, below TOO_FAR."""
    return type(value) in (int, float) and abs(value) < TOO_FAR


def is_area(value: Any) -> bool:
    """Whether it is the area of an object, or nothing."""
    return value is None or (type(value) in (int, float) and 0 <= value < TOO_FAR**2)


def is_flag(value: Any) -> bool:
    """Whether it is one of what COCO says yes and no with, or nothing."""
    return value is None or (type(value) in (bool, int, float) and value in (0, 1))


def is_outside(box: Sequence[float | int], height: int, width: int) -> bool:
    """Whether nothing of a box, x, y, width, height, lies in an image of this size."""
    return box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a character
        return False
    return True


BOX = f"four finite numbers x, y, width, height below {TOO_FAR:.0f}, no negative size"
# What an annotation may have besides, whether it is right, and what is.
OTHERS = (
    ("area", is_area, "a number of pixels, or none"),
    ("iscrowd", is_flag, "0 or 1"),
    ("difficult", is_flag, "0 or 1"),
)
