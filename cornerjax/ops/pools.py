"""Corner pooling: running maxima over a feature map, in four directions."""

from jax import Array
from jaxtyping import Float

from cornerjax.ops.running_max import running_max


def top_pool(x: Float[Array, "b h w c"], *, implementation: str = "auto") -> Float[Array, "b h w c"]:
    """Each cell becomes the maximum of itself and all cells below it in its column.

    All four pools give the gradient of an output to the equal maximum farthest from it, undivided.

    Args:
        implementation: a name in IMPLEMENTATIONS.
    Raises: ValueError: unknown implementation.
    Source: CornerNet (Law and Deng 2018), section 3.4.
    """
    return running_max(x, 1, True, implementation)


def bottom_pool(x: Float[Array, "b h w c"], *, implementation: str = "auto") -> Float[Array, "b h w c"]:
    """Each cell becomes the maximum of itself and all cells above it in its column; see top_pool."""
    return running_max(x, 1, False, implementation)


def left_pool(x: Float[Array, "b h w c"], *, implementation: str = "auto") -> Float[Array, "b h w c"]:
    """Each cell becomes the maximum of itself and all cells right of it in its row; see top_pool."""
    return running_max(x, 2, True, implementation)


def right_pool(x: Float[Array, "b h w c"], *, implementation: str = "auto") -> Float[Array, "b h w c"]:
    """Each cell becomes the maximum of itself and all cells left of it in its row; see top_pool."""
    return running_max(x, 2, False, implementation)
