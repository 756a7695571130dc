"""What boxes were made from: corners and their tags, attention, and the places that were looked at, all in pixels."""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from cornerjax import drawing
from cornerjax.detectors.base import Detections
from cornerjax.errors import InputError
from cornerjax.inference.predictor import Predictor
from cornerjax.inference.views import assemble, scaled
from cornerjax.ops.corners import find_corners
from cornerjax.ops.crops import Windows, placements
from cornerjax.ops.pixels import normalise

KINDS = ("corners", "tags", "attention", "crops")
LEAST_HEAT = 0.1  # corners below are not shown
_find = jax.jit(find_corners, static_argnames=("side", "top_k", "window", "lowest", "no_border"))
Image = UInt8[np.ndarray, "_ _ 3"]  # BGR


class Corners(NamedTuple):
    """Corners of one kind, of all looks at an image."""

    points: Float[np.ndarray, "n 2"]  # x, y in pixels of the image
    heat: Float[np.ndarray, "n"]  # in [0, 1]
    classes: Int[np.ndarray, "n"]
    tags: Float[np.ndarray, "n"]  # comparable within a look
    looks: Int[np.ndarray, "n"]  # which look saw it, from 0
    cell_px: Float[np.ndarray, "n"]  # pixels of the image for a cell of its map, the larger of both axes


class Evidence(NamedTuple):
    """What a detector saw in an image; empty where it has nothing of the kind."""

    top_left: Corners
    bottom_right: Corners
    attention: Float[np.ndarray, "maps H W"]  # in [0, 1], of the largest view: of large, medium and small objects
    crops: Float[np.ndarray, "n 4"]  # x1 y1 x2 y2 of what was looked at closer, may reach beyond the image

    def scaled(self, width: int, height: int) -> "Evidence":
        """The same in an image of another size."""
        rows, columns = self.attention.shape[1:]
        if (rows, columns) == (height, width):
            return self
        factor = np.array([width / columns, height / rows], np.float32)
        first, second = (
            part._replace(points=part.points * factor, cell_px=part.cell_px * factor.max())
            for part in (self.top_left, self.bottom_right)
        )
        maps = [cv2.resize(heat, (width, height), interpolation=cv2.INTER_NEAREST) for heat in self.attention]
        attention = np.array(maps, np.float32).reshape(-1, height, width)
        return Evidence(first, second, attention, self.crops * np.tile(factor, 2))


class Look(NamedTuple):
    """The network's maps of one input, and how its cells lie in the image, as x, y."""

    maps: dict[str, Any]
    cell: Float[np.ndarray, "2"]  # pixels of the image for a cell
    start: Float[np.ndarray, "2"]  # pixel of the image where the first cell starts


def available(predictor: Predictor) -> tuple[str, ...]:
    """The names in KINDS of what the predictor's detector has."""
    size = predictor.config.data.crop_px
    maps = jax.eval_shape(predictor.forward, jax.ShapeDtypeStruct((1, *size, 3), np.float32))
    has = {"corners": "tl_heat", "tags": "tl_tag", "attention": "attention", "crops": "attention"}
    return tuple(kind for kind in KINDS if has[kind] in maps)


def check_overlays(predictor: Predictor, kinds: Iterable[str]) -> None:
    """Raises: InputError: the predictor's detector has not all of these kinds."""
    there = available(predictor) if kinds else ()
    for kind in kinds:
        if kind not in there:
            raise InputError(
                f"{predictor.config.model.detector} has no {kind} to draw; it has: {', '.join(there) or 'nothing'}"
            )


def find_evidence(predictor: Predictor, image: Image) -> Evidence:
    """What the boxes in an image are made from; the network runs once more for it.

    With several scales that is scale 1, or the first of them; mirrored images are left out.

    Args:
        image: BGR.
    """
    height, width = image.shape[:2]
    looks, attention, crops = look_again(predictor, image)
    corners = {side: _corners(predictor, looks, side, width, height) for side in ("tl", "br")}
    return Evidence(corners["tl"], corners["br"], attention, crops)


def look_again(
    predictor: Predictor, image: Image
) -> tuple[list[Look], Float[np.ndarray, "maps H W"], Float[np.ndarray, "n 4"]]:
    """Every look at an image, and the attention and the crops of Evidence."""
    if hasattr(predictor.finder, "trace"):
        return _saccade_looks(predictor, image)
    height, width = image.shape[:2]
    nothing = np.zeros((0, height, width), np.float32), np.zeros((0, 4), np.float32)
    return [_whole_look(predictor, image)], *nothing


def pairs(evidence: Evidence, found: Detections, *, tag_distance: float) -> list[tuple[int, int] | None]:
    """The corners that each box was made from: places in top_left and bottom_right; None where none fit.

    That is where a box comes from another scale or the mirrored image, or was merged with others.

    Args:
        found: in pixels of the same image.
        tag_distance: largest difference of the tags of a pair.
    """
    return [
        _pair(evidence, box, label, tag_distance)
        for box, label in zip(found.boxes, found.classes.tolist(), strict=True)
    ]


def _pair(evidence: Evidence, box: Float[np.ndarray, "4"], label: int, tag_distance: float) -> tuple[int, int] | None:
    best = None
    first, second = evidence.top_left, evidence.bottom_right
    for i, to_first in _near(first, box[:2], label):
        for j, to_second in _near(second, box[2:], label):
            alike = first.looks[i] == second.looks[j] and abs(first.tags[i] - second.tags[j]) <= tag_distance
            if alike and (best is None or to_first + to_second < best[0]):
                best = to_first + to_second, (i, j)
    return None if best is None else best[1]


def _near(corners: Corners, point: Float[np.ndarray, "2"], label: int) -> list[tuple[int, float]]:
    """Corners of a class within a cell of a point, and how far they are, in cells."""
    away = np.abs(corners.points - point).max(1) / corners.cell_px
    return [(i, float(away[i])) for i in np.flatnonzero((away <= 1) & (corners.classes == label)).tolist()]


def _whole_look(predictor: Predictor, image: Image) -> Look:
    test, height, width = predictor.config.test, image.shape[0], image.shape[1]
    at = test.scales.index(1.0) if 1.0 in test.scales else 0
    scale, size = test.scales[at], predictor.finder.bucket(height, width)[at]  # type: ignore[index]
    resized = image if scale == 1 else cv2.resize(image, (scaled(width, scale), scaled(height, scale)))
    padded, borders, factors, _ = assemble(
        [np.asarray(resized, np.uint8)], [(height, width)], size, 1, scale=scale, legacy=predictor.config.legacy
    )
    maps = predictor.forward(normalise(jnp.asarray(padded, jnp.float32) / 255))
    return _look_of(maps, np.array(size), factors[0], -borders[0] * factors[0])


def _look_of(maps: dict[str, Any], size: np.ndarray, factor: np.ndarray, start: np.ndarray) -> Look:
    """A look of height and width `size`; factor: x, y pixels of the image for one of the look; start: of its first."""
    cells = np.array(maps["tl_heat"].shape[2:0:-1])
    return Look(maps, (size[::-1] / cells * factor).astype(np.float32), np.asarray(start, np.float32))


def _saccade_looks(predictor: Predictor, image: Image) -> tuple[list[Look], np.ndarray, np.ndarray]:
    """Every look; the attention of the largest view; the crops."""
    finder: Any = predictor.finder
    config, (height, width) = predictor.config, image.shape[:2]
    side = config.data.crop_px[0]
    bucket = finder.bucket(height, width)
    padded = np.zeros((1, *bucket, 3), np.uint8)
    padded[0, :height, :width] = image
    looks, crops = [], [np.zeros((0, 4), np.float32)]
    _, rounds = finder.trace(*predictor.weights, [image], bucket, 1)
    for number, seen in enumerate(rounds):
        scales, starts = placements(seen.windows, seen.locations[:, 2], nominal=config.legacy.nominal_scale)
        for i in range(len(seen.image)):  # one by one: compiled once
            crop = finder.cut(padded, np.zeros(1, np.int32), Windows(*(part[i : i + 1] for part in seen.windows)))
            maps = predictor.forward(normalise(crop))
            looks.append(_look_of(maps, np.array([side, side]), 1 / scales[i, ::-1], starts[i, ::-1]))
        if number:
            start = seen.windows.offset[:, ::-1].astype(np.float32)
            crops.append(np.concatenate([start, start + side / seen.locations[:, 2:3]], 1).astype(np.float32))
    views = rounds[0].windows
    largest = int(np.argmax(config.test.saccade.view_px))
    place = Windows(*(part[largest] for part in views))
    heats = [_over_image(logits, place, side, width, height) for logits in looks[largest].maps["attention"]]
    return looks, np.stack(heats), np.concatenate(crops)


def _over_image(logits: Any, place: Windows, side: int, width: int, height: int) -> Float[np.ndarray, "H W"]:
    """An attention map of a view as heat over the image; cells stay squares, so that their size is seen."""
    heat = cv2.resize(np.asarray(jax.nn.sigmoid(logits))[0, ..., 0], (side, side), interpolation=cv2.INTER_NEAREST)
    (y, x), (h, w) = place.corner, place.resized
    inside = heat[y : y + h, x : x + w]
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)


def _corners(predictor: Predictor, looks: list[Look], side: str, width: int, height: int) -> Corners:
    """The corners of one kind in all looks; as boxes do, they end at the border of the image."""
    test, parts = predictor.config.test, []
    if "tl_heat" not in looks[0].maps:
        looks = []
    for number, look in enumerate(looks):
        found = _find(look.maps, side, top_k=test.top_k, window=test.peak_window, no_border=test.no_border)
        points, heat, classes, tags = (np.asarray(part)[0] for part in found)
        shown = heat >= LEAST_HEAT
        pixels = np.clip(points[shown] * look.cell + look.start, 0, (width, height)).astype(np.float32)
        one = np.ones(len(pixels))
        parts.append(
            Corners(
                pixels,
                heat[shown],
                classes[shown],
                tags[shown],
                (number * one).astype(np.int32),
                (look.cell.max() * one).astype(np.float32),
            )
        )
    none = np.zeros(0, np.float32)
    empty = Corners(np.zeros((0, 2), np.float32), none, none.astype(np.int32), none, none.astype(np.int32), none)
    return Corners(*(np.concatenate(values) for values in zip(empty, *parts, strict=True)))


def draw(
    image: Image, found: Detections, evidence: Evidence | None, kinds: Collection[str], *, tag_distance: float = 0.5
) -> Image:
    """Draw boxes on a copy of an image, and of the evidence those kinds that are wanted.

    Args:
        image: BGR.
        found, evidence: in pixels of it.
        kinds: of KINDS.
        tag_distance: see pairs.
    """
    if evidence and "attention" in kinds:
        image = drawing.draw_attention(image, evidence.attention)
    if evidence and "crops" in kinds:
        image = drawing.draw_crops(image, evidence.crops)
    names, scores = found.class_names, found.scores
    image = drawing.draw_boxes(image, found.boxes, found.classes, class_names=names, scores=scores, enlarge=False)
    if evidence and "tags" in kinds:
        joined = [pair for pair in pairs(evidence, found, tag_distance=tag_distance) if pair]
        first, second = evidence.top_left, evidence.bottom_right
        image = drawing.draw_tags(image, (first.points, first.tags), (second.points, second.tags), joined)
    if evidence and "corners" in kinds:
        for corners, last in ((evidence.top_left, False), (evidence.bottom_right, True)):
            image = drawing.draw_corners(image, corners.points, corners.heat, corners.classes, bottom_right=last)
    return image
