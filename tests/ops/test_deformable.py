"""Deformable convolution against recordings of the original and against ordinary convolutions."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cornerjax import ops
from cornerjax.ops.deformable import deformable_conv


def nhwc(array):
    return array.transpose(0, 2, 3, 1)


def hwio(array):
    return array.transpose(2, 3, 1, 0)


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_forward_and_gradients_match_the_original(golden, case):
    """Places inside, outside and on the border; with stride 2, and with dilation 2."""
    recorded = {key[3:]: value for key, value in golden("ops/dcn_v2.npz").items() if key.startswith(case)}
    stride, padding, dilation = recorded["stride_pad_dil"].tolist()

    @jax.jit
    def f(*given, bias):
        return deformable_conv(*given, stride=stride, padding=padding, dilation=dilation) + bias

    given = *(nhwc(recorded[name]) for name in ("x", "offset", "mask")), hwio(recorded["weight"])
    y, pull_back = jax.vjp(lambda *given: f(*given[:-1], bias=given[-1]), *given, recorded["bias"])
    near = partial(np.testing.assert_allclose, atol=5e-6)
    near(y, nhwc(recorded["y"]))
    x, offsets, mask, kernel, bias = pull_back(jnp.asarray(nhwc(recorded["g"])))
    near(x, nhwc(recorded["gx"]))
    near(offsets, nhwc(recorded["goffset"]))
    near(mask, nhwc(recorded["gmask"]))
    near(kernel, hwio(recorded["gweight"]))
    near(bias, recorded["gbias"])


def arrays(shape=(2, 7, 6, 3), cout=4, dtype=np.float32):
    rng = np.random.default_rng(0)
    b, h, w, c = shape
    draw = lambda *sizes: jnp.asarray(rng.standard_normal(sizes), dtype)  # noqa: E731
    return draw(*shape), draw(b, h, w, 18), draw(b, h, w, 9), draw(3, 3, c, cout)


def ordinary(x, kernel, **options):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def test_without_offsets_it_is_an_ordinary_convolution_times_the_mask():
    x, offsets, mask, kernel = arrays()
    found = deformable_conv(x, 0 * offsets, jnp.full_like(mask, 0.5), kernel)
    np.testing.assert_allclose(found, ordinary(x, kernel) / 2, atol=1e-5)


def test_places_on_the_border_have_no_gradient_of_their_own():
    """As in the original, whose map ends at -1: a network's first offsets are 0, so that its first steps have many."""
    x, offsets, mask, kernel = arrays()

    def total(offsets):
        return (deformable_conv(x, offsets, mask, kernel) ** 2).sum()

    slopes = np.asarray(jax.grad(total)(0 * offsets)).reshape(2, 7, 6, 3, 3, 2)
    outside = np.zeros(slopes.shape[1:-1], bool)
    outside[0, :, 0], outside[-1, :, 2], outside[:, 0, :, 0], outside[:, -1, :, 2] = True, True, True, True
    assert (slopes[:, outside] == 0).all()
    assert (slopes[:, ~outside] != 0).all()


def test_whole_offsets_move_the_map():
    x, offsets, mask, kernel = arrays()
    down = jnp.tile(jnp.array([1.0, 0.0]), 9) + 0 * offsets
    moved = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))[:, 1:]
    found = deformable_conv(x, down, jnp.ones_like(mask), kernel)
    # In the first row the taps above the map see the map's first row now; padding would not show it.
    np.testing.assert_allclose(found[:, 1:], ordinary(moved, kernel)[:, 1:], atol=1e-5)


@pytest.mark.parametrize("far", [1e3, -1e3, np.inf, -np.inf])
def test_outside_the_map_there_are_zeros(far):
    x, offsets, mask, kernel = arrays()
    y, pull_back = jax.vjp(deformable_conv, x, offsets + far, mask, kernel)
    assert not y.any()
    assert not any(np.asarray(slope).any() for slope in pull_back(jnp.ones_like(y)))


def test_a_place_that_is_no_number_spoils_only_what_looks_there():
    x, offsets, mask, kernel = arrays()
    found = deformable_conv(x, offsets.at[0, 2, 3, 4].set(jnp.nan), mask, kernel)
    broken = np.asarray(jnp.isnan(found).any(-1))
    assert broken.sum() == 1
    assert broken[0, 2, 3]


def test_in_bfloat16_places_keep_their_digits():
    """Of a map of 300 columns, whose numbers bfloat16 cannot tell apart."""
    x, offsets, mask, kernel = arrays((1, 3, 300, 2), dtype=jnp.bfloat16)
    found = deformable_conv(x, offsets, mask, kernel)
    assert found.dtype == jnp.bfloat16
    wide = deformable_conv(*(value.astype(jnp.float32) for value in (x, offsets, mask, kernel)))
    np.testing.assert_allclose(found.astype(jnp.float32), wide, atol=0.2, rtol=0.02)


def slopes(x, offsets, mask, kernel, upstream):
    return jax.vjp(deformable_conv, x, offsets, mask, kernel)[1](upstream)


def test_gradients_in_bfloat16_are_near_those_in_float32():
    """Within 1 %: each rounding to bfloat16 is one of 0.2 %, and the map's gradient is a sum of rounded parts.

    Were places rounded too, of a map of 300 columns, the gradients would be those of other cells.
    """
    given = (*arrays((1, 3, 300, 2), dtype=jnp.bfloat16), jnp.ones((1, 3, 300, 4), jnp.bfloat16))
    narrow, wide = slopes(*given), slopes(*(value.astype(jnp.float32) for value in given))
    for ours, exact in zip(narrow, wide, strict=True):
        assert ours.dtype == jnp.bfloat16
        assert np.linalg.norm(ours.astype(jnp.float32) - exact) < 0.01 * np.linalg.norm(exact)


def test_vmap_of_the_gradient_equals_a_loop():
    """Of images and of kernels: a vmap over both."""
    x, offsets, mask, kernel = arrays((3, 7, 6, 3))
    upstream = jnp.asarray(np.random.default_rng(1).standard_normal((3, 1, 7, 6, 4)), jnp.float32)
    given = x[:, None], offsets[:, None], mask[:, None], jnp.stack([kernel, 2 * kernel, -kernel]), upstream
    together = jax.vmap(slopes)(*given)
    for i in range(3):
        alone = slopes(*(value[i] for value in given))
        for ours, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[i], expected, atol=1e-5)


def test_vmap_equals_a_larger_batch():
    x, offsets, mask, kernel = arrays()
    together = deformable_conv(x, offsets, mask, kernel)
    each = jax.vmap(lambda x, offsets, mask: deformable_conv(x[None], offsets[None], mask[None], kernel)[0])
    one = each(x, offsets, mask)
    np.testing.assert_allclose(one, together, atol=1e-6)


def test_shapes_that_do_not_fit_are_refused():
    x, offsets, mask, kernel = arrays()
    with pytest.raises(ValueError, match=r"offsets and mask have the shapes .* expected \(2, 7, 6, 18\) and"):
        ops.deformable_conv(x, mask, offsets, kernel)


OVER_DEVICES = """
import jax, jax.numpy as jnp
from cornerjax import ops
from cornerjax.training.mesh import data_mesh, split
mesh = data_mesh()
x, offsets, mask = (jax.device_put(jnp.ones((8, 8, 8, c)), split(mesh)) for c in (4, 18, 9))
kernel = jnp.ones((3, 3, 4, 4))
loss = lambda x, offsets, mask: (ops.deformable_conv(x, offsets, mask, kernel) ** 2).sum()
text = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(x, offsets, mask).compile().as_text()
print([name for name in ("all-", "collective-", "reduce-scatter") if name in text])
"""


def test_devices_convolve_their_own_part_of_a_batch_without_a_collective():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run([sys.executable, "-c", OVER_DEVICES], env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
