"""Corner and centre pooling: running maxima over a feature map, sums of two of them, and maxima of whole lines."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cornerjax.ops.running_max import corner_max, running_max

# Of each direction the axis that is scanned and whether from its end; of each corner the directions of its two pools.
SCANS = {"top": (1, True), "bottom": (1, False), "left": (2, True), "right": (2, False)}
CORNERS = {"tl": ("top", "left"), "br": ("bottom", "right")}


def top_pool(x: Float[Array, "b h w c"], *, implementation: str = "auto") -> Float[Array, "b h w c"]:
    """Each cell becomes the maximum of itself and all cells below it in its column.

    All four pools give the gradient of an output to the equal maximum farthest from it, undivided.

    Args:
        implementation: a name in IMPLEMENTATIONS.
    Raises: ValueError: unknown implementation.
    Source: CornerNet (Law and Deng 2018), section 3.4.
    """
    return running_max(x, *SCANS["top"], implementation)


def bottom_pool(x: Float[Array, "b h w c"], *, implementation: str = "auto") -> Float[Array, "b h w c"]:
    """Each cell becomes the maximum of itself and all cells above it in its column; see top_pool."""
    return running_max(x, *SCANS["bottom"], implementation)


def left_pool(x: Float[Array, "b h w c"], *, implementation: str = "auto") -> Float[Array, "b h w c"]:
    """Each cell becomes the maximum of itself and all cells right of it in its row; see top_pool."""
    return running_max(x, *SCANS["left"], implementation)


def right_pool(x: Float[Array, "b h w c"], *, implementation: str = "auto") -> Float[Array, "b h w c"]:
    """Each cell becomes the maximum of itself and all cells left of it in its row; see top_pool."""
    return running_max(x, *SCANS["right"], implementation)


def corner_pool(
    x1: Float[Array, "b h w c"], x2: Float[Array, "_ _ _ _"], corner: str, *, implementation: str = "auto"
) -> Float[Array, "b h w c"]:
    """The sum of a corner's two pools: "tl" is top_pool(x1) + left_pool(x2), "br" bottom_pool(x1) + right_pool(x2).

    The kernels ("pallas") read x1 and x2 once and write only the sum; so does the gradient, the other way round.

    Args:
        implementation: a name in IMPLEMENTATIONS.
    Raises: ValueError: unknown corner or implementation, or x1 and x2 differ in shape or type.
    Source: CornerNet (Law and Deng 2018), section 3.4.
    """
    if corner not in CORNERS:
        raise ValueError(f"no corner {corner!r}; there are: {', '.join(CORNERS)}")
    if (x1.shape, x1.dtype) != (x2.shape, x2.dtype):
        raise ValueError(
            f"two maps of one shape and type are pooled, not {x1.dtype}{x1.shape} and {x2.dtype}{x2.shape}"
        )
    return corner_max(x1, x2, corner == "tl", implementation)


def line_max(x: Float[Array, "b h w c"], axis: int) -> Float[Array, "_ _ _ c"]:
    """The maximum of every column (axis 1) or row (axis 2), in an axis of length 1.

    The gradient goes to the last of equal maxima, undivided, where the pools of two opposite directions, one after the
    other, send it.

    Source: CenterNet (Duan et al. 2019), section 3.2.
    """
    last = x.shape[axis] - 1 - jnp.argmax(jnp.flip(x, axis), axis, keepdims=True)
    here = lax.broadcasted_iota(last.dtype, x.shape, axis) == lax.stop_gradient(last)
    return jnp.where(here, x, jnp.zeros_like(x)).sum(axis, keepdims=True)
