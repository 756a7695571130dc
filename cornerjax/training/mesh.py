"""Where arrays live: one mesh axis "data" over all devices; the state whole on each, a batch split over them."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices of all hosts, or those given, along the axis "data"."""
    # Those of a host follow each other, as the rows do that it reads; ids alone do not promise that on TPU slices.
    in_order = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(in_order), ("data",), axis_types=(AxisType.Auto,))


def whole(mesh: Mesh) -> NamedSharding:
    """A copy of the whole array on every device."""
    return NamedSharding(mesh, P())


def split(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
    """The rows of the array, or what else `axis` counts, divided over the devices."""
    return NamedSharding(mesh, P(*[None] * axis, "data"))


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Make global arrays of the rows that each host brings."""
    return {name: jax.make_array_from_process_local_data(split(mesh), rows) for name, rows in batch.items()}
