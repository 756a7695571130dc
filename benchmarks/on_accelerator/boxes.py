"""Checks of what makes boxes of points and chooses among them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from on_accelerator import references
from on_accelerator.bench import GOLDEN
from on_accelerator.checking import Check, largest_difference

from cornerjax.ops import soft_nms, soft_nms_in_place, soft_nms_merge
from cornerjax.ops.quadruples import Points, Quadruples, group_as_pytorch, group_quadruples

METHODS = {"m2": "gaussian", "m1": "linear", "m0": "hard"}  # as the recordings call them
INPUTS, ROWS = 5, 120  # recordings of soft-NMS, and the most boxes in one


def checks_of_boxes(small: bool) -> Iterator[Check]:
    for k, classes in ((8, 1), (8, 2)) if small else ((13, 1), (13, 5), (40, 1), (40, 5)):
        yield from grouping(k, classes)
    methods = dict(list(METHODS.items())[: 1 if small else None])
    yield from recorded_suppression(methods)
    yield from suppression(methods, 16 if small else 200)


def grouping(k: int, classes: int) -> Iterator[Check]:
    """The quadruples of K points of each kind, against all K^4."""
    rng, side = np.random.default_rng(k), 32

    def kind(axis: int, first: int) -> Points:
        """Most of them on their side of the others, as what a network finds."""
        cells = rng.integers(0, side, (k, 2)).astype(np.int32)
        cells[:, axis] = cells[:, axis] // 2 + first
        scores = np.sort(rng.random(k, np.float32))[::-1]
        return Points(cells, scores, rng.integers(0, classes, k).astype(np.int32))

    points = tuple(kind(axis, first) for axis, first in ((1, 0), (0, 0), (1, side // 2), (0, side // 2)))
    heat = rng.standard_normal((side, side, classes)).astype(np.float32)
    options = {"floor": 0.1, "centre_floor": 0.3}
    scores = references.quadruple_scores(points, heat, **options)
    assert (scores > 0).any()
    given = jax.tree.map(lambda x: x[None], (points, heat))
    for name, group in {"in blocks": group_quadruples, "as PyTorch's": group_as_pytorch}.items():
        run = partial(group, num=100, **options)
        yield Check("grouping", f"{name}, {k}^4, {classes} classes", run, given, partial(wrong_groups, scores), 1e-6)


def wrong_groups(scores: np.ndarray, found: Quadruples) -> float:
    """Against the best scores of all, and against those that the chosen quadruples have."""
    best = np.sort(scores.ravel())[::-1][: len(found.scores[0])]
    best = np.pad(best, (0, len(found.scores[0]) - len(best)), constant_values=-1)
    named = np.where(found.scores[0] > 0, scores[tuple(found.points[0].T)], -1)
    return largest_difference((found.scores[0], found.scores[0]), (best, named))


def recorded_suppression(methods: dict[str, str]) -> Iterator[Check]:
    """Soft-NMS as the original does it, in a buffer: the rows kept, all rows, all rows with merged boxes."""
    recorded = np.load(GOLDEN / "post" / "soft_nms.npz")
    inputs = [recorded[f"in{i}"] for i in range(INPUTS)]
    rows = np.stack([np.concatenate([one, np.full((ROWS - len(one), 7), -1, np.float32)]) for one in inputs])
    given = (rows[..., :4], rows[..., 4], np.zeros(rows.shape[:2], np.int32), rows[..., 5:])

    def wrong(key: str, kept_only: bool, which: list[int], found: Any) -> float:
        errors = []
        for i in which:
            name = key.format(i)
            expected = recorded[name][: int(recorded[f"{name}_nkeep"]) if kept_only else None]
            ours = np.column_stack([found.boxes[i], found.scores[i]])
            errors.append(largest_difference(ours[: len(expected)], expected[:, :5]))
            errors.append(float((ours[len(expected) :, 4] >= 0).sum()))  # rows besides
        return max(errors)

    every = list(range(INPUTS))
    for key, method in methods.items():
        plain = jax.vmap(partial(soft_nms, method=method, inclusive=True))
        error = partial(wrong, f"soft{{}}_{key}_a", True, every)
        yield Check("soft-NMS", f"{method}, recorded", lambda *args, plain=plain: plain(*args[:3]), given, error, 2e-5)
        buffer = jax.vmap(partial(soft_nms_in_place, method=method))
        error = partial(wrong, f"soft{{}}_{key}_a", False, every)
        yield Check("soft-NMS in place", f"{method}, recorded", buffer, given, error, 2e-5)
        merged = jax.vmap(partial(soft_nms_in_place, method=method, merge_exp=10))
        which = [i for i in every if int(recorded[f"merge{i}_weight_exp"]) == 10]
        error = partial(wrong, f"merge{{}}_{key}", False, which)
        yield Check("soft-NMS in place", f"{method}, merging, recorded", merged, given, error, 2e-3)


def suppression(methods: dict[str, str], n: int) -> Iterator[Check]:
    """With several classes, against the boxes one by one."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (n, 2))], 1).astype(np.float32)
    scores, classes = rng.uniform(-0.2, 1, n).astype(np.float32), rng.integers(0, 3, n).astype(np.int32)
    weights = rng.random((n, 2), np.float32)

    def wrong(expected: list[tuple[float, ...]], found: Any) -> float:
        ours = np.column_stack([found.scores, found.boxes])
        besides = float((ours[len(expected) :, 0] >= 0).sum())
        return max(largest_difference(ours[: len(expected)], np.array(expected)), besides)

    for method in methods.values():
        error = partial(wrong, references.suppressed(boxes, scores, classes, method))
        run = partial(soft_nms, method=method)
        yield Check("soft-NMS", f"{method}, {n} boxes", run, (boxes, scores, classes), error, 1e-4)
        error = partial(wrong, references.suppressed(boxes, scores, classes, method, weights))
        run = partial(soft_nms_merge, method=method)
        yield Check("soft-NMS", f"{method}, merging, {n} boxes", run, (boxes, scores, classes, weights), error, 1e-3)
