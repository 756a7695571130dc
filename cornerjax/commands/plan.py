"""What a recipe needs on TPUs that are not there: memory, work and what the chips tell each other, per chip and step.

    cornerjax plan --config configs/cornernet.py --topology v5e:16x16 --data.batch 768

Compiles the whole training step for them, which takes minutes, and prints floors: times that no run can beat. Every
field of the recipe is an option, as of cornerjax train. Exit code 1: the step does not fit into the chips' memory.
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
    topology: str = "v5e:4x4"  # generation and slice: v4:2x2x2, v5e:16x16, v5p:4x4x4, v6e:4x4
    recipe: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Config)


def main(args: Sequence[str]) -> None:
    default = Plan(recipe=load_recipe(value_of("--config", args, default=Plan.config)))
    options = parse(Plan, args, prog="cornerjax plan", description=__doc__, default=default)

    import jax

    from cornerjax.detectors import check
    from cornerjax.training.chips import parse_slice
    from cornerjax.training.plan import TooLargeError, compile_step, remedies, report

    jax.config.update("jax_platforms", "cpu")  # a TPU here is neither needed nor to be taken from its user
    config, tpus = options.recipe, parse_slice(options.topology)
    check(config)
    classes = f"{config.model.num_classes} classes"
    if not config.model.num_classes:
        classes = f"{COCO_CLASSES} classes, as COCO has, for the recipe leaves them to the data set"
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_classes=COCO_CLASSES))
    print(f"{options.config} on {tpus.name}: {tpus.size} chips, batch {config.data.batch}, {classes}")
    print(", ".join(f"{name} {flat(config)[name]}" for name in SETTINGS), flush=True)
    try:
        step = compile_step(config, tpus)
    except TooLargeError as error:
        print(f"\nDoes not fit into the {tpus.chip.hbm_bytes / 1e9:.1f} GB of a chip. XLA: {error}\nWhat helps:")
        print("\n".join(f"  {remedy}" for remedy in remedies(config, tpus)))
        sys.exit(1)
    print(f"compiled in {step.compile_s:.0f} s")
    print("\n".join(report(step, config, tpus)))
