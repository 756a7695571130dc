from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.config import Compute
from cornerjax.nn.backbones.hourglass import Nearest
from cornerjax.nn.functional import functional
from cornerjax.nn.layers import (
    BatchNorm,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    ResidualBlock,
    configure,
    kernel_from_torch,
)


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("case", ["bn0", "bn1", "bn2"])  # bn1 has two values a channel, bn2 one image
def test_batch_norm_matches_the_original(golden, case):
    recorded = golden("ops/primitives.npz").items()
    g = {name.removeprefix(f"{case}_"): value for name, value in recorded if name.startswith(case)}
    apply, _, _ = functional(BatchNorm(len(g["gamma"])))
    params, state = {"scale": g["gamma"], "bias": g["beta"]}, {"mean": g["mean"], "var": g["var"]}

    @jax.jit
    def with_gradients(params, x, upstream):
        y, vjp, after = jax.vjp(lambda params, x: apply(params, state, x, train=True), params, x, has_aux=True)
        return y, after, *vjp(upstream)

    y, after, dparams, dx = with_gradients(params, nhwc(g["x"]), nhwc(g["g"]))
    np.testing.assert_allclose(y, nhwc(g["y_train"]), atol=2e-6)
    np.testing.assert_allclose(dx, nhwc(g["gx"]), rtol=1e-5, atol=5e-6)
    np.testing.assert_allclose(dparams["scale"], g["ggamma"], rtol=1e-5, atol=5e-6)
    np.testing.assert_allclose(dparams["bias"], g["gbeta"], rtol=1e-5, atol=5e-6)
    np.testing.assert_allclose(after["mean"], g["mean_after"], rtol=1e-6)
    np.testing.assert_allclose(after["var"], g["var_after"], rtol=1e-6)

    y, after = jax.jit(partial(apply, train=False))(params, state, nhwc(g["x"]))
    np.testing.assert_allclose(y, nhwc(g["y_eval"]), atol=2e-6)
    assert all(np.array_equal(after[name], state[name]) for name in state)


def test_variance_does_not_cancel_far_from_zero():
    apply, params, state = functional(BatchNorm(1))
    x = 1000 + np.random.default_rng(0).standard_normal((4, 8, 8, 1)).astype(np.float32)
    y, after = jax.jit(partial(apply, train=True))(params, state, x)
    np.testing.assert_allclose(np.std(y), 1, rtol=1e-4)
    np.testing.assert_allclose(after["var"], 0.9 + 0.1 * np.var(x.astype(np.float64), ddof=1), rtol=1e-5)


def test_one_value_a_channel_is_no_division_by_zero():
    apply, params, state = functional(BatchNorm(2))
    y, after = jax.jit(partial(apply, train=True))(params, state, np.ones((1, 1, 1, 2), np.float32))
    np.testing.assert_array_equal(y, np.zeros((1, 1, 1, 2)))
    assert np.isfinite(after["var"]).all()


def test_groups_are_normalised_each_by_itself_and_the_running_statistics_follow_their_mean():
    """Against NumPy, in float64; two groups of three images with different means."""
    module = BatchNorm(5)
    module.groups = 2
    apply, params, state = functional(module)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4, 3, 5)) + np.repeat([0, 3], 3)[:, None, None, None]
    y, after = jax.jit(partial(apply, train=True))(params, state, x.astype(np.float32))
    halves = [x[:3], x[3:]]
    expected = np.concatenate([(h - h.mean((0, 1, 2))) / np.sqrt(h.var((0, 1, 2)) + 1e-5) for h in halves])
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(after["mean"], 0.1 * np.mean([h.mean((0, 1, 2)) for h in halves], axis=0), atol=1e-6)
    unbiased = np.mean([h.var((0, 1, 2), ddof=0) * 36 / 35 for h in halves], axis=0)
    np.testing.assert_allclose(after["var"], 0.9 + 0.1 * unbiased, rtol=1e-5)


def test_how_to_compute_reaches_every_layer_of_a_network():
    block, compute = ResidualBlock(4, 8, stride=2, rng=np.random.default_rng(0)), Compute(precision="highest")
    assert block.skip is not None
    configure(block, compute, batch_norm_groups=3)
    assert [block.bn1.groups, block.bn2.groups, block.skip.bn.groups] == [3, 3, 3]
    assert [block.conv1.compute, block.conv2.compute, block.skip.conv.compute] == [compute] * 3
    assert Conv(4, 8, 3, rng=None).compute == Compute()  # it is this network that is configured


def test_bfloat16_inputs_are_computed_in_bfloat16_with_float32_weights_gradients_and_statistics():
    """The result is that of float32 within bfloat16's three digits, and is not the same."""
    apply, params, state = functional(ResidualBlock(8, 16, stride=2, rng=np.random.default_rng(0)))
    x = np.random.default_rng(1).standard_normal((2, 16, 16, 8)).astype(np.float32)

    def total(params, x):
        y, after = apply(params, state, x, train=True)
        return jnp.sum(y.astype(jnp.float32) ** 2), (y, after)

    gradient = jax.jit(jax.grad(total, has_aux=True))
    grads, (y, after) = gradient(params, x)
    half_grads, (half, half_after) = gradient(params, jnp.asarray(x, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((half_grads, half_after))} == {jnp.dtype("float32")}
    assert 0 < np.abs(half.astype(np.float32) - y).max() < 0.03 * np.abs(y).max()
    for one, other in zip(jax.tree.leaves((grads, after)), jax.tree.leaves((half_grads, half_after)), strict=True):
        assert np.abs(one - other).max() < 0.03 * np.abs(one).max()


@pytest.mark.parametrize(
    ("layer", "weight", "expected"),
    [
        (Conv(4, 6, 3, rng=None), "w3", "conv_s1_p1"),
        (Conv(4, 6, 3, stride=2, rng=None), "w3", "conv_s2_p1"),
        (Conv(4, 5, 7, stride=2, rng=None), "w7", "conv7_s2_p3"),
        (DepthwiseConv(4, stride=2, rng=None), "wdw", "conv_dw_s2_p1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_convolutions_match_the_original(golden, layer, weight, expected):
    g = golden("ops/primitives.npz")
    layer.kernel.set_value(jnp.asarray(kernel_from_torch(g[weight])))
    np.testing.assert_allclose(jax.jit(layer)(nhwc(g["x"])), nhwc(g[expected]), rtol=1e-5, atol=1e-5)


def test_up_sampling_matches_the_original(golden):
    g = golden("ops/primitives.npz")
    x = jnp.asarray(nhwc(g["x"]))
    np.testing.assert_array_equal(Nearest(4, rng=None)(x), nhwc(g["nearest2"]))
    up = ConvTranspose(4, rng=None)
    kernel, bias = kernel_from_torch(g["wt4"]), g["bt4"]  # recorded for 3 channels out of 4; the last again as a fourth
    up.kernel.set_value(jnp.asarray(np.concatenate([kernel, kernel[:, :, 2:]], axis=2)))
    assert up.bias is not None
    up.bias.set_value(jnp.asarray(np.append(bias, bias[2])))
    np.testing.assert_allclose(jax.jit(up)(x)[..., :3], nhwc(g["convT_k4_s2_p1"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (Conv(20, 50, 3, bias=True, rng=np.random.default_rng(0)), 180),
        (DepthwiseConv(400, rng=np.random.default_rng(0)), 9),
        (ConvTranspose(30, rng=np.random.default_rng(0)), 480),
    ],
    ids=lambda value: type(value).__name__,
)
def test_initial_values_are_pytorchs(layer, fan_in):
    bound = 1 / np.sqrt(fan_in)
    kernel = layer.kernel[...]
    assert kernel.dtype == np.float32
    assert np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.05)
    if bias := getattr(layer, "bias", None):
        assert 0.7 * bound < np.abs(bias[...]).max() <= bound


def test_residual_skip_has_weights_only_where_the_shape_changes():
    assert ResidualBlock(8, 8, rng=None).skip is None
    assert ResidualBlock(8, 8, stride=2, rng=None).skip is not None
    assert ResidualBlock(8, 16, rng=None).skip is not None
