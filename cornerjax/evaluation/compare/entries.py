"""The entries of COCO's JSON files that a comparison uses; files may have more in them."""

from typing import Any, NotRequired, TypedDict


class ImageEntry(TypedDict):
    """An image."""

    id: int
    height: NotRequired[int]
    width: NotRequired[int]


class Category(TypedDict):
    """A class."""

    id: int
    name: str


class Annotation(TypedDict):
    """A true box; null is the same as no entry."""

    image_id: int
    category_id: int
    bbox: list[float]  # x, y, width, height in pixels
    area: NotRequired[float | None]  # of the object; width x height of the box if not given
    iscrowd: NotRequired[int | None]
    difficult: NotRequired[int | None]
    segmentation: NotRequired[Any]  # polygons or a run-length encoded mask


class GroundTruth(TypedDict):
    """An instances JSON."""

    images: list[ImageEntry]
    categories: list[Category]
    annotations: list[Annotation]


class Detected(TypedDict):
    """A box that was found, in COCO's result format."""

    image_id: int
    category_id: int
    bbox: list[float]  # x, y, width, height in pixels
    score: float
    segmentation: NotRequired[Any]
