"""Running maximum by a loop that updates rows in place, for CPUs, where a row is one vector operation.

On a GPU each row would be a kernel launch of its own.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float

CACHE = 2**20  # bytes: about what stays in the cache of a core
ROW = 2**11  # elements: for fewer, starting a vector operation takes longer than the operation


def running_max_loop(x: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    """The maximum of all elements up to each one, row after row; see running_max."""
    if jnp.finfo(x.dtype).bits < 32:  # CPUs have no maximum of half precision; the way there and back is exact
        return running_max_loop(x.astype(jnp.float32), axis, reverse).astype(x.dtype)
    n = x.shape[axis]

    def body(i, y):
        here, before = (n - 1 - i, n - i) if reverse else (i, i - 1)
        row = jnp.maximum(_row(y, before, axis), _row(y, here, axis))
        return lax.dynamic_update_slice_in_dim(y, row, here, axis)

    return lax.fori_loop(1, n, body, x)


def gradient_loop(starts: Bool[Array, "..."], g: Float[Array, "..."], axis: int, reverse: bool) -> Float[Array, "..."]:
    """Sum g from each start up to the next one, walking against the direction of the running maximum."""
    # The first axis is never cut: it may be divided over devices.
    size = _piece(g, axis) if axis > 1 else 0
    if size in (0, g.shape[axis - 1]):
        return _by_rows(starts, g, axis, reverse)

    # Rows are short and far apart: a piece that stays in the cache at a time.
    def piece(i, dx):
        here, there = (lax.dynamic_slice_in_dim(a, i * size, size, axis - 1) for a in (starts, g))
        return lax.dynamic_update_slice_in_dim(dx, _in_place(here, there, axis, reverse), i * size, axis - 1)

    return lax.fori_loop(0, g.shape[axis - 1] // size, piece, lax.empty(g.shape, g.dtype))


def _piece(g, axis):
    """Length along the axis before the scanned one of pieces that fit the cache; all of it where none does."""
    length, size = g.shape[axis - 1], g.shape[axis - 1]
    column = g.size // length
    while size % 2 == 0 and size * column * 4 > CACHE and size * column // g.shape[axis] > ROW:
        size //= 2
    return size if size * column * 4 <= CACHE else length


def _by_rows(starts, g, axis, reverse):
    n = g.shape[axis]

    def body(i, carry):
        dx, total = carry
        here = i if reverse else n - 1 - i
        total = total + _row(g, here, axis).astype(total.dtype)
        start = _row(starts, here, axis)
        dx = lax.dynamic_update_slice_in_dim(dx, jnp.where(start, total, 0), here, axis)
        return dx, jnp.where(start, 0, total)

    # Not g itself, read and overwritten row by row: XLA would copy it in every step.
    total = jnp.zeros_like(_row(g, 0, axis), dtype=np.promote_types(g.dtype, jnp.float32))
    return lax.fori_loop(0, n, body, (lax.empty(g.shape, total.dtype), total))[0].astype(g.dtype)


def _in_place(starts, g, axis, reverse):
    n = g.shape[axis]

    def body(i, total):
        here, after = (i, i - 1) if reverse else (n - 1 - i, n - i)
        arriving = jnp.where(_row(starts, after, axis), 0, _row(total, after, axis))
        return lax.dynamic_update_slice_in_dim(total, _row(total, here, axis) + arriving, here, axis)

    total = lax.fori_loop(1, n, body, g.astype(np.promote_types(g.dtype, jnp.float32)))
    return jnp.where(starts, total, 0).astype(g.dtype)


def _row(x: Array, i: int | Array, axis: int) -> Array:
    return lax.dynamic_slice_in_dim(x, i, 1, axis)
