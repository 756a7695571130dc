"""Both running maxima of a corner pool as one Mosaic GPU kernel: each map is read once, their sum written once.

A program is one warpgroup that owns some channels of one image and walks its rows. The maximum along h stays in
registers. For the maximum along w the row is cut into chunks, a thread has one whole chunk of each of its channels,
and chunks exchange only their totals: the copy engine transposes (chunks, cells, channels) to (cells, chunks,
channels), so that a cell of all chunks is one contiguous load of two elements a thread.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import pallas as pl
from jaxtyping import Float, Int

from cornerjax.ops.running_max.pallas import FUSED_WIDTH
from cornerjax.ops.running_max.pallas_mosaic_gpu_stream import COLUMNS, compile_kernel, stream

# In float32 a stage is 32 KB, and two programs of 100 KB fit into a multiprocessor: at batch 48 all run at once.
STAGES = 2
CHUNKS = 8  # of at most 16 cells and 32 channels, 64 contiguous bytes in bfloat16; wider maps get more chunks
CELLS = 16  # a word of marks has a bit for each cell and direction


def corner_forward(
    x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"], reverse: bool, *, interpret=False
) -> Float[Array, "b h w c"]:
    """The running maximum of x1 along h plus that of x2 along w."""
    return _scan(x1, x2, reverse, False, interpret)[0]


def corner_marked(
    x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"], reverse: bool, *, interpret=False
) -> tuple[Float[Array, "b h w c"], Int[Array, "b channels h chunks width"]]:
    """The same, and for each element of x1 and x2 a bit: it exceeds everything scanned before it."""
    return _scan(x1, x2, reverse, True, interpret)


def corner_gradient(
    marks: Int[Array, "b channels h chunks width"], g: Float[Array, "b h w c"], reverse: bool, *, interpret=False
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """The gradients for x1 and x2: g summed from each marked element up to the next one."""
    tiles, columns, cells = _tiles(g, reverse)
    chunks, width = columns
    grid, rows = marks.shape[:2], marks.shape[2]

    def body(program, marks, g, d1, d2, inputs, words, outputs1, outputs2, sums, ends, copies):
        here, there = _walk(program, rows, width, not reverse)
        order = _order(cells, not reverse)
        exchange = functools.partial(_earlier, chunks, not reverse)

        def fetch(row):
            copies.fetch(g.at[there(row)], inputs.at[row % STAGES], row % STAGES)
            copies.fetch(marks.at[(*program, here(row))], words.at[row % STAGES], row % STAGES, exchange=False)

        def use(row, totals):
            copies.arrived(row % STAGES)
            copies.drained(2)
            word = words[row % STAGES].astype(jnp.int32)
            values = [inputs[row % STAGES, cell].astype(jnp.float32) for cell in range(cells)]
            below = list(values)
            for cell in range(cells):
                start = (word & _bit(cell)) != 0
                total = values[cell] if totals is None else totals[cell] + values[cell]
                outputs1[row % 2, cell] = jnp.where(start, total, 0.0).astype(outputs1.dtype)
                below[cell] = jnp.where(start, 0.0, total)

            total = None
            for cell in order:
                total = values[cell] if total is None else total + values[cell]
                total = jnp.where((word & _bit(cells + cell)) != 0, 0.0, total)
            sums[row % 2, _own(chunks, not reverse)] = total
            ends[row % 2, _own(chunks, not reverse)] = word & _bits(cells, 2 * cells)
            copies.commit()
            total, open_ = None, None
            for chunk in exchange():
                part = sums[row % 2, chunk]
                total = part if total is None else total + jnp.where(open_ == 0, part, 0.0)
                end = ends[row % 2, chunk]
                open_ = end if open_ is None else open_ | end
            for cell in order:
                total = total + values[cell]
                start = (word & _bit(cells + cell)) != 0
                outputs2[row % 2, cell] = jnp.where(start, total, 0.0).astype(outputs2.dtype)
                total = jnp.where(start, 0.0, total)
            copies.commit()
            copies.store(outputs1.at[row % 2], d1.at[there(row)])
            copies.store(outputs2.at[row % 2], d2.at[there(row)])
            return below

        for slot in range(2):
            sums[slot, _outside(chunks, not reverse)] = jnp.zeros(columns, jnp.float32)
            ends[slot, _outside(chunks, not reverse)] = jnp.zeros(columns, jnp.int32)
        stream(rows, STAGES, fetch, use)
        copies.drained(0)

    row = (cells, *columns)
    scratch = [((STAGES, *row), g.dtype), ((STAGES, *columns), marks.dtype), ((2, *row), g.dtype), ((2, *row), g.dtype)]
    scratch += [((2, 2 * chunks, width), jnp.float32), ((2, 2 * chunks, width), jnp.int32)]
    out_type = [jax.ShapeDtypeStruct(tiles.shape, g.dtype)] * 2
    d1, d2 = compile_kernel(body, out_type, grid, scratch, STAGES, 2, interpret)(marks, tiles)
    return _untiled(d1, g.shape, reverse), _untiled(d2, g.shape, reverse)


def _scan(x1, x2, reverse, with_marks, interpret):
    tiles, columns, cells = _tiles(x1, reverse)
    chunks, width = columns
    rows = tiles.shape[1]
    grid = tiles.shape[0], tiles.shape[-1] // width
    dtype = x1.dtype

    def body(program, x1, x2, y, *marks_and_scratch):
        *marks, inputs1, inputs2, outputs, tops, firsts, copies = marks_and_scratch
        here, there = _walk(program, rows, width, reverse)
        order = _order(cells, reverse)

        def fetch(row):
            copies.fetch(x1.at[there(row)], inputs1.at[row % STAGES], row % STAGES)
            copies.fetch(x2.at[there(row)], inputs2.at[row % STAGES], row % STAGES)

        def use(row, above):
            copies.arrived(row % STAGES)
            copies.drained(1)
            values = [inputs2[row % STAGES, cell].astype(jnp.float32) for cell in range(cells)]
            tops[row % 2, _own(chunks, reverse)] = functools.reduce(jnp.maximum, values)
            copies.commit()
            run = functools.reduce(jnp.maximum, [tops[row % 2, chunk] for chunk in _earlier(chunks, reverse)])
            word = firsts[_earlier(chunks, reverse)[0]]
            below = list(values)
            for cell in order:
                word |= jnp.where(values[cell] > run, _bit(cells + cell), 0)
                run = jnp.maximum(run, values[cell])
                value = inputs1[row % STAGES, cell].astype(jnp.float32)
                word |= _bit(cell) if above is None else jnp.where(value > above[cell], _bit(cell), 0)
                below[cell] = value if above is None else jnp.maximum(above[cell], value)
                outputs[row % 2, cell] = (below[cell] + run).astype(dtype)
            if marks:
                marks[0][(*program, here(row))] = word.astype(marks[0].dtype)
            copies.commit()
            copies.store(outputs.at[row % 2], y.at[there(row)])
            return below

        # Nothing comes before the first chunk, and its first element is a record whatever it is, -inf and NaN too.
        for slot in range(2):
            tops[slot, _outside(chunks, reverse)] = jnp.full(columns, -jnp.inf, jnp.float32)
        firsts[_outside(chunks, reverse)] = jnp.full(columns, _bit(cells + order[0]), jnp.int32)
        firsts[_own(chunks, reverse)] = jnp.zeros(columns, jnp.int32)
        stream(rows, STAGES, fetch, use)
        copies.drained(0)

    out_type = [jax.ShapeDtypeStruct(tiles.shape, dtype)]
    if with_marks:
        bits = jnp.int16 if cells <= 8 else jnp.int32
        out_type.append(jax.ShapeDtypeStruct((*grid, rows, *columns), bits))
    row = (cells, *columns)
    scratch = [((STAGES, *row), dtype), ((STAGES, *row), dtype), ((2, *row), dtype)]
    scratch += [((2, 2 * chunks, width), jnp.float32), ((2 * chunks, width), jnp.int32)]
    kernel = compile_kernel(body, out_type, grid, scratch, STAGES, 2, interpret)
    y, *marks = kernel(tiles, _tiles(x2, reverse)[0])
    return _untiled(y, x1.shape, reverse), *marks


def _walk(program, rows, width, reverse):
    """Where a program's rows lie, in the order it walks them."""
    image, block = program[0], program[1] * width

    def here(row):
        return rows - 1 - row if reverse else row

    def there(row):
        return image, here(row), slice(None), slice(None), pl.ds(block, width)

    return here, there


def _order(cells, reverse):
    return range(cells)[::-1] if reverse else range(cells)


# Of 2 * chunks totals in shared memory one half are those of the chunks, the half that comes earlier is neutral.
def _own(chunks, reverse):
    return pl.ds(0 if reverse else chunks, chunks)


def _outside(chunks, reverse):
    return pl.ds(chunks if reverse else 0, chunks)


def _earlier(chunks, reverse):
    """For each thread the totals of the chunks scanned before its own, nearest first."""
    return [pl.ds(distance if reverse else chunks - distance, chunks) for distance in range(1, chunks)]


def _bit(i):
    return int(np.uint32(1 << i).astype(np.int32))


def _bits(first, end):
    return int(np.uint32((1 << end) - (1 << first)).astype(np.int32))


def _tiles(x, reverse):
    """View x as (b, h, chunks, cells, channels), with padding scanned last where the sizes are unusual."""
    b, h, w, c = x.shape
    if w > FUSED_WIDTH:
        raise ValueError(f"the fused kernel takes maps up to {FUSED_WIDTH} cells wide, got {w}")
    chunks = CHUNKS
    while chunks * CELLS < w:
        chunks *= 2
    width, cells = COLUMNS // chunks, -(-w // chunks)
    extra = chunks * cells - w
    x = jnp.pad(x, ((0, 0), (0, 0), (extra, 0) if reverse else (0, extra), (0, -c % width)))
    return x.reshape(b, h, chunks, cells, -1), (chunks, width), cells


def _untiled(tiles, shape, reverse):
    b, h, w, c = shape
    x = tiles.reshape(b, h, -1, tiles.shape[-1])
    return x[:, :, -w:, :c] if reverse else x[:, :, :w, :c]
