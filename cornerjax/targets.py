"""Training targets: from the boxes of a crop to cells, radii and offsets, and from these to heat maps.

Everything that ends in an integer is decided once, on the host, in NumPy; the drawing serves host and device.
"""

import functools
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

Array = jax.Array | np.ndarray


def gaussian_radius(
    height: Float[np.ndarray, "*n"], width: Float[np.ndarray, "*n"], iou: float, *, kind: str = "exact"
) -> Float[np.ndarray, "*n"]:
    """How far both corners of a box may move until its overlap with the true box can fall below iou.

    Three cases: both corners move inwards, both outwards, or the box is shifted; the smallest radius counts.

    Args:
        height, width: of the boxes, in cells.
        iou: in (0, 1).
        kind: "exact", or "legacy": (b + root) / 2 for the root of every equation, about three times as large.
    Returns: cells, float64, not rounded.
    Raises: ValueError: kind is another word.
    Source: CornerNet-Lite, core/sample/utils.py, and for legacy ExtremeNet, utils/image.py; gaussian_radius.
    """
    if kind not in ("exact", "legacy"):
        raise ValueError(f"kind must be 'exact' or 'legacy', got {kind!r}")
    total, area = np.asarray(height + width, np.float64), np.asarray(height * width, np.float64)
    shifted = (1.0, total, area * (1 - iou) / (1 + iou), -1)
    inwards = (4.0, 2 * total, area * (1 - iou), -1)
    outwards = (4 * iou, -2 * iou * total, area * (iou - 1), 1)
    radii = []
    for a, b, c, sign in (shifted, inwards, outwards):
        root = np.sqrt(b**2 - 4 * a * c)
        radii.append((b + root) / 2 if kind == "legacy" else (b + sign * root) / (2 * a))
    return np.minimum.reduce(radii)


@functools.lru_cache(maxsize=512)
def _patch(radius: int) -> Float32[np.ndarray, "side side"]:
    """A gaussian of 1 at the centre, of standard deviation a sixth of the patch's side."""
    square = np.arange(-radius, radius + 1) ** 2
    sigma = (2 * radius + 1) / 6
    return np.exp(-(square + square[:, None]) / (2 * sigma**2)).astype(np.float32)


def draw_gaussians(
    cells: Int[Array, "n 2"],
    radii: Int[Array, "n"],
    classes: Int[Array, "n"],
    valid: Bool[Array, "n"],
    *,
    num_classes: int,
    map_size: tuple[int, int],
    xp: ModuleType,
) -> Float32[Array, "h w c"]:
    """One heat map a class, with a gaussian at each valid cell; where gaussians meet, the larger value counts.

    Args:
        cells: x, y of the peaks, inside the map; the value there is exactly 1.
        radii: in cells, at least 0; a gaussian ends at this distance in x and in y.
        classes: from 0.
        valid: False for the rows that only fill up.
        map_size: h, w.
    Source: CornerNet-Lite, core/sample/utils.py, draw_gaussian.
    """
    draw = _draw_on_host if xp is np else _draw_on_device
    return draw(cells, radii, classes, valid, (*map_size, num_classes))


def _draw_on_host(cells, radii, classes, valid, shape):
    h, w, _ = shape
    heat = np.zeros(shape, np.float32)
    objects = np.column_stack([cells, radii, classes])[valid]
    for x, y, r, c in objects.tolist():
        left, top, right, bottom = max(x - r, 0), max(y - r, 0), min(x + r + 1, w), min(y + r + 1, h)
        patch = _patch(r)[top - y + r : bottom - y + r, left - x + r : right - x + r]
        part = heat[top:bottom, left:right, c]
        np.maximum(part, patch, out=part)
    return heat


def _draw_on_device(cells, radii, classes, valid, shape):
    h, w, _ = shape
    sigmas = (2 * radii + 1).astype(np.float32) / 6

    def draw(i, heat):
        dx, dy = jax.numpy.arange(w) - cells[i, 0], jax.numpy.arange(h) - cells[i, 1]
        near = (abs(dx) <= radii[i])[None, :] & (abs(dy) <= radii[i])[:, None]
        square = (dx**2)[None, :] + (dy**2)[:, None]
        gaussian = jax.numpy.exp(-square.astype(np.float32) / (2 * sigmas[i] ** 2))
        return heat.at[:, :, classes[i]].max(jax.numpy.where(near & valid[i], gaussian, 0))

    return jax.lax.fori_loop(0, len(classes), draw, jax.numpy.zeros(shape, np.float32))


def encode_corners(
    objects: dict[str, np.ndarray],
    *,
    map_size: tuple[int, int],
    crop_px: tuple[int, int],
    max_objects: int,
    iou: float,
    kind: str = "exact",
) -> dict[str, np.ndarray]:
    """Cells, offsets and radii of the corners of an example's boxes, filled up to max_objects rows (n).

    Args:
        objects: "boxes" (m, 4) float32 x1 y1 x2 y2 in crop pixels, inside the crop, and "classes" (m,) from 0.
        map_size: h, w of the heat maps.
        crop_px: H, W of the crop.
        max_objects: n; objects beyond it are left out (data/pipeline.py counts them when training starts).
        iou, kind: see gaussian_radius.
    Returns: "classes" (n,) int32; "tl_cells", "br_cells" (n, 2) int32 x, y; "radii" (n,) int32, in cells;
        "tl_off", "br_off" (n, 2) float32 in [0, 1), from the cell to the corner; "valid" (n,) bool.
    Source: CornerNet-Lite, core/sample/cornernet.py.
    """
    boxes, classes = objects["boxes"][:max_objects], objects["classes"][:max_objects]
    h, w = map_size
    ratio = np.array([w / crop_px[1], h / crop_px[0]], np.float32)  # 128 / 511, not 1 / 4
    width, height = np.ceil((boxes[:, 2:] - boxes[:, :2]) * ratio).T.astype(np.float64)
    radii = np.maximum(gaussian_radius(height, width, iou, kind=kind), 0).astype(np.int32)
    encoded = {"classes": classes.astype(np.int32), "radii": radii, "valid": np.ones(len(boxes), bool)}
    for corner, points in (("tl", boxes[:, :2] * ratio), ("br", boxes[:, 2:] * ratio)):
        cells = points.astype(np.int32)
        encoded |= {f"{corner}_cells": cells, f"{corner}_off": points - cells.astype(np.float32)}
    return {name: _fill_up(values, max_objects) for name, values in encoded.items()}


def _fill_up(values: np.ndarray, rows: int) -> np.ndarray:
    """Add rows of zeros."""
    filled = np.zeros((rows, *values.shape[1:]), values.dtype)
    filled[: len(values)] = values
    return filled


def render_corners(
    encoded: dict[str, Any], *, num_classes: int, map_size: tuple[int, int], xp: ModuleType
) -> dict[str, Any]:
    """The heat maps "tl_heat" and "br_heat", (h, w, c) float32, of one example from encode_corners."""
    shared = (encoded["radii"], encoded["classes"], encoded["valid"])
    draw = functools.partial(draw_gaussians, num_classes=num_classes, map_size=map_size, xp=xp)
    return {f"{corner}_heat": draw(encoded[f"{corner}_cells"], *shared) for corner in ("tl", "br")}


def encode_saccade(
    objects: dict[str, np.ndarray],
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
) -> dict[str, np.ndarray]:
    """As encode_corners, with the objects that the loss leaves out told apart, and the cells of the attention maps.

    Args:
        objects: as in encode_corners, and "overlap" (m,), the part of each object's area that the crop shows; without
            it all are shown whole.
        map_size, crop_px, max_objects, iou, kind: see encode_corners; objects that the loss leaves out go last.
        min_object_px: an object whose longer side is smaller is left out of the loss.
        min_overlap: so is one of which the crop shows no more than this part.
        attention_px: for each attention map the least and the largest longer side of its objects, in crop pixels.
        attention_sizes: h, w of each, in the same order; H + 1 and W + 1 are multiples of them.
        shared_ends: the original's form: an object of the least side belongs to a map too, so to two where ranges meet.
    Returns: those of encode_corners, "valid" without the objects left out; these are "ignored" (n,) bool. For every
        object, left out or not, "att_cells" (n, maps, 2) int32, the x, y of its centre in each attention map, and
        "attended" (n, maps) bool, whether it belongs to it.
    Source: CornerNet-Lite, core/sample/cornernet_saccade.py, cornernet_saccade and create_attention_mask.
    """
    boxes = objects["boxes"]
    sides = (boxes[:, 2:].astype(np.int32) - boxes[:, :2].astype(np.int32)).max(1)
    counts = (objects.get("overlap", np.ones(len(boxes))) > min_overlap) & (sides >= min_object_px)
    order = np.argsort(~counts, kind="stable")[:max_objects]
    ordered = {"boxes": boxes[order], "classes": objects["classes"][order]}
    corners = encode_corners(ordered, map_size=map_size, crop_px=crop_px, max_objects=max_objects, iou=iou, kind=kind)
    cells, attended = _attend(ordered["boxes"], crop_px, attention_px, attention_sizes, shared_ends)
    rows = {"valid": counts[order], "ignored": ~counts[order], "att_cells": cells, "attended": attended}
    return corners | {name: _fill_up(values, max_objects) for name, values in rows.items()}


def _attend(boxes, crop_px, attention_px, attention_sizes, shared_ends):
    """The cell of each box in each attention map, and whether it belongs to it."""
    least, most = np.array(attention_px, np.float32).T
    longer = (boxes[:, 2:] - boxes[:, :2]).max(1)[:, None]
    # Differs from CornerNet-Saccade: a map leaves objects of its least side to the next one, unless shared_ends.
    above = longer >= least if shared_ends else longer > least
    stride = (np.array(crop_px[::-1]) + 1) // np.array(attention_sizes)[:, ::-1]
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None] / stride
    return cells.astype(np.int32), above & (longer <= most)


def render_saccade(
    encoded: dict[str, Any],
    *,
    num_classes: int,
    map_size: tuple[int, int],
    attention_sizes: tuple[tuple[int, int], ...],
    xp: ModuleType,
) -> dict[str, Any]:
    """The maps of one example from encode_saccade, float32.

    Returns: "tl_heat", "br_heat" (h, w, c); "tl_valid", "br_valid" (h, w, c), 0 where the gaussians of ignored objects
        reach, 1 elsewhere; "attention_0" and so on, (h, w, 1) in the order of attention_sizes, 1 at the centres.
    """
    draw = functools.partial(render_corners, num_classes=num_classes, map_size=map_size, xp=xp)
    heats, ignored = draw(encoded), draw(encoded | {"valid": encoded["ignored"]})
    maps = heats | {f"{corner}_valid": (ignored[f"{corner}_heat"] == 0).astype(np.float32) for corner in ("tl", "br")}
    zeros = xp.zeros_like(encoded["classes"])
    for i, size in enumerate(attention_sizes):
        cells, attended = encoded["att_cells"][:, i], encoded["attended"][:, i]
        maps[f"attention_{i}"] = draw_gaussians(cells, zeros, zeros, attended, num_classes=1, map_size=size, xp=xp)
    return maps
