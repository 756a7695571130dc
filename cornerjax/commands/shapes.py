"""Write a generated data set as a COCO-format folder: `cornerjax shapes --out data/scenes-0 --style scenes`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cornerjax.commands.cli import parse, require


@dataclasses.dataclass(frozen=True)
class Shapes:
    out: str  # folder to write
    seed: int = 0  # another one gives other pictures
    style: Literal["shapes", "scenes"] = "shapes"  # of 127x127 px, or of 511x511 px in which most objects are small


def main(args: Sequence[str]) -> None:
    options = parse(Shapes, args, prog="cornerjax shapes", description=__doc__)
    require(options, "out")

    from cornerjax.data.shapes import STYLES, write_shapes

    print(write_shapes(Path(options.out), seed=options.seed, style=STYLES[options.style]))
