"""What is a compiled training step made of? Bytes by what moves them, all-reduces, FLOPs, for each recipe.

For TPUs that are not there with libtpu (make tpu-aot says how), for GPUs that are not there in make cuda-aot's
environment, and for this machine's CPU:

python benchmarks/compiled_steps.py [--topology v5e:2x2] [--recipes points_small squeeze ...] [--dtype float32]
"""

import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import jax
import tyro

from cornerjax.commands.cli import run
from cornerjax.config import Config, load_recipe
from cornerjax.training import hlo
from cornerjax.training.mesh import data_mesh
from cornerjax.training.setup import abstract_step
from cornerjax.training.topology import mesh_of, parse_topology

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = ("points_shapes", "shapes", "squeeze_small", "triplets_small", "extreme_small")
KINDS = ("convolutions", "BatchNorm's sums", "copies", "the rest", "float32 maps written")


def kind(instruction: hlo.Instruction, program: hlo.Program) -> str:
    """What an instruction is for: one of KINDS."""
    inside = {instruction.kind}
    for name in instruction.called:
        inside |= {i.kind for computation in hlo.with_fused(program, name) for i in computation.values()}
    origin = instruction.attribute(r'op_name="([^"]*)"')
    if inside & {"convolution", "dot", "custom-call"}:
        return "convolutions"
    if "batch_norm" in origin and "reduce" in inside:
        return "BatchNorm's sums"
    if instruction.kind.removesuffix("-start") in ("copy", "transpose", "slice"):
        return "copies"
    return "the rest"


def recipe(name: str, dtype: Literal["float32", "bfloat16"]) -> Config:
    config = load_recipe(CONFIGS / f"{name}.py")
    classes = config.model.num_classes or 3
    return replace(
        config, model=replace(config.model, num_classes=classes), compute=replace(config.compute, dtype=dtype)
    )


def compiled_step(config: Config, topology: str) -> str:
    """A row of the table: the step of one recipe."""
    begun = time.process_time()
    mesh = data_mesh(jax.devices()[:1]) if topology == "cpu" else mesh_of(parse_topology(topology))
    train_step, state, batch = abstract_step(config, mesh)
    compiled = train_step.trace(state, batch).lower().compile()
    seconds = time.process_time() - begun
    program = hlo.read_program(compiled.as_text() or "")
    moved: Counter[str] = Counter()
    for instruction, nbytes in hlo.traffic(program):
        moved[kind(instruction, program)] += nbytes
        maps = [a for a in instruction.results if a.in_hbm and len(a.shape) > 3 and a.nbytes == 4 * math.prod(a.shape)]
        moved["float32 maps written"] += min(nbytes, sum(a.padded for a in maps))
    total = sum(moved.values()) - moved["float32 maps written"]
    images = config.data.batch / mesh.devices.size
    flops = (compiled.cost_analysis() or {}).get("flops", 0) * hlo.loop_factor(program) / images
    sums = sum(c.times for c in hlo.collectives(program, mesh.devices.size) if c.kind == "all-reduce")
    shares = " | ".join(f"{moved[name] / total:.1%}" for name in KINDS)
    return f"{flops / 1e9:.2f} | {total / images / 1e6:.1f} | {shares} | {sums} | {seconds:.0f}"


def main(
    recipes: tuple[str, ...] = SMALL,
    topology: str = "v5e:2x2",
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
) -> None:
    """Compile the step of each recipe and say what it moves.

    Args:
        recipes: names in configs/.
        topology: as for --plan, such as v5e:2x2 or h100:1; or cpu, this machine's.
        dtype: of maps.
    """
    print(f"{topology}, {dtype}, jax {jax.__version__}; bytes and FLOPs are for an image\n")
    print(f"| recipe | GFLOP | MB | {' | '.join(KINDS)} | all-reduces | CPU-s to compile |")
    print("|" + " --- |" * (len(KINDS) + 5))
    for name in recipes:
        print(f"| `{name}` | {compiled_step(recipe(name, dtype), topology)} |", flush=True)


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
