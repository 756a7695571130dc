"""What boxes were made from, in pixels of the image: keypoints, and what else a detector can draw."""

from collections.abc import Collection, Iterable, Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from cornerjax import drawing
from cornerjax.detectors.base import Detector, Image, InputMaps, Maps
from cornerjax.detectors.overlay import Evidence, KeypointEvidence
from cornerjax.detectors.rows import Detections
from cornerjax.errors import InputError
from cornerjax.inference.predictor import Predictor
from cornerjax.keypoints import Keypoint
from cornerjax.ops.gather import gather_cells
from cornerjax.ops.keypoints import Peaks, find_keypoints

KEYPOINTS = "keypoints"  # the overlay that every detector has
LEAST_HEAT = 0.1  # keypoints with lower scores are not shown


def available(detector: Detector) -> tuple[str, ...]:
    """The names of what can be drawn besides boxes."""
    return (KEYPOINTS, *(overlay.name for overlay in detector.overlays))


def check_overlays(detector: Detector, names: Iterable[str]) -> None:
    """Raises: InputError: the detector has not all of these."""
    there = available(detector)
    for name in names:
        if name not in there:
            called = detector.defaults.model.detector
            raise InputError(f"{called} has no overlay {name!r}; it has: {', '.join(there)}")


def find_evidence(predictor: Predictor, image: Image) -> Evidence:
    """What the boxes in a BGR image are made from; the network runs once more for it.

    With several scales that is scale 1, or the first of them; mirrored images are left out.
    """
    inspection, (height, width) = predictor.inspect(image), image.shape[:2]
    keypoints = {
        keypoint.name: _evidence_of(predictor, keypoint, inspection.inputs, (width, height))
        for keypoint in predictor.detector.keypoints
    }
    return Evidence(keypoints, inspection.layers, inspection.crops)


def _evidence_of(
    predictor: Predictor, keypoint: Keypoint, inputs: Sequence[InputMaps], size: tuple[int, int]
) -> KeypointEvidence:
    """The keypoints of one kind in all network inputs; like boxes, they end at the border of the image.

    Args:
        size: width and height of the image.
    """
    test, parts = predictor.config.test, []
    for number, (maps, cell, start) in enumerate(inputs):
        found, values = jax.device_get(
            _find(_maps_of(keypoint, maps), top_k=test.top_k, window=test.peak_window, offset=keypoint.offset)
        )
        shown = found.scores[0] >= LEAST_HEAT
        count = int(shown.sum())
        parts.append(
            KeypointEvidence(
                points=np.clip(found.points[0][shown] * cell + start, 0, size).astype(np.float32),
                scores=found.scores[0][shown],
                classes=found.classes[0][shown],
                inputs=np.full(count, number, np.int32),
                cell_px=np.full(count, cell.max(), np.float32),
                values={kind: of_kind[0][shown] for kind, of_kind in values.items()},
            )
        )
    return jax.tree.map(lambda *values: np.concatenate(values), *parts)


def _maps_of(keypoint: Keypoint, maps: Maps) -> dict[str, jax.Array]:
    """The maps of one keypoint, by kind."""
    prefix = f"{keypoint.name}_"
    return {name.removeprefix(prefix): values for name, values in maps.items() if name.startswith(prefix)}


@partial(jax.jit, static_argnames=("top_k", "window", "offset"))
def _find(
    maps: dict[str, Float[jax.Array, "1 h w _"]], *, top_k: int, window: int, offset: bool
) -> tuple[Peaks, dict[str, Float[jax.Array, "1 k _"]]]:
    """The best peaks of the map "heat", and what maps of other kinds say at their cells.

    Args:
        offset: whether "off" has the way from cells to points.
    """
    others = dict(maps)
    heat, offsets = others.pop("heat"), others.pop("off") if offset else None
    found = find_keypoints(heat, offsets, top_k=top_k, window=window)
    return found, {kind: gather_cells(values, found.cells) for kind, values in others.items()}


def draw(
    predictor: Predictor, image: Image, found: Detections, evidence: Evidence | None, names: Collection[str]
) -> Image:
    """Draw boxes on a copy of a BGR image, and of the evidence the overlays that are wanted.

    Args:
        found, evidence: in pixels of the image.
        names: of the overlays, see available.
    """
    detector, config = predictor.detector, predictor.config
    wanted = [overlay for overlay in detector.overlays if overlay.name in names]
    if evidence is not None:
        for overlay in wanted:
            if overlay.below:
                image = overlay.draw(image, evidence, found, config)
    image = drawing.draw_boxes(
        image, found.boxes, found.classes, class_names=found.class_names, scores=found.scores, enlarge=False
    )
    if evidence is None:
        return image
    for overlay in wanted:
        if not overlay.below:
            image = overlay.draw(image, evidence, found, config)
    if KEYPOINTS in names:
        for keypoint in detector.keypoints:
            points, scores, classes, *_ = evidence.keypoints[keypoint.name]
            image = drawing.draw_keypoints(image, points, scores, classes, keypoint.strokes)
    return image
