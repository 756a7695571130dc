"""The state of training and one update of it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from cornerjax.config import Config
from cornerjax.data.device import finish_batch
from cornerjax.detectors.base import Detector
from cornerjax.nn.functional import Tree
from cornerjax.training.mesh import split, whole

Batch = dict[str, jax.Array]
T = TypeVar("T")


class TrainState(NamedTuple):
    """All that an update reads and writes; plain dicts of arrays."""

    step: jax.Array  # () int32, updates done
    params: Tree
    model_state: Tree
    opt_state: optax.OptState
    ema: dict[str, Tree] | None  # running mean of {"params", "model_state"}; None where there is none
    halted: jax.Array  # () bool, a loss or gradient was not finite: the other fields no longer change; never saved

    def evaluated(self) -> dict[str, Tree]:
        """The weights that are meant to be used: "params" and "model_state"."""
        return self.ema or {"params": self.params, "model_state": self.model_state}


def fresh_state(params: Tree, model_state: Tree, tx: optax.GradientTransformation, *, ema: bool = False) -> TrainState:
    """The state before the first update."""
    mean = jax.tree.map(jnp.array, {"params": params, "model_state": model_state}) if ema else None
    return TrainState(jnp.int32(0), params, model_state, tx.init(params), mean, jnp.bool(False))


def make_train_step(
    detector: Detector, apply: Callable, tx: optax.GradientTransformation, config: Config, mesh: Mesh
) -> jax.stages.Wrapped:
    """Jit one update: state replicated, batch split over the mesh axis "data".

    From a loss or a gradient on that is not finite, the state keeps its values: guard.py notices it an update later.

    Args:
        apply: of `nn.functional`, for the network of `setup.network_of`.
    Returns: (state, batch) -> (next state, losses and gradient norm), to be called or lowered; the given state's memory
        is reused.
    """

    @partial(
        jax.jit,
        donate_argnums=0,
        in_shardings=(whole(mesh), split(mesh)),
        out_shardings=(whole(mesh), whole(mesh)),
        compiler_options={"xla_gpu_deterministic_ops": True} if config.compute.deterministic else None,
    )
    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        batch = finish_batch(batch, config, detector.render)
        counts = detector.counts(batch, config)

        def objective(params: Tree, part: Batch) -> tuple[jax.Array, tuple[dict, Tree]]:
            outputs, model_state = apply(params, state.model_state, part["image"], train=True)
            losses = detector.loss(outputs, part, config, counts)
            return losses["total"], (losses, model_state)

        gradient = partial(jax.grad(objective, has_aux=True), state.params)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # kernels ask which mesh to divide their work over
            if config.optim.accumulate == 1:
                grads, (losses, model_state) = gradient(batch)
            else:
                grads, (losses, model_state) = _accumulated(gradient, parts_of(batch, config, mesh))
                model_state = jax.tree.map(lambda value: value / config.optim.accumulate, model_state)
        norm = optax.tree.norm(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = _averaged(state, {"params": params, "model_state": model_state}, config.optim.ema_decay)
        halted = state.halted | ~jnp.isfinite(losses["total"]) | ~jnp.isfinite(norm)
        moved = TrainState(state.step + jnp.int32(1), params, model_state, opt_state, ema, halted)
        kept = state._replace(halted=halted)
        next_state = jax.tree.map(lambda old, new: jnp.where(halted, old, new), kept, moved)
        return next_state, losses | {"grad_norm": norm}

    return train_step


def parts_of(batch: Batch, config: Config, mesh: Mesh) -> Batch:
    """Divide a batch into the parts that go through the network one after the other: (b, ...) -> (parts, b2, ...).

    Of n parts, the i-th has the images i, i + n, ...: so every device keeps its own. With BatchNorm groups it has the
    groups i, i + n, ..., each whole.
    """
    n, groups = config.optim.accumulate, config.optim.batch_norm_groups

    def divide(x: jax.Array) -> jax.Array:
        together = len(x) // groups if groups > 1 else 1
        x = x.reshape(-1, n, together, *x.shape[1:])
        x = jnp.moveaxis(x, 1, 0).reshape(n, -1, *x.shape[3:])
        return lax.with_sharding_constraint(x, split(mesh, axis=1))

    return jax.tree.map(divide, batch)


def _accumulated(gradient: Callable[[Batch], T], parts: Batch) -> T:
    """The sum over the parts, of which one at a time is in memory."""
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(gradient, first))
    total, _ = lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, gradient(part)), None), zeros, parts)
    return total


def _averaged(state: TrainState, weights: dict[str, Tree], decay: float) -> dict[str, Tree] | None:
    """The next running mean. It starts as a plain mean: the first weights, drawn at random, are soon forgotten."""
    if state.ema is None:
        return None
    keep = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return jax.tree.map(lambda mean, new: new + (mean - new) * keep.astype(new.dtype), state.ema, weights)
