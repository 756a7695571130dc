"""The op: choosing an implementation, and the gradient that all implementations share."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cornerjax.ops.running_max.loop import gradient_loop, running_max_loop
from cornerjax.ops.running_max.scan import gradient_scan, running_max_scan


def _by_platform(cpu, default):
    """Decided when the computation is lowered, so one exported for another platform gets that platform's."""

    def choose(*arrays_axis_reverse):
        *arrays, axis, reverse = arrays_axis_reverse
        static = {"axis": axis, "reverse": reverse}
        return lax.platform_dependent(
            *arrays, cpu=functools.partial(cpu, **static), default=functools.partial(default, **static)
        )

    return choose


# An implementation is a function (x, axis, reverse) -> y, with x not empty and axis not negative ...
IMPLEMENTATIONS = {
    "auto": _by_platform(cpu=running_max_loop, default=running_max_scan),
    "loop": running_max_loop,
    "scan": running_max_scan,
}
# ... and (g, starts, axis, reverse) -> gradient for x, where starts marks the elements above all scanned before them.
GRADIENTS = {
    "auto": _by_platform(cpu=gradient_loop, default=gradient_scan),
    "loop": gradient_loop,
    "scan": gradient_scan,
}


def running_max(
    x: Float[Array, "..."], axis: int, reverse: bool = False, implementation: str = "auto"
) -> Float[Array, "..."]:
    """Replace each element by the maximum of all elements up to it along an axis.

    The gradient of an output goes to the first of equal maxima in scan order, undivided, as in the original; it is
    summed in float32 or better. Automatic differentiation of a scan would divide it among equals.

    Args:
        x: any shape and floating type.
        axis: the axis to scan.
        reverse: scan from the end.
        implementation: a name in IMPLEMENTATIONS; "auto" is the loop on CPUs, the scan elsewhere.
    Raises: ValueError: unknown implementation, or x has no such axis.
    Source: CornerNet (Law and Deng 2018), section 3.4; models/py_utils/_cpools.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"no running maximum {implementation!r}; there are: {', '.join(IMPLEMENTATIONS)}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} of an array with {x.ndim} axes")
    return x if x.size == 0 else _running_max(x, axis % x.ndim, reverse, implementation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _running_max(x, axis, reverse, implementation):
    return IMPLEMENTATIONS[implementation](x, axis, reverse)


def _forward(x, axis, reverse, implementation):
    y = IMPLEMENTATIONS[implementation](x, axis, reverse)
    return y, _starts(x, y, axis, reverse)


def _backward(axis, reverse, implementation, starts, g):
    return (GRADIENTS[implementation](g, starts, axis, reverse),)


def _starts(x, y, axis, reverse):
    """True where x exceeds everything scanned before it, and for the first element whatever it is (-inf too)."""
    n = x.shape[axis]
    later, before = ((0, n - 1), (1, n)) if reverse else ((1, n), (0, n - 1))
    exceeds = lax.slice_in_dim(x, *later, axis=axis) > lax.slice_in_dim(y, *before, axis=axis)
    first = jnp.ones_like(lax.slice_in_dim(x, 0, 1, axis=axis), bool)
    return jnp.concatenate([exceeds, first] if reverse else [first, exceeds], axis)


_running_max.defvjp(_forward, _backward)
