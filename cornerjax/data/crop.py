"""The geometry of a training example: its random draws, the shared random crop and the plain stretch."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from cornerjax.config import Config, Data
from cornerjax.data import order
from cornerjax.data.geometry import Affine, clipped, mirrored, moved
from cornerjax.data.records import Record
from cornerjax.keypoints import Objects

DRAWS = ("flip", "jitter_order", "jitter", "lighting")  # what a batch carries when pixels are finished on the device


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


class Cropped(NamedTuple):
    """A training crop.

    Attributes:
        image: BGR, of data.crop_px.
        objects: of which it shows something, clipped, in its pixels.
        affine: from pixels of the image to those of the crop.
        mirrored: whether the crop has done what draws.flip asks for; otherwise what comes after it does.
    """

    image: UInt8[np.ndarray, "H W 3"]
    objects: Objects
    affine: Affine
    mirrored: bool = False


# How a detector cuts out its training examples: (image, objects, draws, config) -> crop.
Crop = Callable[[UInt8[np.ndarray, "h0 w0 3"], Objects, Draws, Config], Cropped]


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
    position: int, record: Record, image: UInt8[np.ndarray, "h0 w0 3"], config: Config, crop: Crop | None = None
) -> tuple[Draws, UInt8[np.ndarray, "H W 3"], Objects]:
    """The random crop of a record's image at a global position of the training data, mirrored objects included.

    Args:
        crop: a detector's own; None: crop_example.
    Returns: the draws, the crop, and its objects; the draws say how the crop's pixels are still to be finished, and
        mirrored.
    """
    draws = draw(order.generator(config.seed, position), record.height, record.width, config.data)
    cropped = (crop or crop_example)(image, record.objects, draws, config)
    if cropped.mirrored:
        draws = dataclasses.replace(draws, flip=False)
    objects = cropped.objects
    if draws.flip:
        objects = mirrored(objects, cropped.image.shape[1], minus_one=config.legacy.mirror_minus_one)
    return draws, cropped.image, objects


def crop_example(image: UInt8[np.ndarray, "h0 w0 3"], objects: Objects, draws: Draws, config: Config) -> Cropped:
    """The shared crop: random where config.data.random_crop, else the whole image, stretched to config.data.crop_px."""
    data, legacy = config.data, config.legacy
    cut = Affine(np.ones(2), np.zeros(2))
    if data.random_crop:
        image, cut = random_crop(
            image, scale=draws.scale, centre=draws.centre, crop_px=data.crop_px, lost_odd_side=legacy.lost_odd_side
        )
    image, stretched = stretch(image, data.crop_px)
    objects = clipped(moved(moved(objects, cut), stretched), data.crop_px, to_last_pixel=legacy.clip_to_last_pixel)
    return Cropped(image, objects, cut.then(stretched))


def random_crop(
    image: UInt8[np.ndarray, "h0 w0 3"],
    *,
    scale: float,
    centre: tuple[int, int],
    crop_px: tuple[int, int],
    lost_odd_side: bool = False,
) -> tuple[UInt8[np.ndarray, "h1 w1 3"], Affine]:
    """Cut out crop_px * scale around a centre; what lies outside the image is black.

    Args:
        image: BGR.
        scale, centre: see Draws.
        crop_px: height and width at scale 1.
        lost_odd_side: the original's form: the cut reaches width // 2 to both sides, so that an odd width leaves its
            last column black.
    Returns: the crop, and the move from pixels of the image to those of the crop.
    Source: CornerNet-Lite, core/sample/utils.py, random_crop.
    """
    height, width = (max(int(side * scale), 2) for side in crop_px)
    x, y = centre
    x_crop, y_crop = width // 2, height // 2
    # Differs from CornerNet: what an odd side has more reaches to the right and below, unless lost_odd_side.
    after_x, after_y = (half if lost_odd_side else side - half for side, half in ((width, x_crop), (height, y_crop)))
    left, top = min(x, x_crop), min(y, y_crop)
    right, bottom = min(image.shape[1] - x, after_x), min(image.shape[0] - y, after_y)
    crop = np.zeros((height, width, 3), np.uint8)
    crop[y_crop - top : y_crop + bottom, x_crop - left : x_crop + right] = image[
        y - top : y + bottom, x - left : x + right
    ]
    return crop, Affine(np.ones(2), np.array([x_crop - x, y_crop - y], np.float64))


def stretch(image: UInt8[np.ndarray, "h0 w0 3"], size_px: tuple[int, int]) -> tuple[UInt8[np.ndarray, "H W 3"], Affine]:
    """Resize an image to a height and width, without regard to the aspect ratio; and the move that this is."""
    height, width = size_px
    ratio = np.array([width / image.shape[1], height / image.shape[0]])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized, Affine(ratio, np.zeros(2))


def warped(image: UInt8[np.ndarray, "h0 w0 3"], affine: Affine, size_px: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """An image of a height and width that shows another after a move, and black where there is nothing of it."""
    height, width = size_px
    (x, y), (right, down) = affine.scale, affine.shift
    matrix = np.array([[x, 0, right], [0, y, down]], np.float64)
    return np.asarray(cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=cv2.INTER_LINEAR))


def as_arrays(draws: Draws) -> dict[str, np.ndarray]:
    """Those of DRAWS, for a batch."""
    return {name: np.asarray(getattr(draws, name)) for name in DRAWS}
