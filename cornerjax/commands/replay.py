"""Find the image that stopped a run: `cornerjax replay WORKDIR/not_finite/step-000123-host-0.npz`.

The step is done again on the batch that the run kept, from the weights before it, and then on each of its images
alone, repeated to fill the batch. The run stays as it is.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from cornerjax.commands.cli import parse
from cornerjax.commands.process import compiled_once, quiet


@dataclasses.dataclass(frozen=True)
class Replay:
    file: tyro.conf.Positional[str]  # WORKDIR/not_finite/step-STEP-host-HOST.npz; those of the other hosts are read too
    allow_code: bool = False  # import functions that the run's config.json names: only for runs that you trust


def main(args: Sequence[str]) -> None:
    options = parse(Replay, args, prog="cornerjax replay", description=__doc__)

    from cornerjax.training.replay import replay

    with quiet(), compiled_once():
        for line in replay(Path(options.file), allow_code=options.allow_code):
            print(line, flush=True)
