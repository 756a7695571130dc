"""The bodies of the TPU kernels: what happens to one block in VMEM.

A block has up to 32 rows, which are unrolled; a loop goes over its columns, one register of them at a time. What the
block leaves to the next ones is kept in two scratch arrays, one for the scan along h, one for that along w.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

SUBLANES, WORD = 8, 32
BITS = np.left_shift(np.int32(1), np.arange(WORD, dtype=np.int32))


def scan_kernel(*refs, along: str, mark: bool, tile: int, from_end: bool):
    x_refs, y_ref, (above_ref, left_ref) = refs[: len(along)], refs[len(along)], refs[-2:]
    x_ref, marks_ref = dict(zip(along, x_refs, strict=True)), refs[-3]
    top, side, j = pl.program_id(2) == 0, pl.program_id(3) == 0, pl.program_id(3)
    _start(above_ref, left_ref, top, side, j, -jnp.inf)
    rows, groups = _order(y_ref.shape[1], from_end), _order(tile // SUBLANES, from_end)
    place = _place(y_ref.shape[-1], from_end)

    def scan_tile(t, _):
        columns = _columns(t, y_ref.shape[2], tile, from_end)
        words = {axis: jnp.zeros((tile, y_ref.shape[-1]), jnp.int32) for axis in along}
        above = above_ref[j, columns]
        for r in rows:
            total = jnp.zeros_like(above)
            if "h" in along:
                x = x_ref["h"][0, r, columns].astype(jnp.float32)
                words["h"] |= jnp.where(x > above, BITS[r], 0)
                above = jnp.maximum(above, x)
                total = above
            if "w" in along:
                x = x_ref["w"][0, r, columns].astype(jnp.float32)
                before: list[Any] = [None] * len(groups)
                left = left_ref[r]
                for k in groups:
                    part = x[k * SUBLANES : (k + 1) * SUBLANES]
                    before[k] = _before(part, left, place, from_end)
                    left = jnp.maximum(before[k], part)
                left_ref[r] = left
                greatest = jnp.concatenate(before)
                words["w"] |= jnp.where(x > greatest, BITS[r], 0)
                total = total + jnp.maximum(greatest, x) if "h" in along else jnp.maximum(greatest, x)
            y_ref[0, r, columns] = total.astype(y_ref.dtype)
        above_ref[j, columns] = above
        if mark:  # the first of a scan is marked whatever it is, -inf and NaN too
            if "h" in along:
                words["h"] |= jnp.where(top, BITS[rows[0]], 0)
            if "w" in along:
                edge = _iota((tile, y_ref.shape[-1])) == (tile - 1 if from_end else 0)
                words["w"] |= jnp.where(edge & side & (t == 0), -1, 0)
            for k, axis in enumerate(along):
                marks_ref[0, k, 0, columns] = words[axis]

    lax.fori_loop(0, y_ref.shape[2] // tile, scan_tile, None)


def _before(x, left, place, from_end):
    """Maximum of all sublanes scanned before each one; the last one of `left` comes before the first."""
    y = _roll(jnp.where(place == SUBLANES - 1, left, x), 1, from_end)
    for step in (1, 2, 4):
        y = jnp.maximum(y, jnp.where(place < step, -jnp.inf, _roll(y, step, from_end)))
    return y


def collect_kernel(marks_ref, g_ref, *refs, along: str, tile: int, from_end: bool):
    dx_ref, (below_ref, right_ref) = dict(zip(along, refs, strict=False)), refs[-2:]
    j = pl.program_id(3)
    _start(below_ref, right_ref, pl.program_id(2) == 0, j == 0, j, 0.0)
    rows, groups = _order(g_ref.shape[1], from_end), _order(tile // SUBLANES, from_end)
    place = _place(g_ref.shape[-1], from_end)

    def collect_tile(t, _):
        columns = _columns(t, g_ref.shape[2], tile, from_end)
        words = {axis: marks_ref[0, k, 0, columns] for k, axis in enumerate(along)}
        if "w" in along:
            parts = [words["w"][k * SUBLANES : (k + 1) * SUBLANES] for k in range(len(groups))]
            closed = [_closed(part, place, from_end) for part in parts]
            passed = [jnp.where(place == SUBLANES - 1, ~part, 0) for part in parts]
        below = below_ref[j, columns]
        for r in rows:
            g = g_ref[0, r, columns].astype(jnp.float32)
            if "h" in along:
                start = words["h"] & BITS[r] != 0
                below = below + g
                dx_ref["h"][0, r, columns] = jnp.where(start, below, 0.0).astype(g_ref.dtype)
                below = jnp.where(start, 0.0, below)
            if "w" in along:
                total: list[Any] = [None] * len(groups)
                right = right_ref[r]
                for k in groups:
                    total[k] = g[k * SUBLANES : (k + 1) * SUBLANES] + right
                    for step, ends in zip((1, 2, 4), closed[k], strict=True):
                        total[k] += jnp.where(ends & BITS[r] != 0, 0.0, _roll(total[k], step, from_end))
                    right = _roll(jnp.where(passed[k] & BITS[r] != 0, total[k], 0.0), 1, from_end)
                right_ref[r] = right
                dx = jnp.where(words["w"] & BITS[r] != 0, jnp.concatenate(total), 0.0)
                dx_ref["w"][0, r, columns] = dx.astype(g_ref.dtype)
        below_ref[j, columns] = below

    lax.fori_loop(0, g_ref.shape[2] // tile, collect_tile, None)


def _closed(word, place, from_end):
    """For steps of 1, 2 and 4 sublanes: the rows in which a segment ends on the way, or the way leads outside."""
    one = jnp.where(place < 1, -1, _roll(word, 1, from_end))
    two = jnp.where(place < 2, -1, one | _roll(one, 1, from_end))
    four = jnp.where(place < 4, -1, two | _roll(two, 2, from_end))
    return one, two, four


def _start(rows_ref, columns_ref, top, side, j, value):
    @pl.when(top)
    def _():
        rows_ref[j] = jnp.full(rows_ref.shape[1:], value, rows_ref.dtype)

    @pl.when(side)
    def _():
        columns_ref[...] = jnp.full(columns_ref.shape, value, columns_ref.dtype)


def _order(n: int, from_end: bool) -> list[int]:
    return list(range(n))[:: -1 if from_end else 1]


def _iota(shape):
    return lax.broadcasted_iota(jnp.int32, shape, 0)


def _place(lanes: int, from_end: bool):
    """Of each sublane, how many come before it in the walk."""
    i = _iota((SUBLANES, lanes))
    return SUBLANES - 1 - i if from_end else i


def _columns(t, width: int, tile: int, from_end: bool):
    at = (width // tile - 1 - t) if from_end else t
    return pl.ds(pl.multiple_of(at * tile, tile), tile)


def _roll(x, step: int, from_end: bool):
    """Move each sublane to the one that comes `step` later in the walk."""
    return pltpu.roll(x, SUBLANES - step if from_end else step, 0)
