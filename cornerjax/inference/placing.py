"""How test images lie in the inputs of a network: resized, then padded to a legal size or fitted into a fixed one."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from cornerjax.data.crop import warped
from cornerjax.data.geometry import fitted
from cornerjax.detectors.base import Image
from cornerjax.legacy import Legacy

Pair = Float[np.ndarray, "b 2"]


class Placed(NamedTuple):
    """The images of a batch at one scale, as the device gets them; see base.View."""

    images: UInt8[np.ndarray, "b H W 3"]
    borders: Pair
    ratios: Pair
    sizes: Pair


def scaled(side: int, scale: float) -> int:
    """The pixels of a side after resizing."""
    return int(side * scale)


def resized(image: Image, scale: float) -> Image:
    """The image itself at scale 1."""
    if scale == 1:
        return image
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(image, (scaled(width, scale), scaled(height, scale))), np.uint8)


def pad_images(
    images: Sequence[Image],
    originals: Sequence[tuple[int, int]],
    size: tuple[int, int],
    rows: int,
    *,
    scale: float,
    legacy: Legacy,
) -> Placed:
    """Put each image into the middle of a black one.

    Args:
        images: resized.
        originals: height and width of each before.
        size: height and width of the black ones.
        rows: b; there may be fewer images.
        scale: by which they were resized, but for the rounding to whole pixels.
    Source: CornerNet, utils/image.py, crop_image.
    """
    padded = np.zeros((rows, *size, 3), np.uint8)
    borders, ratios, sizes = _nowhere(rows)
    for row, (image, original) in enumerate(zip(images, originals, strict=True)):
        height, width = image.shape[:2]
        y, x = size[0] // 2 - height // 2, size[1] // 2 - width // 2
        # Differs from CornerNet: an image that fills a side is placed whole; there, its last row or column is lost.
        cut = image[: size[0] - 1, : size[1] - 1] if legacy.cut_last else image
        padded[row, y : y + cut.shape[0], x : x + cut.shape[1]] = cut
        ratios[row] = _ratio(image, original, scale, legacy)
        # Divided as boxes are, so that boxes at the border of an image end with it at all scales.
        borders[row], sizes[row] = (x, y), np.array([width, height], np.float32) / ratios[row]
    return Placed(padded, borders, ratios, sizes)


def fit_images(
    images: Sequence[Image],
    originals: Sequence[tuple[int, int]],
    size: tuple[int, int],
    rows: int,
    *,
    scale: float,
    legacy: Legacy,
) -> Placed:
    """Bring the longer side of each image to the width, and its centre to the middle; see pad_images.

    Of an image that was enlarged before only the middle is left: the side is that of the image as it was.

    Source: CenterNet of xingyizhou, src/lib/detectors/base_detector.py, pre_process.
    """
    inputs = np.zeros((rows, *size, 3), np.uint8)
    borders, ratios, sizes = _nowhere(rows)
    for row, (image, original) in enumerate(zip(images, originals, strict=True)):
        height, width = image.shape[:2]
        affine = fitted((width / 2, height / 2), float(max(original)), size)
        inputs[row] = warped(image, affine, size)
        ratios[row] = affine.scale * _ratio(image, original, scale, legacy)
        borders[row], sizes[row] = affine.shift, original[::-1]
    return Placed(inputs, borders, ratios, sizes)


def _nowhere(rows: int) -> tuple[Pair, Pair, Pair]:
    """Borders, ratios and sizes of rows without an image."""
    return np.zeros((rows, 2), np.float32), np.ones((rows, 2), np.float32), np.zeros((rows, 2), np.float32)


def _ratio(image: Image, original: tuple[int, int], scale: float, legacy: Legacy) -> Float[np.ndarray, "2"]:
    """x, y pixels of a resized image for one of the original."""
    # Differs from CornerNet: an axis has the ratio that whole pixels gave it; there, both have the scale.
    return np.full(2, scale) if legacy.nominal_scale else np.array(image.shape[1::-1]) / original[::-1]
