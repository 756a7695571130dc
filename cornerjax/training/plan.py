"""What a recipe needs on TPUs that are not there: memory, work and what the chips tell each other, per chip and step.

The whole training step is compiled for them; from the program come floors: times that no run can beat.
"""

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from cornerjax.config import Config
from cornerjax.training import hlo
from cornerjax.training.chips import CHIPS, HOP_S, Slice, devices_of, parse_slice
from cornerjax.training.setup import abstract_step

GB = 1e9
ORIGINS = ("BatchNorm", "gradients", "the rest")
FLOORS = """\
  FLOPs are XLA's, with what it adds to fill the matrix units. Convolutions of float32 maps are one pass in bfloat16 at
  JAX's default precision, so the peak is the same for both types. HBM and ICI: counted in the compiled program."""
ASSUMED = """\
  Assumed: a chip alone takes the larger one of its compute and HBM times above. No chip reaches them, and beside longer
  times what chips tell each other weighs less. Nothing goes on at the same time: BatchNorm's sums wait for a map, and
  the next map for them; where XLA hides the gradients' sums behind other work, their column is saved.
  Arrays of B bytes are added up over n chips by sending 2 B (n - 1) / n bytes, over both directions of an axis that is
  closed to a ring (a multiple of {multiple} chips long) and one direction of an open one. Each operation also takes
  {hop:.0f} us a hop: half around a closed axis, along an open one, one axis after the other.
  All chips are in one slice, and data arrive in time."""


class Step(NamedTuple):
    """What one chip does and holds in one step; bytes and FLOPs are the compiled program's."""

    state: int  # bytes of weights and optimiser
    batch: int  # bytes
    temporary: int
    output: int  # bytes that do not reuse the state's
    program: int
    flops: float
    hbm: float  # bytes that pass between the chip and its main memory
    accessed: float  # bytes by XLA's count, which takes in the vector memory
    groups: dict[str, list[hlo.Collective]]  # by origin
    unknown_loops: tuple[str, ...]
    compile_s: float

    @property
    def peak(self) -> int:
        """Bytes while it runs."""
        return self.state + self.batch + self.temporary + self.output + self.program


class TooLargeError(Exception):
    """The step does not fit into a chip's memory; the message is XLA's."""


def mesh_of(tpus: Slice) -> Mesh:
    """The mesh of training over a slice; its devices are there to compile for only.

    Raises: InputError: as of devices_of.
    """
    devices = devices_of(tpus)
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def compile_step(config: Config, tpus: Slice) -> Step:
    """Compile the training step of a recipe for chips that need not be there.

    Raises: InputError: the recipe and the slice do not go together, or there is no libtpu.
        TooLargeError: XLA finds no way to fit it into the memory.
    """
    train_step, state, batch = abstract_step(config, mesh_of(tpus))
    begun = time.monotonic()
    try:
        compiled = train_step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TooLargeError(_said(str(error))) from None
    compile_s = time.monotonic() - begun
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    assert memory is not None
    assert cost is not None
    assert text is not None
    program = hlo.read_program(text)
    rows = sum(_nbytes(x) for x in jax.tree.leaves(batch)) // tpus.size
    return Step(
        state=memory.argument_size_in_bytes - rows,
        batch=rows,
        temporary=memory.temp_size_in_bytes,
        output=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        flops=cost["flops"] * hlo.loop_factor(program),
        hbm=hlo.hbm_bytes(program),
        accessed=cost["bytes accessed"],
        groups=group(hlo.collectives(program, tpus.size), {np.shape(x) for x in jax.tree.leaves(state.params)}),
        unknown_loops=program.unknown,
        compile_s=compile_s,
    )


def group(collectives: list[hlo.Collective], shapes: set[tuple[int, ...]]) -> dict[str, list[hlo.Collective]]:
    """Sort collectives by what they are for: a name of ORIGINS each.

    XLA merges sums and names the result after one of them, so what has a kernel in it are gradients; and vectors alone
    in the backward pass are BatchNorm's, the gradients of its statistics, scale and bias.

    Args:
        shapes: of the parameters.
    """
    kernels = {_significant(shape) for shape in shapes if len(_significant(shape)) > 1}

    def origin(collective: hlo.Collective) -> str:
        sides = [_significant(shape) for shape in collective.shapes]
        if any(side in kernels for side in sides):
            return "gradients"
        backward = "transpose(" in collective.origin and all(len(side) == 1 for side in sides)
        return "BatchNorm" if backward or "batch_norm" in collective.origin else "the rest"

    found: dict[str, list[hlo.Collective]] = {name: [] for name in ORIGINS}
    for collective in collectives:
        found[origin(collective)].append(collective)
    return found


def _significant(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(side for side in shape if side > 1))


def _nbytes(x: jax.ShapeDtypeStruct) -> int:
    return int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize


def _said(error: str) -> str:
    """Of XLA's pages on what is in memory, the sentence with the amounts."""
    sentence = re.search(r"(Used [\d.]+\w of [\d.]+\w hbm[^\n]*|the total memory required[^\n]*)", error)
    return sentence[1] if sentence else error.splitlines()[0]


def remedies(config: Config, tpus: Slice) -> Iterator[str]:
    """What to set, best first, so that a step needs less memory."""
    images = config.data.batch // tpus.size
    if config.compute.dtype == "float32":
        yield "--compute.dtype bfloat16: maps of half the size"
    if config.compute.remat != "stack":
        yield "--compute.remat stack: the maps inside a hourglass are computed twice instead of kept"
    if config.optim.accumulate < images:
        yield f"--optim.accumulate {images}: one image at a time; BatchNorm then takes the statistics of parts"
    if config.data.render == "host":
        yield "--data.render device: heat maps are drawn on the chip, from boxes"
    if images > 1:
        yield f"a slice of more chips, or --data.batch {tpus.size}: fewer images a chip, now {images}"
    larger = [name for name, chip in CHIPS.items() if chip.hbm_bytes > tpus.chip.hbm_bytes]
    if larger:
        yield f"chips with more memory: {', '.join(larger)}"


def report(step: Step, config: Config, tpus: Slice) -> Iterator[str]:
    """The plan, line by line."""
    chip, images = tpus.chip, config.data.batch // tpus.size
    yield "\nMemory of a chip"
    yield f"  weights and optimiser   {step.state / GB:9.3f} GB"
    yield f"  batch                   {step.batch / GB:9.3f} GB; while it trains, the next one waits in as much again"
    yield f"  temporaries             {step.temporary / GB:9.3f} GB"
    yield f"  output                  {step.output / GB:9.3f} GB beside what reuses the memory of the weights"
    yield f"  program                 {step.program / GB:9.3f} GB"
    used = step.peak / chip.hbm_bytes
    yield f"  in all                  {step.peak / GB:9.3f} GB of {chip.hbm_bytes / GB:.1f} GB, {used:.0%}: fits"

    sent = {name: sum(c.sent for c in found) for name, found in step.groups.items()}
    floors = {
        "compute": step.flops / chip.flops,
        "HBM": step.hbm / chip.hbm_bytes_s,
        "ICI": sum(sent.values()) / tpus.ici_bytes_s if tpus.size > 1 else 0.0,
    }
    yield "\nWork of a chip in a step, and the least time it takes"
    yield (
        f"  compute  {step.flops / 1e12:9.3f} TFLOP  {floors['compute'] * 1e3:9.3f} ms at {chip.flops / 1e12:.0f} "
        f"TFLOP/s in bfloat16; {step.flops / images / 1e12:.3f} TFLOP an image"
    )
    yield (
        f"  HBM      {step.hbm / GB:9.3f} GB     {floors['HBM'] * 1e3:9.3f} ms at {chip.hbm_bytes_s / GB:.0f} GB/s; "
        f"{step.accessed / GB:.1f} GB with what stays in the vector memory, loops once (XLA's count)"
    )
    yield (
        f"  ICI      {sum(sent.values()) / GB:9.3f} GB     {floors['ICI'] * 1e3:9.3f} ms at "
        f"{tpus.ici_bytes_s / GB:.0f} GB/s sent"
    )
    for name, found in step.groups.items():
        count, size = sum(c.times for c in found), sum(c.nbytes * c.times for c in found)
        kinds = ", ".join(sorted({c.kind for c in found}))
        yield f"    {name:10s} {count:5d} operations, {size / 1e6:9.3f} MB" + (f"; {kinds}" if kinds else "")
    for loop in step.unknown_loops:
        yield f"  loop {loop}: how often it runs is not known, counted once"
    largest = max(floors, key=lambda name: floors[name])
    rate = config.data.batch / floors[largest]
    yield f"  at most {rate:.0f} images/s, {rate / tpus.size:.1f} a chip, by {largest}"
    yield FLOORS
    if tpus.size > 1:
        yield from scaling(step, tpus, images, max(floors["compute"], floors["HBM"]))


def scaling(step: Step, tpus: Slice, images: int, alone_s: float) -> Iterator[str]:
    """How the step would do on slices of 8 to 256 chips with so many images a chip."""
    yield f"\nScaling with {images} images a chip, in ms; efficiency is images/s a chip against 8 chips"
    yield "  chips  slice    batch       alone  BatchNorm  gradients   the rest       step   images/s  efficiency"
    first = 0.0
    for sides in tpus.chip.slices:
        other = parse_slice(f"{tpus.name.partition(':')[0]}:{sides}")
        parts = [talk_s(step.groups[name], tpus, other) for name in ORIGINS]
        step_s = alone_s + sum(parts)
        rate = other.size * images / step_s
        first = first or rate / other.size
        columns = "".join(f"{part * 1e3:11.2f}" for part in (alone_s, *parts, step_s))
        yield (
            f"  {other.size:5d}  {sides:7s} {other.size * images:6d} {columns} {rate:10.0f} "
            f"{rate / other.size / first:10.1%}"
        )
    yield ASSUMED.format(multiple=tpus.chip.wrapped, hop=HOP_S * 1e6)


def talk_s(collectives: list[hlo.Collective], compiled_for: Slice, other: Slice) -> float:
    """Seconds that these operations take one after the other on another slice."""
    total = 0.0
    for one in collectives:
        there = one._replace(devices=other.size) if one.devices == compiled_for.size else one
        total += there.sent / other.ici_bytes_s + one.times * other.latency_s
    return total
