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
    # On CPUs the transposed form has a gradient of its own, which sums up in another order than JAX's.
    chosen_atol = 1e-5 if op == "transpose" else 1e-6
    for a, b, c in zip(*value_and_gradients(op, stride, x, kernel), strict=True):  # chosen, for CPUs, for others
        np.testing.assert_allclose(b, c, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=chosen_atol)


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


CONVS = [  # side of the kernel, stride, channels, rows and columns of the input
    (1, 1, 5, 3, (7, 6)),
    (1, 2, 5, 3, (7, 6)),
    (3, 1, 96, 97, (17, 16)),
    (3, 2, 97, 96, (33, 31)),
    (3, 1, 97, 96, (15, 16)),
    (3, 1, 4, 3, (17, 16)),
    (7, 2, 3, 4, (7, 6)),
]


def plain(x, kernel, stride):
    pad = ((kernel.shape[0] // 2,) * 2,) * 2
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv_arrays(side, cin, cout, size):
    rng = np.random.default_rng(0)
    shapes = (2, *size, cin), (side, side, cin, cout)
    return [jnp.asarray(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]


@pytest.mark.parametrize(("side", "stride", "cin", "cout", "size"), CONVS)
def test_a_convolution_is_xla_s(side, stride, cin, cout, size):
    x, kernel = conv_arrays(side, cin, cout, size)
    f = functools.partial(jax.jit, static_argnums=(0, 1))(
        lambda form, stride, x, kernel: _value_and_gradients(form, stride, x, kernel)
    )
    ours = f(lambda x, k, stride: convolution.conv(x, k, stride=stride), stride, x, kernel)
    theirs = f(plain, stride, x, kernel)
    if (side, stride) == (3, 1) and cin * cout >= 96 * 96 and size[0] >= 16:  # by other products: test_winograd.py
        np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=3e-6 * float(jnp.abs(theirs[0]).max()))
    else:
        np.testing.assert_array_equal(ours[0], theirs[0])
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        # Sums of up to 870 products in another order: what rounding leaves goes with the largest, not with each.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-6 * float(jnp.abs(b).max()))
    low = [array.astype(jnp.bfloat16) for array in (x, kernel)]
    _, vjp = jax.vjp(lambda x, k: convolution.conv(x, k, stride=stride), *low)
    g = jnp.ones(theirs[0].shape, jnp.bfloat16)
    _, wide = jax.vjp(lambda x, k: plain(x, k, stride), *(array.astype(jnp.float32) for array in low))
    for a, b in zip(vjp(g), wide(g.astype(jnp.float32)), strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=0.02, atol=0.02 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
@pytest.mark.parametrize(("side", "stride", "cin", "cout", "size"), CONVS)
def test_kernel_gradients_are_products_of_matrices_on_cpus_only(platform, side, stride, cin, cout, size):
    x, kernel = conv_arrays(side, cin, cout, size)

    @jax.jit
    def f(x, kernel):
        y, vjp = jax.vjp(lambda kernel: convolution.conv(x, kernel, stride=stride), kernel)
        return vjp(y)

    text = jax.export.export(f, platforms=[platform])(x, kernel).mlir_module()
    wide = side == 1 or (cin >= 96 and size[0] > 15)
    assert ("stablehlo.dot_general" in text) == (wide and platform == "cpu")
