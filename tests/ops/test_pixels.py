"""Colour work against the recorded numbers of CornerNet-Lite, and host against device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.ops import pixels


@pytest.fixture(scope="module")
def color(golden):
    return golden("augment/color.npz")


def test_constants(color):
    for ours, recorded in [("MEAN", "mean"), ("STD", "std"), ("EIGEN_VALUES", "eig_val"), ("EIGEN_VECTORS", "eig_vec")]:
        np.testing.assert_array_equal(getattr(pixels, ours), color[recorded])


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_each_step_matches_the_original(color, case, xp):
    order = xp.asarray(color[f"jit{case}_order"].astype(np.int32))
    offsets = xp.asarray(color[f"jit{case}_alpha_f64"].astype(np.float32))
    weights = xp.asarray(color[f"light{case}_alpha_f64"].astype(np.float32))
    image = xp.asarray(color["image"].astype(np.float32) / 255)
    image = pixels.jitter_colours(image, order, offsets, xp)
    np.testing.assert_allclose(image, color[f"jit{case}_out"], atol=1e-6)
    image = pixels.add_lighting(image, weights)
    np.testing.assert_allclose(image, color[f"light{case}_out"], atol=1e-6)
    np.testing.assert_allclose(pixels.normalise(image), color[f"norm{case}_out"], atol=5e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_finish_image_is_all_steps_on_host_and_device(color, flip):
    order = color["jit0_order"].astype(np.int32)
    offsets, weights = (color[f"{name}0_alpha_f64"].astype(np.float32) for name in ("jit", "light"))
    image = color["image"].copy()
    want = color["norm0_out"][:, ::-1] if flip else color["norm0_out"]
    host = pixels.finish_image(image, flip, order, offsets, weights, np)
    device = jax.jit(functools.partial(pixels.finish_image, xp=jnp))(image, jnp.asarray(flip), order, offsets, weights)
    np.testing.assert_allclose(host, want, atol=5e-6)
    np.testing.assert_allclose(host, device, atol=1e-5)
    assert isinstance(host, np.ndarray)
    assert host.flags.c_contiguous
    assert host.dtype == device.dtype == np.float32
    np.testing.assert_array_equal(image, color["image"])  # the caller's image is left alone
