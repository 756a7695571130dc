"""Work divided over the devices of a process and over processes, in parts that need nothing of each other."""

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

T = TypeVar("T")


def local_copies(tree: T) -> T:
    """The same arrays on every device of this process, ready for `over_devices`; with one device, as they are.

    Args:
        tree: arrays of this process, or whole on all devices of all processes.
    """
    mesh = Mesh(np.array(jax.local_devices()), ("data",))

    def copy(array: Any) -> jax.Array:
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            parts = {shard.device: shard.data for shard in array.addressable_shards}
            array = jax.make_array_from_single_device_arrays(
                array.shape, NamedSharding(mesh, P()), [parts[device] for device in mesh.devices.flat]
            )
        return array.addressable_data(0) if mesh.size == 1 else jax.device_put(array, NamedSharding(mesh, P()))

    return tree if jax.device_count() == 1 else jax.tree.map(copy, tree)


def on_first(tree: T) -> T:
    """The same arrays on one device of this process: those that lie on several, as of local_copies, on the first."""
    return tree if _mesh(tree) is None else jax.tree.map(lambda array: array.addressable_data(0), tree)


def for_rows(tree: T, rows: int) -> T:
    """The arrays on all their devices if these can divide so many rows equally, or else on the first."""
    return on_first(tree) if rows % copies(tree) else tree


def beside(tree: object, array: T) -> T:
    """The array, whole, on every device that the first array of a tree lies on."""
    mesh = _mesh(tree)
    return jax.device_put(array, None if mesh is None else NamedSharding(mesh, P()))


def over_devices(function: Callable, *, whole: int) -> Callable:
    """Compile a function of rows; each device that holds the first argument works on rows of its own.

    Nothing is exchanged, so loops that end early do so on each device by itself.

    Args:
        function: (*arguments) -> tree; row i of all it returns depends on row i of the arguments only.
        whole: the first so many arguments have no rows and are needed on all devices.
    """
    plain = jax.jit(function)
    if jax.local_device_count() == 1:
        return plain

    @partial(jax.jit, static_argnums=0)
    def divided(mesh: Mesh, *args: object) -> Any:
        specs = (P(),) * whole + (P("data"),) * (len(args) - whole)
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P("data"), check_vma=False)(*args)

    def call(*args: object) -> Any:
        mesh = _mesh(args[0])
        return plain(*args) if mesh is None else divided(mesh, *args)

    return call


def copies(tree: object) -> int:
    """Over how many devices functions of `over_devices` divide their rows, given this first argument."""
    mesh = _mesh(tree)
    return 1 if mesh is None else mesh.size


def _mesh(tree: object) -> Mesh | None:
    """The devices that arrays lie on, if several."""
    for leaf in jax.tree.leaves(tree)[:1]:
        mesh = leaf.sharding.mesh if isinstance(getattr(leaf, "sharding", None), NamedSharding) else None
        return mesh if isinstance(mesh, Mesh) and mesh.size > 1 else None
    return None


def share(items: Sequence[T]) -> list[T]:
    """The items that this process takes; every one is taken by one process."""
    return list(items[jax.process_index() :: jax.process_count()])


def of_first(value: bool) -> bool:
    """The answer of the first process, for questions that each would answer for itself; all must come here."""
    return gather(value)[0]


def by_first(work: Callable[[], T]) -> T:
    """Let the first process do something for all; what it returns or raises, all do. All must come here."""
    outcome: Any = None
    if jax.process_index() == 0:
        try:
            outcome = work()
        except Exception as e:
            outcome = e
    outcome = gather(outcome)[0]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def gather(value: T) -> list[T]:
    """What each process gives here, in their order; all must come here."""
    if jax.process_count() == 1:
        return [value]
    mine = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(mine.size, np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: mine.size] = mine
    everyone = multihost_utils.process_allgather(padded)
    return [pickle.loads(part[:size].tobytes()) for part, size in zip(everyone, sizes, strict=True)]
