"""Folded networks give the same maps, and nothing of a batch normalisation is left of them but its bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cornerjax.errors import InputError
from cornerjax.nn.backbones.dla import DLA
from cornerjax.nn.backbones.fire import FireBlock
from cornerjax.nn.backbones.hourglass import Hourglass
from cornerjax.nn.backbones.resnet import Bottleneck, ResNet
from cornerjax.nn.folding import folded
from cornerjax.nn.functional import functional
from cornerjax.nn.layers import BatchNorm, ResidualBlock
from cornerjax.nn.pooling import CornerPool

NETWORKS = {
    "hourglass": lambda rng: Hourglass(stacks=2, stem_dim=4, stem_kernel=3, dims=(8, 8), blocks=(1, 1), dim=8).build(
        rng
    ),
    "resnet": lambda rng: ResNet(width=4, up_dims=(8, 6, 4)).build(rng),
    "resnet with dcn": lambda rng: ResNet(width=4, up_dims=(8, 6, 4), deformable=True).build(rng),
    "dla": lambda rng: DLA(width=4).build(rng),
    "bottleneck": lambda rng: Bottleneck(3, 4, stride=2, rng=rng),
    "fire": lambda rng: FireBlock(3, 8, rng=rng),
    "corner pool": lambda rng: CornerPool(3, 4, corner="tl", pooling="corner", rng=rng),
}


def lively(tree, rng):
    """Weights as after training: scales, biases and statistics that are not those of the start."""

    def changed(x):
        return (x * (0.5 + rng.random(x.shape)) + 0.1 * (rng.random(x.shape) - 0.5)).astype(np.float32)

    return jax.tree.map(changed, tree)


def batch_norms(network):
    return [module for _, module in nnx.iter_graph(network) if isinstance(module, BatchNorm)]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_gives_the_same_maps(name):
    rng = np.random.default_rng(0)
    network = NETWORKS[name](rng)
    apply, params, model_state = functional(network)
    params, model_state = lively(params, rng), lively(model_state, rng)
    apply_folded, fold = folded(network)
    weights = fold(params, model_state)
    assert not any(bn.folded for bn in batch_norms(network))
    x = jnp.asarray(rng.standard_normal((2, 64, 64, 3), np.float32))

    @jax.jit
    def maps(params, model_state, folded_weights):
        return apply(params, model_state, x, train=False)[0], apply_folded(*folded_weights, x, train=False)[0]

    with jax.numpy_dtype_promotion("standard"):
        plain, ours = maps(params, model_state, weights)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert float(jnp.abs(b).max()) > 0
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()))
    assert jax.tree.map(jnp.shape, weights) == jax.tree.map(jnp.shape, (params, model_state))
    bias = jax.make_jaxpr(lambda *w: apply_folded(*w, x, train=False)[0])(*weights)
    assert "rsqrt" not in str(bias)
    with pytest.raises(ValueError, match=r"^a folded network only predicts"):
        apply_folded(*weights, x, train=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda params: params["bn1"].pop("bias"), r"^weights do not fit the network: those of bn1\.bias are missing$"),
        (lambda params: params.update(more=np.zeros(2, np.float32)), r"those of more are unknown to it$"),
        (
            lambda params: params["bn1"].update(bias=np.zeros(5, np.float32)),
            r"bn1\.bias has the shape \(5,\) and type float32; expected \(8,\), float32$",
        ),
        (lambda params: params["bn1"].update(bias=np.zeros(8, np.int32)), r"type int32; expected \(8,\), float32$"),
        (
            lambda params: params["bn1"].update(bias=np.full(8, np.nan, np.float32)),
            r"^weights cannot be used: bn1\.bias has values that are infinite or no numbers$",
        ),
    ],
)
def test_weights_that_are_not_the_network_s_are_refused(change, said):
    network = ResidualBlock(4, 8, rng=np.random.default_rng(0))
    _, params, model_state = functional(network)
    _, fold = folded(network)
    fold(params, model_state)
    change(params)
    with pytest.raises(InputError, match=said):
        fold(params, model_state)
