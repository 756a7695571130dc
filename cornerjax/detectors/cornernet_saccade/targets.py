"""Training targets of CornerNet-Saccade: those of the corners, with objects to ignore, and those of attention."""

from collections.abc import Mapping
from functools import partial
from types import ModuleType

import jax
import numpy as np

from cornerjax.detectors.tags import CORNERS
from cornerjax.keypoints import Objects
from cornerjax.targets import Encoded, draw_gaussians, encode_keypoints, fill_up, render_keypoints

Array = jax.Array | np.ndarray


def encode_saccade(
    objects: Objects,
    *,
    map_size: tuple[int, int],
    crop_px: tuple[int, int],
    max_objects: int,
    iou: float,
    kind: str = "exact",
    min_object_px: int = 16,
    min_overlap: float | int = 0.5,
    attention_px: tuple[tuple[int, int], ...],
    attention_sizes: tuple[tuple[int, int], ...],
    shared_ends: bool = False,
) -> Encoded:
    """The corners as of encode_keypoints, the objects that the loss leaves out told apart, and the cells of attention.

    Args:
        objects: as in encode_keypoints, and "overlap" (m,), the part of each object's area that the crop shows; without
            it all are shown whole.
        map_size, crop_px, max_objects, iou, kind: see encode_keypoints; objects that the loss leaves out go last.
        min_object_px: an object whose longer side is smaller is left out of the loss.
        min_overlap: so is one of which the crop shows no more than this part.
        attention_px: for each attention map the least and the largest longer side of its objects, in crop pixels.
        attention_sizes: h, w of each, in the same order; H + 1 and W + 1 are multiples of them.
        shared_ends: the original's form: an object of the least side belongs to a map too, so to two where ranges meet.
    Returns: those of encode_keypoints, "valid" without the objects left out; these are "ignored" (n,) bool. For every
        object, left out or not, "att_cells" (n, maps, 2) int32, the x, y of its centre in each attention map, and
        "attended" (n, maps) bool, whether it belongs to it.
    Source: CornerNet-Lite, core/sample/cornernet_saccade.py, cornernet_saccade and create_attention_mask.
    """
    boxes = objects["boxes"]
    sides = (boxes[:, 2:].astype(np.int32) - boxes[:, :2].astype(np.int32)).max(1)
    counts = (objects.get("overlap", np.ones(len(boxes))) > min_overlap) & (sides >= min_object_px)
    order = np.argsort(~counts, kind="stable")[:max_objects]
    ordered = {"boxes": boxes[order], "classes": objects["classes"][order]}
    corners = encode_keypoints(
        ordered, CORNERS, map_size=map_size, crop_px=crop_px, max_objects=max_objects, iou=iou, kind=kind
    )
    cells, attended = _attend(ordered["boxes"], crop_px, attention_px, attention_sizes, shared_ends)
    rows = {"valid": counts[order], "ignored": ~counts[order], "att_cells": cells, "attended": attended}
    return corners | {name: fill_up(values, max_objects) for name, values in rows.items()}


def _attend(boxes, crop_px, attention_px, attention_sizes, shared_ends):
    """The cell of each box in each attention map, and whether it belongs to it."""
    least, most = np.array(attention_px).T
    longer = (boxes[:, 2:] - boxes[:, :2]).max(1)[:, None]
    # Differs from CornerNet-Saccade: a map leaves objects of its least side to the next one, unless shared_ends.
    above = longer >= least if shared_ends else longer > least
    stride = (np.array(crop_px[::-1]) + 1) // np.array(attention_sizes)[:, ::-1]
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None] / stride
    return cells.astype(np.int32), above & (longer <= most)


def render_saccade(
    encoded: Mapping[str, Array],
    *,
    num_classes: int,
    map_size: tuple[int, int],
    attention_sizes: tuple[tuple[int, int], ...],
    xp: ModuleType,
) -> dict[str, Array]:
    """The maps of one example from encode_saccade, float32.

    Returns: "tl_heat", "br_heat" (h, w, c); "tl_valid", "br_valid" (h, w, c), 0 where the gaussians of ignored objects
        reach, 1 elsewhere; "attention_0" and so on, (h, w, 1) in the order of attention_sizes, 1 at the centres.
    """
    draw = partial(render_keypoints, keypoints=CORNERS, num_classes=num_classes, map_size=map_size, xp=xp)
    heats, ignored = draw(encoded), draw({**encoded, "valid": encoded["ignored"]})
    maps = heats | {f"{corner}_valid": (ignored[f"{corner}_heat"] == 0).astype(np.float32) for corner in ("tl", "br")}
    zeros = xp.zeros_like(encoded["classes"])
    for i, size in enumerate(attention_sizes):
        cells, attended = encoded["att_cells"][:, i], encoded["attended"][:, i]
        maps[f"attention_{i}"] = draw_gaussians(cells, zeros, zeros, attended, num_classes=1, map_size=size, xp=xp)
    return maps
