"""Images of an evaluation with everything that is drawn on them, ready for a page."""

import base64
import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from cornerjax.data.records import Record, read_image
from cornerjax.evaluation.compare.analysis import Analysis
from cornerjax.evaluation.compare.errors import Kind, TrueKind
from cornerjax.evaluation.compare.matching import MAX_DETECTIONS
from cornerjax.evaluation.compare.ranking import ImageScore
from cornerjax.evaluation.draw.plots import KEYPOINT_COLOURS, LAYER_COLOUR
from cornerjax.inference.heat import Heat, find_heat
from cornerjax.inference.predictor import Predictor

PHOTO_PX = 640  # longest side of the JPEG of an image
QUALITY = 80
LEAST_HEAT = 0.05  # below, nothing is drawn
LEVELS = 15  # of heat; so few keep the PNG small
KEYPOINTS = "keypoints"  # the layer with the heat maps of all keypoints; the others are the detector's further maps


class CardBox(NamedTuple):
    """A box on an image."""

    kind: str  # of a found box the name of its Kind, of a true one that of its TrueKind, in small letters
    label: int  # its class
    place: tuple[float, float, float, float]  # x, y, width, height in pixels of the image
    text: str
    score: float | None  # of a true box, that of the box that found it; None: there is none
    mistaken: float | None = None  # the highest score of the boxes that are on a true box but have not found it


@dataclasses.dataclass(frozen=True)
class Card:
    """An image and what is known about it; pictures are files in base64."""

    score: ImageScore
    name: str
    width: int
    height: int
    photo: str  # JPEG
    found: list[CardBox]  # the largest first, as the smaller ones are drawn on top
    true: list[CardBox]
    layers: dict[str, str] = dataclasses.field(default_factory=dict)  # PNGs with alpha, see KEYPOINTS
    place: tuple[float, float, float, float] = (0, 0, 0, 0)  # x, y, width, height of the layers in pixels of the image


def make_card(analysis: Analysis, score: ImageScore, record: Record, *, predictor: Predictor | None = None) -> Card:
    """The card of one image.

    Args:
        score: of the image.
        record: says where the image lies.
        predictor: gives its heat maps; None: there are none.
    Raises: InputError: the image cannot be read.
    """
    image = read_image(record)
    height, width = image.shape[:2]
    factor = min(1, PHOTO_PX / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    photo = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    found, true = _found_boxes(analysis, score.image), _true_boxes(analysis, score.image)
    card = Card(
        score, record.path.name, width, height, _encoded(".jpg", photo, cv2.IMWRITE_JPEG_QUALITY, QUALITY), found, true
    )
    if predictor is None:
        return card
    heat = find_heat(predictor, image)
    return dataclasses.replace(card, layers=_layers(heat), place=_place(heat.place))


def _found_boxes(analysis: Analysis, image: int) -> list[CardBox]:
    boxes, errors = analysis.boxes, analysis.errors
    beyond = f"beyond the {MAX_DETECTIONS} of its class"
    drawn = []
    for row in np.flatnonzero(boxes.found.images == image).tolist():
        kind, about, label = Kind(errors.kinds[row]), errors.true_index[row], int(boxes.found.classes[row])
        other = "" if about < 0 else boxes.class_names[boxes.true.classes[about]]
        said = {
            Kind.CORRECT: "correct",
            Kind.CLASS: f"wrong class: {other} is there",
            Kind.LOCALISATION: f"overlaps {other} too little",
            Kind.BOTH: f"overlaps {other} too little, and has the wrong class",
            Kind.DUPLICATE: f"duplicate: {other} is found already",
            Kind.BACKGROUND: "background: nothing is there",
            Kind.IGNORED: f"does not count: {f'a crowd of {other}' if other else beyond}",
        }[kind]
        overlap = f", IoU {errors.ious[row]:.2f}" if other and kind != Kind.IGNORED else ""
        score = float(boxes.found.scores[row])
        text = f"{boxes.class_names[label]} {score:.2f}: {said}{overlap}"
        drawn.append(CardBox(kind.name.lower(), label, _place(boxes.found.boxes[row]), text, score))
    return _largest_first(drawn)


def _true_boxes(analysis: Analysis, image: int) -> list[CardBox]:
    boxes, errors = analysis.boxes, analysis.errors
    scores = boxes.found.scores
    on_it = np.isin(errors.kinds, (Kind.CLASS, Kind.LOCALISATION)) & (boxes.found.images == image)
    drawn = []
    for row in np.flatnonzero(boxes.true.images == image).tolist():
        kind, by, label = TrueKind(errors.true_kinds[row]), errors.found_index[row], int(boxes.true.classes[row])
        others = scores[on_it & (errors.true_index == row)]
        score = float(scores[by]) if by >= 0 else None
        mistaken = float(others.max()) if len(others) else None
        match kind:
            case TrueKind.FOUND:
                said = f"found with {score:.2f}, IoU {errors.ious[by]:.2f}"
            case TrueKind.MISTAKEN:
                said = f"not found, but overlapped by a box of {mistaken:.2f}"
            case TrueKind.MISSED:
                said = "missed"
            case TrueKind.CROWD:
                said = "a crowd, need not be found"
        text = f"true {boxes.class_names[label]}: {said}"
        drawn.append(CardBox(kind.name.lower(), label, _place(boxes.true.boxes[row]), text, score, mistaken))
    return _largest_first(drawn)


def _place(box: Float[np.ndarray, "4"]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.tolist()
    return round(x1, 1), round(y1, 1), round(x2 - x1, 1), round(y2 - y1, 1)


def _largest_first(drawn: list[CardBox]) -> list[CardBox]:
    return sorted(drawn, key=lambda box: -box.place[2] * box.place[3])


def _layers(heat: Heat) -> dict[str, str]:
    """The layers of a Card: where keypoints meet, their colours are mixed."""
    maps = np.stack([*heat.maps.values()], -1)
    share = maps / np.maximum(maps.sum(-1, keepdims=True), 1e-6)
    colours = np.stack([_bgr(KEYPOINT_COLOURS[i % len(KEYPOINT_COLOURS)]) for i in range(maps.shape[-1])])
    layers = {KEYPOINTS: _heat_png(share @ colours, maps.max(-1))}
    for name, values in heat.layers.items():
        layers[name] = _heat_png(np.broadcast_to(_bgr(LAYER_COLOUR), (*values.shape, 3)), values)
    return layers


def _heat_png(colours: Float[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"]) -> str:
    """A PNG of colours, the more opaque the more heat there is."""
    levels = np.where(heat < LEAST_HEAT, 0, np.ceil(heat * LEVELS) / LEVELS)
    pixels = np.dstack([np.where(levels[..., None] > 0, colours // LEVELS * LEVELS, 0), 255 * levels])
    return _encoded(".png", pixels.astype(np.uint8), cv2.IMWRITE_PNG_COMPRESSION, 9)


def _bgr(colour: str) -> Float[np.ndarray, "3"]:
    """Blue, green, red of a colour of a page."""
    return np.array([int(colour[at : at + 2], 16) for at in (5, 3, 1)], np.float32)


def _encoded(suffix: str, image: UInt8[np.ndarray, "H W _"], option: int, value: int) -> str:
    return base64.b64encode(cv2.imencode(suffix, image, [option, value])[1].tobytes()).decode()
