"""3x3 convolutions by Winograd's products: 16 multiplications for a square of 2x2 outputs in place of 36.

The form F(2x2, 3x3) of Lavin and Gray, "Fast algorithms for convolutional neural networks" (arXiv:1509.09308): tiles of
4x4 inputs, the kernel and the 2x2 outputs are each taken to 16 points, where a convolution is a product of matrices for
each point. The transforms, along one axis and then the other, only add, subtract and halve: float32 loses very little.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

TILES = 2048  # that are multiplied at once: with more, memory for all 16 points grows; with fewer, sums are slower

Grid = list[list[Array]]  # rows of arrays: the places of a tile, of a kernel, or the 16 points


@jax.jit  # layers of one shape are traced once
def winograd(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c k"]) -> Float[Array, "b h w k"]:
    """Convolve with a 3x3 kernel, stride 1, padding 1, without a bias."""
    return _convolved(x, kernel, 1)


def _convolved(x: Array, kernel: Array, axis: int) -> Array:
    """The convolution; axis: 1, or 2: the kernel's last axis is that of the inputs, and nothing need be transposed."""
    b, h, w, _ = x.shape
    bands, of_kernel = _bands(x.shape), _stacked(_on_both_axes(_of_kernel, [list(row) for row in kernel]))
    padded = _padded(x, bands, 1)

    def outputs(band: Array) -> Array:
        of_inputs = _stacked(_on_both_axes(_of_input, _tiles(padded, bands, band, 4)))
        over = (((2,), (axis,)), ((0,), (0,)))
        points = [list(lax.dot_general(a, b, over)) for a, b in zip(of_inputs, of_kernel, strict=True)]
        (y00, y01), (y10, y11) = _on_both_axes(_to_output, points)
        y = jnp.stack([jnp.stack([y00, y01], axis=1), jnp.stack([y10, y11], axis=1)], axis=1)  # tile, row, column, k
        y = y.reshape(b, bands.rows, bands.columns, 2, 2, y.shape[3])
        return y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * bands.rows, 2 * bands.columns, y.shape[5])

    y = jnp.moveaxis(lax.map(outputs, jnp.arange(bands.number)), 0, 1)
    return y.reshape(b, 2 * bands.number * bands.rows, *y.shape[3:])[:, :h, :w]


@jax.jit
def winograd_gradient(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c k"], g: Float[Array, "b h w k"]
) -> tuple[Float[Array, "b h w c"], Float[Array, "3 3 c k"]]:
    """The gradients of x and of the kernel: each transform above, and its transpose where it stands in the gradient."""
    bands = _bands(x.shape)
    padded_x, padded_g = _padded(x, bands, 1), _padded(g, bands, 0)

    def add(sums: list[Array], band: Array) -> tuple[list[Array], None]:
        of_inputs = _stacked(_on_both_axes(_of_input, _tiles(padded_x, bands, band, 4)))
        of_outputs = _stacked(_on_both_axes(_of_output, _tiles(padded_g, bands, band, 2)))
        over = (((1,), (1,)), ((0,), (0,)))
        rows = zip(sums, of_inputs, of_outputs, strict=True)
        return [s + lax.dot_general(a, b, over) for s, a, b in rows], None

    none = [jnp.zeros((4, *kernel.shape[2:]), kernel.dtype)] * 4
    points, _ = lax.scan(add, none, jnp.arange(bands.number))
    dkernel = _on_both_axes(_to_kernel, [list(row) for row in points])
    dx = _convolved(g, kernel[::-1, ::-1], 2)
    return dx, jnp.stack([jnp.stack(row) for row in dkernel])


class _Bands(NamedTuple):
    """How a map is cut into bands of tiles of 2x2 outputs."""

    number: int
    rows: int  # of tiles, in a band
    columns: int  # of tiles


def _bands(shape: tuple[int, ...]) -> _Bands:
    """Of all images of a batch at once."""
    b, rows, columns = shape[0], -(-shape[1] // 2), -(-shape[2] // 2)
    number = min(-(-b * rows * columns // TILES), rows)
    in_band = -(-rows // max(1, number))  # an empty batch has one empty band
    return _Bands(-(-rows // in_band), in_band, columns)


def _padded(x: Array, bands: _Bands, before: int) -> Array:
    """With zeros before and behind, for whole bands of tiles that reach `before` further."""
    _, h, w, _ = x.shape
    rows, columns = 2 * bands.number * bands.rows - h, 2 * bands.columns - w
    return jnp.pad(x, ((0, 0), (before, before + rows), (before, before + columns), (0, 0)))


def _tiles(padded: Array, bands: _Bands, band: Array, side: int) -> Grid:
    """For every place in a tile of side x side, what all tiles of a band have there: arrays of tiles and channels."""
    of_band = lax.dynamic_slice_in_dim(padded, 2 * bands.rows * band, 2 * bands.rows + side - 2, axis=1)

    def at(row: int, column: int) -> Array:
        every = of_band[:, row : row + 2 * bands.rows - 1 : 2, column : column + 2 * bands.columns - 1 : 2]
        return every.reshape(len(every) * bands.rows * bands.columns, every.shape[3])

    return [[at(row, column) for column in range(side)] for row in range(side)]


def _stacked(points: Grid) -> list[Array]:
    return [jnp.stack(row) for row in points]  # all 16 in one array are slower: they leave the caches


def _on_both_axes(transform: Callable[..., tuple[Array, ...]], grid: Grid) -> Grid:
    columns = [transform(*row) for row in grid]
    return [list(row) for row in zip(*(transform(*column) for column in zip(*columns, strict=True)), strict=True)]


def _of_input(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return a - c, b + c, c - b, b - d


def _of_kernel(a: Array, b: Array, c: Array) -> tuple[Array, ...]:
    return a, (a + b + c) / 2, (a - b + c) / 2, c


def _to_output(p: Array, q: Array, r: Array, s: Array) -> tuple[Array, ...]:
    return p + q + r, q - r - s


def _of_output(a: Array, b: Array) -> tuple[Array, ...]:
    """The transpose of _to_output."""
    return a, a + b, a - b, -b


def _to_kernel(p: Array, q: Array, r: Array, s: Array) -> tuple[Array, ...]:
    """The transpose of _of_kernel."""
    return p + (q + r) / 2, (q - r) / 2, (q + r) / 2 + s
