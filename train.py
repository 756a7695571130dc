"""Train a detector: `python train.py --config configs/shapes.py --workdir runs/shapes`.

The same command again goes on where the run stopped. Every field of the recipe is an option: see --help.
On several machines, each runs the same command; under srun and on TPU pods that is all, elsewhere see --hosts.*.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from cornerjax import cli
from cornerjax.config import Config, load_recipe
from cornerjax.hosts import Hosts, joined


@dataclasses.dataclass(frozen=True)
class Train:
    config: str = "configs/shapes.py"  # the recipe
    workdir: str = ""  # where the run is kept; runs/<recipe> if not given
    init: str = ""  # a work directory of train.py or of cornerjax.weights whose weights a new run starts from
    profile: bool = False  # write a trace of ten steps to <workdir>/profile
    hosts: Hosts = dataclasses.field(default_factory=Hosts)
    recipe: Annotated[Config, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Config)


def main() -> None:
    # The recipe gives the defaults of all the other options, so it has to be known first.
    config, _ = tyro.cli(Train, args=[a for a in sys.argv[1:] if a not in ("-h", "--help")], return_unknown_args=True)
    args = cli.parse(Train, description=__doc__, default=Train(recipe=load_recipe(config.config)))

    with joined(args.hosts):
        import jax  # not before the options are right: imports take seconds

        from cornerjax.training.loop import train

        name = Path(args.config).stem
        run = train(args.recipe, args.workdir or f"runs/{name}", recipe=name, profile=args.profile, init=args.init)
        if jax.process_index() == 0:
            print(f"{run.path}; next: python eval.py --workdir {run.path}")


if __name__ == "__main__":
    cli.run(main)
