"""The TPU kernels and the ops without kernels, compiled by the real compiler for TPUs that are not there."""

import functools
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from cornerjax.ops import RISING_SUMS, aggregate_edges, deformable_conv
from cornerjax.ops.quadruples import Points, group_quadruples
from cornerjax.ops.running_max import pallas_tpu

pytestmark = pytest.mark.tpu_aot
LIBRARY = Path(__file__).parents[2] / ".libtpu/libtpu/libtpu.so"
TOPOLOGIES = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
GENERATION = pytest.mark.parametrize("generation", TOPOLOGIES)
DTYPE = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
SHAPE = pytest.mark.parametrize("shape", [(4, 128, 128, 128), (4, 64, 64, 128)], ids=["128", "64"])
FREE = {"parameter", "bitcast", "tuple", "get-tuple-element"}


@pytest.fixture(scope="module", autouse=True)
def libtpu():
    if not LIBRARY.exists() and "TPU_LIBRARY_PATH" not in os.environ:
        pytest.skip("no libtpu: make tpu-aot installs one")
    os.environ.setdefault("TPU_LIBRARY_PATH", str(LIBRARY))
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")


def compiled(function, generation, *shapes):
    device = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[generation]).devices[0]
    here = SingleDeviceSharding(device)
    arguments = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), shapes)
    return jax.jit(function).lower(*arguments).compile()


def kernels(axis):
    """The functions of an axis, or of corner pooling, for maps, for maps and marks, and back."""
    if axis is None:
        corner = (pallas_tpu.corner_forward, pallas_tpu.corner_marked, pallas_tpu.corner_gradient)
        return [functools.partial(function, reverse=True) for function in corner]
    along = (pallas_tpu.forward, pallas_tpu.marked, pallas_tpu.gradient)
    return [functools.partial(function, axis=axis, reverse=True) for function in along]


def arguments(axis, shape, dtype):
    """The arguments of each of `kernels`."""
    x = jax.ShapeDtypeStruct(shape, dtype)
    maps = (x, x) if axis is None else (x,)
    return maps, maps, (jax.eval_shape(kernels(axis)[1], *maps)[1], x)


def opcodes(executable) -> list[str]:
    entry = executable.as_text().split("\nENTRY ")[1].split("\n}")[0]
    found = [re.search(r" ([a-z][a-z0-9-]*)\(", line) for line in entry.splitlines()[1:]]
    assert all(found)
    return [operation[1] for operation in found if operation]


def nbytes(tree) -> int:
    return sum(int(np.prod(a.shape)) * jnp.dtype(a.dtype).itemsize for a in jax.tree.leaves(tree))


@GENERATION
@DTYPE
@SHAPE
@pytest.mark.parametrize("axis", [1, 2, None], ids=["h", "w", "corner"])
def test_each_kernel_compiles_and_nothing_else_moves_memory(generation, dtype, shape, axis):
    for function, given in zip(kernels(axis), arguments(axis, shape, dtype), strict=True):
        executable = compiled(function, generation, *given)
        assert set(opcodes(executable)) <= {"custom-call", *FREE}, f"{function.func.__name__} has copies around it"
        assert opcodes(executable).count("custom-call") == 1
        assert executable.memory_analysis().temp_size_in_bytes == 0
        moved = nbytes(given) + nbytes(jax.eval_shape(function, *given))
        assert executable.cost_analysis()["bytes accessed"] == moved


@pytest.mark.parametrize("generation", ["v4", "v6e"])  # the smallest VMEM, and the newest
@DTYPE
@pytest.mark.parametrize("shape", [(1, 1, 7, 3), (2, 33, 200, 130)], ids=str)
def test_unusual_sizes_compile(generation, dtype, shape):
    for axis in (1, 2, None):
        for function, given in zip(kernels(axis), arguments(axis, shape, dtype), strict=True):
            compiled(function, generation, *given)


def test_the_last_axis_compiles():
    for function, given in zip(kernels(3), arguments(3, (2, 8, 8, 128), jnp.float32), strict=True):
        compiled(function, "v5e", *given)


def test_float16_compiles_by_way_of_float32():
    for function, given in zip(kernels(None), arguments(None, (1, 64, 64, 128), jnp.float16), strict=True):
        compiled(function, "v5e", *given)


def loss_of_deformable(*arrays):
    return deformable_conv(*arrays).astype(jnp.float32).sum()


@pytest.mark.parametrize("generation", ["v5e", "v6e"])
@DTYPE
def test_a_deformable_convolution_compiles_and_keeps_no_map_of_all_samples(generation, dtype):
    shape = (4, 64, 64, 128)
    x, kernel = jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct((3, 3, 128, 128), dtype)
    offsets, mask = (jax.ShapeDtypeStruct((*shape[:3], taps), jnp.float32) for taps in (18, 9))
    for function in (deformable_conv, jax.grad(loss_of_deformable, argnums=(0, 1, 2, 3))):
        executable = compiled(function, generation, x, offsets, mask, kernel)
        assert executable.memory_analysis().temp_size_in_bytes < 9 * 4 * nbytes(x)  # four cells a sample


@pytest.mark.parametrize("generation", ["v5e", "v6e"])
def test_extreme_points_are_grouped_in_little_memory(generation):
    """Sixteen mirrored images with 40 points of each kind."""
    kind = jax.eval_shape(
        lambda: Points(jnp.zeros((32, 40, 2), jnp.int32), jnp.zeros((32, 40)), jnp.zeros((32, 40), jnp.int32))
    )

    def group(top, left, bottom, right, heat):
        return group_quadruples((top, left, bottom, right), heat, num=1000, floor=0.1, centre_floor=0.1)

    executable = compiled(group, generation, *[kind] * 4, jax.ShapeDtypeStruct((32, 128, 128, 80), jnp.float32))
    assert executable.memory_analysis().temp_size_in_bytes < 400e6


@pytest.mark.parametrize("generation", ["v5e", "v6e"])
@pytest.mark.parametrize("implementation", RISING_SUMS)
def test_edge_aggregation_compiles(generation, implementation):
    x = jax.ShapeDtypeStruct((2, 128, 128, 80), jnp.float32)
    for axis in (1, 2):
        compiled(functools.partial(aggregate_edges, axis=axis, implementation=implementation), generation, x)
