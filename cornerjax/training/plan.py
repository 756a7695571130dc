"""What a recipe needs on TPUs or GPUs that are not there, per chip and step: memory, work, what they tell each other.

The whole training step is compiled for them, or counted where there is no compiler for GPUs. From either come floors:
times that no run can beat, except that bytes by count are estimates.
"""

import math
import re
import time
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from cornerjax.config import Config
from cornerjax.training import gpus, hlo
from cornerjax.training.count import count
from cornerjax.training.gpus import Node
from cornerjax.training.mesh import data_mesh
from cornerjax.training.setup import abstract_step, check_batch
from cornerjax.training.step import TrainState
from cornerjax.training.topology import Topology, mesh_of

GB = 1e9
ORIGINS = ("BatchNorm", "gradients", "the rest")
JOINED = 8  # gradients that XLA joins to a vector for GPUs are at least so many times as long as a bias


class Step(NamedTuple):
    """What one chip does and holds in one step."""

    state: int  # bytes of weights and optimiser
    batch: int  # bytes
    temporary: int
    output: int  # bytes that do not reuse the state's
    program: int
    flops: float
    hbm: float  # bytes that pass between the chip and its main memory
    accessed: float | None  # bytes by XLA's count, which takes in a TPU's vector memory; it has none for GPUs
    groups: dict[str, list[hlo.Collective]]  # by origin
    unknown_loops: tuple[str, ...]
    counted: bool  # from the jaxpr; otherwise read in the compiled program
    seconds: float  # that it took

    @property
    def peak(self) -> int:
        """Bytes while it runs; the next batch is there already."""
        return self.state + 2 * self.batch + self.temporary + self.output + self.program


class TooLargeError(Exception):
    """The step does not fit into a chip's memory; the message says what it needs."""


def step_of(config: Config, topology: Topology) -> Step:
    """Compile the training step of a recipe for chips that need not be there, or count where nothing can compile it.

    Raises: InputError: the recipe and the topology do not go together, or there is no libtpu.
        TooLargeError: it does not fit into the memory.
    """
    counted = isinstance(topology, Node) and not gpus.can_compile()
    begun = time.monotonic()
    step = (count_step if counted else compile_step)(config, topology)
    if step.peak > topology.chip.usable_bytes:
        raise TooLargeError(f"{'By count' if counted else 'Compiled'} it needs {step.peak / GB:.1f} GB.")
    return step._replace(seconds=time.monotonic() - begun)


def compile_step(config: Config, topology: Topology) -> Step:
    """The step as XLA compiles it.

    Raises: as of step_of.
    """
    train_step, state, batch = abstract_step(config, mesh_of(topology))
    traced = train_step.trace(state, batch)
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TooLargeError(f"XLA: {_said(str(error))}") from None
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    assert memory is not None
    assert text is not None
    program = hlo.read_program(text)
    rows = _nbytes(batch) // topology.size
    return Step(
        state=memory.argument_size_in_bytes - rows,
        batch=rows,
        temporary=memory.temp_size_in_bytes,
        output=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        flops=cost["flops"] * hlo.loop_factor(program) if cost else count(traced.jaxpr).flops / topology.size,
        hbm=hlo.hbm_bytes(program),
        accessed=cost["bytes accessed"] if cost else None,
        groups=group(hlo.collectives(program, topology.size), {np.shape(x) for x in jax.tree.leaves(state.params)}),
        unknown_loops=program.unknown,
        counted=False,
        seconds=0.0,
    )


def count_step(config: Config, topology: Topology) -> Step:
    """The step by count: that of one device with its share of the batch, and the sums over all devices.

    Raises: InputError: the recipe and the topology do not go together.
    """
    check_batch(config, topology.size)
    train_step, state, batch = abstract_step(_share(config, topology.size), data_mesh(jax.devices()[:1]))
    found = count(train_step.trace(state, batch).jaxpr)
    return Step(
        state=_nbytes(state),
        batch=_nbytes(batch),
        temporary=found.temporary,
        output=0,
        program=0,
        flops=found.flops,
        hbm=found.moved,
        accessed=None,
        groups=sums_of(state, config, topology.size),
        unknown_loops=found.unknown_loops,
        counted=True,
        seconds=0.0,
    )


def _share(config: Config, devices: int) -> Config:
    """The recipe of one device, with the BatchNorm groups that it has images of."""
    parts = config.optim.accumulate
    groups = parts * max(1, config.optim.batch_norm_groups // parts // devices)
    optim = replace(config.optim, batch_norm_groups=groups)
    return replace(config, optim=optim, data=replace(config.data, batch=config.data.batch // devices))


def sums_of(state: TrainState, config: Config, devices: int) -> dict[str, list[hlo.Collective]]:
    """What a step adds up over the devices, by origin: all gradients at once, and for each BatchNorm four vectors.

    Forwards one for the mean and then one for the variance, backwards two together, as XLA does for TPUs.
    """
    parts = config.optim.accumulate
    groups = max(1, config.optim.batch_norm_groups // parts)  # of a part of the batch
    together = max(1, devices // groups)

    def summed(arrays: Any, over: int) -> list[hlo.Collective]:
        shapes = tuple(x.shape for x in jax.tree.leaves(arrays))
        return [hlo.Collective("all-reduce", shapes, _nbytes(arrays), over, parts, "")] if over > 1 else []

    means = [x for path, x in jax.tree.leaves_with_path(state.model_state) if path[-1].key == "mean"]
    statistics = [one for mean in means for arrays in (mean, mean, [mean] * 2) for one in summed(arrays, together)]
    return {"BatchNorm": statistics, "gradients": summed(state.params, devices), "the rest": []}


def group(collectives: list[hlo.Collective], shapes: set[tuple[int, ...]]) -> dict[str, list[hlo.Collective]]:
    """Sort collectives by what they are for: a name of ORIGINS each.

    XLA merges sums and names the result after one of them, so what has a kernel in it are gradients, and so is what it
    joined to a long vector for GPUs. Other vectors alone in the backward pass are BatchNorm's: the gradients of its
    statistics, scale and bias.

    Args:
        shapes: of the parameters.
    """
    kernels = {_significant(shape) for shape in shapes if len(_significant(shape)) > 1}
    joined = JOINED * max(math.prod(shape) for shape in shapes if _significant(shape) not in kernels)

    def origin(collective: hlo.Collective) -> str:
        sides = [_significant(shape) for shape in collective.shapes]
        if any(side in kernels or math.prod(side) > joined for side in sides):
            return "gradients"
        backward = "transpose(" in collective.origin and all(len(side) == 1 for side in sides)
        return "BatchNorm" if backward or "batch_norm" in collective.origin else "the rest"

    found: dict[str, list[hlo.Collective]] = {name: [] for name in ORIGINS}
    for collective in collectives:
        found[origin(collective)].append(collective)
    return found


def _significant(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(side for side in shape if side > 1))


def _nbytes(arrays: Any) -> int:
    return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(arrays))


def _said(error: str) -> str:
    """Of XLA's pages on what is in memory, the sentence with the amounts."""
    sentence = re.search(r"(Used [\d.]+\w of [\d.]+\w hbm[^\n]*|the total memory required[^\n]*)", error)
    return sentence[1] if sentence else error.splitlines()[0]
