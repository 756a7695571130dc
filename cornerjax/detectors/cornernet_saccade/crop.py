"""CornerNet-Saccade's training crop: an object at a size drawn for it, and what lies around it."""

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from cornerjax.config import Config
from cornerjax.data.crop import Cropped, Draws, crop_example
from cornerjax.data.geometry import Affine, clipped, moved, overlap
from cornerjax.detectors.cornernet_saccade.options import SaccadeData
from cornerjax.keypoints import Objects

OFF_CENTRE_PX = 14  # how far at most a centred object lies from the middle of the crop


def crop_around_reference(
    image: UInt8[np.ndarray, "h0 w0 3"], objects: Objects, draws: Draws, config: Config
) -> Cropped:
    """Draw an object, resize the image so that the object gets a size drawn for it, and cut out a crop that shows it.

    An image without objects is resized by one of data.crop_scales and cut anywhere. Where data.random_crop is off, it
    is the shared crop.

    Args:
        image: BGR.
        objects: "boxes" (n, 4) x1 y1 x2 y2 in pixels of the image, and other fields.
        draws: own and scale are used.
        config: data is used.
    Returns: the crop, black where the image does not reach; the objects are clipped to the image in it, each with
        "overlap", the part of its area that is left.
    Source: CornerNet-Lite, core/sample/cornernet_saccade.py, cornernet_saccade.
    """
    data, legacy = config.data, config.legacy
    assert isinstance(data, SaccadeData)
    if not data.random_crop:
        return crop_example(image, objects, draws, config)
    which, how_large = draws.own[:2].tolist()
    in_image = objects | {"whole": objects["boxes"]}
    objects = clipped(in_image, image.shape[:2], to_last_pixel=legacy.clip_to_last_pixel)
    boxes, reference = objects["boxes"], None
    scale: float | np.floating = draws.scale
    if len(boxes):
        i = int(which * len(boxes))
        scale = reference_scale(boxes[i], how_large, data)
        reference = boxes[i] * scale
    height, width = (max(int(side * scale), 1) for side in image.shape[:2])
    middle = crop_middle((height, width), reference, data.crop_px, draws.own[2:])
    scaled = Affine(np.full(2, scale), np.zeros(2))
    cropped = cut_out(
        image,
        moved(objects, scaled),
        (height, width),
        middle,
        data.crop_px,
        lost_odd_side=legacy.lost_odd_side,
        clip_to_last_pixel=legacy.clip_to_last_pixel,
    )
    shown = cropped.objects
    whole = shown.pop("whole") * scale
    shown["overlap"] = overlap(shown["boxes"], whole)
    return Cropped(cropped.image, shown, scaled.then(cropped.affine))


def reference_scale(box: Float[np.ndarray, "4"], u: float, data: SaccadeData) -> np.floating:
    """The factor that brings an object to a size drawn from the range of data.attention_px in which it is.

    Ranges end at data.min_object_px and, so that the crop has room for it, at the crop's shorter side less 1.

    Args:
        box: of the object, in pixels.
        u: uniform in [0, 1).
    Returns: in the precision of the box, which decides to how many whole pixels the image is resized.
    Source: CornerNet-Lite, core/sample/cornernet_saccade.py, ref_scale.
    """
    # Differs from CornerNet-Saccade: nothing counts as smaller than a pixel, which would be magnified without bound.
    longer = np.maximum((box[2:] - box[:2]).max(), 1)
    least, most = next((ends for ends in data.attention_px if longer > ends[0]), data.attention_px[-1])
    most = min(most, min(data.crop_px) - 1)
    return _pick(u, min(max(least, data.min_object_px, 1), most), most) / longer


def crop_middle(
    size_px: tuple[int, int],
    reference: Float[np.ndarray, "4"] | None,
    crop_px: tuple[int, int],
    draws: Float64[np.ndarray, "7"],
) -> tuple[int, int]:
    """Where the middle of the crop lies in the resized image, as y, x.

    With a reference object it is such that the crop contains the object, half of the time with it near the middle. A
    side of the image that is no longer than the crop's is shown whole, in the middle.

    Args:
        size_px: height and width of the resized image.
        reference: its box there; None: the crop may lie anywhere.
        crop_px: height and width.
        draws: uniform in [0, 1): whether the object is near the middle, then three for x and three for y.
    Source: CornerNet-Lite, core/sample/cornernet_saccade.py, crop_image_dets.
    """
    near, *numbers = draws.tolist()
    ends = [None, None] if reference is None else list(reference.reshape(2, 2).T)
    x = _middle(size_px[1], ends[0], crop_px[1], near > 0.5, numbers[:3])
    y = _middle(size_px[0], ends[1], crop_px[0], near > 0.5, numbers[3:])
    return y, x


def _middle(size: int, ends: Float[np.ndarray, "2"] | None, crop: int, near: bool, draws: list[float]) -> int:
    """That of crop_middle along one axis."""
    if size <= crop:
        return size // 2
    if ends is None:
        return _pick(draws[2], 0, size - crop) + crop // 2
    first, last = ends
    if not near:
        return _pick(draws[2], int(max(last - crop, 0)), int(min(size - crop, first))) + crop // 2
    middle = int((first + last) // 2)
    before, after = (_pick(u, 0, OFF_CENTRE_PX) for u in draws[:2])
    return _pick(draws[2], max(middle - before, 0), min(middle + after, size - 1))


def _pick(u: float, low: int, high: int) -> int:
    """A whole number from low to high; where high is low - 1, on which the original stops, it is low."""
    return low + int(u * (high - low + 1))


def cut_out(
    image: UInt8[np.ndarray, "h0 w0 3"],
    objects: Objects,
    size_px: tuple[int, int],
    middle: tuple[int, int],
    crop_px: tuple[int, int],
    *,
    lost_odd_side: bool = False,
    clip_to_last_pixel: bool = False,
) -> Cropped:
    """Resize an image and cut a crop out of it; only the pixels that the crop shows are made.

    Args:
        image: BGR.
        objects: in pixels of the resized image.
        size_px: height and width to resize the image to.
        middle: y, x of the crop's middle there.
        crop_px: height and width of the crop.
        lost_odd_side: the original's form: the cut reaches crop_px // 2 to both sides, so that an odd side leaves its
            last row or column black.
        clip_to_last_pixel: see Legacy.
    Returns: the crop, and the objects of which it shows something, clipped to the image in it; the move is from the
        resized image.
    Source: CornerNet-Lite, core/sample/cornernet_saccade.py, scale_image_detections, crop_image_dets, clip_detections.
    """
    half = np.array(crop_px) // 2
    offset = np.array(middle) - half
    # Differs from CornerNet-Saccade: what an odd side has more reaches to the right and below, unless lost_odd_side.
    end = middle + half if lost_odd_side else offset + crop_px
    start, stop = np.maximum(offset, 0), np.minimum(end, size_px)
    (y, x), (h, w) = (start - offset).tolist(), (stop - start).tolist()
    ratio_y, ratio_x = ratio = np.divide(image.shape[:2], size_px)
    from_y, from_x = (start + 0.5) * ratio - 0.5
    crop = np.zeros((*crop_px, 3), np.uint8)
    crop[y : y + h, x : x + w] = cv2.warpAffine(
        image,
        np.array([[ratio_x, 0, from_x], [0, ratio_y, from_y]]),
        (w, h),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    affine = Affine(np.ones(2), -offset[::-1].astype(np.float64))
    shown = clipped(moved(objects, affine), (h, w), first_px=(y, x), to_last_pixel=clip_to_last_pixel)
    return Cropped(crop, shown, affine)
