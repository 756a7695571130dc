"""Where arrays live: one mesh axis "data" over all devices; the state whole on each, a batch split over them."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cornerjax.config import InputError


def data_mesh() -> Mesh:
    """All devices of all hosts, along the axis "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def whole(mesh: Mesh) -> NamedSharding:
    """A copy of the whole array on every device."""
    return NamedSharding(mesh, P())


def split(mesh: Mesh) -> NamedSharding:
    """The rows of the array divided over the devices."""
    return NamedSharding(mesh, P("data"))


def check_batch(batch: int, mesh: Mesh) -> None:
    """Raises: InputError: the global batch is not a positive multiple of the number of devices."""
    if batch < 1 or batch % mesh.size:
        raise InputError(f"data.batch is {batch}; it must be a positive multiple of the {mesh.size} devices")


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Make global arrays of the rows that each host brings."""
    return {name: jax.make_array_from_process_local_data(split(mesh), rows) for name, rows in batch.items()}
