"""Backbones: from images to the features that heads are put on.

Options and network of one stand in one file. A detector's network keeps its backbone under the name `backbone`, and so
does its `model`, so that weights can go from one detector to another.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float


class Features(NamedTuple):
    """What one stack of a backbone gives."""

    map: Float[Array, "b h w c"]  # for the heads
    levels: list[Float[Array, "b _ _ _"]]  # coarser maps on the way there, the coarsest first; none of some backbones


@runtime_checkable
class Backbone(Protocol):
    """The options of a backbone, a frozen dataclass."""

    @property
    def stacks(self) -> int:
        """How many features its network gives, each for heads of its own."""
        ...

    @property
    def stride(self) -> int:
        """Image pixels a cell of the features."""
        ...

    @property
    def dim(self) -> int:
        """Channels of the features."""
        ...

    def check(self) -> None:
        """Refuse, with an InputError, what cannot be built."""
        ...

    def build(self, rng: np.random.Generator | None) -> nnx.Module:
        """The network: (images (b, H, W, 3), train=) -> [Features a stack]; ValueError for sides that do not fit."""
        ...
