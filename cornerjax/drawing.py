"""Boxes on images. Knows arrays only: BGR, uint8."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

LEGIBLE_PX = 480  # smaller images are enlarged to about this before anything is drawn on them
FONT = cv2.FONT_HERSHEY_SIMPLEX
GREY = 96  # of the space between the images of a sheet


def draw_boxes(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "n 4"],
    classes: Int[np.ndarray, "n"],
    *,
    class_names: Sequence[str],
    scores: Float[np.ndarray, "n"] | None = None,
    title: str = "",
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Draw boxes with class name and score on a copy of an image; a small image is enlarged first.

    Args:
        image: BGR.
        boxes: x1 y1 x2 y2 in pixels of the given image.
        classes: from 0.
        scores: in [0, 1]; the best boxes are drawn last, on top.
        title: text for the lower left corner.
    Returns: the picture, an integer number of times as large as the image.
    """
    enlarge = max(1, round(LEGIBLE_PX / max(image.shape[:2])))
    canvas = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)
    line = max(2, round(max(canvas.shape[:2]) / 400))  # everything grows with the picture
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    for i in order:
        x1, y1, x2, y2 = (round(float(v) * enlarge) for v in boxes[i])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), line + 2)  # a dark rim, for backgrounds of its colour
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_colour(int(classes[i])), line)
    for i in order:  # after all the boxes, so that no line crosses a text
        name = class_names[int(classes[i])]
        name = name if name.isascii() else f"class {classes[i]}"  # OpenCV's fonts have no other letters
        text = name if scores is None else f"{name} {scores[i]:.2f}"
        x1, y1 = (round(float(v) * enlarge) for v in boxes[i][:2])
        _write(canvas, text, x1, y1, class_colour(int(classes[i])))
    if title:
        _write(canvas, title, 0, canvas.shape[0], (0, 0, 0))
    return canvas


def class_colour(index: int) -> tuple[int, int, int]:
    """A bright BGR colour; neighbouring classes get hues far apart."""
    hue = (0.02 + index * 0.381966) % 1  # steps of the golden angle never come back to a hue
    value = (1.0, 0.75, 0.9)[index // 13 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.95, 0.6)[index // 7 % 2], value)
    return round(blue * 255), round(green * 255), round(red * 255)


def sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, columns: int = 0, gap_px: int = 8
) -> UInt8[np.ndarray, "H W 3"]:
    """Put images of any sizes side by side, in rows, into one.

    Args:
        columns: images a row; 0: about as many rows as columns.
    Raises: ValueError: there is no image.
    """
    if not images:
        raise ValueError("a sheet needs at least one image")
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    heights = [max(image.shape[0] for image in row) for row in rows]
    widths = [max(image.shape[1] for image in images[i::columns]) for i in range(min(columns, len(images)))]
    canvas = np.full(
        (sum(heights) + gap_px * (len(rows) - 1), sum(widths) + gap_px * (len(widths) - 1), 3), GREY, np.uint8
    )
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for image, width in zip(row, widths, strict=False):
            canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
            x += width + gap_px
        y += height + gap_px
    return canvas


def _write(canvas: np.ndarray, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """A line of text on a plate of the colour, above (x, y) if there is room, and never outside the canvas."""
    side = max(canvas.shape[:2])
    scale, thickness, pad = side / 1200, max(1, round(side / 800)), max(2, side // 300)
    (width, height), below = cv2.getTextSize(text, FONT, scale, thickness)
    plate_w, plate_h = width + 2 * pad, height + below + pad
    x = max(0, min(x, canvas.shape[1] - plate_w))
    y = y - plate_h if y >= plate_h else y
    y = max(0, min(y, canvas.shape[0] - plate_h))
    cv2.rectangle(canvas, (x, y), (x + plate_w, y + plate_h), colour, cv2.FILLED)
    blue, green, red = colour
    ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 110 else (255, 255, 255)
    cv2.putText(canvas, text, (x + pad, y + height + pad // 2), FONT, scale, ink, thickness, cv2.LINE_AA)
