"""Running maxima on TPUs, in Pallas (Mosaic): every byte crosses the memory bus once.

All six functions are one pair of kernels over (b, h, w, c) maps that scan along h, along w, or, for corner pooling,
along both at once. The grid walks the map in blocks of up to 32 rows, in scan order (the gradient against it), and what
a block leaves to the next ones stays in VMEM. Channels lie on the lanes and are never scanned; along h a step is one
vector operation, along w the 8 sublanes of a register are combined by doubling.

The marks are one bit an element: bit r of the word at (block of rows, w, c) is row r of that block. The gradient
combines the segment ends of all rows of a block at once, as words.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Float, Int32

from cornerjax.ops.running_max.pallas_tpu_kernels import SUBLANES, WORD, collect_kernel, scan_kernel

LANES = 128
TILES_A_BLOCK = 8  # blocks of 1 MiB: long transfers, and six of them, double buffers included, fit into v4's 16 MiB
Marks = Int32[Array, "maps scans words columns channels"]  # columns: w, padded


def forward(x: Float[Array, "..."], axis: int, reverse: bool, *, interpret: bool = False) -> Float[Array, "..."]:
    """The running maximum; see running_max."""
    map_, along = _as_map(x, axis)
    return _from_map(_scan((map_,), along, reverse, False, interpret)[0], x.shape, axis)


def marked(
    x: Float[Array, "..."], axis: int, reverse: bool, *, interpret: bool = False
) -> tuple[Float[Array, "..."], Marks]:
    """The running maximum, and one bit an element that `gradient` needs: is it above all scanned before it?"""
    map_, along = _as_map(x, axis)
    y, marks = _scan((map_,), along, reverse, True, interpret)
    return _from_map(y, x.shape, axis), marks


def gradient(
    marks: Marks, g: Float[Array, "..."], axis: int, reverse: bool, *, interpret: bool = False
) -> Float[Array, "..."]:
    """The gradient for x, given the one for the running maximum: each marked element's sum up to the next mark."""
    map_, along = _as_map(g, axis)
    return _from_map(_collect(marks, map_, along, reverse, interpret)[0], g.shape, axis)


def corner_forward(
    x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"], reverse: bool, *, interpret: bool = False
) -> Float[Array, "b h w c"]:
    """The running maximum of x1 along h plus that of x2 along w."""
    return _scan((x1, x2), "hw", reverse, False, interpret)[0]


def corner_marked(
    x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"], reverse: bool, *, interpret: bool = False
) -> tuple[Float[Array, "b h w c"], Marks]:
    """The same, and the marks of both that `corner_gradient` needs."""
    y, marks = _scan((x1, x2), "hw", reverse, True, interpret)
    return y, marks


def corner_gradient(
    marks: Marks, g: Float[Array, "b h w c"], reverse: bool, *, interpret: bool = False
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """The gradients for x1 and x2, given the one for their pooled sum."""
    d1, d2 = _collect(marks, g, "hw", reverse, interpret)
    return d1, d2


def _as_map(x: Array, axis: int) -> tuple[Array, str]:
    """View x as (b, h, w, c) with the scanned axis at h or w; no copy where it is third or second from the end."""
    missing = max(0, 3 - x.ndim)
    x = x.reshape((1,) * missing + x.shape)
    if axis + missing == x.ndim - 2:
        return x.reshape(-1, *x.shape[-3:]), "w"
    x = jnp.moveaxis(x, axis + missing, -3)
    return x.reshape(-1, *x.shape[-3:]), "h"


def _from_map(y: Array, shape: tuple[int, ...], axis: int) -> Array:
    missing = max(0, 3 - len(shape))
    padded = (1,) * missing + shape
    if axis + missing == len(padded) - 2:
        return y.reshape(shape)
    moved = padded[: axis + missing] + padded[axis + missing + 1 :]
    y = y.reshape(*moved[:-2], padded[axis + missing], *moved[-2:])
    return jnp.moveaxis(y, -3, axis + missing).reshape(shape)


class _Blocks:
    """How a (b, h, w, c) map is cut, and the specifications of its blocks in the order of a walk.

    Attributes:
        padded: the map's shape with whole blocks; differs from the given one only for unusual sizes.
        tile: columns that fill a register of the map's type.
    """

    def __init__(self, shape: tuple[int, ...], itemsize: int, *, from_end: bool):
        b, h, w, c = shape
        self.tile = SUBLANES * 4 // itemsize
        self.rows, self.lanes = _rows(h), min(c, LANES)
        h_blocks, tiles = pl.cdiv(h, self.rows), pl.cdiv(w, self.tile)
        self.width = self.tile * max(n for n in range(1, TILES_A_BLOCK + 1) if tiles % n == 0)
        self.padded = (b, h_blocks * self.rows, tiles * self.tile, c)
        self.grid = (b, pl.cdiv(c, self.lanes), h_blocks, tiles * self.tile // self.width)
        self.from_end = from_end

    def _at(self, i, j):
        return (self.grid[2] - 1 - i, self.grid[3] - 1 - j) if self.from_end else (i, j)

    def map(self) -> pl.BlockSpec:
        return pl.BlockSpec((1, self.rows, self.width, self.lanes), lambda b, c, i, j: (b, *self._at(i, j), c))

    def marks(self, scans: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, scans, 1, self.width, self.lanes), lambda b, c, i, j: (b, 0, *self._at(i, j), c))

    def marks_shape(self, scans: int) -> jax.ShapeDtypeStruct:
        b, _, w, c = self.padded
        return jax.ShapeDtypeStruct((b, scans, self.grid[2], w, c), jnp.int32)

    def call(self, kernel, in_specs, out_specs, out_shape, operands, interpret):
        moved = sum(a.size * a.dtype.itemsize for a in (*operands, *out_shape))
        return pl.pallas_call(
            functools.partial(kernel, tile=self.tile, from_end=self.from_end),
            grid=self.grid,
            in_specs=in_specs,
            out_specs=out_specs,
            out_shape=out_shape,
            scratch_shapes=[
                pltpu.VMEM((self.grid[3], self.width, self.lanes), jnp.float32),
                pltpu.VMEM((self.rows, SUBLANES, self.lanes), jnp.float32),
            ],
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=("parallel", "parallel", "arbitrary", "arbitrary")
            ),
            cost_estimate=pl.CostEstimate(flops=20 * math.prod(self.padded), bytes_accessed=moved, transcendentals=0),
            interpret=interpret,
        )(*operands)


def _scan(xs: tuple[Array, ...], along: str, reverse: bool, mark: bool, interpret: bool) -> list[Array]:
    shape, dtype = xs[0].shape, xs[0].dtype
    xs = tuple(_supported(x) for x in xs)
    blocks = _Blocks(shape, xs[0].dtype.itemsize, from_end=reverse)
    xs = tuple(_pad(x, blocks.padded, reverse) for x in xs)
    y, *marks = blocks.call(
        functools.partial(scan_kernel, along=along, mark=mark),
        [blocks.map() for _ in xs],
        [blocks.map(), *[blocks.marks(len(xs))] * mark],
        [jax.ShapeDtypeStruct(blocks.padded, xs[0].dtype), *[blocks.marks_shape(len(xs))] * mark],
        xs,
        interpret,
    )
    return [_crop(y, shape, reverse).astype(dtype), *marks]


def _collect(marks: Array, g: Array, along: str, reverse: bool, interpret: bool) -> list[Array]:
    shape, dtype, g = g.shape, g.dtype, _supported(g)
    blocks = _Blocks(shape, g.dtype.itemsize, from_end=not reverse)
    dxs = blocks.call(
        functools.partial(collect_kernel, along=along),
        [blocks.marks(len(along)), blocks.map()],
        [blocks.map() for _ in along],
        [jax.ShapeDtypeStruct(blocks.padded, g.dtype) for _ in along],
        (marks, _pad(g, blocks.padded, reverse)),
        interpret,
    )
    return [_crop(dx, shape, reverse).astype(dtype) for dx in dxs]


def _rows(h: int) -> int:
    """Rows of a block, one for each bit of a word; half of the bits at least, where that saves padding."""
    even = [n for n in range(WORD // 2, WORD + 1) if h % n == 0]
    return even[-1] if even else pl.cdiv(h, pl.cdiv(h, WORD))


def _supported(x: Array) -> Array:
    """Mosaic knows no float16."""
    return x.astype(jnp.float32) if x.dtype == jnp.float16 else x


def _pad(x: Array, shape: tuple[int, ...], reverse: bool) -> Array:
    """Padding stands where the scan ends, so that it reaches nothing."""
    extra = [(0, to - size)[:: -1 if reverse else 1] for size, to in zip(x.shape, shape, strict=True)]
    return jnp.pad(x, extra) if x.shape != shape else x


def _crop(y: Array, shape: tuple[int, ...], reverse: bool) -> Array:
    _, h, w, _ = shape
    return y[:, -h:, -w:] if reverse else y[:, :h, :w]
