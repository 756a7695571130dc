"""The GPU kernels and the deformable convolution, compiled by XLA and ptxas for a GPU that is not there."""

import functools
import importlib
import importlib.util
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, SingleDeviceSharding

from cornerjax.ops import aggregate_edges, deformable_conv
from cornerjax.ops.quadruples import Points, group_quadruples
from cornerjax.training.gpus import GPUS
from cornerjax.training.topology import mesh_of, parse_topology

pytestmark = [
    pytest.mark.cuda_aot,
    pytest.mark.skipif(not importlib.util.find_spec("jax_cuda13_plugin"), reason="no CUDA plugin: make cuda-aot"),
    pytest.mark.skipif(jax.__version_info__ < (0, 12), reason=f"needs jax 0.12, this is {jax.__version__}"),
    pytest.mark.filterwarnings("ignore:.*Triton:DeprecationWarning"),
]
CALLS = {"pallas_triton": "__gpu$xla.gpu.triton", "pallas_mosaic_gpu": "mosaic_gpu_v2"}
SHAPE = (2, 128, 128, 128)


@pytest.fixture(scope="module")
def here():
    return SingleDeviceSharding(mesh_of(parse_topology("h100:1")).devices[0])


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """Pallas asks the mesh what it lowers for; Mosaic prints what ptxas reports."""
    from jax.sharding import AbstractDevice  # not in every JAX

    monkeypatch.setenv("MOSAIC_GPU_DUMP_PTXAS", "1")
    device = AbstractDevice(GPUS["h100"].full_name, GPUS["h100"].multiprocessors, "gpu")
    with jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=device)):
        yield


def compiled(function, here, arguments):
    lowered = jax.jit(function, in_shardings=here, out_shardings=here).trace(*arguments)
    # For Triton; Mosaic runs a ptxas of its own, which takes no notice.
    strict = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}
    return lowered.lower(lowering_platforms=("cuda",)).compile(strict)


def kernel(file, name, axis):
    function = getattr(importlib.import_module(f"cornerjax.ops.running_max.{file}"), name)
    return functools.partial(function, reverse=True, **({} if axis is None else {"axis": axis}))


@pytest.mark.parametrize("file", CALLS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("axis", [1, 2, None], ids=["h", "w", "corner"])
@pytest.mark.parametrize("name", ["forward", "marked", "gradient"])
def test_each_kernel_is_one_call_of_machine_code_without_spills(here, capfd, file, dtype, axis, name):
    x = jax.ShapeDtypeStruct(SHAPE, dtype)
    prefix, maps = ("corner_", (x, x)) if axis is None else ("", (x,))
    marks = jax.eval_shape(kernel(file, prefix + "marked", axis), *maps)[1]
    executable = compiled(kernel(file, prefix + name, axis), here, (marks, x) if name == "gradient" else maps)
    assert re.findall(r'custom_call_target="([^"]*)"', executable.as_text()) == [CALLS[file]]
    assert b"\x7fELF" in executable.runtime_executable().serialize()
    if file == "pallas_mosaic_gpu":
        report = capfd.readouterr().out
        assert "for 'sm_90a'" in report
        assert set(re.findall(r"(\d+) bytes spill", report)) == {"0"}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_a_deformable_convolution_compiles_and_keeps_no_map_of_all_samples(here, dtype):
    x, kernel = jax.ShapeDtypeStruct(SHAPE, dtype), jax.ShapeDtypeStruct((3, 3, 128, 128), dtype)
    offsets, mask = (jax.ShapeDtypeStruct((*SHAPE[:3], taps), jnp.float32) for taps in (18, 9))

    def loss(*arrays):
        return deformable_conv(*arrays).astype(jnp.float32).sum()

    for function in (deformable_conv, jax.grad(loss, argnums=(0, 1, 2, 3))):
        executable = compiled(function, here, (x, offsets, mask, kernel))
        assert executable.memory_analysis().temp_size_in_bytes < 9 * 4 * x.size * x.dtype.itemsize  # 4 cells a sample


def test_extreme_points_are_grouped_in_little_memory(here):
    """Sixteen mirrored images with 40 points of each kind."""
    kind = jax.eval_shape(
        lambda: Points(jnp.zeros((32, 40, 2), jnp.int32), jnp.zeros((32, 40)), jnp.zeros((32, 40), jnp.int32))
    )

    def group(top, left, bottom, right, heat):
        return group_quadruples((top, left, bottom, right), heat, num=1000, floor=0.1, centre_floor=0.1)

    executable = compiled(group, here, (*[kind] * 4, jax.ShapeDtypeStruct((32, 128, 128, 80), jnp.float32)))
    assert executable.memory_analysis().temp_size_in_bytes < 400e6


def test_edge_aggregation_compiles(here):
    """In the form that is taken on GPUs; the mesh of these tests is explicit, which the loop's updates do not take."""
    heat = jax.ShapeDtypeStruct((2, 128, 128, 80), jnp.float32)
    for axis in (1, 2):
        compiled(functools.partial(aggregate_edges, axis=axis, implementation="scan"), here, (heat,))
