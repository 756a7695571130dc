"""The one place where NNX ends: from a module to a pure function and plain dicts of arrays."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

Tree = dict[str, Any]  # of trees and arrays
Array = jax.Array | np.ndarray


def functional(model: nnx.Module) -> tuple[Callable[..., tuple[Any, Tree]], Tree, Tree]:
    """Split a model into (apply, params, model_state); both trees are nested dicts of arrays with names as keys.

    apply(params, model_state, *args, train) -> (outputs, new model_state) is pure.
    """
    graphdef, *states = nnx.split(model, nnx.Param, ...)
    params, model_state = map(_plain, states)

    def apply(params: Tree, model_state: Tree, *args: Any, train: bool) -> tuple[Any, Tree]:
        model = nnx.merge(graphdef, _for_nnx(params), _for_nnx(model_state))
        outputs = model(*args, train=train)
        return outputs, _plain(nnx.state(model, nnx.Not(nnx.Param)))

    return apply, params, model_state


def recomputed(function: Callable[[Any, Any], Any], module: Any, x: Any) -> Any:
    """function(module, x), of which only x is kept for the backward pass; that computes the rest again."""
    graphdef, state = nnx.split(module)

    @jax.checkpoint
    def pure(state: Any, x: Any) -> tuple[Any, Any]:
        module = nnx.merge(graphdef, state)
        return function(module, x), nnx.state(module, nnx.Not(nnx.Param))

    y, model_state = pure(state, x)
    nnx.update(module, model_state)
    return y


def applied(module: Any, x: Any, *, train: bool, remat: bool) -> Any:
    """module(x, train=train), with remat `recomputed`."""
    if remat:
        return recomputed(lambda module, x: module(x, train=train), module, x)
    return module(x, train=train)


def parameter_count(params: Tree) -> int:
    """The number of scalars in a tree of arrays."""
    return sum(value.size for value in jax.tree.leaves(params))


def by_path(tree: Tree) -> dict[str, Array]:
    """A nested dict as a flat one whose keys are dotted paths."""
    return traverse_util.flatten_dict(tree, sep=".")


def nested(flat: Mapping[str, Array]) -> Tree:
    """The inverse of by_path."""
    return traverse_util.unflatten_dict(dict(flat), sep=".")


# NNX numbers the elements of a list. A checkpoint brings keys back as strings, so strings are what ours are.
def _plain(state: Any) -> Tree:
    return _with_keys(str, nnx.to_pure_dict(state))


def _for_nnx(tree: Tree) -> dict[Any, Any]:
    # Modules work on JAX's arrays only; the caller's may be NumPy's.
    return _with_keys(lambda key: int(key) if key.isdigit() else key, jax.tree.map(jnp.asarray, tree))


def _with_keys(change: Callable[[Any], Any], tree: dict[Any, Any]) -> dict[Any, Any]:
    return {change(key): _with_keys(change, v) if isinstance(v, dict) else v for key, v in tree.items()}
