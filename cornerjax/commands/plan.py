"""What a recipe needs on TPUs or GPUs that are not there, per chip and step: memory, work, what they tell each other.

    cornerjax plan --config configs/cornernet.py --topology v5e:16x16 --data.batch 768
    cornerjax plan --config configs/cornernet.py --topology h100:8

Compiles the whole training step for them, which takes minutes, and prints floors: times that no run can beat. For GPUs
that needs JAX's CUDA plugin; without it the step is counted, which takes a minute. Every field of the recipe is an
option, as of cornerjax train. Exit code 1: the step does not fit into the memory.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from cornerjax.commands.cli import parse, value_of
from cornerjax.config import Config, load_recipe
from cornerjax.validation import flat

COCO_CLASSES = 80
SETTINGS = ("compute.dtype", "compute.remat", "optim.batch_norm_groups", "optim.accumulate", "data.render")


@dataclasses.dataclass(frozen=True)
class Plan:
    config: str = "configs/cornernet.py"  # the recipe
    topology: str = "v5e:4x4"  # TPUs v4:2x2x2, v5e:16x16, v5p:4x4x4, v6e:4x4; GPUs of one node a100:8, h100:8, h200:8
    recipe: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Config)


def main(args: Sequence[str]) -> None:
    default = Plan(recipe=load_recipe(value_of("--config", args, default=Plan.config)))
    options = parse(Plan, args, prog="cornerjax plan", description=__doc__, default=default)

    import jax

    from cornerjax.detectors import check
    from cornerjax.training.plan import TooLargeError, step_of
    from cornerjax.training.plan_report import remedies, report
    from cornerjax.training.topology import parse_topology

    jax.config.update("jax_platforms", "cpu")  # a TPU or GPU here is neither needed nor to be taken from its user
    config, topology = options.recipe, parse_topology(options.topology)
    check(config)
    classes = f"{config.model.num_classes} classes"
    if not config.model.num_classes:
        classes = f"{COCO_CLASSES} classes, as COCO has, for the recipe leaves them to the data set"
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=COCO_CLASSES))
    units = topology.unit if topology.size == 1 else f"{topology.unit}s"
    print(f"{options.config} on {topology.name}: {topology.size} {units}, batch {config.data.batch}, {classes}")
    print(", ".join(f"{name} {flat(config)[name]}" for name in SETTINGS), flush=True)
    try:
        step = step_of(config, topology)
    except TooLargeError as error:
        usable, size = (f"{n / 1e9:.1f} GB" for n in (topology.chip.usable_bytes, topology.chip.hbm_bytes))
        size = f"{usable} of a {topology.unit}" if usable == size else f"{usable} that JAX takes of a GPU's {size}"
        print(f"\nDoes not fit into the {size}. {error}\nWhat helps:")
        print("\n".join(f"  {remedy}" for remedy in remedies(config, topology)))
        sys.exit(1)
    print(f"{'counted' if step.counted else 'compiled'} in {step.seconds:.0f} s")
    print("\n".join(report(step, config, topology)))
