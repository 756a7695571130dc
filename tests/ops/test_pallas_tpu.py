"""The numbers of the TPU kernels, in Pallas' interpreter; tests/aot compiles them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cornerjax.ops.running_max import pallas_tpu
from cornerjax.ops.running_max.reference import gradient_reference, running_max_reference

pytestmark = pytest.mark.usefixtures("few_rows")

DIRECTIONS = pytest.mark.parametrize(("axis", "reverse"), [(1, False), (1, True), (2, False), (2, True)])
# In the interpreter, which takes long: make test has tests/ops/test_running_max.py; make test-kernels has these, too.
INTERPRETED = pytest.mark.slow
REVERSE = pytest.mark.parametrize("reverse", [False, True])
SMALL = (2, 3, 7, 3)
MANY_BLOCKS = (1, 7, 72, 2)  # two blocks of 4 rows, one of them padding; three of 24 columns


@functools.partial(jax.jit, static_argnames=("axis", "reverse"))
def pull_back(x, g, *, axis, reverse):
    """y and the gradient for x."""
    y, marks = pallas_tpu.marked(x, axis, reverse, interpret=True)
    return y, pallas_tpu.gradient(marks, g, axis, reverse, interpret=True)


@functools.partial(jax.jit, static_argnames="reverse")
def corner_pull_back(x1, x2, g, *, reverse):
    """y and the gradients for x1 and x2."""
    y, marks = pallas_tpu.corner_marked(x1, x2, reverse, interpret=True)
    return y, *pallas_tpu.corner_gradient(marks, g, reverse, interpret=True)


def example(shape, count=2):
    """Maps with ties, and a gradient."""
    rng = np.random.default_rng(0)
    maps = np.round(rng.standard_normal((count - 1, *shape)), 1).astype(np.float32)
    return *maps, rng.standard_normal(shape).astype(np.float32)


@DIRECTIONS
@pytest.mark.parametrize("shape", [SMALL, MANY_BLOCKS])
def test_running_maximum_and_gradient_match_the_reference(shape, axis, reverse):
    x, g = example(shape)
    y, dx = pull_back(x, g, axis=axis, reverse=reverse)
    np.testing.assert_array_equal(y, running_max_reference(x, axis, reverse))
    np.testing.assert_array_equal(pallas_tpu.forward(jnp.asarray(x), axis, reverse, interpret=True), y)
    np.testing.assert_allclose(dx, gradient_reference(x, g, axis, reverse), atol=1e-5)


@INTERPRETED
@pytest.mark.parametrize(("axis", "reverse"), [(1, False), (2, True)])
def test_all_32_bits_of_a_word_are_used(monkeypatch, axis, reverse):
    monkeypatch.undo()
    x, g = example((1, 32, 8, 1))
    y, dx = pull_back(x, g, axis=axis, reverse=reverse)
    np.testing.assert_array_equal(y, running_max_reference(x, axis, reverse))
    np.testing.assert_allclose(dx, gradient_reference(x, g, axis, reverse), atol=1e-5)


@INTERPRETED
@REVERSE
@pytest.mark.parametrize("shape", [SMALL, MANY_BLOCKS, (1, 3, 9, 130)])  # 130 channels: two tiles of lanes
def test_corner_pooling_and_its_gradients_match_the_reference(shape, reverse):
    x1, x2, g = example(shape, 3)
    y, d1, d2 = corner_pull_back(x1, x2, g, reverse=reverse)
    np.testing.assert_array_equal(y, running_max_reference(x1, 1, reverse) + running_max_reference(x2, 2, reverse))
    np.testing.assert_array_equal(
        pallas_tpu.corner_forward(jnp.asarray(x1), jnp.asarray(x2), reverse, interpret=True), y
    )
    np.testing.assert_allclose(d1, gradient_reference(x1, g, 1, reverse), atol=1e-5)
    np.testing.assert_allclose(d2, gradient_reference(x2, g, 2, reverse), atol=1e-5)


@REVERSE
@pytest.mark.parametrize(("shape", "axis"), [((3, 6), 0), ((3, 6), 1), ((5,), 0), ((2, 3, 4, 2), 0), ((2, 3, 4, 5), 3)])
def test_any_axis_of_any_rank_is_scanned(shape, axis, reverse):
    x, g = example(shape)
    y, dx = pull_back(x, g, axis=axis, reverse=reverse)
    np.testing.assert_array_equal(y, running_max_reference(x, axis, reverse))
    expected = gradient_reference(x.reshape(*shape, 1), g.reshape(*shape, 1), axis, reverse).reshape(shape)
    np.testing.assert_allclose(dx, expected, atol=1e-5)


@DIRECTIONS
def test_minus_infinity_is_a_value_and_nan_stays(axis, reverse):
    rows = [[-np.inf, -np.inf, 1, -np.inf, np.nan, 3], [-np.inf] * 6, [np.nan] + [2.0] * 5]
    x = np.array(rows, np.float32)[None, :, :, None]
    x = x.swapaxes(1, 2) if axis == 1 else x
    g = np.arange(1, 19, dtype=np.float32).reshape(x.shape)
    y, dx = pull_back(x, g, axis=axis, reverse=reverse)
    np.testing.assert_array_equal(y, running_max_reference(x, axis, reverse))
    # Nothing exceeds a NaN: in y, unlike in x, nothing but NaN follows it.
    np.testing.assert_array_equal(dx, gradient_reference(np.asarray(y), g, axis, reverse))
    np.testing.assert_array_equal(np.sum(dx, axis), g.sum(axis))  # with NaN no gradient is lost either


@DIRECTIONS
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_broken_gradient_stays_in_its_own_segment(axis, reverse, value):
    x, g = example(SMALL)
    g[0, 2, 3, 1] = value
    dx = pull_back(x, g, axis=axis, reverse=reverse)[1]
    np.testing.assert_allclose(dx, gradient_reference(x, g, axis, reverse), atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_its_type_and_sums_the_gradient_in_float32(dtype, axis):
    x, g = (jnp.asarray(a, dtype) for a in example((1, 20, 6, 3) if axis == 1 else (1, 6, 20, 3)))
    y, dx = pull_back(x, g, axis=axis, reverse=True)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(y, running_max_reference(np.asarray(x), axis, True))
    exact = gradient_reference(np.asarray(x, np.float32), np.asarray(g, np.float32), axis, True)
    np.testing.assert_allclose(np.asarray(dx, np.float32), exact, rtol=float(jnp.finfo(dtype).eps) / 2, atol=1e-6)


@INTERPRETED
@REVERSE
def test_corner_pooling_in_bfloat16_rounds_once(reverse):
    x1, x2, g = (jnp.asarray(a, jnp.bfloat16) for a in example((1, 4, 40, 2), 3))
    y, d1, d2 = corner_pull_back(x1, x2, g, reverse=reverse)
    pools = (running_max_reference(np.asarray(x), axis, reverse).astype(np.float32) for axis, x in ((1, x1), (2, x2)))
    np.testing.assert_array_equal(y, jnp.asarray(sum(pools), jnp.bfloat16))
    for axis, x, dx in ((1, x1, d1), (2, x2, d2)):
        exact = gradient_reference(np.asarray(x, np.float32), np.asarray(g, np.float32), axis, reverse)
        np.testing.assert_allclose(np.asarray(dx, np.float32), exact, rtol=2**-8, atol=1e-6)


def test_vmap_equals_a_larger_array():
    x, g = example((2, 3, 6, 4))
    y, dx = jax.vmap(functools.partial(pull_back, axis=0, reverse=True))(x, g)
    np.testing.assert_array_equal(y, running_max_reference(x, 1, True))
    np.testing.assert_allclose(dx, gradient_reference(x, g, 1, True), atol=1e-5)
    twice = functools.partial(corner_pull_back, reverse=True)
    corner = jax.vmap(twice)(x[None], x[None], g[None])
    np.testing.assert_array_equal(corner[0][0], twice(x, x, g)[0])
    np.testing.assert_array_equal(corner[2][0], twice(x, x, g)[2])


@pytest.mark.parametrize("side", [64, 128])
def test_marks_are_one_bit_an_element_and_usual_maps_are_not_copied(monkeypatch, side):
    monkeypatch.undo()
    x = jax.ShapeDtypeStruct((2, side, side, 256), jnp.float32)
    marked = functools.partial(pallas_tpu.corner_marked, reverse=False)
    program, (_, marks) = jax.make_jaxpr(marked, return_shape=True)(x, x)
    assert marks.dtype == jnp.int32
    assert 32 * marks.size == 2 * x.size
    assert [equation.primitive.name for equation in program.eqns] == ["pallas_call"]
