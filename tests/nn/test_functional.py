import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cornerjax.checkpoint import Checkpoints
from cornerjax.nn.backbones.hourglass import through
from cornerjax.nn.functional import by_path, functional, nested, parameter_count
from cornerjax.nn.layers import ConvBNReLU


class Two(nnx.Module):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.layers = nnx.List([ConvBNReLU(3, 4, 3, rng=rng), ConvBNReLU(4, 2, 1, rng=rng)])

    def __call__(self, x, *, train):
        return through(self.layers, x, train=train)


X = np.random.default_rng(1).standard_normal((2, 5, 5, 3)).astype(np.float32)


def same_structure(one, other) -> bool:
    return jax.tree.map(np.shape, one) == jax.tree.map(np.shape, other)


def test_states_are_plain_numpy_and_count():
    _, params, model_state = functional(Two())
    assert set(by_path(params)) == {
        f"layers.{i}.{name}" for i in "01" for name in ("conv.kernel", "bn.scale", "bn.bias")
    }
    assert set(by_path(model_state)) == {f"layers.{i}.bn.{name}" for i in "01" for name in ("mean", "var")}
    assert all(type(value) is np.ndarray for value in jax.tree.leaves((params, model_state)))
    assert parameter_count(params) == 3 * 4 * 9 + 8 + 4 * 2 + 4
    assert same_structure(nested(by_path(params)), params)


def test_apply_is_pure_and_differentiable_with_the_state_closed_over():
    apply, params, model_state = functional(Two())
    before = jax.tree.map(np.copy, model_state)

    def step(params, model_state):
        def objective(params):
            y, after = apply(params, model_state, jnp.asarray(X), train=True)
            return (y**2).sum(), after

        return jax.value_and_grad(objective, has_aux=True)(params)

    (loss, after), grads = jax.jit(step)(params, model_state)
    assert float(loss) > 0
    jax.tree.map(np.testing.assert_array_equal, model_state, before)
    assert same_structure(after, model_state)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_a_checkpoint_gives_back_the_same_trees(tmp_path):
    _, params, model_state = functional(Two())
    weights = jax.device_put({"params": params, "model_state": model_state})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, weights, {"step": jnp.int32(1)})
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        restored = checkpoints.read(1, "weights")
    assert same_structure(restored, weights)
    jax.tree.map(np.testing.assert_array_equal, restored, weights)
