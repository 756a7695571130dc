"""Convolutions that, or whose gradients, XLA runs slowly on CPUs: one form for CPUs, one for everything else."""

from collections.abc import Callable
from functools import cache, partial, reduce
from operator import add

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cornerjax.ops.winograd import winograd, winograd_gradient

WIDE = 96 * 96  # channels in times channels out
LARGE = 16 * 16  # cells of the output
HWIO, HWOI = ("NHWC", "HWIO", "NHWC"), ("NHWC", "HWOI", "NHWC")


def conv(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "side side c k"],
    *,
    stride: int = 1,
    precision: lax.Precision | None = None,
) -> Float[Array, "b h2 w2 k"]:
    """Convolve with an odd square kernel, padding (side - 1) / 2, without a bias.

    The gradient is first-order only where CPUs have a form of their own.

    Args:
        precision: None: CPUs take wide 3x3 convolutions in float32 by Winograd's products, rounding a little otherwise.
    """
    rows, columns = (-(-size // stride) for size in x.shape[1:3])
    if not _is_wide(rows, columns, kernel.shape):
        return _plain_conv(stride, precision)(x, kernel)
    if stride == 1 and kernel.shape[0] == 3 and precision is None and x.dtype == jnp.float32:
        return _winograd(x, kernel)
    return _conv(stride, precision)(x, kernel)


def depthwise_conv(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 1 c"],
    *,
    stride: int = 1,
    precision: lax.Precision | None = None,
) -> Float[Array, "b h2 w2 c"]:
    """Convolve each channel with a 3x3 kernel of its own, padding 1, without a bias.

    Args:
        stride: 1 or 2; the output has ceil(h / stride) rows.
    """
    return _depthwise(stride, precision)(x, kernel)


def conv_transpose(
    x: Float[Array, "b h w c"], kernel: Float[Array, "4 4 k c"], *, precision: lax.Precision | None = None
) -> Float[Array, "b 2*h 2*w k"]:
    """Transposed 4x4 convolution, stride 2, padding 1, without a bias: twice as many rows and columns.

    Args:
        kernel: that of the convolution from the output to the input, as PyTorch keeps it too, in HWIO order.
    """
    return _transpose(precision)(x, kernel)


def depthwise_conv_transpose(
    x: Float[Array, "b h w c"], kernel: Float[Array, "side side 1 c"], *, factor: int
) -> Float[Array, "b h2 w2 c"]:
    """Transposed convolution of each channel with a kernel of its own: factor times as many rows and columns.

    An output cell sees two rows and two columns of the input, so every phase of the output is four multiply-adds, which
    need no convolution on any platform.

    Args:
        kernel: as PyTorch keeps it, in HWIO order, with a side of 2 * factor; stride factor, padding factor / 2.
        factor: even.
    """
    b, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def taps(phase):  # (first row of the padded input, row of the kernel)
        at = phase + factor // 2
        return [(1 + at // factor, at % factor), (at // factor, at % factor + factor)]

    def cells(i, j):
        return reduce(
            add, (padded[:, y : y + h, x : x + w] * kernel[ky, kx, 0] for y, ky in taps(i) for x, kx in taps(j))
        )

    rows = [jnp.stack([cells(i, j) for j in range(factor)], axis=3) for i in range(factor)]
    return jnp.stack(rows, axis=2).reshape(b, factor * h, factor * w, c)


def kernel_gradient_by_rows(
    x: Float[Array, "b h w c"],
    g: Float[Array, "b h2 w2 k"],
    side: int,
    stride: int,
    precision: lax.Precision | None = None,
) -> Float[Array, "side side c k"]:
    """The gradient of the kernel of `conv`: for each of its rows a product of matrices, g and the shifted map.

    In this order, and with the columns of a row side by side, what has to be moved in memory beforehand is least.
    """
    pad, sums = (side - 1) // 2, jnp.float64 if x.dtype == jnp.float64 else jnp.float32
    rows, columns = ((size - 1) * stride + 1 for size in g.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    flat = g.reshape(-1, g.shape[3])

    def row(i: Array) -> Array:
        band = lax.dynamic_slice_in_dim(padded, i, rows, axis=1)[:, ::stride]
        beside = jnp.concatenate([band[:, :, j : j + columns : stride] for j in range(side)], axis=3)
        over = (((0,), (0,)), ((), ()))
        shifted = beside.reshape(-1, beside.shape[3])
        return lax.dot_general(flat, shifted, over, precision=precision, preferred_element_type=sums)

    kernel = lax.map(row, jnp.arange(side))  # in a loop: otherwise XLA holds what is moved for all layers at once
    return kernel.reshape(side, g.shape[3], side, x.shape[3]).transpose(0, 2, 3, 1).astype(x.dtype)


def depthwise_by_shifts(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 1 c"], stride: int
) -> Float[Array, "..."]:
    """Nine shifted multiply-adds.

    On a CPU, with the gradient, 14 times as fast as the grouped form (128 channels, 64x64, stride 1).
    """
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = (padded[:, i : i + h : stride, j : j + w : stride] * kernel[i, j, 0] for i in range(3) for j in range(3))
    return reduce(add, shifted)


def depthwise_by_groups(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 1 c"],
    stride: int,
    precision: lax.Precision | None = None,
) -> Float[Array, "..."]:
    """One convolution with as many groups as channels, which accelerators have kernels for."""
    pad = ((1, 1), (1, 1))
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pad,
        dimension_numbers=HWIO,
        feature_group_count=x.shape[3],
        precision=precision,
    )


def transpose_by_phases(
    x: Float[Array, "b h w c"], kernel: Float[Array, "4 4 k c"], precision: lax.Precision | None = None
) -> Float[Array, "..."]:
    """Four 2x2 convolutions, each giving every other row and column.

    An even output row 2i sees the input rows i-1 and i through kernel rows 3 and 1, an odd one the input rows i and i+1
    through kernel rows 2 and 0; columns likewise. On a CPU, with the gradient, 39 times as fast as the dilated form
    (256 channels, 32x32).
    """
    b, h, w, _ = x.shape

    def phase(i, j):  # output rows and columns i, i + 2, ... and j, j + 2, ...
        kernel_2x2, pad = kernel[3 - i :: -2, 3 - j :: -2], ((1 - i, i), (1 - j, j))
        return lax.conv_general_dilated(x, kernel_2x2, (1, 1), pad, dimension_numbers=HWOI, precision=precision)

    rows = [jnp.stack([phase(i, 0), phase(i, 1)], axis=3) for i in (0, 1)]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, kernel.shape[2])


def transpose_by_dilation(
    x: Float[Array, "b h w c"], kernel: Float[Array, "4 4 k c"], precision: lax.Precision | None = None
) -> Float[Array, "..."]:
    """One convolution over the input with a zero between neighbours."""
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        ((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=HWOI,
        precision=precision,
    )


def transpose_gradient_by_rows(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "4 4 k c"],
    g: Float[Array, "b 2*h 2*w k"],
    precision: lax.Precision | None = None,
) -> tuple[Float[Array, "b h w c"], Float[Array, "4 4 k c"]]:
    """The gradient of `conv_transpose`: that of the kernel is what a convolution from the output to the input has.

    On a CPU the kernel's takes 0.5 to 0.9 of the time that it takes by phases.
    """
    (dx,) = jax.vjp(lambda x: transpose_by_phases(x, kernel, precision), x)[1](g)
    return dx, kernel_gradient_by_rows(g, x, 4, 2, precision)


def _gradient_of(form: Callable) -> Callable:
    return lambda x, kernel, g: jax.vjp(form, x, kernel)[1](g)


def _by_platform(cpu: Callable, default: Callable, cpu_gradient: Callable | None = None) -> Callable:
    """A convolution (x, kernel) that is `cpu` on CPUs and `default` elsewhere.

    cpu_gradient: of `cpu`, from (x, kernel, g), where JAX's own is slower.

    Decided when the computation is lowered, so that one compiled ahead for another platform gets that platform's form.
    The gradient chooses for itself: differentiating through the choice would keep the residuals of both forms.
    """

    @jax.custom_vjp
    def conv(x, kernel):
        return lax.platform_dependent(x, kernel, cpu=cpu, default=default)

    def forward(x, kernel):
        return conv(x, kernel), (x, kernel)

    def backward(inputs, g):
        return lax.platform_dependent(*inputs, g, cpu=cpu_gradient or _gradient_of(cpu), default=_gradient_of(default))

    conv.defvjp(forward, backward)
    return jax.jit(conv)  # layers of one shape are traced once


def _is_wide(rows: int, columns: int, kernel: tuple[int, ...]) -> bool:
    """Whether a CPU takes less time for products of matrices than for XLA's convolutions.

    XLA's gradient of the kernel takes the map for a kernel, at a cost that grows faster than its size: for 256 channels
    at 64x64 three times as long (3x3), eight times (1x1). On small maps, and of narrow matrices, products are slower.
    """
    side, _, cin, cout = kernel
    return side == 1 or (side == 3 and cin * cout >= WIDE and rows * columns >= LARGE)


@cache  # JAX knows a function that it has compiled by its identity
def _plain_conv(stride: int, precision: lax.Precision | None) -> Callable:
    def conv(x, kernel):
        pad = (kernel.shape[0] - 1) // 2
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=HWIO, precision=precision
        )

    return conv


@cache
def _conv(stride: int, precision: lax.Precision | None) -> Callable:
    """The same, with a form of its own for the gradient of the kernel on CPUs."""
    plain = _plain_conv(stride, precision)
    conv = jax.custom_vjp(plain)

    def backward(inputs, g):
        x, kernel = inputs
        (dx,) = jax.vjp(lambda x: plain(x, kernel), x)[1](g)
        dkernel = lax.platform_dependent(
            x,
            kernel,
            g,
            cpu=lambda x, kernel, g: kernel_gradient_by_rows(x, g, kernel.shape[0], stride, precision),
            default=lambda x, kernel, g: jax.vjp(lambda kernel: plain(x, kernel), kernel)[1](g)[0],
        )
        return dx, dkernel

    conv.defvjp(lambda x, kernel: (plain(x, kernel), (x, kernel)), backward)
    return jax.jit(conv)


@cache
def _depthwise(stride: int, precision: lax.Precision | None) -> Callable:
    return _by_platform(
        cpu=partial(depthwise_by_shifts, stride=stride),
        default=partial(depthwise_by_groups, stride=stride, precision=precision),
    )


@cache
def _transpose(precision: lax.Precision | None) -> Callable:
    return _by_platform(
        cpu=partial(transpose_by_phases, precision=precision),
        default=partial(transpose_by_dilation, precision=precision),
        cpu_gradient=partial(transpose_gradient_by_rows, precision=precision),
    )


_winograd = _by_platform(cpu=winograd, default=_plain_conv(1, None), cpu_gradient=winograd_gradient)
