"""The machines that a plan can be made for, by name: slices of TPUs and nodes of GPUs."""

import re

import jax
from jax.sharding import AxisType, Mesh

from cornerjax.errors import InputError
from cornerjax.training import chips, gpus
from cornerjax.training.chips import CHIPS, Slice
from cornerjax.training.gpus import GPUS, SIZES, Node

Topology = Slice | Node


def parse_topology(name: str) -> Topology:
    """The machine that a name such as v5e:16x16 or h100:8 means.

    Raises: InputError: it is no such name.
    """
    kind, _, shape = name.partition(":")
    if kind in CHIPS and re.fullmatch(r"\d+(x\d+){1,2}", shape):
        return Slice(name, CHIPS[kind], tuple(map(int, shape.split("x"))))
    if kind in GPUS and re.fullmatch(r"[1-9]\d*", shape):
        if int(shape) > max(SIZES):
            raise InputError(f"topology {name} is more than one node; accepted are {kind}:1 to {kind}:{max(SIZES)}")
        return Node(name, GPUS[kind], int(shape))
    known = [f"{generation}:{chip.slices[1]}" for generation, chip in CHIPS.items()]
    known += [f"{gpu}:{max(SIZES)}" for gpu in GPUS]
    raise InputError(f"no topology {name!r}; accepted are names such as {', '.join(known)}")


def mesh_of(topology: Topology) -> Mesh:
    """The mesh of training over a machine; its devices are there to compile for only.

    Raises: InputError: as of chips.devices_of.
    """
    devices = gpus.devices_of(topology) if isinstance(topology, Node) else chips.devices_of(topology)
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def larger(topology: Topology) -> list[str]:
    """Names of those with more memory, of the same maker."""
    family: dict = GPUS if isinstance(topology, Node) else CHIPS
    return [name for name, chip in family.items() if chip.hbm_bytes > topology.chip.hbm_bytes]
