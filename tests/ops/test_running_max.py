import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax import ops
from cornerjax.ops.running_max import IMPLEMENTATIONS, running_max
from cornerjax.ops.running_max.reference import gradient_reference, running_max_reference

EVERY = pytest.mark.parametrize("implementation", sorted(IMPLEMENTATIONS))
DIRECTIONS = pytest.mark.parametrize(("axis", "reverse"), [(1, False), (1, True), (2, False), (2, True)])
POOLS = {"top": ops.top_pool, "bottom": ops.bottom_pool, "left": ops.left_pool, "right": ops.right_pool}


@functools.partial(jax.jit, static_argnums=0, static_argnames=("axis", "reverse", "implementation"))
def pull_back(f, x, g, **static):
    """f's result and its gradient for x."""
    y, vjp = jax.vjp(lambda x: f(x, **static), x)
    return y, vjp(g)[0]


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
    run = pull_back.__wrapped__  # not compiled: XLA may keep float32 between operations of its own accord
    y, dx = run(running_max, jnp.zeros_like(g), g, axis=1, implementation=implementation)
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


def test_auto_is_the_loop_on_a_cpu_and_the_scan_elsewhere():
    def exported(implementation, platform):
        f = jax.jit(lambda x: running_max(x, 1, False, implementation))
        shape = jax.ShapeDtypeStruct((1, 8, 8, 2), jnp.float32)
        return jax.export.export(f, platforms=[platform])(shape).mlir_module()

    assert "while" in exported("auto", "cpu")
    assert "while" not in exported("auto", "tpu")


def test_unknown_names_and_axes_are_refused():
    x = jnp.zeros((1, 2, 2, 1))
    with pytest.raises(ValueError, match=r"'sacn'.*auto, loop, scan"):
        running_max(x, 1, False, "sacn")
    with pytest.raises(ValueError, match="'sacn'"):
        ops.top_pool(x, implementation="sacn")
    with pytest.raises(ValueError, match="axis 4"):
        running_max(x, 4)
