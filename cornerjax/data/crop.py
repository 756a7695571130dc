"""The geometry of a training example: its random draws, the shared random crop and the plain stretch."""

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, UInt8

from cornerjax.config import Config, Data
from cornerjax.data import order
from cornerjax.data.records import Record

DRAWS = ("flip", "jitter_order", "jitter", "lighting")  # what a batch carries when pixels are finished on the device
Objects = dict[str, np.ndarray]  # "boxes" (n, 4) float32 x1 y1 x2 y2, "classes" (n,) int32, more where a source has it


@dataclasses.dataclass(frozen=True)
class Draws:
    """Every random number of one training example, drawn before any is used.

    Attributes:
        scale: crop side / crop_px.
        centre: x, y of the crop's centre, in image pixels.
        flip: mirror the example.
        jitter_order: a permutation of BRIGHTNESS, CONTRAST, SATURATION of ops.pixels.
        jitter: the factors less 1, in the order they are used.
        lighting: the weights of the colour components.
        own: uniform numbers in [0, 1) for a detector's own crop.
    """

    scale: float
    centre: tuple[int, int]
    flip: bool
    jitter_order: Int32[np.ndarray, "3"]
    jitter: Float32[np.ndarray, "3"]
    lighting: Float32[np.ndarray, "3"]
    own: Float64[np.ndarray, "9"]


def draw(rng: np.random.Generator, height: int, width: int, data: Data) -> Draws:
    """Draw for an image of this size; an option that is off leaves the other draws as they are."""
    scale = data.crop_scales[rng.integers(len(data.crop_scales))]
    x_border, y_border = fit_border(data.crop_border_px, width), fit_border(data.crop_border_px, height)
    centre = int(rng.integers(x_border, width - x_border)), int(rng.integers(y_border, height - y_border))
    flip = bool(rng.random() < 0.5) and data.flip
    order = rng.permutation(3).astype(np.int32)
    jitter = (rng.uniform(-1, 1, 3) * data.colour_jitter).astype(np.float32)
    lighting = (rng.standard_normal(3) * data.lighting).astype(np.float32)
    return Draws(scale, centre, flip, order, jitter, lighting, own=rng.random(9))


def fit_border(border: int, size: int) -> int:
    """Halve a border until its two sides leave something of the image between them, in pixels.

    Source: CornerNet-Lite, core/sample/utils.py, _get_border.
    """
    part = 1
    while size - border // part <= border // part:
        part *= 2
    return border // part


def crop_at(
    position: int, record: Record, image: UInt8[np.ndarray, "h0 w0 3"], config: Config, crop: Callable | None = None
) -> tuple[Draws, UInt8[np.ndarray, "H W 3"], Objects]:
    """The random crop of a record's image at a global position of the training data, mirrored boxes included.

    Args:
        crop: a detector's own, see its contract; None: crop_example.
    Returns: the draws, the crop, and its objects; the draws say how the crop's pixels are still to be finished, and
        mirrored.
    """
    draws = draw(order.generator(config.seed, position), record.height, record.width, config.data)
    objects = {"boxes": record.boxes, "classes": record.classes}
    image, objects = (crop or crop_example)(image, objects, draws, config)
    return draws, image, flip_objects(objects, image.shape[1]) if draws.flip else objects


def crop_example(
    image: UInt8[np.ndarray, "h0 w0 3"], objects: Objects, draws: Draws, config: Config
) -> tuple[UInt8[np.ndarray, "H W 3"], Objects]:
    """The shared crop: random where config.data.random_crop, else the whole image, stretched to config.data.crop_px.

    Boxes are clipped to the crop, and the objects of which nothing is left are dropped. Not mirrored yet.
    """
    data = config.data
    boxes = objects["boxes"]
    if data.random_crop:
        image, boxes = random_crop(image, boxes, scale=draws.scale, centre=draws.centre, crop_px=data.crop_px)
    image, boxes = stretch(image, boxes, data.crop_px)
    return image, clip_objects(objects | {"boxes": boxes}, data.crop_px)


def random_crop(
    image: UInt8[np.ndarray, "h0 w0 3"],
    boxes: Float[np.ndarray, "n 4"],
    *,
    scale: float,
    centre: tuple[int, int],
    crop_px: tuple[int, int],
) -> tuple[UInt8[np.ndarray, "h1 w1 3"], Float[np.ndarray, "n 4"]]:
    """Cut out crop_px * scale around a centre; what lies outside the image is black.

    The cut reaches width // 2 to both sides, so that an odd width leaves its last column black.

    Args:
        image: BGR.
        boxes: x1 y1 x2 y2 in pixels of the image.
        scale, centre: see Draws.
        crop_px: height and width at scale 1.
    Returns: the crop, and the boxes in its pixels, not clipped.
    Source: CornerNet-Lite, core/sample/utils.py, random_crop.
    """
    height, width = (max(int(side * scale), 2) for side in crop_px)
    x, y = centre
    left, top = min(x, width // 2), min(y, height // 2)
    right, bottom = min(image.shape[1] - x, width // 2), min(image.shape[0] - y, height // 2)
    crop = np.zeros((height, width, 3), np.uint8)
    x_crop, y_crop = width // 2, height // 2
    crop[y_crop - top : y_crop + bottom, x_crop - left : x_crop + right] = image[
        y - top : y + bottom, x - left : x + right
    ]
    shift = np.array([x_crop - x, y_crop - y] * 2, boxes.dtype)
    return crop, boxes + shift


def stretch(
    image: UInt8[np.ndarray, "h0 w0 3"], boxes: Float[np.ndarray, "n 4"], size_px: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "n 4"]]:
    """Resize an image and its boxes to a height and width, without regard to the aspect ratio."""
    height, width = size_px
    ratio = np.array([width / image.shape[1], height / image.shape[0]] * 2, boxes.dtype)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), boxes * ratio


def clip_objects(objects: Objects, size_px: tuple[int, int], *, first_px: tuple[int, int] = (0, 0)) -> Objects:
    """Clip boxes to the first and last pixel of an image of this height and width; drop objects left without area.

    Where the image is a part of a larger one, first_px is the y, x of its first pixel there.
    """
    first = np.array([first_px[1], first_px[0]] * 2, np.float32)
    last = first + np.array([size_px[1] - 1, size_px[0] - 1] * 2, np.float32)
    boxes = np.clip(objects["boxes"], first, last)
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return {name: values[keep] for name, values in (objects | {"boxes": boxes}).items()}


def flip_objects(objects: Objects, width: int) -> Objects:
    """Mirror boxes left to right in an image of this width; pixel x goes to width - x - 1."""
    x1, y1, x2, y2 = objects["boxes"].T
    boxes = np.stack([width - x2 - 1, y1, width - x1 - 1, y2], axis=1)
    return objects | {"boxes": boxes}


def as_arrays(draws: Draws) -> dict[str, Any]:
    """Those of DRAWS, for a batch."""
    return {name: np.asarray(getattr(draws, name)) for name in DRAWS}
