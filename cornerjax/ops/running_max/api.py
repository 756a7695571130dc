"""The ops: choosing an implementation, and the gradient that all implementations share."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from cornerjax.ops.running_max import pallas
from cornerjax.ops.running_max.cummax import running_max_cummax
from cornerjax.ops.running_max.loop import gradient_loop, running_max_loop
from cornerjax.ops.running_max.scan import gradient_scan, running_max_scan

PLATFORMS = ("cpu", "gpu", "tpu")


class Implementation(NamedTuple):
    """How the ops are computed; arrays are not empty, axes not negative.

    marks is all that the gradient needs to know of x; its form is the implementation's own.
    """

    forward: Callable  # (x, axis, reverse) -> y
    marked: Callable  # (x, axis, reverse) -> (y, marks)
    gradient: Callable  # (marks, g, axis, reverse) -> gradient for x
    corner_forward: Callable  # (x1, x2, reverse) -> y
    corner_marked: Callable  # (x1, x2, reverse) -> (y, marks)
    corner_gradient: Callable  # (marks, g, reverse) -> gradients for x1 and x2
    platforms: tuple[str, ...] = PLATFORMS  # those it runs on
    fused_width: float = math.inf  # of wider maps the two running maxima of a corner are computed each by itself


def _of_arrays(forward: Callable, gradient: Callable, *, stored: bool = False) -> Implementation:
    """An implementation in jax.numpy; marks are True where a new maximum starts, a byte an element.

    Args:
        stored: forward's result is a buffer of its own. Otherwise XLA may compute an element of it more than once and
            round it in more than one way, and the maximum would seem to rise where it stays: x is to be compared then.
    """

    def marked(x, axis, reverse):
        y = forward(x, axis, reverse)
        return y, _starts(y if stored else x, y, axis, reverse)

    def corner_forward(x1, x2, reverse):
        return forward(x1, 1, reverse) + forward(x2, 2, reverse)

    def corner_marked(x1, x2, reverse):
        (y1, marks1), (y2, marks2) = marked(x1, 1, reverse), marked(x2, 2, reverse)
        return y1 + y2, (marks1, marks2)

    def corner_gradient(marks, g, reverse):
        return gradient(marks[0], g, 1, reverse), gradient(marks[1], g, 2, reverse)

    return Implementation(forward, marked, gradient, corner_forward, corner_marked, corner_gradient)


def _of_kernels(kernels: str, platforms: tuple[str, ...] = PLATFORMS) -> Implementation:
    """Pallas kernels: the named ones, or if empty those for this platform."""
    functions = {name: functools.partial(pallas.run, name, kernels) for name in pallas.ARRAYS}
    return Implementation(**functions, platforms=platforms, fused_width=pallas.FUSED_WIDTH)


def _starts(x: Float[Array, "..."], y: Float[Array, "..."], axis: int, reverse: bool) -> Bool[Array, "..."]:
    """True where x, or the maximum itself, exceeds the maximum before, and for the first element (-inf too)."""
    shift = [(0, 0, 0)] * y.ndim
    shift[axis] = (-1, 1, 0) if reverse else (1, -1, 0)
    before = lax.pad(y, jnp.array(-jnp.inf, y.dtype), shift)
    first = lax.broadcasted_iota(jnp.int32, y.shape, axis) == (y.shape[axis] - 1 if reverse else 0)
    return (x > before) | first


def _by_platform(cpu: Implementation, default: Implementation) -> Implementation:
    """Decided when the computation is lowered, so one exported for another platform gets that platform's."""

    def choose(name, *args):
        arrays, static = args[: pallas.ARRAYS[name]], args[pallas.ARRAYS[name] :]
        return lax.platform_dependent(
            *arrays,
            cpu=lambda *arrays: getattr(cpu, name)(*arrays, *static),
            default=lambda *arrays: getattr(default, name)(*arrays, *static),
        )

    functions = {name: functools.partial(choose, name) for name in pallas.ARRAYS}
    return Implementation(**functions, platforms=PLATFORMS, fused_width=math.inf)


LOOP = _of_arrays(running_max_loop, gradient_loop, stored=True)
SCAN = _of_arrays(running_max_scan, gradient_scan)
IMPLEMENTATIONS = {
    # As benchmarks/corner_pool.py measures on CPUs; on accelerators the scan until it is run there.
    "auto": _by_platform(cpu=LOOP, default=SCAN),
    "cummax": _of_arrays(running_max_cummax, gradient_scan),
    "loop": LOOP,
    "pallas": _of_kernels(""),
    "pallas_mosaic_gpu": _of_kernels("pallas_mosaic_gpu", platforms=("gpu",)),
    "pallas_triton": _of_kernels("pallas_triton", platforms=("gpu",)),
    "scan": SCAN,
}


def runnable() -> list[str]:
    """The names in IMPLEMENTATIONS that run on this machine's platform."""
    return [
        name for name, implementation in IMPLEMENTATIONS.items() if jax.default_backend() in implementation.platforms
    ]


def check_implementation(name: str) -> None:
    """Raises: ValueError: no such implementation, or it does not run here; says which do."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"no running maximum {name!r}; there are: {', '.join(runnable())}")
    if name not in runnable():
        where = ", ".join(IMPLEMENTATIONS[name].platforms)
        raise ValueError(f"{name} runs on {where}; on {jax.default_backend()} there are: {', '.join(runnable())}")


def running_max(
    x: Float[Array, "..."], axis: int, reverse: bool = False, implementation: str = "auto"
) -> Float[Array, "..."]:
    """Replace each element by the maximum of all elements up to it along an axis.

    The gradient of an output goes to the first of equal maxima in scan order, undivided, as in the original; it is
    summed in float32 or better. Automatic differentiation of a scan would divide it among equals.

    Args:
        x: any shape and floating type; the kernels take float32, bfloat16 and float16.
        axis: the axis to scan.
        reverse: scan from the end.
        implementation: a name in IMPLEMENTATIONS; "auto" is the loop on CPUs, the scan elsewhere.
    Raises: ValueError: unknown implementation, or one that does not run here, or x has no such axis.
    Source: CornerNet (Law and Deng 2018), section 3.4; models/py_utils/_cpools.
    """
    check_implementation(implementation)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} of an array with {x.ndim} axes")
    with jax.named_scope("running_max"):  # for profiles
        return x if x.size == 0 else _running_max(x, axis % x.ndim, reverse, implementation)


def corner_max(
    x1: Float[Array, "b h w c"], x2: Float[Array, "b h w c"], reverse: bool, implementation: str = "auto"
) -> Float[Array, "b h w c"]:
    """The running maximum of x1 down its columns plus that of x2 along its rows; the kernels do both in one pass.

    They do so with maps up to 512 cells wide; wider ones take a pass for each direction.

    Args, Raises: as of running_max.
    """
    check_implementation(implementation)
    with jax.named_scope("corner_max"):
        if x1.size == 0:
            return x1 + x2
        if x1.shape[2] > IMPLEMENTATIONS[implementation].fused_width:
            return _running_max(x1, 1, reverse, implementation) + _running_max(x2, 2, reverse, implementation)
        return _corner_max(x1, x2, reverse, implementation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _running_max(x, axis, reverse, implementation):
    return IMPLEMENTATIONS[implementation].forward(x, axis, reverse)


def _forward(x, axis, reverse, implementation):
    return IMPLEMENTATIONS[implementation].marked(x, axis, reverse)


def _backward(axis, reverse, implementation, marks, g):
    return (IMPLEMENTATIONS[implementation].gradient(marks, g, axis, reverse),)


_running_max.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _corner_max(x1, x2, reverse, implementation):
    return IMPLEMENTATIONS[implementation].corner_forward(x1, x2, reverse)


def _corner_max_forward(x1, x2, reverse, implementation):
    return IMPLEMENTATIONS[implementation].corner_marked(x1, x2, reverse)


def _corner_max_backward(reverse, implementation, marks, g):
    return IMPLEMENTATIONS[implementation].corner_gradient(marks, g, reverse)


_corner_max.defvjp(_corner_max_forward, _corner_max_backward)
