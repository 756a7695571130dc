import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.ops import convolution

SHAPES = [(2, 7, 6, 5), (1, 1, 1, 2)]
OPS = {
    "depthwise": (
        lambda x, k, stride: convolution.depthwise_conv(x, k, stride=stride),
        convolution.depthwise_by_shifts,
        convolution.depthwise_by_groups,
    ),
    "transpose": (
        lambda x, k, stride: convolution.conv_transpose(x, k),
        lambda x, k, stride: convolution.transpose_by_phases(x, k),
        lambda x, k, stride: convolution.transpose_by_dilation(x, k),
    ),
}


def arrays(op, shape, seed=0):
    rng = np.random.default_rng(seed)
    kernel = (3, 3, 1, shape[3]) if op == "depthwise" else (4, 4, 6, shape[3])
    return [jnp.asarray(rng.standard_normal(s).astype(np.float32)) for s in (shape, kernel)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def value_and_gradients(op, stride, x, kernel):
    return [_value_and_gradients(form, stride, x, kernel) for form in OPS[op]]


def _value_and_gradients(f, stride, x, kernel):
    y, vjp = jax.vjp(lambda x, kernel: f(x, kernel, stride), x, kernel)
    return y, *vjp(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))


@pytest.mark.parametrize(("op", "stride"), [("depthwise", 1), ("depthwise", 2), ("transpose", 2)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_forms_agree(op, stride, shape):
    x, kernel = arrays(op, shape)
    for a, b, c in zip(*value_and_gradients(op, stride, x, kernel), strict=True):  # chosen, for CPUs, for others
        np.testing.assert_allclose(b, c, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize(("op", "stride"), [("depthwise", 2), ("transpose", 2)])
def test_the_form_is_that_of_the_platform_compiled_for(op, stride, gradient):
    """Grouped and dilated convolutions are what accelerators get, and CPUs do not."""
    x, kernel = arrays(op, SHAPES[0])

    @jax.jit
    def f(x, kernel):
        y, *gradients = _value_and_gradients(OPS[op][0], stride, x, kernel)
        return gradients if gradient else y

    def program(platform):
        return jax.export.export(f, platforms=[platform])(x, kernel).mlir_module()

    group_count = "batch_group_count" if gradient else "feature_group_count"
    mark = f"{group_count} = {x.shape[3]}" if op == "depthwise" else "_dilate = [2, 2]"
    assert mark in program("tpu")
    assert mark in program("cuda")
    assert mark not in program("cpu")
