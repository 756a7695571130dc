"""What TPUs can do at best: the public numbers of their makers, and what it costs to add arrays up over a slice.

Source: https://docs.cloud.google.com/tpu/docs/ v4, v5e, v5p and v6e, "System architecture"; read in November 2026.
"""

import dataclasses
import math
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
from jax.experimental import topologies

from cornerjax.config import Compute
from cornerjax.errors import InputError

# Where make tpu-aot puts it. It is none of the current folder, which may be a stranger's: it is code that runs.
LIBRARY = Path(__file__).resolve().parents[2] / ".libtpu/libtpu/libtpu.so"
# No TPU is to be had, so there is none to fight over; and libtpu need not look for one, which it says at length.
LIBTPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}
HOP_S = 1e-6  # assumed: from a chip to the next, a small message


class Chip(NamedTuple):
    """One chip of a generation; a link is one direction of one port."""

    flops: float  # a second, bfloat16
    hbm_bytes: float
    hbm_bytes_s: float
    link_bytes_s: float
    wrapped: int  # an axis of a slice whose length is a multiple of this is closed to a ring
    slices: tuple[str, ...]  # usual ones, of 8 to 256 chips
    options: dict[str, str] = {}  # noqa: RUF012  # of get_topology_desc

    @property
    def usable_bytes(self) -> float:
        """Of the memory, what JAX takes."""
        return float(self.hbm_bytes)

    def peak(self, compute: Compute) -> tuple[float, str]:
        """FLOP/s of convolutions, and the type that their factors have: at any precision passes in bfloat16."""
        return self.flops, "bfloat16"


_FLAT = ("2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
# Links: what the pages give for a chip in both directions, v5e 400, v5p 1200 and v6e 800 GB/s (v4: 2400 Gbit/s in one),
# over its ports, four in a flat torus and six in a cubic one.
CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 50e9, 4, _CUBIC, {"chip_config_name": "megacore"}),
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 50e9, 16, _FLAT),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 100e9, 4, _CUBIC),
    "v6e": Chip(918e12, 32 * 2**30, 1638e9, 100e9, 16, _FLAT),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips joined to a mesh or torus."""

    name: str  # "v5e:16x16"
    chip: Chip
    sides: tuple[int, ...]

    kind: ClassVar[str] = "slice"
    unit: ClassVar[str] = "chip"
    link: ClassVar[str] = "ICI"
    more: ClassVar[str] = "a slice of more chips"

    @property
    def shape(self) -> str:
        """What follows the colon of the name."""
        return "x".join(map(str, self.sides))

    @property
    def size(self) -> int:
        """The number of chips."""
        return math.prod(self.sides)

    @property
    def sent_bytes_s(self) -> float:
        """What a chip can send to its neighbours while all do so in rings: half of its links where an axis is open."""
        return sum(self.chip.link_bytes_s * (2 if self._closed(side) else 1) for side in self.sides if side > 1)

    @property
    def latency_s(self) -> float:
        """What the smallest all-reduce takes: along every axis, once across, both ways at the same time."""
        return sum(HOP_S * (side // 2 if self._closed(side) else side - 1) for side in self.sides)

    def others(self) -> "list[Slice]":
        """Usual slices of the same generation."""
        generation = self.name.partition(":")[0]
        return [
            Slice(f"{generation}:{sides}", self.chip, tuple(map(int, sides.split("x")))) for sides in self.chip.slices
        ]

    def _closed(self, side: int) -> bool:
        return side % self.chip.wrapped == 0


def devices_of(tpus: Slice) -> list[jax.Device]:
    """The devices of a slice, to compile for; none of them is there.

    Raises: InputError: there is no libtpu here, or it knows no such slice.
    """
    if not os.environ.get("TPU_LIBRARY_PATH") and not find_spec("libtpu"):
        if not LIBRARY.is_file():
            raise InputError(f"no {LIBRARY} to compile for TPUs with; make tpu-aot installs it")
        os.environ["TPU_LIBRARY_PATH"] = str(LIBRARY)
    for name, value in LIBTPU.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = dict(tpus.chip.options)
    if tpus.size == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=tpus.name, **options)
    except RuntimeError as error:
        raise InputError(f"topology {tpus.name} cannot be compiled for: {str(error).splitlines()[0]}") from error
    return list(topology.devices)
