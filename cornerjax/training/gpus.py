"""What GPUs can do at best: the public numbers of their maker, and how to compile for those that are not there.

Source: NVIDIA's data sheets, https://www.nvidia.com/en-us/data-center/ a100 (80GB SXM), h100 and h200 (SXM); November
2026. FLOP/s of tensor cores are those without sparsity, half of what the two newer sheets give. A GB of memory is taken
for 10^9 bytes; the driver shows some more, and CUDA itself needs some.
"""

import contextlib
import dataclasses
import os
from importlib.util import find_spec
from typing import ClassVar, NamedTuple

import jax
from jax.experimental import topologies

from cornerjax.config import Compute
from cornerjax.errors import InputError
from cornerjax.text import short

PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
ALL_REDUCE_S = 10e-6  # assumed: the GPUs of a node add a few numbers up, with the start of the kernel that does it
# In the form that XLA reads; the limits that all of these GPUs share are those of the CUDA programming guide.
_TARGET = """
    platform_name: "CUDA"
    device_description_str: "{gpu.full_name}"
    runtime_version {{ major: 13 }}
    dnn_version_info {{ major: 9 minor: 10 }}
    gpu_device_info {{
      cuda_compute_capability {{ major: {gpu.capability} minor: 0 }}
      core_count: {gpu.multiprocessors} fpus_per_core: {gpu.lanes} clock_rate_ghz: {gpu.clock_ghz}
      threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
      registers_per_block_limit: 65536 registers_per_core_limit: 65536
      shared_memory_per_block: 49152 shared_memory_per_block_optin: {optin} shared_memory_per_core: {gpu.shared_bytes}
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      l2_cache_size: {gpu.l2_bytes}
      memory_bandwidth: {gpu.hbm_bytes_s:.0f} device_memory_size: {gpu.hbm_bytes:.0f}
    }}
"""


FRACTION, OLD_FRACTION = "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"  # names in the environment
MOST_FRACTION = 0.92  # as benchmarks/accelerator.py runs with: CUDA and cuDNN need some, too


def memory_fraction() -> float:
    """The share of a GPU's memory that JAX takes.

    Raises: InputError: the environment says what is no share.
    """
    name = FRACTION if os.environ.get(FRACTION) else OLD_FRACTION
    given = os.environ.get(name) or "0.75"  # XLA's default
    with contextlib.suppress(ValueError):
        if 0 < (fraction := float(given)) <= 1:
            return fraction
    raise InputError(f"{name} is {short(given)}; accepted is a number above 0 and up to 1")


class Gpu(NamedTuple):
    """One GPU with the FLOP/s of each way to multiply; `link_bytes_s` is one direction of all its NVLinks."""

    full_name: str
    bfloat16: float
    tf32: float
    float32: float
    hbm_bytes: float
    hbm_bytes_s: float
    link_bytes_s: float
    capability: int
    multiprocessors: int
    lanes: int  # of a multiprocessor, float32
    clock_ghz: float
    shared_bytes: int  # of a multiprocessor
    l2_bytes: int

    @property
    def usable_bytes(self) -> float:
        """Of the memory, what JAX takes; the rest is for the driver, and for others."""
        return self.hbm_bytes * memory_fraction()

    def peak(self, compute: Compute) -> tuple[float, str]:
        """FLOP/s of convolutions computed so, and the type that their factors have."""
        if compute.dtype == "bfloat16":
            return self.bfloat16, "bfloat16"
        return (self.float32, "float32") if compute.precision == "highest" else (self.tf32, "TF32")


_A100 = Gpu(
    "NVIDIA A100-SXM4-80GB",
    bfloat16=312e12,
    tf32=156e12,
    float32=19.5e12,
    hbm_bytes=80e9,
    hbm_bytes_s=2039e9,
    link_bytes_s=300e9,
    capability=8,
    multiprocessors=108,
    lanes=64,
    clock_ghz=1.41,
    shared_bytes=167936,
    l2_bytes=40 * 2**20,
)
_H100 = Gpu(
    "NVIDIA H100 80GB HBM3",
    bfloat16=989e12,
    tf32=494e12,
    float32=67e12,
    hbm_bytes=80e9,
    hbm_bytes_s=3350e9,
    link_bytes_s=450e9,
    capability=9,
    multiprocessors=132,
    lanes=128,
    clock_ghz=1.98,
    shared_bytes=233472,
    l2_bytes=50 * 2**20,
)
GPUS = {
    "a100": _A100,
    "h100": _H100,
    "h200": _H100._replace(full_name="NVIDIA H200", hbm_bytes=141e9, hbm_bytes_s=4800e9),
}
SIZES = (1, 2, 4, 8)  # of nodes


@dataclasses.dataclass(frozen=True)
class Node:
    """The GPUs of one computer, each joined to all others over a switch."""

    name: str  # "h100:8"
    chip: Gpu
    size: int

    kind: ClassVar[str] = "node"
    unit: ClassVar[str] = "GPU"
    link: ClassVar[str] = "NVLink"
    more: ClassVar[str] = "more GPUs, up to 8"

    @property
    def shape(self) -> str:
        """What follows the colon of the name."""
        return str(self.size)

    @property
    def sent_bytes_s(self) -> float:
        """What a GPU can send to the others."""
        return self.chip.link_bytes_s

    @property
    def latency_s(self) -> float:
        """What the smallest all-reduce takes."""
        return ALL_REDUCE_S if self.size > 1 else 0.0

    def others(self) -> "list[Node]":
        """Usual nodes of the same GPU."""
        return [Node(f"{self.name.partition(':')[0]}:{size}", self.chip, size) for size in SIZES]


def can_compile() -> bool:
    """Whether JAX's CUDA plugin is installed here; a GPU need not be."""
    return any(map(find_spec, PLUGINS))


def devices_of(node: Node) -> list[jax.Device]:
    """The GPUs of a node, to compile for; none of them need be there."""
    shape = {"topology_name": "", "topology": f"1x1x{node.size}"}
    return list(topologies.get_topology_desc(platform="cuda", target_config=target_of(node.chip), **shape).devices)


def target_of(gpu: Gpu) -> str:
    """The description of a GPU that XLA compiles for."""
    return _TARGET.format(gpu=gpu, optin=gpu.shared_bytes - 1024)
