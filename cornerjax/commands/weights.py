"""Convert a released PyTorch checkpoint into a work directory.

cornerjax weights --detector cornernet_squeeze --source CHECKPOINT.pkl --out runs/released
"""

import dataclasses
from collections.abc import Sequence

from cornerjax.commands.cli import parse, require
from cornerjax.commands.process import compiled_once, quiet
from cornerjax.config import Compute
from cornerjax.validation import as_dict


@dataclasses.dataclass(frozen=True)
class Weights:
    detector: str  # a name in cornerjax.DETECTORS
    source: str  # .pkl or .pth file; code in it does not run
    out: str  # folder to write, for cornerjax.load, cornerjax eval and predict, and cornerjax train --init
    # clean, or with the defects of the original: released, or another that the detector has; that of the checkpoint's
    # layout if not given
    preset: str = ""
    class_names: tuple[str, ...] = ()  # of each class; COCO's if there are 80
    forward: str = ""  # .npz with `images` and the original's heads for them, to compare with
    compute: Compute = Compute(precision="highest")  # how the network is computed where nobody says otherwise


def main(args: Sequence[str]) -> None:
    options = parse(Weights, args, prog="cornerjax weights", description=__doc__)
    require(options, "detector", "source", "out")

    import numpy as np

    from cornerjax.weights.convert import convert

    with quiet(), compiled_once():
        certificate = convert(
            options.detector,
            options.source,
            options.out,
            preset=options.preset or None,
            class_names=options.class_names or None,
            compute=as_dict(options.compute),
            forward=options.forward or None,
        )
    heads = certificate["largest_difference_of_heads"]
    largest = np.max([*heads.values()], initial=0)  # nan if one is nan, unlike max()
    compared = f"heads within {largest:.2e} of the original's" if heads else "no forward pass to compare with"
    unused = f"; not needed: {', '.join(certificate['unused'])}" if certificate["unused"] else ""
    print(
        f"{options.out}: {len(certificate['tensors'])} tensors, {certificate['parameters']:,} parameters, "
        f"all equal when read back; {compared}; "
        f"layout of {certificate['layout']}{unused}; preset {certificate['preset']}; certificate.json"
    )
