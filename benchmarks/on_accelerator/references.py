"""What the ops must compute, in plain NumPy: loops that are easy to read, in float64 where the ops add up."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from cornerjax.ops.pools import CORNERS, SCANS
from cornerjax.ops.running_max.reference import running_max_reference

Array = np.ndarray


def pool_with_gradient(xs: list[Array], g: Array, direction: str) -> tuple[Array, tuple[Array, ...]]:
    """A pool, or the sum of a corner's two, and the gradients for its maps, given that for the result."""
    scans = [SCANS[one] for one in CORNERS.get(direction, (direction,))]
    pooled = [running_max_reference(x, *scan) for x, scan in zip(xs, scans, strict=False)]
    return sum(pooled[1:], pooled[0]), tuple(pool_gradient(x, g, *scan) for x, scan in zip(xs, scans, strict=False))


def pool_gradient(x: Array, g: Array, axis: int, reverse: bool) -> Array:
    """All of g goes to the first of equal maxima: the records of all lines, step after step."""
    xs, gs = (np.moveaxis(one, axis, 0)[:: -1 if reverse else 1] for one in (x, g))
    shape, n = xs.shape, len(xs)
    xs, gs, found = xs.reshape(n, -1), gs.reshape(n, -1), np.zeros((n, xs[0].size))
    best, record, lines = xs[0], np.zeros(xs.shape[1], int), np.arange(xs.shape[1])
    for i in range(n):
        record = np.where(xs[i] > best, i, record)
        best = np.maximum(best, xs[i])
        found[record, lines] += gs[i]
    found = found.reshape(shape)[:: -1 if reverse else 1]
    return np.moveaxis(found, 0, axis).astype(np.float32)


def deformed(x: Array, offsets: Array, mask: Array, kernel: Array) -> Array:
    """A 3x3 deformable convolution with padding 1: every tap a weighted sum of the four cells around its place."""
    b, h, w, c = x.shape
    places = np.stack(np.mgrid[0:h, 0:w], -1)[:, :, None] + np.stack(np.mgrid[-1:2, -1:2], -1).reshape(9, 2)
    places = places + offsets.reshape(b, h, w, 9, 2).astype(np.float64)
    first = np.floor(places).astype(int)
    images = np.arange(b)[:, None, None, None]
    samples = np.zeros((b, h, w, 9, c))
    for dy in (0, 1):
        for dx in (0, 1):
            y, cell = first[..., 0] + dy, first[..., 1] + dx
            share = (1 - np.abs(places[..., 0] - y)) * (1 - np.abs(places[..., 1] - cell))
            inside = (y >= 0) & (y < h) & (cell >= 0) & (cell < w)
            read = x[images, y.clip(0, h - 1), cell.clip(0, w - 1)]
            samples += np.where(inside, share, 0)[..., None] * read
    weighed = (samples * mask[..., None]).reshape(b, h, w, 9 * c)
    return weighed @ kernel.astype(np.float64).reshape(9 * c, -1)


def convolved(x: Array, kernel: Array, *, stride: int = 1) -> Array:
    """A convolution with an odd square kernel, padding (side - 1) / 2."""
    side, (h, w), pad = len(kernel), x.shape[1:3], len(kernel) // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return sum(
        padded[:, i : i + h : stride, j : j + w : stride] @ kernel[i, j].astype(np.float64)
        for i in range(side)
        for j in range(side)
    )


def normalised(x: Array, scale: Array, bias: Array, g: Array, eps: float) -> tuple[Array, ...]:
    """Batch normalisation of groups: the map, its mean and variance, and the gradients for x, scale and bias from g."""
    x, scale, bias, g = (one.astype(np.float64) for one in (x, scale, bias, g))
    cells = (1, 2, 3)
    mean, var = x.mean(cells, keepdims=True), x.var(cells, keepdims=True)
    unit = (x - mean) / np.sqrt(var + eps)
    along, across = (g * unit).mean(cells, keepdims=True), g.mean(cells, keepdims=True)
    dx = scale / np.sqrt(var + eps) * (g - across - unit * along)
    return unit * scale + bias, mean, var, dx, (g * unit).sum((0, *cells)), g.sum((0, *cells))


def depthwise(x: Array, kernel: Array) -> Array:
    """A 3x3 convolution of each channel, padding 1."""
    h, w = x.shape[1:3]
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, i : i + h, j : j + w] * kernel[i, j, 0] for i in range(3) for j in range(3))


def transposed(x: Array, kernel: Array, *, factor: int, apart: bool) -> Array:
    """A transposed convolution with a kernel of side 2 * factor: every cell adds its kernel to the output.

    Args:
        apart: each channel has a kernel of its own.
    """
    b, h, w, _ = x.shape
    side, cut = 2 * factor, factor // 2
    out = np.zeros((b, h * factor + factor, w * factor + factor, x.shape[3] if apart else kernel.shape[2]))
    for i in range(side):
        for j in range(side):
            added = x * kernel[i, j, 0] if apart else x @ kernel[i, j].T.astype(np.float64)
            out[:, i : i + h * factor : factor, j : j + w * factor : factor] += added
    return out[:, cut : cut + h * factor, cut : cut + w * factor]


def edges(x: Array, axis: int, weight: float = 0.1) -> Array:
    """To each score, from both sides, the sum of those that rise to it."""
    lines = np.moveaxis(x, axis, 0).astype(np.float64)
    total = lines.copy()
    for step in (1, -1):
        run, way = lines[::step].copy(), lines[::step]
        for i in range(1, len(run)):
            run[i] += np.where(way[i] >= way[i - 1], run[i - 1], 0)
        total += weight * (run[::step] - lines)
    return np.moveaxis(total, 0, axis)


def peaks(x: Array, window: int = 3) -> Array:
    """The cells that no neighbour exceeds; -inf elsewhere."""
    r, (h, w) = window // 2, x.shape[1:3]
    padded = np.pad(x, ((0, 0), (r, r), (r, r), (0, 0)), constant_values=-np.inf)
    around = (padded[:, i : i + h, j : j + w] for i in range(window) for j in range(window))
    return np.where(x >= functools.reduce(np.maximum, around), x, -np.inf)


def quadruple_scores(points: Any, heat: Array, *, floor: float, centre_floor: float) -> Array:
    """The scores of all quadruples of topmost, leftmost, bottommost and rightmost points of an image; -1 of no box."""
    kinds = [[np.asarray(part) for part in kind] for kind in points]
    at = [tuple(slice(None) if i == axis else None for i in range(4)) for axis in range(4)]
    x, y = ([kind[0][:, i][where] for kind, where in zip(kinds, at, strict=True)] for i in (0, 1))
    scores, classes = ([kind[i][where] for kind, where in zip(kinds, at, strict=True)] for i in (1, 2))
    middle = heat[(y[0] + y[2]) // 2, (x[1] + x[3]) // 2, classes[0]].astype(np.float64)
    centre = 1 / (1 + np.exp(-middle))
    total = (sum(score.astype(np.float64) for score in scores) + 2 * centre) / 6
    sound = (centre >= centre_floor) & (total > 0)
    for i in range(4):
        sound = sound & (scores[i] >= floor) & (classes[i] == classes[0])
        sound = sound & (y[0] <= y[i]) & (y[2] >= y[i]) & (x[1] <= x[i]) & (x[3] >= x[i])
    return np.where(sound, total, -1)


FACTORS: dict[str, Callable[[Array], Array]] = {
    "hard": lambda iou: np.where(iou > 0.5, 0, 1),
    "linear": lambda iou: np.where(iou > 0.5, 1 - iou, 1),
    "gaussian": lambda iou: np.exp(-(iou**2) / 0.5),
}


def suppressed(
    boxes: Array, scores: Array, classes: Array, method: str, weights: Array | None = None, merge_exp: int = 10
) -> list[tuple[float, ...]]:
    """Soft-NMS with its default options, box after box: (score, *box) of those kept, best first.

    Args:
        weights: of the two corners of each box; boxes are then merged.
    """
    boxes, left, kept = boxes.astype(np.float64), np.where(scores < 0, -1, scores).astype(np.float64), []
    area = np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    while (best := int(left.argmax())) >= 0 and left[best] >= 0:
        sides = np.minimum(boxes[best, 2:], boxes[:, 2:]) - np.maximum(boxes[best, :2], boxes[:, :2])
        touches = (sides > 0).all(1) & (classes == classes[best]) & (left >= 0)
        common = np.where(touches, sides.prod(1), 0)
        factor = FACTORS[method](common / (area + area[best] - common))
        box = boxes[best]
        if weights is not None:
            share = np.where(touches, (1 - factor) ** merge_exp, 0)
            share[best] = 1
            share = share[:, None] * weights.repeat(2, 1)
            box = (share * boxes).sum(0) / share.sum(0)
        kept.append((left[best], *box))
        left = np.where(touches, left * factor, left)
        left[touches & (left < 0.001)] = -1
        left[best] = -1
    return kept
