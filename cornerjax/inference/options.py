"""What can be asked of predict.py besides files: its options, and the default of each."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Which boxes are kept, and what is made of them; the comments are the help of predict.py."""

    min_score: float = 0.5  # boxes with a lower score are left out
    classes: tuple[str, ...] = ()  # names of the classes whose boxes are kept; none given: all
    max_side: int = 0  # larger photos and frames are reduced to this longer side, in pixels, for the network; 0: none
    batch: int = 8  # frames of a video that go through the network together; those of a camera go one by one
    frames: int = 0  # at most so many of each video and camera; 0: all of a video, and a camera's until Ctrl-C
    results: tuple[Literal["json", "csv", "coco"], ...] = ("json",)  # detections.json, detections.csv, results.json
    annotations: str = ""  # COCO file whose image ids results.json is to have; without, photos are counted from 1
    pictures: bool = True  # draw the photos and videos
    # what is drawn besides boxes: keypoints, and what the detector itself can draw, which a wrong name is answered with
    overlay: tuple[str, ...] = ()


# The least and largest values of numbers.
LIMITS = {"min_score": (0, 1), "max_side": (0, 10**6), "frames": (0, 10**9), "batch": (1, 10**4)}
