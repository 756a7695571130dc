"""Convert a released PyTorch checkpoint into a work directory.

cornerjax weights --detector cornernet_squeeze --source CHECKPOINT.pkl --out runs/released
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from cornerjax.commands.cli import parse
from cornerjax.commands.process import quiet


@dataclasses.dataclass(frozen=True)
class Weights:
    detector: str  # a name in cornerjax.DETECTORS
    source: str  # .pkl or .pth file; code in it does not run
    out: str  # folder to write, for cornerjax.load, cornerjax eval and predict, and cornerjax train --init
    preset: Literal["auto", "released", "released_eccv18", "clean"] = "auto"  # auto: as the checkpoint's layout says
    class_names: tuple[str, ...] = ()  # of each class; COCO's if there are 80
    forward: str = ""  # .npz with `images` and the original's heads for them, to compare with


def main(args: Sequence[str]) -> None:
    options = parse(Weights, args, prog="cornerjax weights", description=__doc__)

    import numpy as np

    from cornerjax.weights.convert import convert

    with quiet():
        certificate = convert(
            options.detector,
            options.source,
            options.out,
            preset=None if options.preset == "auto" else options.preset,
            class_names=options.class_names or None,
            forward=options.forward or None,
        )
    heads = certificate["largest_difference_of_heads"]
    largest = np.max([*heads.values()], initial=0)  # nan if one is nan, unlike max()
    compared = f"heads within {largest:.2e} of the original's" if heads else "no forward pass to compare with"
    print(
        f"{options.out}: {len(certificate['tensors'])} tensors, {certificate['parameters']:,} parameters, "
        f"all equal when read back; {compared}; "
        f"preset {certificate['preset']}; certificate.json"
    )
