"""Running maximum as Mosaic GPU kernels, for Hopper and later: the copy engine streams, registers carry.

A program is one warpgroup that owns 256 columns and walks the scanned axis. The copy engine brings STEPS rows of
them at a time, several groups ahead, and takes the results away, so that no thread ever waits for device memory.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jaxtyping import Float, Int16

from cornerjax.ops.running_max.pallas_mosaic_gpu_corner import corner_forward, corner_gradient, corner_marked
from cornerjax.ops.running_max.pallas_mosaic_gpu_stream import COLUMNS, compile_kernel, stream

__all__ = ["corner_forward", "corner_gradient", "corner_marked", "forward", "gradient", "marked"]

STEPS = 16  # as many as there are bits in a word of marks
STAGES = 3  # at 16 KB a stage (float32) two programs share a multiprocessor: 96 KB on their way, 23 KB hide the latency


def forward(x: Float[Array, "..."], axis: int, reverse: bool, *, interpret=False) -> Float[Array, "..."]:
    """The maximum of all elements up to each one, from the start or from the end; see running_max."""
    return _scan(x, axis, reverse, False, interpret)[0]


def marked(
    x: Float[Array, "..."], axis: int, reverse: bool, *, interpret=False
) -> tuple[Float[Array, "..."], Int16[Array, "..."]]:
    """The same, and for each element a bit: it exceeds everything scanned before it."""
    return _scan(x, axis, reverse, True, interpret)


def gradient(
    marks: Int16[Array, "..."], g: Float[Array, "..."], axis: int, reverse: bool, *, interpret=False
) -> Float[Array, "..."]:
    """Sum g from each marked element up to the next one, walking against the scan."""
    tiles, columns = _tiles(g, axis)
    grid, groups = marks.shape[:2], marks.shape[2]
    steps = tiles.shape[1] // groups

    def body(program, marks, g, dx, inputs, words, outputs, copies):
        here, there, order = _walk(program, columns, groups, steps, not reverse)

        def fetch(group):
            copies.fetch(g.at[there(group)], inputs.at[group % STAGES], group % STAGES)
            copies.fetch(marks.at[(*program, here(group))], words.at[group % STAGES], group % STAGES, exchange=False)

        def use(group, total):
            stage = group % STAGES
            copies.arrived(stage)
            copies.drained(1)
            word = words[stage].astype(jnp.int32)
            for step in order:
                value = inputs[stage, step].astype(jnp.float32)
                total = value if total is None else total + value
                starts = (word & (1 << step)) != 0
                outputs[group % 2, step] = jnp.where(starts, total, 0.0).astype(outputs.dtype)
                total = jnp.where(starts, 0.0, total)
            copies.commit()
            copies.store(outputs.at[group % 2], dx.at[there(group)])
            return total

        stream(groups, STAGES, fetch, use)
        copies.drained(0)

    scratch = [((STAGES, steps, *columns), g.dtype), ((STAGES, *columns), jnp.int16), ((2, steps, *columns), g.dtype)]
    kernel = compile_kernel(body, jax.ShapeDtypeStruct(tiles.shape, g.dtype), grid, scratch, STAGES, 2, interpret)
    return _untiled(kernel(marks, tiles), g.shape, axis)


def _scan(x, axis, reverse, with_marks, interpret):
    tiles, columns = _tiles(x, axis)
    outer, n, blocks, _ = tiles.shape
    steps = max(s for s in range(1, STEPS + 1) if n % s == 0)
    grid, groups = (outer // columns[0], blocks // columns[1]), n // steps

    def body(program, x, y, *marks_and_scratch):
        *marks, inputs, outputs, copies = marks_and_scratch
        here, there, order = _walk(program, columns, groups, steps, reverse)

        def fetch(group):
            copies.fetch(x.at[there(group)], inputs.at[group % STAGES], group % STAGES)

        def use(group, run):
            copies.arrived(group % STAGES)
            copies.drained(1)
            word = jnp.int32(0)
            for step in order:
                value = inputs[group % STAGES, step].astype(jnp.float32)
                word |= (1 << step) if run is None else jnp.where(value > run, 1 << step, 0)
                run = value if run is None else jnp.maximum(run, value)
                outputs[group % 2, step] = run.astype(outputs.dtype)
            if marks:
                word = jnp.broadcast_to(word, columns).astype(jnp.int16)
                marks[0][(*program, here(group))] = word
            copies.commit()
            copies.store(outputs.at[group % 2], y.at[there(group)])
            return run

        stream(groups, STAGES, fetch, use)
        copies.drained(0)

    out_type = [jax.ShapeDtypeStruct(tiles.shape, x.dtype)]
    if with_marks:
        out_type.append(jax.ShapeDtypeStruct((*grid, groups, *columns), jnp.int16))
    scratch = [((STAGES, steps, *columns), x.dtype), ((2, steps, *columns), x.dtype)]
    y, *marks = compile_kernel(body, out_type, grid, scratch, STAGES, 1, interpret)(tiles)
    return _untiled(y, x.shape, axis), *marks


def _walk(program, columns, groups, steps, reverse):
    """Where a program's groups lie, in the order it walks them, and the order of the steps within a group."""
    rows, blocks, _ = columns
    row, block = program[0] * rows, program[1] * blocks

    def here(group):
        return groups - 1 - group if reverse else group

    def there(group):
        return pl.ds(row, rows), pl.ds(here(group) * steps, steps), pl.ds(block, blocks), slice(None)

    return here, there, range(steps)[::-1] if reverse else range(steps)


def _tiles(x, axis):
    """View x as (outer, n, blocks, width); return it with the numbers of rows and blocks whose columns a program owns.

    The copy engine moves multiples of 16 bytes, so columns are padded to a multiple of 8; otherwise there is no copy
    unless there are few columns or an odd number of rows.
    """
    outer, n, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    inner_padded = inner + -inner % 8
    width = min(inner_padded & -inner_padded, 128)
    blocks = inner_padded // width
    blocks_a_program = min(blocks & -blocks, COLUMNS // width)
    rows = COLUMNS // width // blocks_a_program
    padded = jnp.pad(x.reshape(outer, n, inner), ((0, -outer % rows), (0, 0), (0, inner_padded - inner)))
    return padded.reshape(-1, n, blocks, width), (rows, blocks_a_program, width)


def _untiled(tiles, shape, axis):
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return tiles.reshape(*tiles.shape[:2], -1)[:outer, :, :inner].reshape(shape)
