"""Samples of the set as people see them: the image with its boxes, the training crop with its targets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from cornerjax.check.examples import Example, Examples, count_collisions, in_one_cell
from cornerjax.config import Config
from cornerjax.data.records import Record, read_image
from cornerjax.detectors.base import Detector
from cornerjax.drawing import class_colour, draw_boxes, sheet
from cornerjax.ops.pixels import MEAN, STD

PANEL_PX = 512  # longer side, about
DIM = 0.5  # brightness of an image under its maps
WHITE = (255, 255, 255)
ATTENTION = (("red", (60, 60, 255)), ("green", (60, 220, 60)), ("blue", (255, 140, 60)))
Picture = UInt8[np.ndarray, "_ _ 3"]


def draw_samples(
    file: Path, examples: Examples, detector: Detector, records: Sequence[Record], class_names: Sequence[str]
) -> None:
    """Write a sheet with two or three panels a sample: the image with its boxes, the crop with the heat maps of both
    corners in the colours of the classes, and the crop with the attention maps where the detector has such.

    Args:
        file: .jpg to write.
        examples: gives the crops.
        detector: its render is used.
        records: to draw; at least one.
    Raises: OSError: the file cannot be written.
    """
    rows = []
    for record in records:
        image = read_image(record)
        example = examples.make(record, image)
        maps = detector.render(example.encoded, examples.config, np)
        panels = [whole_image(record, image, class_names), targets(example, maps, examples.config)]
        if any(name.startswith("attention") for name in maps):
            panels.append(attention(example, maps, examples.config))
        rows.append(panels)
    columns = len(rows[0]) * min(2, len(rows))
    _, content = cv2.imencode(".jpg", sheet([panel for row in rows for panel in row], columns=columns))
    file.write_bytes(content.tobytes())


def whole_image(record: Record, image: Picture, class_names: Sequence[str]) -> Picture:
    """The image with the boxes of the file."""
    ratio = min(1.0, PANEL_PX / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    title = f"{record.path.name}, id {record.image_id}, {record.width}x{record.height}"
    return draw_boxes(small, record.boxes * np.float32(ratio), record.classes, class_names=class_names, title=title)


def targets(example: Example, maps: dict[str, Any], config: Config) -> Picture:
    """The crop, dark, with its heat maps, thin boxes, rings around objects in one cell and crosses on ignored ones."""
    canvas, enlarge = _dimmed(example)
    heats = np.maximum.reduce([heat for name, heat in maps.items() if name.endswith("_heat")])
    for label in np.flatnonzero(heats.any((0, 1))).tolist():
        _lay_over(canvas, heats[..., label], class_colour(label))
    for box, label in zip(example.objects["boxes"], example.objects["classes"], strict=True):
        x1, y1, x2, y2 = (round(float(v) * enlarge) for v in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_colour(int(label)), 1, cv2.LINE_AA)
    in_cell = in_one_cell(example.encoded)
    ignored = example.encoded.get("ignored", np.zeros(0, bool))
    for x, y in _middles(example, maps, in_cell):
        cv2.circle(canvas, (x, y), 14, WHITE, 2, cv2.LINE_AA)
    for x, y in _middles(example, maps, ignored):
        cv2.drawMarker(canvas, (x, y), WHITE, cv2.MARKER_TILTED_CROSS, 18, 2, cv2.LINE_AA)
    parts = [f"training crop{', mirrored' if example.mirrored else ''}: {len(example.objects['classes'])} objects"]
    parts += [f"{in_cell.sum()} in one cell (ring)"] if in_cell.any() else []
    pairs = count_collisions(example.encoded)
    parts += [f"{pairs} pair{'' if pairs == 1 else 's'} with a cell in common"] if pairs else []
    parts += [f"{ignored.sum()} not in the loss (x)"] if ignored.any() else []
    return _titled(canvas, ", ".join(parts))


def attention(example: Example, maps: dict[str, Any], config: Config) -> Picture:
    """The crop, dark, with its attention maps, each in a colour of its own."""
    canvas, _ = _dimmed(example)
    parts = []
    for i, (least, most) in enumerate(config.data.attention_px):
        name, colour = ATTENTION[i % len(ATTENTION)]
        _lay_over(canvas, maps[f"attention_{i}"][..., 0], colour)
        parts.append(f"{least}-{most} px {name}")
    return _titled(canvas, f"attention: {', '.join(parts)}")


def _dimmed(example: Example) -> tuple[Picture, int]:
    """The pixels as the network gets them, and how many times they are enlarged."""
    enlarge = max(1, round(PANEL_PX / max(example.image.shape[:2])))
    pixels = np.clip((example.image * STD + MEAN) * DIM, 0, 1) * 255
    return cv2.resize(pixels.astype(np.uint8), None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR), enlarge


def _lay_over(canvas: Picture, heat: Float[np.ndarray, "h w"], colour: tuple[int, int, int]) -> None:
    """Paint a map over the picture, in place; cells stay squares, so that their size is seen."""
    weight = cv2.resize(heat, canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)[..., None] * 0.9
    canvas[:] = (canvas * (1 - weight) + np.array(colour) * weight).astype(np.uint8)


def _middles(example: Example, maps: dict[str, Any], rows: np.ndarray) -> list[tuple[int, int]]:
    """Where in the enlarged crop the objects of these rows of the encoded example lie."""
    if not rows.any():
        return []
    encoded, side = example.encoded, np.array(_dimmed(example)[0].shape[1::-1])
    corners = [encoded[f"{corner}_cells"][rows] + encoded[f"{corner}_off"][rows] for corner in ("tl", "br")]
    middles = (corners[0] + corners[1]) / 2 / np.array(maps["tl_heat"].shape[1::-1]) * side
    return [(round(x), round(y)) for x, y in middles.tolist()]


def _titled(canvas: Picture, title: str) -> Picture:
    return draw_boxes(canvas, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), class_names=(), title=title)
