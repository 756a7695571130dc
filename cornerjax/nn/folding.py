"""Networks that only predict: batch normalisation, linear then, becomes a part of the convolutions before it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from cornerjax.nn.functional import Tree, functional, with_weights
from cornerjax.nn.layers import BatchNorm, ConvTranspose

Fold = Callable[[Tree, Tree], tuple[Tree, Tree]]  # (params, model_state) -> those of the folded network


def folded(network: nnx.Module) -> tuple[Callable[..., tuple[Any, Tree]], Fold]:
    """(apply, fold): apply as of `nn.functional`, for the weights that fold(params, model_state) makes.

    A module says which of its convolutions come before a BatchNorm: `folds = {"bn": ("conv",)}`; several are
    those whose outputs are put one behind the other. Any other BatchNorm is left as it is.
    """

    @jax.jit
    def fold(params: Tree, model_state: Tree) -> tuple[Tree, Tree]:
        own = with_weights(network, params, model_state)
        _fold(own)
        return functional(own)[1:]

    form = with_weights(network, *functional(network)[1:])  # not the caller's
    _fold(form)
    return functional(form)[0], fold


def _fold(network: nnx.Module) -> None:
    for _, module in list(nnx.iter_graph(network)):
        for name, convs in getattr(type(module), "folds", {}).items():
            _fold_one(getattr(module, name), [getattr(module, conv) for conv in convs])


def _fold_one(bn: BatchNorm, convs: list[Any]) -> None:
    """Move what a BatchNorm multiplies by into the convolutions, and leave in its bias what it adds."""
    factor = bn.scale[...] * lax.rsqrt(bn.var[...] + bn.eps)
    bn.bias.set_value(bn.bias[...] - bn.mean[...] * factor)
    sizes = [conv.kernel[...].shape[_outputs(conv)] for conv in convs]
    for conv, part in zip(convs, jnp.split(factor, np.cumsum(sizes)[:-1]), strict=True):
        along = [1] * 4
        along[_outputs(conv)] = -1
        conv.kernel.set_value(conv.kernel[...] * part.reshape(along))
        if getattr(conv, "bias", None) is not None:
            conv.bias.set_value(conv.bias[...] * part)
    bn.folded = True


def _outputs(conv: Any) -> int:
    """The axis of a kernel along which its outputs lie."""
    return 2 if isinstance(conv, ConvTranspose) else 3
