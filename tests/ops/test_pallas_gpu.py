"""The GPU kernels: their numbers in interpret mode, and that they lower for a GPU that is not there."""

import functools
import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas
from jax.experimental.pallas import mosaic_gpu
from jax.sharding import AbstractDevice, AbstractMesh

from cornerjax.ops.running_max import corner_max
from cornerjax.ops.running_max.reference import gradient_reference, running_max_reference

H200 = AbstractMesh((1,), ("x",), abstract_device=AbstractDevice("NVIDIA H200", 132, "gpu"))
CUSTOM_CALLS = [jax.export.DisabledSafetyCheck.custom_call(name) for name in ("__gpu$xla.gpu.triton", "mosaic_gpu_v2")]


# In the interpreter, which takes long: make test has tests/ops/test_running_max.py; make test-kernels has these, too.
INTERPRETED = pytest.mark.slow


@pytest.fixture(params=["pallas_triton", "pallas_mosaic_gpu"])
def kernels(request):
    if request.param == "pallas_triton":
        pytest.importorskip("jax.experimental.pallas.triton", reason="this JAX has no Triton")
    return importlib.import_module(f"cornerjax.ops.running_max.{request.param}")


def example(shape, dtype, seed=0):
    """Inputs with ties and -inf, and gradients whose sums are exact in float32 and rounded in bfloat16."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(shape) < 0.1, -np.inf, np.round(rng.standard_normal(shape), 1))
    return jnp.asarray(x, dtype), jnp.asarray(rng.integers(-32, 33, shape) / 4, dtype)


def expected(x, g, axis, reverse):
    x, wide = np.asarray(x, np.float32), np.asarray(g, np.float32)
    gradient = jnp.asarray(gradient_reference(x, wide, axis, reverse)).astype(g.dtype)
    return running_max_reference(x, axis, reverse), gradient


def jit(f, **static):
    return jax.jit(functools.partial(f, **static))


# Several words of marks and a part of one; fewer columns than a tile; one step; the last axis.
@INTERPRETED
@pytest.mark.parametrize(
    ("shape", "axis", "reverse", "dtype"),
    [
        ((1, 66, 8), 1, False, jnp.float32),
        ((1, 34, 8), 1, True, jnp.bfloat16),
        ((3, 5, 4, 96), 2, True, jnp.float32),
        ((2, 1, 3), 1, False, jnp.float16),
        ((3, 9), 1, True, jnp.float32),
    ],
)
def test_one_direction_matches_the_reference(kernels, shape, axis, reverse, dtype):
    static = {"axis": axis, "reverse": reverse, "interpret": True}
    x, g = example(shape, dtype)
    y, dx = expected(x, g, axis, reverse)
    np.testing.assert_array_equal(jit(kernels.forward, **static)(x), y.astype(dtype))
    marked, marks = jit(kernels.marked, **static)(x)
    np.testing.assert_array_equal(marked, y.astype(dtype))
    found = jit(kernels.gradient, **static)(marks, g)
    assert marked.dtype == found.dtype == dtype
    np.testing.assert_array_equal(found, dx)


@INTERPRETED
@pytest.mark.parametrize(
    ("shape", "reverse", "dtype"),
    [
        ((2, 5, 20, 3), False, jnp.float32),
        ((1, 4, 20, 33), True, jnp.bfloat16),
        ((1, 2, 130, 4), True, jnp.float32),  # wider than 8 chunks of 16
        ((1, 1, 1, 1), False, jnp.float16),
    ],
)
def test_both_directions_at_once_match_the_reference(kernels, shape, reverse, dtype):
    check_corner(kernels, shape, reverse, dtype, interpret=True)


def check_corner(kernels, shape, reverse, dtype, interpret):
    static = {"reverse": reverse, "interpret": interpret}
    (x1, g), (x2, _) = example(shape, dtype), example(shape, dtype, seed=1)
    (y1, d1), (y2, d2) = expected(x1, g, 1, reverse), expected(x2, g, 2, reverse)
    y = jnp.asarray(y1 + y2).astype(dtype)
    np.testing.assert_array_equal(jit(kernels.corner_forward, **static)(x1, x2), y)
    marked, marks = jit(kernels.corner_marked, **static)(x1, x2)
    np.testing.assert_array_equal(marked, y)
    found = jit(kernels.corner_gradient, **static)(marks, g)
    assert marked.dtype == found[0].dtype == found[1].dtype == dtype
    np.testing.assert_array_equal(found[0], d1)
    np.testing.assert_array_equal(found[1], d2)


@INTERPRETED
@pytest.mark.parametrize("reverse", [False, True])
def test_nan_stays_and_takes_what_follows_from_no_one(kernels, reverse):
    x = np.tile(np.array([1, 2, np.nan, 3, 1, 5, 4, np.nan] * 2, np.float32)[:, None, None], (1, 1, 1, 8))
    g = np.ones_like(x)
    order = range(16)[::-1] if reverse else range(16)
    record = {True: order[0], False: 1}[reverse]  # the first of all, NaN though it may be; else the 2, the last above
    static = {"reverse": reverse, "interpret": True}
    y, marks = jit(kernels.marked, axis=1, **static)(jnp.asarray(x))
    dx = jit(kernels.gradient, axis=1, **static)(marks, jnp.asarray(g))
    np.testing.assert_array_equal(y, running_max_reference(x, 1, reverse))
    assert dx[0, record, 0, 0] == (16 if reverse else 15)
    wide, zeros = x.transpose(0, 2, 1, 3), np.zeros_like(x.transpose(0, 2, 1, 3))
    y, marks = jit(kernels.corner_marked, **static)(jnp.asarray(zeros), jnp.asarray(wide))
    _, d2 = jit(kernels.corner_gradient, **static)(marks, jnp.ones_like(wide))
    np.testing.assert_array_equal(y, running_max_reference(wide, 2, reverse))
    np.testing.assert_array_equal(d2, dx.transpose(0, 2, 1, 3))


@INTERPRETED
def test_vmap_equals_a_larger_array(kernels):
    x, _ = example((2, 3, 6, 8), jnp.float32)
    y = jax.vmap(jit(kernels.forward, axis=1, reverse=True, interpret=True))(x)
    np.testing.assert_array_equal(y, running_max_reference(np.asarray(x), 2, True))


@INTERPRETED
def test_mosaic_copies_and_barriers_are_right_in_the_simulated_gpu():
    if not hasattr(mosaic_gpu, "InterpretGPUParams"):
        pytest.skip("this JAX does not simulate the copy engine")
    kernels = importlib.import_module("cornerjax.ops.running_max.pallas_mosaic_gpu")
    simulated = mosaic_gpu.InterpretGPUParams()
    check_corner(kernels, (1, 5, 20, 32), False, jnp.bfloat16, interpret=simulated)
    static = {"axis": 1, "reverse": True, "interpret": simulated}
    x, g = example((1, 85, 256), jnp.float32)
    y, dx = expected(x, g, 1, True)
    marked, marks = kernels.marked(x, **static)
    np.testing.assert_array_equal(marked, y)
    np.testing.assert_array_equal(kernels.gradient(marks, g, **static), dx)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 128, 128, 128), jnp.float32), ((2, 64, 64, 128), jnp.bfloat16)], ids=["wide", "half"]
)
def test_all_six_lower_for_cuda(kernels, shape, dtype):
    x = jax.ShapeDtypeStruct(shape, dtype)

    def lower(f, *arguments):
        with jax.sharding.use_abstract_mesh(H200):
            exported = jax.export.export(jax.jit(f), platforms=["cuda"], disabled_checks=CUSTOM_CALLS)(*arguments)
        assert exported.mlir_module().count("stablehlo.custom_call") == 1
        return exported.out_avals

    for axis in (1, 2):
        static = {"axis": axis, "reverse": axis == 2}
        lower(functools.partial(kernels.forward, **static), x)
        _, marks = lower(functools.partial(kernels.marked, **static), x)
        lower(functools.partial(kernels.gradient, **static), marks, x)
    lower(functools.partial(kernels.corner_forward, reverse=True), x, x)
    _, marks = lower(functools.partial(kernels.corner_marked, reverse=False), x, x)
    lower(functools.partial(kernels.corner_gradient, reverse=False), marks, x)
    many = jax.ShapeDtypeStruct((3, *shape), dtype)
    lower(jax.vmap(functools.partial(kernels.corner_forward, reverse=True)), many, many)


def test_a_jax_without_triton_is_told_apart(monkeypatch):
    kernels = importlib.import_module("cornerjax.ops.running_max.pallas_triton")
    monkeypatch.delattr(pallas, "triton", raising=False)
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    with pytest.raises(ValueError, match="no Triton"):
        kernels.forward(jnp.zeros((1, 2, 8)), 1, False)


def test_maps_too_wide_for_the_fused_kernels_are_refused(kernels):
    x = jnp.zeros((1, 1, 513, 1))
    with pytest.raises(ValueError, match=r"512.*513"):
        kernels.corner_forward(x, x, False, interpret=True)


def test_maps_too_wide_for_the_fused_kernels_are_pooled_in_one_direction_after_the_other(kernels, monkeypatch):
    pallas_of_ours = importlib.import_module("cornerjax.ops.running_max.pallas")
    monkeypatch.setattr(pallas_of_ours, "kernels_here", lambda: kernels.__name__.rpartition(".")[2])
    (x1, g), (x2, _) = example((1, 2, 513, 1), jnp.float32), example((1, 2, 513, 1), jnp.float32, seed=1)
    (y1, d1), (y2, d2) = expected(x1, g, 1, True), expected(x2, g, 2, True)
    y, pull_back = jax.vjp(functools.partial(corner_max, reverse=True, implementation="pallas"), x1, x2)
    np.testing.assert_array_equal(y, y1 + y2)
    for found, slope in zip(pull_back(g), (d1, d2), strict=True):
        np.testing.assert_array_equal(found, slope)
