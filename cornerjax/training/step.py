"""The state of training and one update of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from cornerjax.training.mesh import split, whole

Batch = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that an update reads and writes; plain dicts of arrays."""

    step: Any  # () int32, updates done
    params: dict[str, Any]
    model_state: dict[str, Any]
    opt_state: Any

    @classmethod
    def create(cls, params: dict, model_state: dict, tx: optax.GradientTransformation, mesh: Mesh) -> "TrainState":
        """The state before the first update, on every device of the mesh."""
        step, params, model_state = jax.device_put((np.int32(0), params, model_state), whole(mesh))
        return cls(step, params, model_state, jax.jit(tx.init, out_shardings=whole(mesh))(params))


def make_train_step(
    apply: Callable, finish: Callable[[Batch], Batch], loss: Callable, tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Compile one update: state replicated, batch split over the mesh axis "data".

    Args:
        apply: of `nn.functional`.
        finish: what is left to be done to a batch on the device; the identity where the host did all.
        loss: (outputs, batch) -> dict of scalars with "total".
    Returns: (state, batch) -> (next state, losses and gradient norm); the given state's memory is reused.
    """

    @partial(
        jax.jit,
        donate_argnums=0,
        in_shardings=(whole(mesh), split(mesh)),
        out_shardings=(whole(mesh), whole(mesh)),
    )
    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        batch = finish(batch)

        def objective(params: dict) -> tuple[jax.Array, tuple[dict, dict]]:
            outputs, model_state = apply(params, state.model_state, batch["image"], train=True)
            losses = loss(outputs, batch)
            return losses["total"], (losses, model_state)

        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # kernels ask which mesh to divide their work over
            grads, (losses, model_state) = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        next_state = TrainState(state.step + jnp.int32(1), params, model_state, opt_state)
        return next_state, losses | {"grad_norm": optax.tree.norm(grads)}

    return train_step
