"""Training targets: from the objects of a crop to cells, radii and offsets, and from these to heat maps.

Everything that ends in an integer is decided once, on the host, in NumPy; the drawing serves host and device.
"""

import functools
from collections.abc import Mapping, Sequence
from types import ModuleType

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from cornerjax.keypoints import Keypoint, Objects

Array = jax.Array | np.ndarray
Encoded = dict[str, np.ndarray]  # of one example: names of fixed shape and type
SIGMA = 1 / 6  # of a gaussian, as a part of its diameter


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
    height, width = np.asarray(height, np.float64), np.asarray(width, np.float64)
    total = height + width
    # In the original's order of multiplication: where a radius is near a whole number, the last bit decides.
    shifted = (1.0, total, width * height * (1 - iou) / (1 + iou), -1)
    inwards = (4.0, 2 * total, (1 - iou) * width * height, -1)
    outwards = (4 * iou, -2 * iou * total, (iou - 1) * width * height, 1)
    radii = []
    for a, b, c, sign in (shifted, inwards, outwards):
        root = np.sqrt(b**2 - 4 * a * c)
        radii.append((b + root) / 2 if kind == "legacy" else (b + sign * root) / (2 * a))
    return np.minimum.reduce(radii)


@functools.lru_cache(maxsize=512)
def _patch(radius: int, part: float) -> Float32[np.ndarray, "side side"]:
    """A gaussian of 1 at the centre, whose standard deviation is a part of the patch's side."""
    square = np.arange(-radius, radius + 1) ** 2
    sigma = (2 * radius + 1) * part
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
    sigma: float = SIGMA,
) -> Float32[Array, "h w c"]:
    """One heat map a class, with a gaussian at each valid cell; where gaussians meet, the larger value counts.

    Args:
        cells: x, y of the peaks, inside the map; the value there is exactly 1.
        radii: in cells, at least 0; a gaussian ends at this distance in x and in y.
        classes: from 0.
        valid: False for the rows that only fill up.
        map_size: h, w.
        sigma: standard deviation, as a part of the diameter of a gaussian, 2 * radius + 1.
    Source: CornerNet-Lite, core/sample/utils.py, draw_gaussian.
    """
    draw = _draw_on_host if xp is np else _draw_on_device
    return draw(cells, radii, classes, valid, (*map_size, num_classes), sigma)


def _draw_on_host(cells, radii, classes, valid, shape, sigma):
    h, w, _ = shape
    heat = np.zeros(shape, np.float32)
    objects = np.column_stack([cells, radii, classes])[valid]
    for x, y, r, c in objects.tolist():
        left, top, right, bottom = max(x - r, 0), max(y - r, 0), min(x + r + 1, w), min(y + r + 1, h)
        patch = _patch(r, sigma)[top - y + r : bottom - y + r, left - x + r : right - x + r]
        part = heat[top:bottom, left:right, c]
        np.maximum(part, patch, out=part)
    return heat


def _draw_on_device(cells, radii, classes, valid, shape, sigma):
    h, w, _ = shape
    sigmas = (2 * radii + 1).astype(np.float32) * np.float32(sigma)

    def draw(i, heat):
        dx, dy = jax.numpy.arange(w) - cells[i, 0], jax.numpy.arange(h) - cells[i, 1]
        near = (abs(dx) <= radii[i])[None, :] & (abs(dy) <= radii[i])[:, None]
        square = (dx**2)[None, :] + (dy**2)[:, None]
        gaussian = jax.numpy.exp(-square.astype(np.float32) / (2 * sigmas[i] ** 2))
        return heat.at[:, :, classes[i]].max(jax.numpy.where(near & valid[i], gaussian, 0))

    return jax.lax.fori_loop(0, len(classes), draw, jax.numpy.zeros(shape, np.float32))


def encode_keypoints(
    objects: Objects,
    keypoints: Sequence[Keypoint],
    *,
    map_size: tuple[int, int],
    crop_px: tuple[int, int],
    max_objects: int,
    iou: float,
    kind: str = "exact",
) -> Encoded:
    """Cells, offsets and radii of the keypoints of an example's objects, filled up to max_objects rows (n).

    Args:
        objects: of the crop, in its pixels: "boxes" (m, 4) x1 y1 x2 y2 inside the crop, "classes" (m,) from 0,
            and what the keypoints are made from.
        map_size: h, w of the heat maps.
        crop_px: H, W of the crop.
        max_objects: n; objects beyond it are left out (data/pipeline.py counts them when training starts).
        iou, kind: see gaussian_radius; all keypoints of an object have the radius of its box.
    Returns: "classes" (n,) int32; "radii" (n,) int32, in cells; "valid" (n,) bool; of each keypoint "NAME_cells" (n, 2)
        int32 x, y, and if it has offsets "NAME_off" (n, 2) float32 in [0, 1], from the cell to the point.
    Source: CornerNet-Lite, core/sample/cornernet.py.
    """
    objects = {name: values[:max_objects] for name, values in objects.items()}
    boxes = objects["boxes"]
    h, w = map_size
    ratio = np.array([w / crop_px[1], h / crop_px[0]], np.result_type(boxes, np.float32))  # 128 / 511, not 1 / 4
    width, height = np.ceil((boxes[:, 2:] - boxes[:, :2]) * ratio).T.astype(np.float64)
    radii = np.maximum(gaussian_radius(height, width, iou, kind=kind), 0).astype(np.int32)
    classes = objects["classes"].astype(np.int32)
    encoded = {"classes": classes, "radii": radii, "valid": np.ones(len(boxes), bool)}
    for keypoint in keypoints:
        points = keypoint.at(objects) * ratio
        cells = np.minimum(points.astype(np.int32), np.array([w - 1, h - 1], np.int32))  # a box may end with the crop
        encoded[f"{keypoint.name}_cells"] = cells
        if keypoint.offset:
            encoded[f"{keypoint.name}_off"] = (points - cells.astype(points.dtype)).astype(np.float32)
    return {name: fill_up(values, max_objects) for name, values in encoded.items()}


def fill_up(values: np.ndarray, rows: int) -> np.ndarray:
    """Add rows of zeros."""
    filled = np.zeros((rows, *values.shape[1:]), values.dtype)
    filled[: len(values)] = values
    return filled


def render_keypoints(
    encoded: Mapping[str, Array],
    keypoints: Sequence[Keypoint],
    *,
    num_classes: int,
    map_size: tuple[int, int],
    xp: ModuleType,
) -> dict[str, Array]:
    """The heat maps "NAME_heat" of all keypoints, (h, w, c) float32, of one example from encode_keypoints."""
    shared = (encoded["radii"], encoded["classes"], encoded["valid"])
    draw = functools.partial(draw_gaussians, num_classes=num_classes, map_size=map_size, xp=xp)
    return {
        f"{keypoint.name}_heat": draw(encoded[f"{keypoint.name}_cells"], *shared, sigma=keypoint.sigma)
        for keypoint in keypoints
    }
