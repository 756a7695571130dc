"""Networks that only predict: batch normalisation, linear then, becomes a part of the convolutions before it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from cornerjax.errors import InputError
from cornerjax.nn.functional import Tree, by_path, functional, nested
from cornerjax.nn.layers import BatchNorm, ConvTranspose

Fold = Callable[[Tree, Tree], tuple[Tree, Tree]]  # (params, model_state) -> those of the folded network, on a device


class _Pair(NamedTuple):
    bn: str  # dotted path
    convs: dict[str, int]  # dotted path -> axis of the kernel along which its outputs lie


def folded(network: nnx.Module) -> tuple[Callable[..., tuple[Any, Tree]], Fold]:
    """(apply, fold): apply as of `nn.functional`, for the weights that fold(params, model_state) makes.

    Where these are not the network's, or not finite, fold raises an InputError.

    A module says which of its convolutions come before a BatchNorm: `folds = {"bn": ("conv",)}`; several are those
    whose outputs are put one behind the other. Any other BatchNorm is left as it is.
    """
    form = nnx.clone(network)
    pairs = list(_mark(form))
    apply, *variables = functional(form)
    expected = [{path: x.shape for path, x in by_path(tree).items()} for tree in variables]

    def fold(params: Tree, model_state: Tree) -> tuple[Tree, Tree]:
        # With NumPy: as operations of JAX's, hundreds of arrays of a hundred shapes would have to be compiled for.
        weights, state = ({path: np.asarray(x) for path, x in by_path(tree).items()} for tree in (params, model_state))
        for values, shapes in zip((weights, state), expected, strict=True):
            check_weights(values, shapes)
        for pair in pairs:
            _fold(pair, weights, state)
        return jax.device_put((nested(weights), nested(state)))

    return apply, fold


def check_weights(values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what is not the weights of the network.

    Raises: InputError: naming one that is missing, too many, of another shape or type, or not finite.
    """
    for path in sorted(values.keys() | shapes.keys()):
        if path not in values or path not in shapes:
            what = "are missing" if path in shapes else "are unknown to it"
            raise InputError(f"weights do not fit the network: those of {path} {what}")
        value = values[path]
        if value.shape != shapes[path] or value.dtype != np.float32:
            raise InputError(
                f"weights do not fit the network: {path} has the shape {value.shape} and type {value.dtype}; "
                f"expected {shapes[path]}, float32"
            )
        if not np.isfinite(value).all():
            raise InputError(f"weights cannot be used: {path} has values that are infinite or no numbers")


def _mark(network: nnx.Module) -> Iterator[_Pair]:
    """Every BatchNorm that can be folded, which is told that it is."""
    for path, module in list(nnx.iter_graph(network)):
        for name, convs in getattr(type(module), "folds", {}).items():
            getattr(module, name).folded = True
            axes = {conv: 2 if isinstance(getattr(module, conv), ConvTranspose) else 3 for conv in convs}
            inside = ".".join(map(str, path)) + "." * bool(path)
            yield _Pair(inside + name, {inside + conv: axis for conv, axis in axes.items()})


def _fold(pair: _Pair, weights: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> None:
    """Move what a BatchNorm multiplies by into its convolutions, and leave in its bias what it adds."""
    factor = weights[f"{pair.bn}.scale"] / np.sqrt(state[f"{pair.bn}.var"] + BatchNorm.eps)
    weights[f"{pair.bn}.bias"] = weights[f"{pair.bn}.bias"] - state[f"{pair.bn}.mean"] * factor
    for conv, axis in pair.convs.items():
        kernel = weights[f"{conv}.kernel"]
        part, factor = np.split(factor, [kernel.shape[axis]])
        weights[f"{conv}.kernel"] = kernel * (part if axis == 3 else part[:, None])
        if f"{conv}.bias" in weights:
            weights[f"{conv}.bias"] = weights[f"{conv}.bias"] * part
