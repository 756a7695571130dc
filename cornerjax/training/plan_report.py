"""A plan in words: what a step needs and does, the least time that takes, and how it would do on more chips."""

from collections.abc import Iterator

from cornerjax.config import Config
from cornerjax.training import hlo
from cornerjax.training.chips import HOP_S, Slice
from cornerjax.training.gpus import ALL_REDUCE_S, FRACTION, MOST_FRACTION, Node, memory_fraction
from cornerjax.training.plan import GB, ORIGINS, Step
from cornerjax.training.topology import Topology, larger

TPU_FLOORS = """\
  FLOPs are XLA's, with what it adds to fill the matrix units. Convolutions of float32 maps are one pass in bfloat16 at
  JAX's default precision, so the peak is the same for both types. HBM and ICI: counted in the compiled program."""
GPU_FLOORS = """\
  FLOPs: of convolutions and matrix products, by count; the peak is that without sparsity. HBM and NVLink: counted in
  the compiled program, as if no cache kept anything. What cuDNN sets aside is chosen on the GPU and counted nowhere."""
COUNT_FLOORS = """\
  By count: without JAX's CUDA plugin (jax[cuda13]) nothing here compiles for GPUs. Exact are weights, optimiser, batch
  and the FLOPs of convolutions and matrix products; the peak is that without sparsity. Temporaries and HBM are
  estimates: as if every operation by element were done where its result is read, every other array kept in memory from
  when it is written until it is read last, and nothing in a cache. Compiled for an H100, CornerNet-Squeeze needs 5 %
  less memory for temporaries and moves 17 % fewer bytes. What cuDNN sets aside, and the program, are counted nowhere.
  NVLink: the gradients in one sum, and three small sums for each BatchNorm."""
ALONE = """\
  Assumed: a {unit} alone takes the larger one of its compute and HBM times above. No {unit} reaches them, and beside
  longer times what {unit}s tell each other weighs less. Nothing goes on at the same time: BatchNorm's sums wait for a
  map, and the next map for them; where XLA hides the gradients' sums behind other work, their column is saved."""
SLICE = """\
  Arrays of B bytes are added up over n chips by sending 2 B (n - 1) / n bytes, over both directions of an axis that is
  closed to a ring (a multiple of {multiple} chips long) and one direction of an open one. Each operation also takes
  {hop:.0f} us a hop: half around a closed axis, along an open one, one axis after the other.
  All chips are in one slice, and data arrive in time."""
NODE = """\
  Arrays of B bytes are added up over n GPUs by sending 2 B (n - 1) / n bytes, in one direction of all NVLinks of a GPU.
  Each operation also takes {all_reduce:.0f} us. All GPUs are in one computer, and data arrive in time."""


def remedies(config: Config, topology: Topology) -> Iterator[str]:
    """What to set, best first, so that a step needs less memory."""
    images = config.data.batch // topology.size
    if config.compute.dtype == "float32":
        yield "--compute.dtype bfloat16: maps of half the size"
    if config.compute.remat != "stack":
        yield "--compute.remat stack: the maps inside a hourglass are computed twice instead of kept"
    if config.optim.accumulate < images:
        yield f"--optim.accumulate {images}: one image at a time; BatchNorm then takes the statistics of parts"
    if config.data.render == "host":
        yield "--data.render device: heat maps are drawn on the chip, from boxes"
    if isinstance(topology, Node) and memory_fraction() < MOST_FRACTION:
        yield f"{FRACTION}={MOST_FRACTION} in the environment: JAX takes {memory_fraction():.0%} of a GPU's memory now"
    if images > 1:
        unit = topology.unit
        yield f"{topology.more}, or --data.batch {topology.size}: fewer images a {unit}, now {images}"
    if with_more := larger(topology):
        yield f"{topology.unit}s with more memory: {', '.join(with_more)}"


def report(step: Step, config: Config, topology: Topology) -> Iterator[str]:
    """The plan, line by line."""
    peak, words = topology.chip.peak(config.compute)
    sent = sum(c.sent for found in step.groups.values() for c in found)
    floors = {
        "compute": step.flops / peak,
        "HBM": step.hbm / topology.chip.hbm_bytes_s,
        topology.link: sent / topology.sent_bytes_s if topology.size > 1 else 0.0,
    }
    yield from memory(step, topology)
    images, unit = config.data.batch // topology.size, topology.unit
    yield f"\nWork of a {unit} in a step, and the least time it takes"
    yield (
        f"  compute  {step.flops / 1e12:9.3f} TFLOP  {floors['compute'] * 1e3:9.3f} ms at {peak / 1e12:.0f} "
        f"TFLOP/s in {words}; {step.flops / images / 1e12:.3f} TFLOP an image"
    )
    speed = topology.chip.hbm_bytes_s / GB
    hbm = f"  HBM      {step.hbm / GB:9.3f} GB     {floors['HBM'] * 1e3:9.3f} ms at {speed:.0f} GB/s"
    if step.accessed:
        hbm += f"; {step.accessed / GB:.1f} GB with what stays in the vector memory, loops once (XLA's count)"
    yield hbm
    yield (
        f"  {topology.link:8s} {sent / GB:9.3f} GB     {floors[topology.link] * 1e3:9.3f} ms at "
        f"{topology.sent_bytes_s / GB:.0f} GB/s sent"
    )
    for name, found in step.groups.items():
        count, size = sum(c.times for c in found), sum(c.nbytes * c.times for c in found)
        kinds = ", ".join(sorted({c.kind for c in found}))
        yield f"    {name:10s} {count:5d} operations, {size / 1e6:9.3f} MB" + (f"; {kinds}" if kinds else "")
    for loop in step.unknown_loops:
        yield f"  loop {loop}: how often it runs is not known, counted once"
    largest = max(floors, key=lambda name: floors[name])
    rate = config.data.batch / floors[largest]
    bound = "about" if step.counted and largest == "HBM" else "at most"  # bytes by count are no least
    yield f"  {bound} {rate:.0f} images/s, {rate / topology.size:.1f} a {unit}, by {largest}"
    yield COUNT_FLOORS if step.counted else TPU_FLOORS if isinstance(topology, Slice) else GPU_FLOORS
    if topology.size > 1:
        yield from scaling(step, topology, images, max(floors["compute"], floors["HBM"]))


def memory(step: Step, topology: Topology) -> Iterator[str]:
    """What a chip holds while a step runs."""
    size, usable = topology.chip.hbm_bytes, topology.chip.usable_bytes
    yield f"\nMemory of a {topology.unit}" + (", by count" if step.counted else "")
    yield f"  weights and optimiser   {step.state / GB:9.3f} GB"
    yield f"  batch                   {step.batch / GB:9.3f} GB, twice: while it trains, the next one waits beside it"
    yield f"  temporaries             {step.temporary / GB:9.3f} GB" + ("; an estimate" if step.counted else "")
    yield f"  output                  {step.output / GB:9.3f} GB beside what reuses the memory of the weights"
    yield f"  program                 {step.program / GB:9.3f} GB"
    yield f"  in all                  {step.peak / GB:9.3f} GB of {usable / GB:.1f} GB, {step.peak / usable:.0%}: fits"
    if usable < size:
        yield f"  JAX takes {usable / size:.0%} of the {size / GB:.1f} GB; {FRACTION} in the environment is the share"


def scaling(step: Step, topology: Topology, images: int, alone_s: float) -> Iterator[str]:
    """How the step would do on usual machines of other sizes, with so many images a chip."""
    others, unit = topology.others(), topology.unit
    least = f"{others[0].size} {unit}" + ("s" if others[0].size > 1 else "")
    yield f"\nScaling with {images} images a {unit}, in ms; efficiency is images/s a {unit} against {least}"
    header = "alone  BatchNorm  gradients   the rest"
    yield f"  {unit + 's':5s}  {topology.kind:7s}  batch       {header}       step   images/s  efficiency"
    first = 0.0
    for other in others:
        parts = [talk_s(step.groups[name], topology, other) for name in ORIGINS]
        step_s = alone_s + sum(parts)
        rate = other.size * images / step_s
        first = first or rate / other.size
        columns = "".join(f"{part * 1e3:11.2f}" for part in (alone_s, *parts, step_s))
        yield (
            f"  {other.size:5d}  {other.shape:7s} {other.size * images:6d} {columns} {rate:10.0f} "
            f"{rate / other.size / first:10.1%}"
        )
    yield ALONE.format(unit=unit)
    if isinstance(topology, Slice):
        yield SLICE.format(multiple=topology.chip.wrapped, hop=HOP_S * 1e6)
    else:
        yield NODE.format(all_reduce=ALL_REDUCE_S * 1e6)


def talk_s(collectives: list[hlo.Collective], compiled_for: Topology, other: Topology) -> float:
    """Seconds that these operations take one after the other on another slice."""
    total = 0.0
    for one in collectives:
        there = one._replace(devices=other.size) if one.devices == compiled_for.size else one
        total += there.sent / other.sent_bytes_s + one.times * other.latency_s
    return total
