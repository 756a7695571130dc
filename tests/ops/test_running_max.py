import functools
import os
import subprocess
import sys

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cornerjax import ops
from cornerjax.ops.running_max import IMPLEMENTATIONS, runnable, running_max
from cornerjax.ops.running_max.reference import gradient_reference, running_max_reference

pytestmark = pytest.mark.usefixtures("few_rows")

EVERY = pytest.mark.parametrize("implementation", sorted(runnable()))
DIRECTIONS = pytest.mark.parametrize(("axis", "reverse"), [(1, False), (1, True), (2, False), (2, True)])
POOLS = {"top": ops.top_pool, "bottom": ops.bottom_pool, "left": ops.left_pool, "right": ops.right_pool}


def pull_back_uncompiled(f, x, g, **static):
    """f's result and its gradient for x."""
    y, vjp = jax.vjp(lambda x: f(x, **static), x)
    return y, vjp(g)[0]


pull_back = jax.jit(pull_back_uncompiled, static_argnums=0, static_argnames=("axis", "reverse", "implementation"))


def example(shape=(2, 9, 7, 5)):
    rng = np.random.default_rng(0)
    x = np.round(rng.standard_normal(shape), 1).astype(np.float32)  # rounded: has ties
    return x, rng.standard_normal(shape).astype(np.float32)


@EVERY
@DIRECTIONS
def test_forward_and_gradient_match_the_reference(implementation, axis, reverse):
    x, g = example()
    y, dx = pull_back(running_max, x, g, axis=axis, reverse=reverse, implementation=implementation)
    np.testing.assert_array_equal(y, running_max_reference(x, axis, reverse))
    np.testing.assert_allclose(dx, gradient_reference(x, g, axis, reverse), atol=1e-5)


@EVERY
@pytest.mark.parametrize("name", POOLS)
def test_pools_match_the_original(golden, implementation, name):
    recorded = golden("ops/corner_pools.npz")
    nhwc = lambda key: recorded[key].transpose(0, 2, 3, 1)  # noqa: E731
    for case in sorted({key[:-2] for key in recorded if key.endswith("_x")}):  # "_tie" cases have equal maxima
        y, dx = pull_back(POOLS[name], nhwc(f"{case}_x"), nhwc(f"{case}_g"), implementation=implementation)
        expected = nhwc(f"{case}_{name}_gx")
        np.testing.assert_array_equal(y, nhwc(f"{case}_{name}_y"))
        np.testing.assert_array_equal(np.asarray(dx) == 0, expected == 0)
        np.testing.assert_allclose(dx, expected, atol=1e-5)


@EVERY
@pytest.mark.parametrize("reverse", [False, True])
def test_minus_infinity_and_nan(implementation, reverse):
    x = np.array([[-np.inf, -np.inf, 1, -np.inf, np.nan, 3], [-np.inf] * 6, [np.nan] + [2.0] * 5], np.float32)
    g = np.arange(18, dtype=np.float32).reshape(3, 6)
    y, dx = pull_back(running_max, x, g, axis=1, reverse=reverse, implementation=implementation)
    np.testing.assert_array_equal(y, running_max_reference(x, 1, reverse))
    whole = np.zeros(6, np.float32)
    whole[-1 if reverse else 0] = g[1].sum()
    np.testing.assert_array_equal(dx[1], whole)  # the first element of a scan is a record even when it is -inf
    np.testing.assert_array_equal(np.sum(dx, axis=1), g.sum(1))  # no gradient is lost, with NaN neither


@EVERY
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_its_type_and_sums_the_gradient_in_float32(implementation, dtype):
    g = jnp.asarray(example((1, 15, 64))[1], dtype)
    # Compiled as a whole, XLA may keep float32 between operations of its own accord.
    y, dx = pull_back_uncompiled(running_max, jnp.zeros_like(g), g, axis=1, implementation=implementation)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(dx[0, 0], g[0].astype(jnp.float32).sum(0).astype(dtype))
    assert not np.any(np.asarray(dx[0, 1:], np.float32))


@EVERY
@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 0, 4, 3), (2, 1, 4, 3)])
def test_empty_and_one_element_axes_pass_through(implementation, shape):
    x, g = example(shape)
    y, dx = pull_back(running_max, x, g, axis=1, reverse=True, implementation=implementation)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, g)


@EVERY
def test_vmap_equals_a_larger_array(implementation):
    x, g = example((2, 3, 6, 4))

    run = functools.partial(pull_back, running_max, axis=0, reverse=True, implementation=implementation)
    y, dx = jax.vmap(jax.vmap(run))(x, g)
    np.testing.assert_array_equal(y, running_max_reference(x, 2, True))
    np.testing.assert_allclose(dx, gradient_reference(x, g, 2, True), atol=1e-5)


@EVERY
@pytest.mark.parametrize("shape", [(16, 16, 300, 8), (8, 64, 64, 64), (3, 5, 2100, 1)])
def test_long_axes_and_maps_larger_than_a_cache_match_the_reference(implementation, shape):
    if implementation == "pallas":
        pytest.skip("interpreted kernels take minutes; tests/ops/test_pallas_tpu.py has their sizes")
    x, g = example(shape)
    y, dx = pull_back(running_max, x, g, axis=2, implementation=implementation)
    np.testing.assert_array_equal(y, running_max_reference(x, 2, False))
    starts = np.diff(np.asarray(y), axis=2, prepend=-np.inf) > 0
    np.testing.assert_array_equal(np.asarray(dx) != 0, starts)
    np.testing.assert_allclose(np.sum(dx, axis=2), g.sum(2), atol=1e-3)  # no gradient is lost


@EVERY
@pytest.mark.parametrize("corner", ["tl", "br"])
def test_a_corner_is_the_sum_of_its_two_pools(implementation, corner):
    (x1, g), (x2, _) = example((2, 9, 7, 5)), example((2, 7, 9, 5))
    x2 = x2.transpose(0, 2, 1, 3)
    pool = functools.partial(ops.corner_pool, corner=corner, implementation=implementation)
    y, vjp = jax.vjp(jax.jit(pool), x1, x2)
    reverse = corner == "tl"
    np.testing.assert_array_equal(y, running_max_reference(x1, 1, reverse) + running_max_reference(x2, 2, reverse))
    d1, d2 = vjp(g)
    np.testing.assert_allclose(d1, gradient_reference(x1, g, 1, reverse), atol=1e-5)
    np.testing.assert_allclose(d2, gradient_reference(x2, g, 2, reverse), atol=1e-5)
    np.testing.assert_array_equal(jax.vmap(pool)(x1[None], x2[None])[0], y)
    assert pool(jnp.asarray(x1[:0]), jnp.asarray(x2[:0])).shape == (0, 9, 7, 5)


def test_a_corner_of_maps_that_do_not_go_together_is_refused():
    x = jnp.zeros((1, 4, 4, 2))
    with pytest.raises(ValueError, match=r"no corner 'tr'; there are: tl, br"):
        ops.corner_pool(x, x, "tr")
    with pytest.raises(ValueError, match=r"one shape and type .* float32\(1, 4, 4, 2\) and float32\(1, 2, 4, 2\)"):
        ops.corner_pool(x, x[:, :2], "tl")
    with pytest.raises(ValueError, match=r"float32\(1, 4, 4, 2\) and bfloat16"):
        ops.corner_pool(x, x.astype(jnp.bfloat16), "tl")


OVER_DEVICES = """
import jax, numpy as np
from cornerjax import ops
from cornerjax.ops.running_max import pallas_tpu
from cornerjax.training.mesh import data_mesh, split
pallas_tpu.WORD = 4  # as few_rows
mesh = data_mesh()
# Larger than the loop's pieces; of integers, whose sums are exact.
x = np.random.default_rng(0).integers(-9, 9, (8, 64, 64, 64)).astype(np.float32)
for implementation in ops.runnable():
    def pooled(x1, x2):
        y = ops.corner_pool(x1, x2, "br", implementation=implementation)
        return (y * y).sum()

    @jax.jit
    def gradients(x1, x2):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.grad(pooled, argnums=(0, 1))(x1, x2)

    rows = jax.device_put(x, split(mesh))
    program = gradients.lower(rows, rows).compile()
    text = program.as_text()
    assert not any(name in text for name in ("all-", "collective-", "reduce-scatter")), implementation
    if implementation == "loop":
        expected = [np.asarray(a) for a in program(rows, rows)]
    if implementation == "pallas":
        for a, b in zip(program(rows, rows), expected):
            assert a.sharding.is_equivalent_to(rows.sharding, 4)
            np.testing.assert_array_equal(np.asarray(a), b)
            print("equal")
"""


def test_devices_pool_their_own_part_of_a_batch_without_a_collective():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run([sys.executable, "-c", OVER_DEVICES], env=environment, capture_output=True, text=True)
    assert done.stdout == "equal\nequal\n", done.stderr


def test_a_kernel_that_cannot_run_here_is_refused_with_those_that_can():
    with pytest.raises(
        ValueError, match=r"pallas_triton runs on gpu; on cpu there are: auto, cummax, loop, pallas, scan"
    ):
        running_max(jnp.zeros((1, 2)), 1, False, "pallas_triton")
    assert set(IMPLEMENTATIONS) - set(runnable()) == {"pallas_triton", "pallas_mosaic_gpu"}


def test_auto_is_the_loop_on_a_cpu_and_the_scan_elsewhere():
    def exported(implementation, platform):
        f = jax.jit(lambda x: running_max(x, 1, False, implementation))
        shape = jax.ShapeDtypeStruct((1, 8, 64, 32), jnp.float32)
        return jax.export.export(f, platforms=[platform])(shape).mlir_module()

    assert "while" in exported("auto", "cpu")
    assert "while" not in exported("auto", "tpu")


# Few values, so that most maxima are tied; a few shapes, since each is compiled anew.
SHAPES = [(1, 2), (2, 1), (3, 9), (17, 33)]
VALUES = st.sampled_from([-np.inf, -1.5, 0.0, 0.0, 1.0, 3.0, np.inf, np.nan])


@EVERY
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_whatever_the_values_forward_and_gradient_are_those_of_the_reference(implementation, data):
    shape = (*data.draw(st.sampled_from(SHAPES)), 2)
    axis, reverse = data.draw(st.integers(0, 1)), data.draw(st.booleans())
    x = data.draw(arrays(np.float32, shape, elements=VALUES))
    g = data.draw(arrays(np.float32, shape, elements=st.integers(-8, 8).map(float)))  # sums are exact
    y, dx = pull_back(running_max, x[None], g[None], axis=axis + 1, reverse=reverse, implementation=implementation)
    np.testing.assert_array_equal(y[0], running_max_reference(x, axis, reverse))
    np.testing.assert_array_equal(dx[0], gradient_reference(x, g, axis, reverse))


def test_unknown_names_and_axes_are_refused():
    x = jnp.zeros((1, 2, 2, 1))
    with pytest.raises(ValueError, match=r"'sacn'.*auto, cummax, loop, pallas, scan"):
        running_max(x, 1, False, "sacn")
    with pytest.raises(ValueError, match="'sacn'"):
        ops.top_pool(x, implementation="sacn")
    with pytest.raises(ValueError, match="axis 4"):
        running_max(x, 4)
