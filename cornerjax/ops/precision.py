"""Which type sums are computed in."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float


def precise(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The array in float32 or better: half precision has too few digits for sums and logarithms."""
    return x.astype(np.promote_types(x.dtype, jnp.float32))
