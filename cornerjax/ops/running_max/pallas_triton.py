"""Running maximum as Triton kernels, for NVIDIA GPUs older than Hopper; JAX is about to drop Triton.

Every element is read once and written once: what a scan carries stays in registers, and the rows that come next are
loaded before the present ones are used.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import pallas as pl
from jaxtyping import Float, Int, Int32

from cornerjax.ops.running_max.pallas import FUSED_WIDTH

COLUMNS = 512  # of a program of 128 threads: 4 a thread, 8 or 16 bytes a load
AHEAD = 16  # loads a thread starts before it uses the first: 64 registers of the 85 that six programs an SM leave it
CORNER_COLUMNS = 256  # 8 chunks of a row with 32 channels each, 64 contiguous bytes in bfloat16
CHUNKS = 8
CELLS = 16  # of a chunk, at most: a word of marks has a bit for each cell and direction


def forward(x: Float[Array, "..."], axis: int, reverse: bool, *, interpret=False) -> Float[Array, "..."]:
    """The maximum of all elements up to each one, from the start or from the end; see running_max."""
    return _scan(x, axis, reverse, False, interpret)[0]


def marked(
    x: Float[Array, "..."], axis: int, reverse: bool, *, interpret=False
) -> tuple[Float[Array, "..."], Int32[Array, "outer words inner"]]:
    """The same, and for each element a bit: it exceeds everything scanned before it."""
    return _scan(x, axis, reverse, True, interpret)


def gradient(
    marks: Int32[Array, "outer words inner"], g: Float[Array, "..."], axis: int, reverse: bool, *, interpret=False
) -> Float[Array, "..."]:
    """Sum g from each marked element up to the next one, walking against the scan."""
    tiles, tile = _tiles(g, axis)
    n = tiles.shape[1]

    def kernel(marks, g, dx):
        rows, columns = _place(tiles.shape, tile)

        def walk(word, steps, total):
            bits = marks[rows, word, columns]
            order = [32 * word + step for step in reversed(range(steps))]
            for first in range(0, steps, AHEAD):
                places = [n - 1 - i if reverse else i for i in order[first : first + AHEAD]]
                values = [g[rows, i, columns].astype(jnp.float32) for i in places]
                for k, (i, value) in enumerate(zip(places, values, strict=True)):
                    start = (bits & _bit(steps - 1 - first - k)) != 0
                    total = total + value
                    dx[rows, i, columns] = jnp.where(start, total, 0.0).astype(dx.dtype)
                    total = jnp.where(start, 0.0, total)
            return total

        total = jnp.zeros(tile, jnp.float32)
        if n % 32:
            total = walk(n // 32, n % 32, total)
        lax.fori_loop(0, n // 32, lambda i, total: walk(n // 32 - 1 - i, 32, total), total)

    out_type = jax.ShapeDtypeStruct(tiles.shape, g.dtype)
    return _untiled(_call(kernel, out_type, _programs(tiles, tile), interpret)(marks, tiles), g.shape, axis)


def corner_forward(
    x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"], reverse: bool, *, interpret=False
) -> Float[Array, "b h w c"]:
    """The running maximum of x1 along h plus that of x2 along w."""
    return _corner_scan(x1, x2, reverse, False, interpret)[0]


def corner_marked(
    x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"], reverse: bool, *, interpret=False
) -> tuple[Float[Array, "b h w c"], Int[Array, "b h chunks channels"]]:
    """The same, and for each element of x1 and x2 a bit: it exceeds everything scanned before it."""
    return _corner_scan(x1, x2, reverse, True, interpret)


def corner_gradient(
    marks: Int[Array, "b h chunks channels"], g: Float[Array, "b h w c"], reverse: bool, *, interpret=False
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """The gradients for x1 and x2: g summed from each marked element up to the next one."""
    tiles, tile, cells = _corner_tiles(g, reverse)
    rows = tiles.shape[1]

    def kernel(marks, g, d1, d2):
        image, channels = _corner_place(tiles.shape, tile)
        order = _order(cells, not reverse)
        later = _earlier(tile[0], not reverse)
        at = lambda row: row if reverse else rows - 1 - row  # noqa: E731

        def load(row):
            i = at(jnp.minimum(row, rows - 1))
            return marks[image, i, :, channels], [g[image, i, :, cell, channels] for cell in range(cells)]

        def step(row, carry):
            (word, values), totals = carry
            ahead = load(row + 1)
            i = at(row)
            word, values = word.astype(jnp.int32), [value.astype(jnp.float32) for value in values]
            below, part = list(totals), jnp.zeros(tile, jnp.float32)
            for cell in order:
                start = (word & _bit(cell)) != 0
                total = totals[cell] + values[cell]
                d1[image, i, :, cell, channels] = jnp.where(start, total, 0.0).astype(d1.dtype)
                below[cell] = jnp.where(start, 0.0, total)
                part = jnp.where((word & _bit(cells + cell)) != 0, 0.0, part + values[cell])
            total = _carried_in(part, (word & _bits(cells, 2 * cells)) != 0, later, not reverse)
            for cell in order:
                start = (word & _bit(cells + cell)) != 0
                total = total + values[cell]
                d2[image, i, :, cell, channels] = jnp.where(start, total, 0.0).astype(d2.dtype)
                total = jnp.where(start, 0.0, total)
            return ahead, below

        lax.fori_loop(0, rows, step, (load(0), [jnp.zeros(tile, jnp.float32)] * cells))

    out_type = [jax.ShapeDtypeStruct(tiles.shape, g.dtype)] * 2
    d1, d2 = _call(kernel, out_type, _corner_programs(tiles, tile), interpret)(marks, tiles)
    return _corner_untiled(d1, g.shape, reverse), _corner_untiled(d2, g.shape, reverse)


def _scan(x, axis, reverse, with_marks, interpret):
    tiles, tile = _tiles(x, axis)
    outer, n, inner = tiles.shape

    def kernel(x, y, *marks):
        rows, columns = _place(tiles.shape, tile)

        def walk(word, steps, run):
            bits = jnp.full(tile, jnp.int32(word == 0))  # the first element of all is a record whatever it is
            for first in range(0, steps, AHEAD):
                order = range(first, min(first + AHEAD, steps))
                places = [n - 1 - (32 * word + step) if reverse else 32 * word + step for step in order]
                values = [x[rows, i, columns].astype(jnp.float32) for i in places]
                for step, i, value in zip(order, places, values, strict=True):
                    bits |= jnp.where(value > run, _bit(step), 0)
                    run = jnp.maximum(run, value)
                    y[rows, i, columns] = run.astype(y.dtype)
            if marks:
                marks[0][rows, word, columns] = bits
            return run

        run = jnp.full(tile, -jnp.inf, jnp.float32)
        run = lax.fori_loop(0, n // 32, lambda i, run: walk(i, 32, run), run)
        if n % 32:
            walk(n // 32, n % 32, run)

    out_type = [jax.ShapeDtypeStruct(tiles.shape, x.dtype)]
    if with_marks:
        out_type.append(jax.ShapeDtypeStruct((outer, -(-n // 32), inner), jnp.int32))
    y, *marks = _call(kernel, out_type, _programs(tiles, tile), interpret)(tiles)
    return _untiled(y, x.shape, axis), *marks


def _corner_scan(x1, x2, reverse, with_marks, interpret):
    """A thread has whole chunks of a row; only the maxima of the chunks are exchanged."""
    tiles, tile, cells = _corner_tiles(x1, reverse)
    images, rows, chunks, _, channels = tiles.shape

    def kernel(x1, x2, y, *marks):
        image, channels = _corner_place(tiles.shape, tile)
        order = _order(cells, reverse)
        earlier = _earlier(chunks, reverse)
        chunk = lax.broadcasted_iota(jnp.int32, tile, 0)
        first = jnp.where(chunk == (chunks - 1 if reverse else 0), _bit(cells + order[0]), 0)
        at = lambda row: rows - 1 - row if reverse else row  # noqa: E731

        def load(row):
            i = at(jnp.minimum(row, rows - 1))
            return [[x[image, i, :, cell, channels] for cell in range(cells)] for x in (x1, x2)]

        def step(row, carry):
            (values1, values2), above = carry
            ahead = load(row + 1)
            i = at(row)
            values1, values2 = ([value.astype(jnp.float32) for value in values] for values in (values1, values2))
            top = functools.reduce(jnp.maximum, values2)
            run = jnp.max(jnp.where(earlier, top[None], -jnp.inf), axis=1)
            word = first | jnp.int32(row == 0) * _bits(0, cells)
            below = list(above)
            for cell in order:
                word |= jnp.where(values2[cell] > run, _bit(cells + cell), 0)
                word |= jnp.where(values1[cell] > above[cell], _bit(cell), 0)
                run = jnp.maximum(run, values2[cell])
                below[cell] = jnp.maximum(above[cell], values1[cell])
                y[image, i, :, cell, channels] = (below[cell] + run).astype(y.dtype)
            if marks:
                marks[0][image, i, :, channels] = word.astype(marks[0].dtype)
            return ahead, below

        lax.fori_loop(0, rows, step, (load(0), [jnp.full(tile, -jnp.inf, jnp.float32)] * cells))

    out_type = [jax.ShapeDtypeStruct(tiles.shape, x1.dtype)]
    if with_marks:
        bits = jnp.int16 if cells <= 8 else jnp.int32
        out_type.append(jax.ShapeDtypeStruct((images, rows, chunks, channels), bits))
    kernel_call = _call(kernel, out_type, _corner_programs(tiles, tile), interpret)
    y, *marks = kernel_call(tiles, _corner_tiles(x2, reverse)[0])
    return _corner_untiled(y, x1.shape, reverse), *marks


def _carried_in(part, ends, later, reverse):
    """For each chunk the sum of the parts of the chunks before it, back to the nearest one that ends the sum."""
    chunks = part.shape[0]
    chunk = lax.broadcasted_iota(jnp.int32, later.shape, 1)
    if reverse:
        nearest = jnp.min(jnp.where(later & ends[None], chunk, chunks), axis=1)
        return jnp.sum(jnp.where(later & (chunk <= nearest[:, None]), part[None], 0.0), axis=1)
    nearest = jnp.max(jnp.where(later & ends[None], chunk, -1), axis=1)
    return jnp.sum(jnp.where(later & (chunk >= nearest[:, None]), part[None], 0.0), axis=1)


def _earlier(chunks, reverse):
    shape = (chunks, chunks, CORNER_COLUMNS // chunks)
    own, other = lax.broadcasted_iota(jnp.int32, shape, 0), lax.broadcasted_iota(jnp.int32, shape, 1)
    return other > own if reverse else other < own


def _order(cells, reverse):
    return range(cells)[::-1] if reverse else range(cells)


def _bit(i):
    return _bits(i, i + 1)


def _bits(first, end):
    return int(np.uint32((1 << end) - (1 << first)).astype(np.int32))


def _call(kernel, out_type, programs, interpret):
    try:
        from jax.experimental.pallas import triton  # not in every JAX
    except ImportError:
        raise ValueError(f"JAX {jax.__version__} has no Triton; use the Mosaic GPU kernels or the scan") from None
    params = triton.CompilerParams(num_warps=4, num_stages=1)
    return pl.pallas_call(kernel, out_type, grid=(programs,), compiler_params=params, interpret=interpret)


def _tiles(x, axis):
    """View x as (outer, n, inner), padded to whole tiles of (outer, inner) where the sizes are unusual."""
    outer, n, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    inner_padded = inner + -inner % 8
    width = min(inner_padded & -inner_padded, COLUMNS)
    rows = COLUMNS // width
    x = jnp.pad(x.reshape(outer, n, inner), ((0, -outer % rows), (0, 0), (0, inner_padded - inner)))
    return x, (rows, width)


def _programs(tiles, tile):
    return tiles.shape[0] // tile[0] * (tiles.shape[2] // tile[1])


def _place(shape, tile):
    across = shape[2] // tile[1]
    program = pl.program_id(0)
    return pl.ds(program // across * tile[0], tile[0]), pl.ds(program % across * tile[1], tile[1])


def _untiled(tiles, shape, axis):
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return tiles[:outer, :, :inner].reshape(shape)


def _corner_tiles(x, reverse):
    """View x as (b, h, chunks, cells, channels), with padding scanned last where the sizes are unusual."""
    b, h, w, c = x.shape
    if w > FUSED_WIDTH:
        raise ValueError(f"the fused kernel takes maps up to {FUSED_WIDTH} cells wide, got {w}")
    chunks = CHUNKS
    while chunks * CELLS < w:
        chunks *= 2
    width, cells = CORNER_COLUMNS // chunks, -(-w // chunks)
    extra = chunks * cells - w
    x = jnp.pad(x, ((0, 0), (0, 0), (extra, 0) if reverse else (0, extra), (0, -c % width)))
    return x.reshape(b, h, chunks, cells, -1), (chunks, width), cells


def _corner_programs(tiles, tile):
    return tiles.shape[0] * (tiles.shape[4] // tile[1])


def _corner_place(shape, tile):
    across = shape[4] // tile[1]
    program = pl.program_id(0)
    return program // across, pl.ds(program % across * tile[1], tile[1])


def _corner_untiled(tiles, shape, reverse):
    b, h, w, c = shape
    x = tiles.reshape(b, h, -1, tiles.shape[-1])
    return x[:, :, -w:, :c] if reverse else x[:, :, :w, :c]
