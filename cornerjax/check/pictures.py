"""Samples of the set as people see them: the image with its boxes, the training crop with its targets."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from cornerjax.check.examples import Examples, TrainingExample, count_collisions, ignored, in_one_cell
from cornerjax.data.records import Record, read_image
from cornerjax.drawing import class_colour, draw_boxes, draw_heat, draw_points, layer_colour, sheet
from cornerjax.ops.pixels import MEAN, STD

PANEL_PX = 512  # longer side, about
WHITE = (255, 255, 255)
Picture = UInt8[np.ndarray, "_ _ 3"]
LabelledMaps = list[tuple[str, np.ndarray]]  # label, map (h, w) in [0, 1]


def draw_samples(examples: Examples, records: Sequence[Record], class_names: Sequence[str]) -> bytes:
    """A JPEG with a row of panels a sample: the image with its boxes, the crop with the heat maps of all
    keypoints in the colours of the classes, and the crop with other maps that the detector learns from.

    Args:
        examples: gives the crops.
        records: to draw; at least one.
    """
    rows = []
    for record in records:
        image = read_image(record)
        example = examples.make(record, image)
        panels = [image_panel(record, image, class_names), target_panel(example, examples.keypoints)]
        others = examples.detector.target_panels(example.maps, examples.config)  # every sample has the same
        rows.append([*panels, *(map_panel(example, title, maps) for title, maps in others.items())])
    columns = len(rows[0]) * min(2, len(rows))
    _, content = cv2.imencode(".jpg", sheet([panel for row in rows for panel in row], columns=columns))
    return content.tobytes()


def image_panel(record: Record, image: Picture, class_names: Sequence[str]) -> Picture:
    """The image with the boxes of the file, and with the points that the detector needs besides."""
    ratio = min(1.0, PANEL_PX / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    title = f"{record.path.name}, id {record.image_id}, {record.width}x{record.height}"
    for points in record.points.values():
        small = draw_points(small, points * np.float32(ratio), record.classes)
    return draw_boxes(small, record.boxes * np.float32(ratio), record.classes, class_names=class_names, title=title)


def target_panel(example: TrainingExample, keypoints: Sequence[str]) -> Picture:
    """The crop with its heat maps, thin boxes, rings around objects in one cell and crosses on ignored ones."""
    crop, enlarge = _pixels(example)
    heats = np.maximum.reduce([example.maps[f"{name}_heat"] for name in keypoints])
    labels = np.flatnonzero(heats.any((0, 1))).tolist()
    canvas = draw_heat(crop, [heats[..., label] for label in labels], map(class_colour, labels))
    for box, label in zip(example.objects["boxes"], example.objects["classes"], strict=True):
        x1, y1, x2, y2 = (round(float(v) * enlarge) for v in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_colour(int(label)), 1, cv2.LINE_AA)
    in_cell, left_out = in_one_cell(example.encoded, keypoints), ignored(example.encoded)
    for x, y in _middles(example, keypoints, in_cell, canvas):
        cv2.circle(canvas, (x, y), 14, WHITE, 2, cv2.LINE_AA)
    for x, y in _middles(example, keypoints, left_out, canvas):
        cv2.drawMarker(canvas, (x, y), WHITE, cv2.MARKER_TILTED_CROSS, 18, 2, cv2.LINE_AA)
    count = len(example.objects["classes"])
    parts = [f"training crop{', mirrored' if example.mirrored else ''}: {count} object{'' if count == 1 else 's'}"]
    parts += [f"{in_cell.sum()} in one cell (ring)"] if in_cell.any() else []
    pairs = count_collisions(example.encoded, keypoints)
    parts += [f"{pairs} pair{'' if pairs == 1 else 's'} with a cell in common"] if pairs else []
    parts += [f"{left_out.sum()} not in the loss (x)"] if left_out.any() else []
    return _titled(canvas, ", ".join(parts))


def map_panel(example: TrainingExample, title: str, maps: LabelledMaps) -> Picture:
    """The crop with some maps, each in a colour of its own."""
    colours = [layer_colour(i) for i in range(len(maps))]
    canvas = draw_heat(_pixels(example)[0], [heat for _, heat in maps], [bgr for _, bgr in colours])
    legend = ", ".join(f"{label} {colour}" for (label, _), (colour, _) in zip(maps, colours, strict=True))
    return _titled(canvas, f"{title}: {legend}")


def _pixels(example: TrainingExample) -> tuple[Picture, int]:
    """The pixels as the network gets them, and how many times they are enlarged."""
    enlarge = max(1, round(PANEL_PX / max(example.image.shape[:2])))
    pixels = (np.clip(example.image * STD + MEAN, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.resize(pixels, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)), enlarge


def _middles(
    example: TrainingExample, keypoints: Sequence[str], rows: Bool[np.ndarray, "n"], canvas: Picture
) -> list[tuple[int, int]]:
    """Where on the enlarged crop the objects of these rows of the encoded example lie: amid their keypoints."""
    encoded = example.encoded  # where there are no offsets, the middle of the cell is taken
    points = [encoded[f"{name}_cells"] + encoded.get(f"{name}_off", 0.5) for name in keypoints]
    h, w = example.maps[f"{keypoints[0]}_heat"].shape[:2]
    middles = np.mean(points, axis=0)[rows] / (w, h) * canvas.shape[1::-1]
    return [(round(x), round(y)) for x, y in middles.tolist()]


def _titled(canvas: Picture, title: str) -> Picture:
    return draw_boxes(canvas, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), class_names=(), title=title)
