"""Boxes, keypoints, heat maps and crops on images. Knows arrays only: BGR, uint8."""

import colorsys
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

LEGIBLE_PX = 480  # smaller images are enlarged to about this before anything is drawn on them
FONT = cv2.FONT_HERSHEY_SIMPLEX
GREY = 96  # of the space between the images of a sheet
LAYERS = (("blue", (255, 160, 0)), ("green", (0, 220, 0)), ("red", (0, 0, 255)))  # of maps without a class; BGR
DIM = 0.5  # brightness of an image under its heat maps
OPACITY = 0.9  # of a heat map where it is 1
TINT = 0.4  # opacity of masks


def draw_boxes(
    image: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "n 4"],
    classes: Int[np.ndarray, "n"],
    *,
    class_names: Sequence[str],
    scores: Float[np.ndarray, "n"] | None = None,
    title: str = "",
    enlarge: bool = True,
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Draw boxes with class name and score on a copy of an image; a small image is enlarged first.

    Args:
        image: BGR.
        boxes: x1 y1 x2 y2 in pixels of the given image.
        classes: from 0.
        scores: in [0, 1]; the best boxes are drawn last, on top.
        title: text for the lower left corner.
        enlarge: False: small images keep their size.
    Returns: the picture, an integer number of times as large as the image.
    """
    canvas, times = enlarged(image) if enlarge else (image.copy(), 1)
    line = _line(canvas)
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    for i in order:
        x1, y1, x2, y2 = (round(float(v) * times) for v in boxes[i])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), line + 2)  # a dark rim, for backgrounds of its colour
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_colour(int(classes[i])), line)
    for i in order:  # after all the boxes, so that no line crosses a text
        name = class_names[int(classes[i])]
        name = name if name.isascii() else f"class {classes[i]}"  # OpenCV's fonts have no other letters
        text = name if scores is None else f"{name} {scores[i]:.2f}"
        x1, y1 = (round(float(v) * times) for v in boxes[i][:2])
        _write(canvas, text, x1, y1, class_colour(int(classes[i])))
    if title:
        _write(canvas, title, 0, canvas.shape[0], (0, 0, 0))
    return canvas


def enlarged(image: UInt8[np.ndarray, "H W 3"]) -> tuple[UInt8[np.ndarray, "H2 W2 3"], int]:
    """A copy of an image, large enough to be drawn on, and how many times as large it is."""
    times = max(1, round(LEGIBLE_PX / max(image.shape[:2])))
    return np.asarray(cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_LINEAR), np.uint8), times


def draw_heat(
    image: UInt8[np.ndarray, "H W 3"],
    maps: Iterable[Float[np.ndarray, "_ _"]],
    colours: Iterable[tuple[int, int, int]],
) -> UInt8[np.ndarray, "H W 3"]:
    """Darken a copy of an image and lay heat maps over it, one after the other, the more opaque the hotter.

    Args:
        maps: in [0, 1], of any sizes: they are stretched over the image, and their cells stay squares, so that their
            size shows.
        colours: BGR, one a map.
    """
    canvas = image.astype(np.float32) * DIM
    for heat, colour in zip(maps, colours, strict=True):
        opacity = cv2.resize(heat, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)[..., None] * OPACITY
        canvas += (np.array(colour, np.float32) - canvas) * opacity
    return canvas.astype(np.uint8)


def draw_layers(image: UInt8[np.ndarray, "H W 3"], maps: Float[np.ndarray, "maps H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Draw maps as heat, each in a colour of its own.

    Args:
        maps: in [0, 1].
    """
    return draw_heat(image, maps, [layer_colour(i)[1] for i in range(len(maps))])


def draw_crops(image: UInt8[np.ndarray, "H W 3"], crops: Float[np.ndarray, "n 4"]) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the borders of crops, x1 y1 x2 y2, on a copy of an image: white on black, whatever is below."""
    canvas, line = image.copy(), _line(image)
    for colour, width in (((0, 0, 0), line + 1), ((255, 255, 255), max(1, line - 1))):
        for x1, y1, x2, y2 in np.round(crops).astype(int).tolist():
            cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width)
    return canvas


def draw_keypoints(
    image: UInt8[np.ndarray, "H W 3"],
    points: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, "n"],
    classes: Int[np.ndarray, "n"],
    strokes: Sequence[tuple[int, int]],
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw points of one kind on a copy of an image: strokes that begin there, and the score.

    Args:
        points: x, y in pixels.
        scores: in [0, 1]; the strokes are as much longer.
        classes: whose colours the points have.
        strokes: their directions, in x and y.
    """
    canvas, line = image.copy(), _line(image)
    inwards = sum(x for x, _ in strokes)  # a corner's strokes run along its box, so the text stands on the other side
    for i in np.argsort(scores, kind="stable"):
        x, y = (round(float(v)) for v in points[i])
        length = round(line * (4 + 12 * float(scores[i])))
        for colour, width in (((0, 0, 0), line + 2), (class_colour(int(classes[i])), line)):
            for dx, dy in strokes:
                cv2.line(canvas, (x, y), (x + dx * length, y + dy * length), colour, width)
        text, dark = f"{scores[i]:.2f}", (40, 40, 40)
        _write(canvas, text, x - line if inwards > 0 else x + line, y + 5 * line, dark, scale=0.7, left=inwards > 0)
    return canvas


def draw_polygons(
    image: UInt8[np.ndarray, "H W 3"], polygons: Float[np.ndarray, "n p 2"], classes: Int[np.ndarray, "n"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Fill polygons on a copy of an image, half transparent, in the colours of their classes; the first ones on top.

    Args:
        polygons: x, y in pixels.
    """
    canvas = image.copy()
    for polygon, label in list(zip(np.round(polygons).astype(np.int32), classes.tolist(), strict=True))[::-1]:
        x, y, width, height = cv2.boundingRect(polygon)
        part = canvas[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]  # what there is of it
        if not part.size:
            continue
        filled = part.copy()
        cv2.fillPoly(filled, [polygon], class_colour(label), cv2.LINE_AA, offset=(-max(x, 0), -max(y, 0)))
        part[:] = cv2.addWeighted(part, 1 - TINT, filled, TINT, 0)
        cv2.polylines(canvas, [polygon], True, class_colour(label), _line(image), cv2.LINE_AA)
    return canvas


def draw_points(
    image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "n p 2"], classes: Int[np.ndarray, "n"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the points of objects as dots on a copy of an image, in the colours of their classes.

    Args:
        points: x, y in pixels, several of each object.
    """
    canvas, line = image.copy(), _line(image)
    for of_object, label in zip(np.round(points).astype(int).tolist(), classes.tolist(), strict=True):
        for point in of_object:
            cv2.circle(canvas, point, 2 * line + 1, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
            cv2.circle(canvas, point, 2 * line - 1, class_colour(label), cv2.FILLED, cv2.LINE_AA)
    return canvas


def draw_groups(
    image: UInt8[np.ndarray, "H W 3"],
    points: Float[np.ndarray, "n 2"],
    values: Float[np.ndarray, "n"],
    groups: Sequence[Sequence[int]],
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw points as dots in the colours of their values on a copy of an image, and lines between those of a group.

    Args:
        points: x, y in pixels.
        values: similar ones have similar colours; those of a group stand beside its lines.
        groups: places in points.
    """
    canvas, line = image.copy(), _line(image)
    if not len(values):
        return canvas
    spread = (values - values.min()) / max(float(np.ptp(values)), 1e-6) * 200 + 25  # its ends are dark, both
    turbo = cv2.applyColorMap(spread.astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0]
    colours = [(int(blue), int(green), int(red)) for blue, green, red in turbo]
    places = np.round(points).astype(int).tolist()
    for first, *others in groups:
        for other in others:
            cv2.line(canvas, places[first], places[other], (0, 0, 0), line + 2, cv2.LINE_AA)
            cv2.line(canvas, places[first], places[other], colours[first], line, cv2.LINE_AA)
    for point, colour in zip(places, colours, strict=True):
        cv2.circle(canvas, point, 3 * line, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, point, 3 * line - 2, colour, cv2.FILLED, cv2.LINE_AA)
    for group in groups:
        x, y = (int(side) for side in np.mean([places[i] for i in group], 0))
        _write(canvas, " ".join(f"{values[i]:.2f}" for i in group), x, y, colours[group[0]], scale=0.7)
    return canvas


def layer_colour(index: int) -> tuple[str, tuple[int, int, int]]:
    """Name and BGR of a colour for the map of this number."""
    return LAYERS[index % len(LAYERS)]


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


def _line(image: np.ndarray) -> int:
    """The width of lines: everything grows with the picture."""
    return max(2, round(max(image.shape[:2]) / 400))


def _write(
    canvas: np.ndarray,
    text: str,
    x: int,
    y: int,
    colour: tuple[int, int, int],
    *,
    scale: float = 1.0,
    left: bool = False,
) -> None:
    """A line of text on a plate of the colour, above (x, y) if there is room, and never outside the canvas.

    Args:
        scale: of the letters.
        left: the text ends at x, and does not start there.
    """
    side = round(max(canvas.shape[:2]) * scale)
    scale, thickness, pad = side / 1200, max(1, round(side / 800)), max(2, side // 300)
    (width, height), below = cv2.getTextSize(text, FONT, scale, thickness)
    plate_w, plate_h = width + 2 * pad, height + below + pad
    x = x - plate_w if left else x
    x = max(0, min(x, canvas.shape[1] - plate_w))
    y = y - plate_h if y >= plate_h else y
    y = max(0, min(y, canvas.shape[0] - plate_h))
    cv2.rectangle(canvas, (x, y), (x + plate_w, y + plate_h), colour, cv2.FILLED)
    blue, green, red = colour
    ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 110 else (255, 255, 255)
    cv2.putText(canvas, text, (x + pad, y + height + pad // 2), FONT, scale, ink, thickness, cv2.LINE_AA)
