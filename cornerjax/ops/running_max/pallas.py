"""The Pallas kernels: which of them run here, and on every device of a mesh its own part of the batch."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

# What every file of kernels has, with the number of arguments that are arrays.
ARRAYS = {"forward": 1, "marked": 1, "gradient": 2, "corner_forward": 2, "corner_marked": 2, "corner_gradient": 2}
FUSED_WIDTH = 512  # cells; the corner kernels for GPUs take no wider maps
HOPPER = 9.0  # compute capability from which on the copy engine is there that the Mosaic kernels live on


def platform() -> str:
    """What is compiled for: the devices of the mesh, which need not be there, or this machine's."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def kernels_here() -> str:
    """The file of kernels for the platform; for a CPU the TPU's, which are interpreted there."""
    if platform() != "gpu":
        return "pallas_tpu"
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))  # of AMD's "gfx942", say
    hopper = capability.replace(".", "", 1).isdigit() and float(capability) >= HOPPER
    return "pallas_mosaic_gpu" if hopper else "pallas_triton"


def run(name: str, kernels: str, *args: Any) -> Any:
    """Call a function of an Implementation.

    Args:
        name: a key of ARRAYS.
        kernels: name of the file of kernels beside this one; if empty, the one for this machine's platform.
        args: those of the function.
    """
    # Decided when traced, not when lowered as for "auto": files of kernels differ in the form of their marks.
    # Imported when used: no user of another implementation pays for Pallas, or is stopped by a backend it has lost.
    file = importlib.import_module(f"{__package__}.{kernels or kernels_here()}")
    arrays, static = args[: ARRAYS[name]], args[ARRAYS[name] :]
    interpret = platform() == "cpu"

    def here(*arrays: Any) -> Any:
        return getattr(file, name)(*arrays, *static, interpret=interpret)

    scans_batch = not name.startswith("corner") and static[0] == 0
    batch = jax.tree.leaves(arrays)[-1].shape[0]
    return (here if scans_batch else _on_each_device(here, batch))(*arrays)


def _on_each_device(run: Callable, batch: int) -> Callable:
    """Under a mesh: the function for each device's part of the batch. XLA itself cannot divide a kernel's work."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if kinds.get("data", AxisType.Manual) == AxisType.Manual or batch % mesh.shape["data"]:
        return run
    return jax.shard_map(run, mesh=mesh, in_specs=P("data"), out_specs=P("data"), check_vma=False)
