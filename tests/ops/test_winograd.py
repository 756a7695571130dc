"""Winograd's products against convolutions in float64."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.ops import convolution, winograd

SHAPES = [  # of a batch and the channels of the output; bands of at most 12 tiles in these tests
    ((1, 1, 1, 1), 1),
    ((0, 4, 6, 3), 2),
    ((2, 4, 4, 3), 5),
    ((1, 7, 8, 4), 3),  # rows of an odd number
    ((3, 9, 5, 2), 2),  # more images than a band has tiles; bands of one row
    ((1, 16, 6, 3), 4),  # 24 tiles: two bands
    ((1, 14, 6, 3), 4),  # 21 tiles: bands that do not divide the map
]
WIDE = (1, 16, 17, 96), 96  # the least that `conv` gives them


def arrays(shape, cout, dtype=np.float32):
    rng = np.random.default_rng(0)
    sizes = shape, (3, 3, shape[3], cout), (*shape[:3], cout)
    return [rng.standard_normal(size).astype(dtype) for size in sizes]


def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def true_values(x, kernel, g):
    """The output and both gradients, in float64."""
    with jax.enable_x64(True):
        y, vjp = jax.vjp(plain, *(jnp.asarray(array, jnp.float64) for array in (x, kernel)))
        return [np.asarray(value) for value in (y, *vjp(jnp.asarray(g, jnp.float64)))]


@pytest.mark.parametrize(("shape", "cout"), SHAPES, ids=str)
def test_values_and_gradients_are_those_of_a_convolution(monkeypatch, shape, cout):
    monkeypatch.setattr(winograd, "TILES", 12)
    jax.clear_caches()  # the number is read while tracing
    x, kernel, g = arrays(shape, cout)
    ours = winograd.winograd(x, kernel), *winograd.winograd_gradient(x, kernel, g)
    jax.clear_caches()
    for found, true in zip(ours, true_values(x, kernel, g), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, true, rtol=0, atol=2e-6 * max(1.0, float(np.abs(true).max(initial=0))))


def test_wide_convolutions_are_off_by_rounding_only():
    """Of 864 products summed in another order, and of differences of inputs, as many digits are left as XLA has."""
    x, kernel, g = arrays(*WIDE)
    y, vjp = jax.vjp(convolution.conv, x, kernel)
    for found, true in zip((y, *vjp(g)), true_values(x, kernel, g), strict=True):
        assert np.abs(found - true).max() < 2e-6 * np.abs(true).max()


@pytest.mark.parametrize("other", ["precision", "stride", "bfloat16", "narrow", "small", "1x1"])
def test_other_convolutions_are_xla_s(other):
    x, kernel, _ = arrays(*WIDE)
    x, kernel = {"narrow": (x[..., :95], kernel[:, :, :95]), "small": (x[:, :15], kernel)}.get(other, (x, kernel))
    if other == "bfloat16":
        x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    if other == "1x1":
        kernel = kernel[:1, :1]
    precision, stride = jax.lax.Precision.HIGHEST if other == "precision" else None, 2 if other == "stride" else 1
    run = jax.jit(lambda x, kernel: convolution.conv(x, kernel, stride=stride, precision=precision))
    text = run.lower(x, kernel).as_text()
    assert "stablehlo.convolution" in text
    assert "stablehlo.dot_general" not in text


@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
def test_only_cpus_take_them(gradient):
    x, kernel, g = arrays(*WIDE)

    def program(platform):
        run = jax.jit(
            lambda x, kernel: jax.vjp(convolution.conv, x, kernel)[1](g) if gradient else convolution.conv(x, kernel)
        )
        return jax.export.export(run, platforms=[platform])(x, kernel).mlir_module()

    for platform in ("tpu", "cuda"):
        assert "stablehlo.convolution" in program(platform)
        assert "stablehlo.dot_general" not in program(platform)
    assert "stablehlo.dot_general" in program("cpu")
    assert "stablehlo.convolution" not in program("cpu")
