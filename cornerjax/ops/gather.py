"""Reading maps at single cells."""

import jax
from jax import Array
from jaxtyping import Float, Int


def gather_cells(x: Float[Array, "b h w c"], cells: Int[Array, "b n 2"]) -> Float[Array, "b n c"]:
    """Read the channels of map cells given as x, y; a cell outside the map reads the nearest one inside."""

    def read(image, at):
        return image.at[at[:, 1], at[:, 0]].get(mode="clip", wrap_negative_indices=False)

    return jax.vmap(read)(x, cells)
