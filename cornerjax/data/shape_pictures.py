"""The pictures of the generated data sets: circles, rectangles and triangles on noisy backgrounds."""

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

SHAPES = ("circle", "rectangle", "triangle")  # category ids 1, 2, 3
SPLITS = ("train", "val")
MAX_OVERLAP = 0.25  # intersection of two boxes, as a part of the smaller
CONTRAST = 90  # least distance of a shape's BGR colour from what it covers, on average


class Shape(NamedTuple):
    """What was drawn.

    Attributes:
        label: index in SHAPES.
        box: x, y, width, height in pixels.
        mask: its pixels in the box.
    """

    label: int
    box: tuple[int, int, int, int]
    mask: Bool[np.ndarray, "height width"]


@dataclasses.dataclass(frozen=True)
class Style:
    """What the pictures of a generated set look like; a pair is the least and the largest of what is drawn.

    Attributes:
        name: of the style.
        side_px: of a picture.
        object_px: sides of a box.
        mostly_small: the longer side is log-uniform, the shorter at least 0.6 of it; otherwise both are uniform.
        objects: wanted in a picture.
        cells: of the background's colour noise, along a side of the picture.
        period_px: of the stripes.
        grain: standard deviation of the noise over everything, of 255.
        lines, dots: most in a picture; too thin and too small for objects.
        train, val: pictures of each split, unless told otherwise.
    """

    name: str
    side_px: int
    object_px: tuple[int, int]
    mostly_small: bool
    objects: tuple[int, int]
    cells: tuple[int, int]
    period_px: tuple[int, int]
    grain: tuple[int, int]
    lines: int
    dots: int
    train: int
    val: int


STYLES = {
    "shapes": Style(
        name="shapes",
        side_px=127,
        object_px=(20, 63),
        mostly_small=False,
        objects=(1, 5),
        cells=(2, 6),
        period_px=(6, 40),
        grain=(4, 14),
        lines=0,
        dots=0,
        train=4000,
        val=200,
    ),
    "scenes": Style(
        name="scenes",
        side_px=511,
        object_px=(10, 160),
        mostly_small=True,
        objects=(1, 6),
        cells=(3, 10),
        period_px=(24, 160),
        grain=(3, 9),
        lines=8,
        dots=30,
        train=1500,
        val=150,
    ),
}


def make_picture(
    seed: int, split: str, index: int, style: Style
) -> tuple[UInt8[np.ndarray, "side side 3"], list[Shape]]:
    """Draw one picture: the BGR image, and the shapes in it."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas = _background(style, rng)
    fewest, most = style.objects
    wanted = int(rng.integers(fewest, most + 1))
    shapes: list[Shape] = []
    for _ in range(60):  # places to try; a crowded picture ends with fewer shapes than wanted, never with none
        if len(shapes) == wanted:
            break
        label = int(rng.integers(len(SHAPES)))
        mask = _mask(SHAPES[label], style, rng)
        height, width = mask.shape
        x, y = int(rng.integers(style.side_px - width + 1)), int(rng.integers(style.side_px - height + 1))
        box = (x, y, width, height)
        if any(_overlap(box, other.box) > MAX_OVERLAP for other in shapes):
            continue
        _paint(canvas[y : y + height, x : x + width], mask, rng)
        shapes.append(Shape(label, box, mask))
    canvas += rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(*style.grain))
    return np.clip(canvas, 0, 255).astype(np.uint8), shapes


def _background(style: Style, rng: np.random.Generator) -> np.ndarray:
    """Colour noise of low frequency, stripes and what is no object."""
    fewest, most = style.cells
    cells = int(rng.integers(fewest, most + 1))
    blobs = rng.uniform(40, 215, (cells, cells, 3)).astype(np.float32)
    canvas = cv2.resize(blobs, (style.side_px, style.side_px), interpolation=cv2.INTER_CUBIC)
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(*style.period_px), rng.uniform(0, 2 * np.pi)
    x = np.arange(style.side_px)
    waves = np.sin((np.cos(angle) * x + np.sin(angle) * x[:, None]) * 2 * np.pi / period + phase)
    canvas += waves[..., None].astype(np.float32) * rng.uniform(-25, 25, 3).astype(np.float32)
    _clutter(canvas, style, rng)
    return canvas


def _clutter(canvas: np.ndarray, style: Style, rng: np.random.Generator) -> None:
    """Draw, in place, thin lines and dots of 3 or 5 px."""
    for _ in range(int(rng.integers(style.lines + 1))):
        start, end = rng.integers(0, style.side_px, (2, 2)).tolist()
        cv2.line(canvas, start, end, rng.uniform(20, 235, 3).tolist(), int(rng.integers(1, 3)))
    for _ in range(int(rng.integers(style.dots + 1))):
        centre = rng.integers(0, style.side_px, 2).tolist()
        cv2.circle(canvas, centre, int(rng.integers(1, 3)), rng.uniform(20, 235, 3).tolist(), cv2.FILLED)


def _sides(style: Style, rng: np.random.Generator) -> list[int]:
    """Two sides of a box."""
    least, most = style.object_px
    if not style.mostly_small:
        return rng.integers(least, most + 1, 2).tolist()
    longer = round(least * (most / least) ** rng.random())
    shorter = max(least, round(longer * rng.uniform(0.6, 1)))
    return [longer, shorter] if rng.random() < 0.5 else [shorter, longer]


def _mask(shape: str, style: Style, rng: np.random.Generator) -> Bool[np.ndarray, "height width"]:
    """The pixels of a shape in its own box: it touches all four sides."""
    width, height = _sides(style, rng)
    if shape == "circle":
        height = width
        from_centre = np.arange(width) - (width - 1) / 2
        return from_centre**2 + from_centre[:, None] ** 2 <= (width / 2) ** 2
    if shape == "rectangle":
        return np.ones((height, width), bool)
    apex = int(rng.integers(width // 5, width - width // 5))
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.array([[0, height - 1], [width - 1, height - 1], [apex, 0]], np.int32), 1)
    mask = mask[::-1] if rng.random() < 0.5 else mask
    return mask.astype(bool)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection of two boxes x, y, width, height as a part of the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def _paint(canvas: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Fill the shape, in place, with a colour that stands out from what it covers."""
    covered = canvas[mask].mean(0)
    colour = rng.uniform(20, 235, 3)
    while np.linalg.norm(colour - covered) < CONTRAST:
        colour = rng.uniform(20, 235, 3)
    canvas[mask] = colour
