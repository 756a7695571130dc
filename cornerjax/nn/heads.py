"""The head that makes a map of a detector."""

import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from cornerjax.nn.layers import Conv, Rng

HEAT_BIAS = -2.19  # sigmoid(-2.19) = 0.1: most cells are no keypoint


class Head(nnx.Module):
    """A convolution with ReLU and a 1x1 convolution, both with a bias and without normalisation.

    Args:
        dim: channels between the two.
        cin: channels of the input; None: dim.
        kernel: side of the first convolution.
        bias: initial bias of the output; None: as any other.
    """

    def __init__(
        self, dim: int, cout: int, *, cin: int | None = None, kernel: int, bias: float | None = None, rng: Rng
    ):
        self.hidden = Conv(cin or dim, dim, kernel, bias=True, rng=rng)
        self.out = Conv(dim, cout, 1, bias=True, rng=rng)
        if bias is not None:
            self.out.bias = nnx.Param(np.full(cout, bias, np.float32))

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c2"]:
        del train  # nothing here is done otherwise in training
        return self.out(nnx.relu(self.hidden(x)))
