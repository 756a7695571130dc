"""Train a detector: `cornerjax train --config configs/points_shapes.py --workdir runs/shapes`.

The same command again goes on where the run stopped. Every field of the recipe is an option: see --help.
On several machines, each runs the same command; under srun and on TPU pods that is all, elsewhere see --hosts.*.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cornerjax.commands.cli import parse, value_of
from cornerjax.commands.process import compiled_once, quiet, single_threaded_opencv
from cornerjax.config import Config, load_recipe
from cornerjax.errors import InputError
from cornerjax.hosts import Hosts, joined


@dataclasses.dataclass(frozen=True)
class Train:
    config: str = "configs/points_shapes.py"  # the recipe
    workdir: str = ""  # where the run is kept; runs/<recipe> if not given
    init: str = ""  # a work directory, of cornerjax train or weights, whose weights a new run starts from
    # backbone: only what lies below the heads, of any detector with an equal one; --init may also be a PyTorch file of
    # such a backbone alone, trained on ImageNet
    init_part: Literal["all", "backbone"] = "all"
    init_rgb: bool = False  # the weights of --init know RGB images: turn their first convolution round for BGR
    profile: bool = False  # write a trace of ten steps to <workdir>/profile
    hosts: Hosts = dataclasses.field(default_factory=Hosts)
    recipe: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Config)


def main(args: Sequence[str]) -> None:
    default = Train(recipe=load_recipe(value_of("--config", args, default=Train.config)))
    options = parse(Train, args, prog="cornerjax train", description=__doc__, default=default)
    if not options.init and (options.init_part != "all" or options.init_rgb):
        raise InputError("--init-part and --init-rgb say how --init is taken; give --init too")

    with quiet(), single_threaded_opencv(), joined(options.hosts), compiled_once():
        import jax

        from cornerjax.training.finetune import Init
        from cornerjax.training.loop import train

        name = Path(options.config).stem
        workdir = options.workdir or f"runs/{name}"
        init = Init(Path(options.init), options.init_part, options.init_rgb) if options.init else None
        run = train(options.recipe, workdir, recipe=name, profile=options.profile, init=init)
        if jax.process_index() == 0:
            print(f"{run.path}; next: cornerjax eval --workdir {run.path}")
